/**
 * Products of dequantized operands as products of integers: DQ(a)·DQ(b) → MatMulInteger or ConvInteger, Cast, one
 * multiplication by both scales, bias. What follows, a QuantizeLinear too, is pointwise and rides on the product's
 * results. Sums of integers are exact, so the result does not depend on the processor; one rounding follows per step.
 */
import { constantValue, float32Constant, type Node, type Value } from "../../ir/index.ts";
import { dataTypeOf } from "../../onnx/index.ts";
import { numberOf, shapeOperand } from "../attributes.ts";
import type { Editor, Rule } from "../editor.ts";
import { constantNumbers, dequantizerOf, isByte, isNode, isPerAxis, isPerTensor, isZero } from "./operands.ts";

/** The longest sum of products of bytes that int32 holds: 2^31 / (255 * 128). */
const MAX_TERMS = 65_000;

export const integerProducts: Rule = (node, editor) => {
  if (isNode(node, "MatMul")) return integerMatMul(node, editor);
  return isNode(node, "Conv") && integerConv(node, editor);
};

function integerMatMul(node: Node, editor: Editor): boolean {
  const [a, b] = [dequantizerOf(node.inputs[0]), dequantizerOf(node.inputs[1])];
  const dims = node.inputs[1]?.dims;
  if (!a || !b || !isProductOfBytes(a, b) || !dims || dims.length < 2 || (node.inputs[0]?.dims?.length ?? 0) < 2) return false;
  const depth = dims[dims.length - 2]!;
  if (!isPerAxis(b, dims.length - 1) || !(Number(depth) <= MAX_TERMS)) return false;
  const rowScale = isPerTensor(a) ? undefined : rowScaleOf(a);
  if (!isPerTensor(a) && !rowScale) return false;
  const sum = editor.emit("MatMulInteger", [a.inputs[0], b.inputs[0], zeroPoint(a), zeroPoint(b)]);
  const real = editor.emit("Cast", [sum], { to: dataTypeOf("float32") });
  if (rowScale) return editor.replaceNode(node, editor.emit("Mul", [editor.emit("Mul", [real, rowScale]), b.inputs[1]]));
  return editor.replaceNode(node, editor.emit("Mul", [real, bothScales(editor, a.inputs[1]!, b.inputs[1]!)]));
}

/** One scale per row, written as one block as long as the row: its dims are those of the input, the last being 1. */
function rowScaleOf(node: Node): Value | undefined {
  const [x, scale] = node.inputs;
  const isWholeRow = scale?.dims?.length === x?.dims?.length && scale?.dims?.at(-1) === 1 && numberOf(node, "block_size", 0) > 0 && numberOf(node, "block_size", 0) === x?.dims?.at(-1);
  return isWholeRow && !node.inputs[2] ? scale : undefined;
}

function integerConv(node: Node, editor: Editor): boolean {
  const [x, w] = [dequantizerOf(node.inputs[0]), dequantizerOf(node.inputs[1])];
  const dims = node.inputs[1]?.dims;
  if (!x || !w || !isProductOfBytes(x, w) || !(isPerTensor(x) || isPerChannel(x, node)) || !isPerAxis(w, 0) || !dims?.every((dim) => typeof dim === "number")) return false;
  if (dims.slice(1).reduce<number>((product, dim) => product * Number(dim), 1) > MAX_TERMS) return false;
  const bias = node.inputs[2];
  const isLast = node.attributes["layout"] === "NHWC";
  const sum = editor.emit("ConvInteger", [x.inputs[0], w.inputs[0], zeroPoint(x), zeroPoint(w)], node.attributes);
  const real = editor.emit("Cast", [sum], { to: dataTypeOf("float32") });
  const scaled = editor.emit("Mul", [real, perChannel(editor, bothScales(editor, x.inputs[1]!, w.inputs[1]!), isLast, dims.length)]);
  return editor.replaceNode(node, bias ? editor.emit("Add", [scaled, perChannel(editor, bias, isLast, dims.length)]) : scaled);
}

/** A scale per channel under a depthwise convolution: each result has one channel's. */
function isPerChannel(x: Node, conv: Node): boolean {
  const rank = x.inputs[0]!.dims!.length;
  const axis = conv.attributes["layout"] === "NHWC" ? rank - 1 : 1;
  const channels = x.inputs[0]!.dims![axis];
  return isPerAxis(x, axis) && isZero(x.inputs[2]) && channels !== undefined && numberOf(conv, "group", 1) === channels && conv.inputs[1]!.dims![0] === channels;
}

/** Bytes on both sides, constant on the right: kernels pack the right side when they are built. */
function isProductOfBytes(a: Node, b: Node): boolean {
  return isByte(a.inputs[0]) && isByte(b.inputs[0]) && b.inputs[0]!.constant !== undefined && a.outputs[0]!.dtype === "float32" && b.outputs[0]!.dtype === "float32" && a.inputs[1]!.dtype === "float32" && b.inputs[1]!.dtype === "float32";
}

/** The zero point, or nothing where it is zero; of one element, as a scalar. */
function zeroPoint(node: Node): Value | undefined {
  const zero = node.inputs[2];
  if (!zero || isZero(zero)) return undefined;
  return zero.constant && zero.dims!.length === 1 && zero.dims![0] === 1 ? constantValue(zero.dtype!, [], zero.constant.bytes) : zero;
}

/** The product of two scales: each product rounded to float32 once. */
function bothScales(editor: Editor, a: Value, b: Value): Value {
  const [x, y] = [constantNumbers(a), constantNumbers(b)];
  if (!x || !y) return editor.emit("Mul", [a, b]);
  const [longer, shorter] = x.length > y.length ? [x, y] : [y, x];
  return float32Constant(Float32Array.from(longer, (item, i) => item * shorter[shorter.length === 1 ? 0 : i]!), longer.length === 1 ? [] : [longer.length]);
}

/** A number per channel, in the dims that broadcast over an image. */
function perChannel(editor: Editor, value: Value, isLast: boolean, rank: number): Value {
  const count = value.dims!.length === 1 ? Number(value.dims![0]) : 1;
  if (isLast || count === 1) return value;
  const dims = [count, ...new Array<number>(rank - 2).fill(1)];
  const numbers = constantNumbers(value);
  return numbers ? float32Constant(Float32Array.from(numbers), dims) : editor.emit("Reshape", [value, shapeOperand(dims)], { allowzero: 1 });
}
