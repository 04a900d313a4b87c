/**
 * QuantizeLinear moves up through what only moves elements or picks the largest, DequantizeLinear of constants down
 * through the same: numbers stay small for as long as possible, and each QuantizeLinear comes to stand behind the work
 * whose results it rounds. All of it is exact, since rounding is monotone and works element by element.
 */
import type { Node, Value } from "../../ir/index.ts";
import { invert, permOf } from "../attributes.ts";
import type { Editor, Rule } from "../editor.ts";
import { axisOf, dequantizerOf, isNode, isPerTensor, sameQuantization } from "./operands.ts";

/** Operators that give elements of their first input, in another place. */
const MOVES = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand", "Tile", "MaxPool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth"]);

/** Q(DQ(x)) with one scale is x. */
export const cancelQuantize: Rule = (node, editor) => {
  if (!isNode(node, "QuantizeLinear")) return false;
  const before = dequantizerOf(node.inputs[0]);
  if (!before || !isPerTensor(node) || !isPerTensor(before) || !sameQuantization(node, before)) return false;
  const [source] = before.inputs;
  if (editor.isOutput(node.outputs[0]!) && !source?.producer) return false;
  return editor.replaceNode(node, source!);
};

/** Q(move(x)) → move(Q(x)). */
export const raiseQuantize: Rule = (node, editor) => {
  if (!isNode(node, "QuantizeLinear") || !isPerTensor(node)) return false;
  const before = node.inputs[0]?.producer;
  if (!before || before.domain !== "" || before.outputs.length !== 1 || !editor.isOnlyUse(node.inputs[0]!)) return false;
  const quantized = (value: Value | undefined): Value => editor.emit("QuantizeLinear", [value, ...node.inputs.slice(1)], node.attributes);
  if (MOVES.has(before.op)) return editor.replaceNode(node, again(editor, before, [quantized(before.inputs[0]), ...before.inputs.slice(1)]));
  return before.op === "Concat" && editor.replaceNode(node, again(editor, before, before.inputs.map(quantized)));
};

const again = (editor: Editor, node: Node, inputs: readonly (Value | undefined)[]): Value => editor.emit(node.op, inputs, node.attributes, { origins: node.origins });

/** Transpose(DQ(constant)) → DQ(Transpose(constant)), which folds; Gather(DQ(x)) → DQ(Gather(x)): tables stay small. */
export const lowerDequantize: Rule = (node, editor) => {
  const before = dequantizerOf(node.inputs[0]);
  if (!before || node.domain !== "") return false;
  if (node.op === "Transpose" && before.inputs[0]?.constant) return throughTranspose(node, before, editor);
  if (node.op !== "Gather" || !isPerTensor(before)) return false;
  const picked = editor.emit("Gather", [before.inputs[0], node.inputs[1]], node.attributes);
  return editor.replaceNode(node, editor.emit("DequantizeLinear", [picked, ...before.inputs.slice(1)], { ...before.attributes }));
};

function throughTranspose(node: Node, before: Node, editor: Editor): boolean {
  const scale = before.inputs[1]?.dims;
  if (!scale || scale.length > 1 || before.attributes["block_size"]) return false;
  const perm = permOf(node);
  const turned = editor.emit("Transpose", [before.inputs[0]], { perm: [...perm] });
  return editor.replaceNode(node, editor.emit("DequantizeLinear", [turned, ...before.inputs.slice(1)], { ...before.attributes, axis: invert(perm)[axisOf(before, perm.length)] ?? 0 }));
}

/** Transpose(DQ(x)) → DQ(Transpose(x)), and the same for Reshape: a product then reads bytes. Done last, since Transposes sink the other way before. */
export const lowerActivations: Rule = (node, editor) => {
  const before = dequantizerOf(node.inputs[0]);
  if (!before || before.inputs[0]?.constant || node.domain !== "" || (node.op !== "Transpose" && node.op !== "Reshape") || !isPerTensor(before)) return false;
  const moved = editor.emit(node.op, [before.inputs[0], ...node.inputs.slice(1)], node.attributes);
  return editor.replaceNode(node, editor.emit("DequantizeLinear", [moved, ...before.inputs.slice(1)], { ...before.attributes }));
};
