// Texts that sentence embeddings are judged by: questions, products of a catalogue and people's comments. None of them is
// seen while a model is built.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "../dist/index.js";
import { unpacked } from "./quantization-data.mjs";

/** Texts of each kind; a third are queries, among the others. */
const COUNT = 1500;

function questions() {
  const rows = readFileSync(join(unpacked("text-to-sql.tar.xz"), "text2sql-data/wikisql_pairs.jsonl"), "utf8").split("\n").filter(Boolean);
  return rows.map((row) => JSON.parse(row).question);
}

function products() {
  const at = join(unpacked("product-search.tar.xz"), "chorus-icecat");
  const files = readdirSync(at).filter((name) => name.endsWith(".json")).sort();
  return files.flatMap((name) => JSON.parse(readFileSync(join(at, name), "utf8"))).map(({ title, short_description: description }) => `${title}. ${description ?? ""}`);
}

function comments() {
  const file = readFileSync(join(unpacked("moderation.tar.xz"), "hate-offensive/data/labeled_data.csv"), "utf8");
  // The last column, to the end of its line.
  return file.split("\n").slice(1).flatMap((line) => /^\d+,\d+,\d+,\d+,\d+,\d+,(.{20,})$/.exec(line)?.[1] ?? []);
}

export const TEXTS = { questions, products, comments };

/** Far apart in the file, so that few are about the same thing; each once. */
export function chosenTexts(kind) {
  const all = [...new Set(TEXTS[kind]())];
  const spread = Array.from({ length: COUNT }, (_, i) => all[Math.floor((i * all.length) / COUNT)]);
  return { queries: spread.filter((_, i) => i % 3 === 0), passages: spread.filter((_, i) => i % 3 !== 0) };
}

/** A sentence encoder's inputs. */
export function feedsOfTokens(ids) {
  const tensor = (items) => new Tensor("int64", items, [1, ids.length]);
  return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)), token_type_ids: tensor(ids.map(() => 0)) };
}

/** Mean over tokens, of length 1. */
export function pooled({ last_hidden_state: { data, dims: [, length, size] } }) {
  const sum = new Float64Array(size);
  for (let i = 0; i < length; i++) for (let j = 0; j < size; j++) sum[j] += data[i * size + j];
  const norm = Math.hypot(...sum);
  return sum.map((value) => value / norm);
}

export const dot = (a, b) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};
