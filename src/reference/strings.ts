/**
 * Operators on text. Lengths and cases are those of Unicode; a regular expression must match from end to end.
 * Sources: ONNX StringNormalizer-10, StringSplit-20, RegexFullMatch-20, TfIdfVectorizer-9.
 */
import { elementCount, Tensor, UserError } from "../base/index.ts";
import { intAttribute, intsAttribute, numbersAttribute, stringAttribute, stringsAttribute } from "./arguments.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { int64Tensor, integersOf, tensorAt } from "./elements.ts";
import { broadcastShapes, broadcastTable } from "./strides.ts";

function textsAt(inputs: Parameters<ReferenceOperator>[0], index: number): readonly string[] {
  const { type, data } = tensorAt(inputs, index);
  if (!Array.isArray(data)) throw new UserError("input-invalid", `Input ${index} is of type ${type}; expected string.`);
  return data;
}

const stringConcat: ReferenceOperator = (inputs) => {
  const [a, b] = [tensorAt(inputs, 0), tensorAt(inputs, 1)];
  const dims = broadcastShapes([a.dims, b.dims]);
  const [left, right] = [textsAt(inputs, 0), textsAt(inputs, 1)];
  const [atA, atB] = [broadcastTable(a.dims, dims), broadcastTable(b.dims, dims)];
  return [new Tensor("string", Array.from({ length: elementCount(dims) }, (_, i) => left[atA ? atA[i]! : i]! + right[atB ? atB[i]! : i]!), dims)];
};

/** At most `most` splits; the rest of the text stays whole. Without a delimiter, at runs of white space. */
function splitText(text: string, delimiter: string, most: number): string[] {
  if (delimiter !== "") {
    const parts = text.split(delimiter);
    return parts.length <= most + 1 ? parts : [...parts.slice(0, most), parts.slice(most).join(delimiter)];
  }
  const parts: string[] = [];
  let rest = text.trimStart();
  while (rest !== "" && parts.length < most) {
    const end = rest.search(/\s/);
    parts.push(end < 0 ? rest : rest.slice(0, end));
    rest = end < 0 ? "" : rest.slice(end).trimStart();
  }
  return rest === "" ? parts : [...parts, rest];
}

/** The pieces, filled up with empty strings to the longest, and how many there are. */
const stringSplit: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const most = intAttribute(attributes, "maxsplit", Number.MAX_SAFE_INTEGER - 1);
  const parts = textsAt(inputs, 0).map((text) => splitText(text, stringAttribute(attributes, "delimiter", ""), most));
  const width = parts.reduce((longest, { length }) => Math.max(longest, length), 0);
  const padded = parts.flatMap((pieces) => Array.from({ length: width }, (_, i) => pieces[i] ?? ""));
  return [new Tensor("string", padded, [...x.dims, width]), int64Tensor(parts.map(({ length }) => length), x.dims)];
};

/** Removes stop words and changes case; [C] or [1, C]. When nothing is left, one empty string is. */
const stringNormalizer: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const action = stringAttribute(attributes, "case_change_action", "NONE");
  const exact = intAttribute(attributes, "is_case_sensitive", 0) !== 0;
  const folded = (text: string): string => (exact ? text : text.toLowerCase());
  const stop = new Set((stringsAttribute(attributes, "stopwords") ?? []).map(folded));
  const kept = textsAt(inputs, 0).filter((text) => !stop.has(folded(text)));
  const changed = kept.map((text) => (action === "LOWER" ? text.toLowerCase() : action === "UPPER" ? text.toUpperCase() : text));
  const result = changed.length > 0 ? changed : [""];
  return [new Tensor("string", result, x.dims.length === 2 ? [1, result.length] : [result.length])];
};

/** RE2's notation for what JavaScript spells otherwise: named groups and inline flags at the start. */
function expressionOf(pattern: string): RegExp {
  const [, flags = "", rest = pattern] = /^\(\?([ims]+)\)([\s\S]*)$/.exec(pattern) ?? [];
  try {
    return new RegExp(`^(?:${rest.replaceAll("(?P<", "(?<").replaceAll("\\A", "^").replaceAll("\\z", "$")})$`, `u${flags}`);
  } catch (cause) {
    throw new UserError("model-invalid", `RegexFullMatch: "${pattern}" is no regular expression.`, { cause });
  }
}

const regexFullMatch: ReferenceOperator = (inputs, attributes) => {
  const expression = expressionOf(stringAttribute(attributes, "pattern", ""));
  return [new Tensor("bool", Uint8Array.from(textsAt(inputs, 0), (text) => (expression.test(text) ? 1 : 0)), tensorAt(inputs, 0).dims)];
};

/** n-grams by their text: which of them it is. Lengths of the pool's sections are given by their starts. */
function poolOf(attributes: ReferenceAttributes): Map<string, number> {
  const words: readonly (string | number)[] = stringsAttribute(attributes, "pool_strings") ?? intsAttribute(attributes, "pool_int64s") ?? [];
  const starts = intsAttribute(attributes, "ngram_counts") ?? [];
  const pool = new Map<string, number>();
  starts.forEach((start, section) => {
    const length = section + 1;
    const end = starts[section + 1] ?? words.length;
    for (let at = start; at + length <= end; at += length) pool.set(keyOf(words.slice(at, at + length)), pool.size);
  });
  return pool;
}

const keyOf = (words: readonly (string | number)[]): string => JSON.stringify(words);

/** Counts the pool's n-grams in a row of words, with up to `max_skip_count` words left out between neighbours. */
function countNgrams(words: readonly (string | number)[], pool: ReadonlyMap<string, number>, indexes: readonly number[], attributes: ReferenceAttributes, counts: Float64Array): void {
  const shortest = intAttribute(attributes, "min_gram_length", 1);
  const longest = intAttribute(attributes, "max_gram_length", 1);
  const skips = intAttribute(attributes, "max_skip_count", 0);
  for (let length = shortest; length <= longest; length++) {
    // Single words have no neighbours to skip.
    for (let skip = 0; skip <= (length === 1 ? 0 : skips); skip++) {
      const step = skip + 1;
      for (let at = 0; at + (length - 1) * step < words.length; at++) {
        const id = pool.get(keyOf(Array.from({ length }, (_, i) => words[at + i * step]!)));
        if (id !== undefined) counts[indexes[id]!]! += 1;
      }
    }
  }
}

const tfIdfVectorizer: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const words: readonly (string | number)[] = Array.isArray(x.data) ? x.data : integersOf(x);
  const pool = poolOf(attributes);
  const indexes = intsAttribute(attributes, "ngram_indexes") ?? [];
  const weights = numbersAttribute(attributes, "weights");
  const mode = stringAttribute(attributes, "mode", "TF");
  const width = indexes.reduce((most, index) => Math.max(most, index + 1), 0);
  const rows = x.dims.length === 2 ? x.dims[0]! : 1;
  const length = words.length / Math.max(1, rows);
  const weightOf = new Float64Array(width).fill(1);
  weights?.forEach((weight, id) => { weightOf[indexes[id]!] = weight; });
  const to = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const counts = new Float64Array(width);
    countNgrams(words.slice(row * length, (row + 1) * length), pool, indexes, attributes, counts);
    counts.forEach((count, i) => {
      const weight = weightOf[i]!;
      to[row * width + i] = mode === "TF" ? count : mode === "IDF" ? (count > 0 ? weight : 0) : count * weight;
    });
  }
  return [new Tensor("float32", to, x.dims.length === 2 ? [rows, width] : [width])];
};

export const stringOperators: ReferenceTable = {
  RegexFullMatch: regexFullMatch,
  StringConcat: stringConcat,
  StringNormalizer: stringNormalizer,
  StringSplit: stringSplit,
  TfIdfVectorizer: tfIdfVectorizer,
};
