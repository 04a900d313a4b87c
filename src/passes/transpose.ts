/**
 * Transposes moved toward the outputs until they meet their inverse. A Transpose before an operator becomes one after
 * it, with the operator's axes renamed; two in a row become one or none. What cannot be passed keeps its Transpose.
 *
 * Convention: y = Transpose(x, perm) has y.dims[i] = x.dims[perm[i]]; axis i of y is axis perm[i] of x.
 * Invariant: a move never adds data to transpose, unless it takes away at least as much at the other inputs.
 */
import type { Node } from "../ir/index.ts";
import { isIdentity, permOf, shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { isTransposed, movesNothing, transposed } from "./permute.ts";
import { SINKS } from "./transpose-sinks.ts";

/** Merges Transposes in a row, and moves those before a node behind it. */
export const sinkTransposes: Rule = (node, editor) => {
  if (node.domain !== "") return false;
  if (node.op === "Transpose") return mergeTransposes(node, editor);
  return SINKS[node.op]?.(node, editor) ?? false;
};

function mergeTransposes(node: Node, editor: Editor): boolean {
  const [input] = node.inputs;
  if (!isTransposed(input)) return false;
  const result = transposed(editor, input, permOf(node));
  if (editor.isOutput(node.outputs[0]!) && (!result.producer || editor.isOutput(result))) return false;
  return editor.replaceNode(node, result);
}

/** A Transpose that moves only dimensions of size 1 is a Reshape. For the end: while they move, Transposes cancel better. */
export const reshapeTransposes: Rule = (node, editor) => {
  const [input] = node.inputs;
  if (node.op !== "Transpose" || node.domain !== "" || !input?.dims || input.constant) return false;
  const perm = permOf(node);
  if (isIdentity(perm) || !movesNothing(input.dims, perm)) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [input, shapeOperand(node.outputs[0]!.dims ?? perm.map((axis) => input.dims![axis]!))], { allowzero: 1 }));
};
