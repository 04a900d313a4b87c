/**
 * What lowerings read of a node: attributes with defaults, input and output dims, constant inputs, broadcast indices.
 */
import { assert, type DType, Tensor } from "../../base/index.ts";
import {
  type Dim, dimEqual, type Expr, dimValue, i64, min as dimMin, type Node, op, sub as dimSub, scalarTypeOf, type ScalarType, type Value,
} from "../../ir/index.ts";
import type { LoadInput } from "../contract.ts";

export function numberAttribute(node: Node, name: string, otherwise: number): number {
  const value = node.attributes[name];
  return typeof value === "number" ? value : typeof value === "bigint" ? Number(value) : otherwise;
}

export function stringAttribute(node: Node, name: string, otherwise: string): string {
  const value = node.attributes[name];
  return typeof value === "string" ? value : otherwise;
}

export function numbersAttribute(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) && value.every((item) => typeof item === "number") ? (value as readonly number[]) : undefined;
}

export function inputDims(node: Node, input: number): readonly Dim[] {
  const dims = node.inputs[input]?.dims;
  assert(dims, `${node.op} "${node.name}": dims of input ${input} are unknown`);
  return dims;
}

export function outputDims(node: Node, output = 0): readonly Dim[] {
  const dims = node.outputs[output]?.dims ?? node.outputs.find((value) => value?.dims)?.dims;
  assert(dims, `${node.op} "${node.name}": dims of output ${output} are unknown`);
  return dims;
}

export function inputDtype(node: Node, input = 0): DType {
  const dtype = node.inputs[input]?.dtype;
  assert(dtype, `${node.op} "${node.name}": type of input ${input} is unknown`);
  return dtype;
}

export function outputDtype(node: Node, output = 0): DType {
  const dtype = node.outputs[output]?.dtype;
  assert(dtype, `${node.op} "${node.name}": type of output ${output} is unknown`);
  return dtype;
}

export const inputType = (node: Node, input = 0): ScalarType => scalarTypeOf(inputDtype(node, input));
export const outputType = (node: Node, output = 0): ScalarType => scalarTypeOf(outputDtype(node, output));

export const hasInput = (node: Node, input: number): boolean => node.inputs[input] !== undefined;

export function normalizeAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Elements of a constant numeric input as numbers; undefined when it is absent or not constant. */
export function constantNumbers(value: Value | undefined): readonly number[] | undefined {
  if (!value?.constant || !value.dtype || value.dtype === "string" || !value.dims) return undefined;
  const dims = value.dims.map(Number);
  const { data } = Tensor.fromBytes(value.dtype, value.constant.bytes, dims);
  if (value.dtype === "float16" || value.dtype === "bfloat16") return undefined;
  return Array.from(data as ArrayLike<number | bigint>, Number);
}

/** Elements of an integer input that are known when the kernel is built: sizes, symbolic or not. */
export function knownElements(value: Value | undefined): readonly Dim[] | undefined {
  return value?.elements ?? constantNumbers(value);
}

/** Reads input `input` at the output's index, its dims broadcast to `dims` (aligned at the right). */
export function loadBroadcast(node: Node, input: number, dims: readonly Dim[], index: readonly Expr[], load: LoadInput): Expr {
  return load(input, broadcastIndex(inputDims(node, input), dims, index));
}

/** A dimension that may be 1 or the full one at run time gets the factor min(1, size - 1), so that the access stays affine. */
export function broadcastIndex(from: readonly Dim[], to: readonly Dim[], index: readonly Expr[]): Expr[] {
  const skip = to.length - from.length;
  return from.map((dim, i) => {
    const at = index[i + skip]!;
    if (dim === 1) return i64(0);
    if (typeof dim === "number" || dimEqual(dim, to[i + skip]!)) return at;
    return op("mul", at, dimValue(dimMin(1, dimSub(dim, 1))));
  });
}

/** A scalar input, whatever its rank. */
export function loadScalar(node: Node, input: number, load: LoadInput): Expr {
  return load(input, inputDims(node, input).map(() => i64(0)));
}

/** Brings a result of arithmetic in a wider register back to what its storage type holds. */
export function wrapTo(dtype: DType, value: Expr): Expr {
  if (value.type !== "i32") return value;
  const shift = (amount: number): Expr => ({ kind: "const", type: "i32", value: amount });
  switch (dtype) {
    case "int8": return op("shiftRight", op("shiftLeft", value, shift(24)), shift(24));
    case "int16": return op("shiftRight", op("shiftLeft", value, shift(16)), shift(16));
    case "uint8": return op("bitAnd", value, shift(0xff));
    case "uint16": return op("bitAnd", value, shift(0xffff));
    default: return value;
  }
}

export const scaleIndex = (index: Expr, by: Dim): Expr => op("mul", index, dimValue(by));
