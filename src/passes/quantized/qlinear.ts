/**
 * QLinearConv and QLinearMatMul as what they say: real arithmetic between DequantizeLinear and QuantizeLinear. From there
 * they go the way of every other quantized model: to an integer product with pointwise work behind it.
 * Source: ONNX QLinearConv-10, QLinearMatMul-21.
 */
import { dataTypeOf } from "../../onnx/index.ts";
import type { Node, Value } from "../../ir/index.ts";
import type { Editor, Rule } from "../editor.ts";
import { isOneNumber } from "./operands.ts";

export const expandQLinear: Rule = (node, editor) => {
  if (node.domain !== "") return false;
  if (node.op === "QLinearConv") return expandConv(node, editor);
  return node.op === "QLinearMatMul" && expandMatMul(node, editor);
};

function expandConv(node: Node, editor: Editor): boolean {
  const [x, xScale, xZero, w, wScale, wZero, yScale, yZero, bias] = node.inputs;
  if (![x, xScale, w, wScale].every((value) => value?.dims) || !isOneNumber(xScale)) return false;
  const image = editor.emit("DequantizeLinear", [x, xScale, xZero]);
  const weights = editor.emit("DequantizeLinear", [w, wScale, wZero], { axis: 0 });
  // The bias counts in units of both scales.
  const unit = bias && editor.emit("Mul", [xScale, wScale]);
  const addend = bias && editor.emit("Mul", [editor.emit("Cast", [bias], { to: dataTypeOf("float32") }), unit]);
  const result = editor.emit("Conv", [image, weights, addend], node.attributes);
  return editor.replaceNode(node, editor.emit("QuantizeLinear", [result, yScale, yZero]));
}

function expandMatMul(node: Node, editor: Editor): boolean {
  const [a, aScale, aZero, b, bScale, bZero, yScale, yZero] = node.inputs;
  if (!a?.dims || !b?.dims || a.dims.length < 2 || b.dims.length < 2 || !isOneNumber(yScale)) return false;
  const left = dequantized(editor, [a, aScale, aZero], a.dims.length - 2);
  const right = left && dequantized(editor, [b, bScale, bZero], b.dims.length - 1);
  if (!left || !right || aScale?.dtype !== "float32") return false;
  return editor.replaceNode(node, editor.emit("QuantizeLinear", [editor.emit("MatMul", [left, right]), yScale, yZero]));
}

/** With one scale, or one per index of `axis`. */
function dequantized(editor: Editor, inputs: readonly (Value | undefined)[], axis: number): Value | undefined {
  const rank = inputs[1]?.dims?.length;
  return rank === undefined || rank > 1 ? undefined : editor.emit("DequantizeLinear", inputs, { axis });
}
