/** Inputs for a run: from files where given, seeded random numbers elsewhere. */
import { readFileSync } from "node:fs";
import { type DType, elementCount, newArray, Tensor, type TensorData, toBfloat16Bits, toFloat16Bits, UserError } from "../base/index.ts";
import { readTensorProto } from "../onnx/index.ts";
import type { ValueInfo } from "../runtime/index.ts";
import { readNpy } from "./npy.ts";

/** xorshift32: the same numbers on every machine. */
function generator(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Random data of a type: floats in [-1, 1), integers small enough to be indices of most tables, booleans true. */
function randomData(type: DType, count: number, random: () => number): TensorData {
  const data = newArray(type, count);
  if (Array.isArray(data)) return data.fill("text");
  for (let i = 0; i < data.length; i++) {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Math.floor(random() * 100));
    else if (type === "bool") data[i] = 1;
    else if (type === "float32" || type === "float64") data[i] = random() * 2 - 1;
    else if (type === "float16") data[i] = toFloat16Bits(random() * 2 - 1);
    else if (type === "bfloat16") data[i] = toBfloat16Bits(random() * 2 - 1);
    else data[i] = Math.floor(random() * 100);
  }
  return data;
}

/** Masks are all ones: a mask of random numbers would hide everything or nothing. */
function isMask(name: string): boolean {
  return /mask/i.test(name);
}

export interface FeedSources {
  /** Shapes by input name, for inputs without a file. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** `name=file.npy` or `name=file.pb`. */
  readonly files: readonly string[];
  readonly seed?: number;
}

/** @throws UserError for unknown names, unreadable files, and dimensions that no shape or default gives */
export function makeFeeds(inputs: readonly ValueInfo[], sources: FeedSources, defaults: Readonly<Record<string, number>>): Record<string, Tensor> {
  const random = generator(sources.seed ?? 1);
  const feeds = readFeeds(inputs, sources.files);
  for (const name of Object.keys(sources.shapes)) checkName(inputs, name);
  for (const input of inputs) {
    if (feeds[input.name]) continue;
    const dims = sources.shapes[input.name] ?? (input.dims ?? []).map((dim) => (typeof dim === "number" ? dim : defaults[dim] ?? 1));
    const count = elementCount(dims);
    const data = isMask(input.name) && input.type !== "string" ? onesOf(input.type, count) : randomData(input.type, count, random);
    feeds[input.name] = new Tensor(input.type, data, dims);
  }
  return feeds;
}

function onesOf(type: DType, count: number): TensorData {
  const data = newArray(type, count);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return data.fill(1n);
  if (Array.isArray(data)) return data;
  return data.fill(type === "float16" ? toFloat16Bits(1) : type === "bfloat16" ? toBfloat16Bits(1) : 1);
}

function readFeeds(inputs: readonly ValueInfo[], files: readonly string[]): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  for (const item of files) {
    const equals = item.indexOf("=");
    const name = item.slice(0, equals);
    const path = item.slice(equals + 1);
    if (equals <= 0) throw new UserError("option-invalid", `--input "${item}": expected NAME=FILE.npy or NAME=FILE.pb.`);
    checkName(inputs, name);
    feeds[name] = path.endsWith(".npy") ? readNpy(path) : readTensorProto(readFile(path), path);
  }
  return feeds;
}

function readFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UserError("file-io", `${path}: ${(cause as Error).message}.`, { cause });
  }
}

function checkName(inputs: readonly ValueInfo[], name: string): void {
  if (!inputs.some((input) => input.name === name)) throw new UserError("option-invalid", `The model has no input "${name}"; its inputs are ${inputs.map((input) => input.name).join(", ")}.`);
}
