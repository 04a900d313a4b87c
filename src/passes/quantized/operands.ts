/** Reading quantized operands: scales and zero points as numbers, and what a DequantizeLinear stands for. */
import type { Node, Value } from "../../ir/index.ts";
import { numbersOf } from "../../reference/index.ts";
import { numberOf } from "../attributes.ts";
import { asTensor } from "../fold.ts";

/** The numbers a constant holds; undefined for what is computed. */
export function constantNumbers(value: Value | undefined): ArrayLike<number> | undefined {
  const tensor = value?.dtype === "string" ? undefined : asTensor(value);
  return tensor && numbersOf(tensor);
}

export const isNode = (node: Node | undefined, op: string): node is Node => node?.op === op && node.domain === "";

/** The node that makes the value, if it is a DequantizeLinear. */
export function dequantizerOf(value: Value | undefined): Node | undefined {
  return isNode(value?.producer, "DequantizeLinear") ? value.producer : undefined;
}

export const isByte = (value: Value | undefined): boolean => value?.dtype === "int8" || value?.dtype === "uint8";

/** A tensor of one element. */
export const isOneNumber = (value: Value | undefined): boolean => value?.dims !== undefined && value.dims.length <= 1 && value.dims.every((dim) => dim === 1);

/** One scale for the whole tensor. */
export const isPerTensor = (node: Node): boolean => isOneNumber(node.inputs[1]);

/** One scale per index of `axis` of the input; a single scale is that too. */
export function isPerAxis(node: Node, axis: number): boolean {
  const rank = node.inputs[0]?.dims?.length ?? 0;
  if (isPerTensor(node)) return true;
  return node.inputs[1]?.dims?.length === 1 && numberOf(node, "block_size", 0) === 0 && axisOf(node, rank) === axis;
}

export function axisOf(node: Node, rank: number): number {
  const axis = numberOf(node, "axis", 1);
  return axis < 0 ? axis + rank : axis;
}

/** Whether a zero point is absent or nothing but zeros. */
export function isZero(value: Value | undefined): boolean {
  if (!value) return true;
  const numbers = constantNumbers(value);
  return numbers !== undefined && Array.prototype.every.call(numbers, (item) => item === 0);
}

/** Whether two quantizations are one: equal scales and zero points of equal type. */
export function sameQuantization(a: Node, b: Node): boolean {
  return sameNumbers(a.inputs[1], b.inputs[1]) && typeOf(a) === typeOf(b) && (a.inputs[2] === b.inputs[2] || sameNumbers(a.inputs[2], b.inputs[2], isZero(a.inputs[2]) && isZero(b.inputs[2])));
}

/** The integer type on the quantized side of a QuantizeLinear or DequantizeLinear. */
const typeOf = (node: Node): unknown => (node.op === "QuantizeLinear" ? node.outputs[0]?.dtype : node.inputs[0]?.dtype);

function sameNumbers(a: Value | undefined, b: Value | undefined, absent = false): boolean {
  if (a === b && a) return true;
  const [x, y] = [constantNumbers(a), constantNumbers(b)];
  if (!x || !y) return absent;
  return x.length === y.length && Array.prototype.every.call(x, (item, i) => item === y[i]);
}
