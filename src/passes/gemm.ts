/**
 * Gemm becomes MatMul, with its transposes on the operands (constants are folded), and Mul and Add for alpha, beta and
 * C. So that one form of matrix product reaches the plan: MatMul, then Add.
 */
import type { Value } from "../ir/index.ts";
import { floatConstant, numberOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";

export const splitGemm: Rule = (node, editor) => {
  if (node.op !== "Gemm" || node.domain !== "") return false;
  const [a, b, c] = node.inputs;
  if (!a?.dims || !b?.dims || !a.dtype?.startsWith("float")) return false;
  const left = numberOf(node, "transA", 0) !== 0 ? editor.emit("Transpose", [a], { perm: [1, 0] }) : a;
  const right = numberOf(node, "transB", 0) !== 0 ? editor.emit("Transpose", [b], { perm: [1, 0] }) : b;
  const product = scaled(editor, editor.emit("MatMul", [left, right]), numberOf(node, "alpha", 1));
  const addend = c && scaled(editor, c, numberOf(node, "beta", 1));
  return editor.replaceNode(node, addend ? editor.emit("Add", [product, addend]) : product);
};

function scaled(editor: Editor, value: Value, factor: number): Value {
  if (factor === 1) return value;
  return editor.emit("Mul", [value, floatConstant(value.dtype, [factor], [])]);
}

