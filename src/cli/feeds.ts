/** Inputs for a run: from files where given, seeded random numbers elsewhere. */
import { readFileSync } from "node:fs";
import { type DType, elementCount, fileError, newArray, Tensor, type TensorData, toBfloat16Bits, toFloat16Bits, UserError } from "../base/index.ts";
import { readTensorProto } from "../onnx/index.ts";
import type { ValueInfo } from "../runtime/index.ts";
import { readNpy } from "../data/index.ts";

export interface FeedSources {
  /** Shapes by input name, for inputs without a file. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** `name=file.npy` or `name=file.pb`. */
  readonly files: readonly string[];
  readonly seed?: number;
}

/**
 * @param defaults sizes of dimensions that no shape gives; 1 for those it does not name
 * @throws UserError for unknown names and unreadable files
 */
export function makeFeeds(inputs: readonly ValueInfo[], sources: FeedSources, defaults: Readonly<Record<string, number>>): Record<string, Tensor> {
  const random = randomNumbers(sources.seed ?? 1);
  const feeds = readFeeds(inputs, sources.files);
  for (const name of Object.keys(sources.shapes)) checkName(inputs, name);
  for (const input of inputs) {
    if (feeds[input.name]) continue;
    const dims = sources.shapes[input.name] ?? (input.dims ?? []).map((dim) => (typeof dim === "number" ? dim : defaults[dim] ?? 1));
    feeds[input.name] = new Tensor(input.type, makeData(input, dims, random), dims);
  }
  return feeds;
}

/** xorshift32: the same numbers on every machine, in [0, 1). */
function randomNumbers(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Inputs of language models that random numbers would make meaningless or out of range: a value by index along the last axis. */
const KNOWN_INPUTS: readonly (readonly [RegExp, (index: number) => number])[] = [
  [/mask/i, () => 1],
  [/token_type|segment_ids/i, () => 0],
  [/position_ids/i, (index) => index],
];

/** Floats in [-1, 1), integers small enough to be indices of most tables, booleans true. */
function makeData({ name, type }: ValueInfo, dims: readonly number[], random: () => number): TensorData {
  const known = KNOWN_INPUTS.find(([pattern]) => pattern.test(name))?.[1];
  const data = newArray(type, elementCount(dims));
  if (Array.isArray(data)) return data.fill("text");
  const last = Math.max(1, dims.at(-1) ?? 1);
  const isReal = type.startsWith("float") || type.startsWith("complex") || type === "bfloat16";
  for (let i = 0; i < data.length; i++) {
    const value = known ? known(i % last) : type === "bool" ? 1 : isReal ? random() * 2 - 1 : Math.floor(random() * 100);
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(value);
    else data[i] = encode(type, value);
  }
  return data;
}

function encode(type: DType, value: number): number {
  if (type === "float16") return toFloat16Bits(value);
  return type === "bfloat16" ? toBfloat16Bits(value) : value;
}

function readFeeds(inputs: readonly ValueInfo[], files: readonly string[]): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  for (const item of files) {
    const equals = item.indexOf("=");
    const name = item.slice(0, equals);
    const path = item.slice(equals + 1);
    if (equals <= 0 || path === "") throw new UserError("option-invalid", `--input "${item}": expected NAME=FILE.npy or NAME=FILE.pb.`);
    checkName(inputs, name);
    feeds[name] = path.endsWith(".npy") ? readNpy(path) : readTensorProto(readFile(path), path);
  }
  return feeds;
}

function readFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

function checkName(inputs: readonly ValueInfo[], name: string): void {
  if (!inputs.some((input) => input.name === name)) throw new UserError("option-invalid", `The model has no input "${name}"; its inputs are ${inputs.map((input) => input.name).join(", ")}.`);
}
