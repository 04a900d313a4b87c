/**
 * Gather at one known place becomes a Slice, and a Reshape where the axis goes: views of memory that is there, while
 * Gather would copy. This is how exporters take queries, keys and values out of one product.
 */
import { numberOf, shapeOperand } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { reshaped } from "./permute.ts";

export const singleGatherToSlice: Rule = (node, editor) => {
  const [data, indices] = node.inputs;
  const [place, ...others] = indices?.elements ?? [];
  const dims = data?.dims;
  const output = node.outputs[0]?.dims;
  if (node.op !== "Gather" || node.domain !== "" || !data || data.constant || data.elements || !dims || !output || typeof place !== "number" || others.length > 0) return false;
  const given = numberOf(node, "axis", 0);
  const axis = given < 0 ? given + dims.length : given;
  const size = dims[axis];
  const start = place < 0 && typeof size === "number" ? place + size : place;
  if (typeof size !== "number" || start < 0 || start >= size) return false;
  const slice = editor.emit("Slice", [data, shapeOperand([start]), shapeOperand([start + 1]), shapeOperand([axis]), shapeOperand([1])]);
  return editor.replaceNode(node, reshaped(editor, slice, output));
};
