/**
 * Reshapes that leave the last dimension alone move below what works on that dimension only: products with a matrix,
 * bias, activations, Softmax over the last axis. There they meet the reshape that undoes them.
 */
import { dimEqual, type Node, type Value } from "../ir/index.ts";
import { isDataDependent } from "../ops/index.ts";
import { numberOf, shapeOperand } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { scalarOf } from "./match.ts";
import { isReshape } from "./simplify.ts";
import { UNARY } from "./transpose-sinks.ts";

export const sinkReshapes: Rule = (node, editor) => {
  if (node.domain !== "" || node.outputs.length !== 1) return false;
  const at = node.inputs.findIndex((input) => isReshape(input?.producer) && editor.isOnlyUse(input!) && keepsLast(input!.producer!));
  const reshape = node.inputs[at]?.producer;
  const output = node.outputs[0];
  if (at < 0 || !reshape || !output?.dims || output.dims.some(isDataDependent) || !canPass(node, at)) return false;
  const inputs = node.inputs.map((input, i) => (i === at ? reshape.inputs[0] : input));
  const moved = editor.emit(node.op, inputs, attributesFor(node));
  return editor.replaceNode(node, editor.emit("Reshape", [moved, shapeOperand(output.dims)], { allowzero: 1 }, { origins: [...reshape.origins, ...node.origins] }));
};

function keepsLast(reshape: Node): boolean {
  const [from, to] = [reshape.inputs[0]?.dims, reshape.outputs[0]?.dims];
  return from !== undefined && to !== undefined && from.length > 0 && to.length > 0 && to.length < from.length && dimEqual(from.at(-1)!, to.at(-1)!);
}

function canPass(node: Node, at: number): boolean {
  if (UNARY.has(node.op)) return at === 0;
  const rank = node.inputs[at]!.dims!.length;
  if (node.op === "MatMul") return at === 0 && rank >= 2 && node.inputs[1]?.constant !== undefined && node.inputs[1].dims?.length === 2;
  if (node.op === "Softmax" || node.op === "LogSoftmax") return [-1, rank - 1].includes(numberOf(node, "axis", -1));
  if (!/^(Add|Sub|Mul|Div)$/.test(node.op)) return false;
  const other = node.inputs[1 - at];
  return scalarOf(other) !== undefined ? other!.dims!.length <= 1 : isRow(other, node.inputs[at]!);
}

/** One number per element of the last dimension. */
function isRow(value: Value | undefined, like: Value): boolean {
  return value?.constant !== undefined && value.dims?.length === 1 && dimEqual(value.dims[0]!, like.dims!.at(-1)!);
}

function attributesFor(node: Node): Node["attributes"] {
  return node.op === "Softmax" || node.op === "LogSoftmax" ? { ...node.attributes, axis: -1 } : node.attributes;
}
