/**
 * MatMulInteger with a zero point for every row of A (dynamic quantization per token) becomes the product without it,
 * less the zero point times B's column sums: pointwise arithmetic that rides on the product.
 * sum((a - za)(b - zb)) = sum(a (b - zb)) - za sum(b - zb).
 */
import { constantValue, type Dim, type Node, type Value } from "../ir/index.ts";
import { shapeOperand } from "./attributes.ts";
import type { Rule } from "./editor.ts";

/** ONNX's number for int32. */
const ONNX_INT32 = 6;

export const rowZeroPoints: Rule = (node, editor) => {
  if (node.op !== "MatMulInteger" || node.domain !== "") return false;
  const [a, b, rowZero, columnZero] = node.inputs;
  const sums = columnSums(node);
  if (!a?.dims || a.dims.length < 2 || !b || !rowZero?.dims || !sums || rowZero.dims.every((dim) => dim === 1)) return false;
  const product = editor.emit("MatMulInteger", [a, b, undefined, columnZero]);
  const zeros = editor.emit("Cast", [rowZero], { to: ONNX_INT32 });
  const column = rowZero.dims.length === 1 ? editor.emit("Reshape", [zeros, shapeOperand([rowZero.dims[0] as Dim, 1])], { allowzero: 1 }) : zeros;
  return editor.replaceNode(node, editor.emit("Sub", [product, editor.emit("Mul", [column, sums])]));
};

/** sum over k of B[k, n] - zb[n], int32; undefined unless both are known. */
function columnSums(node: Node): Value | undefined {
  const [, b, , zero] = node.inputs;
  if (!b?.constant || b.dims?.length !== 2 || (zero && !zero.constant)) return undefined;
  const [rows, columns] = b.dims as [number, number];
  const elements = numbersOf(b);
  const zeros = zero ? numbersOf(zero) : [0];
  const sums = new Int32Array(columns);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) sums[column]! += elements[row * columns + column]!;
  for (let column = 0; column < columns; column++) sums[column]! -= rows * zeros[zeros.length === 1 ? 0 : column]!;
  return constantValue("int32", [columns], new Uint8Array(sums.buffer));
}

function numbersOf(value: Value): Int8Array | Uint8Array {
  const { bytes } = value.constant!;
  return value.dtype === "int8" ? new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : bytes;
}
