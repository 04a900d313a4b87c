// Can int8 be trusted? Every trained classifier by each calibrator against fp32 on images that calibration has not seen;
// sentence embeddings quantized as they run; what a skewed calibration set costs and whether the report says so; bytes of
// the weights quantized; the share of contraction time in integer kernels.
// Usage: npm run bench quantization [classifiers|embeddings|strata|bytes …] [--model=WORD]
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { EngineFile } from "../dist/engine/index.js";
import { build, buildInt8, calibrate, CALIBRATORS, Engine, Tensor } from "../dist/index.js";
import { calibrationImages, classifiers, dataOf, folder, heldOut, shared, unpacked } from "./quantization-data.mjs";
import { chooseModels, profileOf } from "./zoo.mjs";
import { wordPiece } from "./wordpiece.mjs";

const args = process.argv.slice(2);
const parts = args.filter((arg) => !arg.startsWith("--"));
const only = args.find((arg) => arg.startsWith("--model="))?.slice(8) ?? "";
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let failed = 0;
const judge = (text, kept) => {
  if (!kept) failed++;
  console.log(`${kept ? "kept  " : "BROKEN"} ${text}`);
};

async function top1(path, data, offset) {
  const engine = await Engine.load(path);
  const predictions = [];
  let right = 0;
  for (let i = 0; i < data.entries.length; i++) {
    const { feeds, columns } = await data.load(i);
    const [scores] = Object.values(await engine.run(feeds));
    const best = scores.data.indexOf(Math.max(...scores.data));
    predictions.push(best);
    if (best === columns.label + offset) right++;
  }
  engine.dispose();
  return { share: right / data.entries.length, predictions };
}

/** Level 0 measures nothing: accuracy does not depend on tactics. */
const quick = (model, output) => ({ output, level: 0, profiles: [profileOf(model)] });

async function measureClassifiers() {
  console.log(`\ntop-1 on ${heldOut().length} images; ${calibrationImages().length} others were used to calibrate`);
  console.log("model".padEnd(26), "fp32".padStart(8), ...CALIBRATORS.map((name) => name.padStart(11)), "bytes of weights, int8 to fp32".padStart(32));
  const best = new Map();
  for (const model of classifiers([only])) {
    const data = dataOf("held-out images", heldOut(), model);
    const float = join(folder, `${model.name}.engine`);
    await build(model.path, quick(model, float));
    const cache = await calibrate(model.path, { data: dataOf("calibration images", calibrationImages(), model), samples: 250 });
    const reference = await top1(float, data, model.offset);
    const scores = [];
    let bytes = "";
    for (const calibrator of CALIBRATORS) {
      const output = join(folder, `${model.name}-${calibrator}.engine`);
      const { report } = await buildInt8(model.path, { ...quick(model, output), calibration: cache, calibrator });
      bytes = percent(report.quantization.bytes / report.quantization.floatBytes);
      scores.push((await top1(output, data, model.offset)).share);
    }
    console.log(model.name.padEnd(26), percent(reference.share).padStart(8), ...scores.map((score) => percent(score).padStart(11)), bytes.padStart(32));
    best.set(model.name, { loss: reference.share - Math.max(...scores), all: scores.map((score) => reference.share - score) });
  }
  for (const [name, { loss }] of best) judge(`${name}: the best calibrator loses at most 1 point (${(100 * loss).toFixed(1)})`, loss <= 0.01 + 1e-9);
  const quantized = chooseModels(["efficientnet_lite0-int8"])[0] ?? { name: "efficientnet_lite0-int8-qdq", path: join(shared, "trained/efficientnet_lite0-int8-qdq.onnx"), profile: { min: { input: [1, 3, 224, 224] }, opt: { input: [1, 3, 224, 224] }, max: { input: [16, 3, 224, 224] } } };
  if (!existsSync(quantized.path) || !quantized.name.includes(only)) return;
  const output = join(folder, `${quantized.name}.engine`);
  await build(quantized.path, quick(quantized, output));
  const { share } = await top1(output, dataOf("held-out images", heldOut(), { ...quantized, preprocessing: "mean=127.5,std=127.5" }), 0);
  console.log(quantized.name.padEnd(26), "as it came".padStart(8), percent(share));
}

// ---- what a skewed set costs ----------------------------------------------------------------------------------------

/** Night: a sixteenth of the light. */
const darkened = (item) => ({ ...item, id: `${item.id} at night`, time: "night", picture: { ...item.picture, rgb: item.picture.rgb.map((value) => value >> 4) } });
async function measureStrata() {
  const model = classifiers([only])[0];
  if (!model) return;
  const timeOf = ({ time = "day" }) => ({ time });
  const night = calibrationImages().map(darkened);
  const both = [...calibrationImages(), ...night];
  const sets = {
    "night only": dataOf("night only", night, model, timeOf),
    "half day, half night": dataOf("day and night", both, model, timeOf),
  };
  const whole = dataOf("day and night", both, model, timeOf);
  const test = dataOf("held-out days", heldOut().slice(0, 250), model);
  const float = join(folder, `${model.name}.engine`);
  await build(model.path, quick(model, float));
  const reference = (await top1(float, test, model.offset)).share;
  console.log(`\n${model.name}, calibrated by percentile; top-1 on ${test.entries.length} held-out pictures taken by day: fp32 ${percent(reference)}`);
  const losses = {};
  for (const [name, data] of Object.entries(sets)) {
    const skewed = name === "night only";
    const cache = await calibrate(model.path, { data: skewed ? { ...whole, entries: whole.entries.filter(({ columns }) => columns.time === "night"), load: (i) => data.load(i) } : data, samples: 120, strata: "time" });
    const output = join(folder, `${model.name}-strata.engine`);
    await buildInt8(model.path, { ...quick(model, output), calibration: cache, calibrator: "percentile" });
    losses[name] = reference - (await top1(output, test, model.offset)).share;
    console.log(`  ${name.padEnd(22)} loses ${(100 * losses[name]).toFixed(1)} points; strata: ${JSON.stringify(cache.strata.coverage)}; layers on which strata disagree: ${cache.strata.disagreements.length}`);
    for (const warning of cache.warnings) console.log(`    warning: ${warning}`);
  }
  judge("a skewed set loses accuracy, a stratified one does not", losses["night only"] > 0.01 && losses["half day, half night"] <= 0.01 + 1e-9);
}

// ---- sentences --------------------------------------------------------------------------------------------------------

/** Questions people asked, and other people's to find among. */
function texts() {
  const rows = readFileSync(join(unpacked("text-to-sql.tar.xz"), "text2sql-data/wikisql_pairs.jsonl"), "utf8").split("\n").filter(Boolean);
  const questions = [...new Set(rows.map((row) => JSON.parse(row).question))];
  // Far apart in the file, so that few are about the same table.
  const spread = Array.from({ length: 1500 }, (_, i) => questions[Math.floor((i * questions.length) / 1500)]);
  return { queries: spread.filter((_, i) => i % 3 === 0), passages: spread.filter((_, i) => i % 3 !== 0) };
}

async function measureEmbeddings() {
  const [model] = chooseModels(["minilm-l6"]);
  if (!model) return;
  const tokenize = wordPiece(join(model.path, "../../tokenizer.json"));
  const { queries, passages } = texts();
  const all = [...queries, ...passages];
  const [float, int8] = [join(folder, "minilm.engine"), join(folder, "minilm-int8.engine")];
  await build(model.path, quick(model, float));
  const { report } = await buildInt8(model.path, quick(model, int8));
  const embed = async (path, list) => {
    const engine = await Engine.load(path);
    const vectors = [];
    for (const text of list) vectors.push(pooled(await engine.run(feedsOf(tokenize(text)))));
    engine.dispose();
    return vectors;
  };
  const [a, b] = [await embed(float, all), await embed(int8, all)];
  const cosines = a.map((vector, i) => dot(vector, b[i]));
  const mean = cosines.reduce((x, y) => x + y, 0) / cosines.length;
  const nearest = (own, others) => others.reduce((best, vector, i) => (dot(own, vector) > dot(own, others[best]) ? i : best), 0);
  const n = queries.length;
  const same = queries.filter((_, i) => nearest(a[i], a.slice(n)) === nearest(b[i], b.slice(n))).length / n;
  console.log(`\nminilm-l6, a scale per row as it runs: ${n} queries among ${passages.length} texts`);
  judge(`mean cosine to fp32 ${mean.toFixed(4)} (at least 0.99), least ${Math.min(...cosines).toFixed(4)}`, mean >= 0.99);
  judge(`the same nearest neighbour for ${percent(same)} of the queries (at least 97 %)`, same >= 0.97);
  const { bytes, floatBytes } = report.quantization;
  judge(`bytes of the weights quantized, scales included: ${percent(bytes / floatBytes)} of fp32 (at most 26 %)`, bytes / floatBytes <= 0.26);
}

function feedsOf(ids) {
  const tensor = (items) => new Tensor("int64", items, [1, ids.length]);
  return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)), token_type_ids: tensor(ids.map(() => 0)) };
}

/** Mean over tokens, of length 1. */
function pooled(outputs) {
  const { data, dims: [, length, size] } = outputs.last_hidden_state;
  const sum = new Float64Array(size);
  for (let i = 0; i < length; i++) for (let j = 0; j < size; j++) sum[j] += data[i * size + j];
  const norm = Math.hypot(...sum);
  return sum.map((value) => value / norm);
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// ---- bytes and time ----------------------------------------------------------------------------------------------------

async function measureBytes() {
  console.log("\nmodel".padEnd(27), "engine's weights fp32".padStart(22), "int8".padStart(12), "contraction time in integer kernels".padStart(38));
  for (const model of [...classifiers([only]).slice(0, 1), ...["minilm-l6", "bert-base-ts"].filter((name) => name.includes(only)).flatMap((name) => chooseModels([name]))]) {
    const [float, int8] = [join(folder, `${model.name}-f.engine`), join(folder, `${model.name}-q.engine`)];
    await build(model.path, quick(model, float));
    const calibration = model.preprocessing ? { calibration: await calibrate(model.path, { data: dataOf("images", calibrationImages().slice(0, 64), model) }) } : {};
    await buildInt8(model.path, { ...quick(model, int8), ...calibration });
    const sizes = [float, int8].map((path) => {
      const file = EngineFile.open(path);
      const size = file.sizeOf("weights");
      file.close();
      return size;
    });
    const share = await integerShare(int8, model);
    console.log(model.name.padEnd(26), sizes[0].toString().padStart(22), sizes[1].toString().padStart(12), percent(share).padStart(38));
    judge(`${model.name}: at least 95 % of contraction time in integer kernels`, share >= 0.95);
  }
}

const INTEGER = new Set(["MatMulInteger", "ConvInteger"]);
const FLOAT = new Set(["MatMul", "Conv", "ConvTranspose"]);

/** Of the time in contractions with weights, that in integer ones. */
async function integerShare(path, model) {
  const { feedsOf: feeds } = await import("./engines.mjs");
  const engine = await Engine.load(path, { threads: 1 });
  const context = engine.createContext();
  const given = feeds(model, engine, model.profile.opt);
  for (let i = 0; i < 3; i++) context.profile(given);
  const times = { integer: 0, float: 0 };
  for (let i = 0; i < 5; i++) {
    for (const { label, ns } of context.profile(given)) {
      if (label.operators.some((name) => INTEGER.has(name))) times.integer += ns;
      else if (label.operators.some((name) => FLOAT.has(name))) times.float += ns;
    }
  }
  engine.dispose();
  return times.integer / (times.integer + times.float);
}

const PARTS = { classifiers: measureClassifiers, embeddings: measureEmbeddings, strata: measureStrata, bytes: measureBytes };
for (const [name, measure] of Object.entries(PARTS)) if (parts.length === 0 || parts.includes(name)) await measure();
process.exit(failed ? 1 : 0);
