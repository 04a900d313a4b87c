/**
 * Arrays as samples: the first axis counts them. A .npy file feeds a model's one input; of a .npz archive, arrays named
 * as inputs feed them, and vectors of the same length are columns. A JSON line holds inputs as nested lists and columns.
 */
import { readFileSync } from "node:fs";
import { byteLength, type DType, elementCount, fileError, newArray, Tensor, UserError } from "../base/index.ts";
import { numbersOf } from "../reference/index.ts";
import { readNpy } from "./npy.ts";
import { readNpz } from "./npz.ts";
import type { DataSet, Entry, InputDescription } from "./samples.ts";

export function npyData(path: string, inputs: readonly InputDescription[]): DataSet {
  const [input, ...others] = inputs;
  if (!input || others.length > 0) throw new UserError("option-invalid", `${path}: one array cannot feed ${inputs.length} inputs (${inputs.map(({ name }) => name).join(", ")}); use a .npz archive with an array for each.`);
  return arraysData(path, new Map([[input.name, readNpy(path)]]), inputs);
}

export function npzData(path: string, inputs: readonly InputDescription[]): DataSet {
  return arraysData(path, readNpz(path), inputs);
}

function arraysData(path: string, arrays: ReadonlyMap<string, Tensor>, inputs: readonly InputDescription[]): DataSet {
  const fed = inputs.map((input) => {
    const array = arrays.get(input.name);
    if (!array) throw new UserError("input-invalid", `${path}: no array "${input.name}"; it has ${[...arrays.keys()].join(", ")}.`);
    if (array.dims.length === 0) throw new UserError("input-invalid", `${path}: array "${input.name}" is a scalar; expected samples along the first axis.`);
    return [input.name, array] as const;
  });
  const count = fed[0]![1].dims[0]!;
  for (const [name, array] of fed) if (array.dims[0] !== count) throw new UserError("input-invalid", `${path}: array "${name}" has ${array.dims[0]} samples and "${fed[0]![0]}" ${count}; expected as many.`);
  const vectors = [...arrays].filter(([name, array]) => array.dims.length === 1 && array.dims[0] === count && !inputs.some((input) => input.name === name)).map(([name, array]) => [name, numbersOf(array)] as const);
  const entries = Array.from({ length: count }, (_, i): Entry => ({ id: `${i}`, columns: Object.fromEntries(vectors.map(([name, numbers]) => [name, numbers[i]!])) }));
  return { name: path, entries, load: async (index) => ({ ...entries[index]!, feeds: Object.fromEntries(fed.map(([name, array]) => [name, sliceOf(array, index)])) }) };
}

/** Sample `index`, with a first axis of 1. */
function sliceOf(array: Tensor, index: number): Tensor {
  const dims = [1, ...array.dims.slice(1)];
  const size = byteLength(array.type, elementCount(dims));
  return Tensor.fromBytes(array.type as Exclude<DType, "string">, array.bytes.subarray(index * size, (index + 1) * size), dims);
}

export function jsonLinesData(path: string, inputs: readonly InputDescription[]): DataSet {
  const lines = readText(path).split("\n").filter((line) => line.trim() !== "");
  const names = new Set(inputs.map(({ name }) => name));
  const rows = lines.map((line, i) => parseRow(line, `${path}:${i + 1}`));
  const entries = rows.map((row, i): Entry => ({ id: `${i + 1}`, columns: Object.fromEntries(Object.entries(row).filter(([name, value]) => !names.has(name) && (typeof value === "string" || typeof value === "number"))) as Record<string, string | number> }));
  const load = async (index: number): Promise<Entry & { feeds: Record<string, Tensor> }> => {
    const row = rows[index]!;
    const feeds = inputs.flatMap((input) => (row[input.name] === undefined ? [] : [[input.name, nestedTensor(row[input.name], input, `${path}:${index + 1}`)] as const]));
    return { ...entries[index]!, feeds: Object.fromEntries(feeds) };
  };
  return { name: path, entries, load };
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw fileError(path, cause);
  }
}

function parseRow(line: string, where: string): Record<string, unknown> {
  try {
    const row: unknown = JSON.parse(line);
    if (typeof row === "object" && row !== null && !Array.isArray(row)) return row as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new UserError("input-invalid", `${where}: not a JSON object; expected one line per sample, such as {"input_ids": [[101, 102]], "label": 1}.`);
}

/** A tensor from nested lists; where the model's input has one axis more, that is the batch of one. */
function nestedTensor(value: unknown, { name, type, dims }: InputDescription, where: string): Tensor {
  const own: number[] = [];
  for (let level = value; Array.isArray(level); level = level[0]) own.push(level.length);
  const flat = Array.isArray(value) ? (value.flat(Number.POSITIVE_INFINITY) as unknown[]) : [value];
  if (flat.length !== elementCount(own) || !flat.every((item) => typeof item === "number" || typeof item === "boolean")) throw new UserError("input-invalid", `${where}: "${name}" is no rectangular list of numbers.`);
  const shape = dims && dims.length === own.length + 1 ? [1, ...own] : own;
  const data = newArray(type, flat.length);
  flat.forEach((item, i) => { data[i] = data instanceof BigInt64Array || data instanceof BigUint64Array ? BigInt(Math.trunc(Number(item))) : Number(item); });
  return new Tensor(type, data, shape);
}
