/**
 * Transposes merge, sink below what can work in any order of axes, and cancel. Sinking only ever moves them toward
 * the graph's outputs, so it ends.
 *
 * Convention: y = Transpose(x, perm) has y.dims[i] = x.dims[perm[i]]; axis i of y is axis perm[i] of x.
 * Invariant: a move never adds data to transpose, unless it takes away at least as much at the other inputs.
 */
import type { Node } from "../ir/index.ts";
import { isDataDependent } from "../ops/index.ts";
import { permOf, shapeOperand } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { isTransposed, movesNothing, transposed } from "./permute.ts";
import { isReshape } from "./simplify.ts";
import { SINKS } from "./transpose-sinks.ts";

export const mergeTransposes: Rule = (node, editor) => {
  const [input] = node.inputs;
  if (node.op !== "Transpose" || node.domain !== "" || !isTransposed(input)) return false;
  const result = transposed(editor, input, permOf(node));
  // A graph output that is its own input stays a pair of Transposes.
  if (editor.isOutput(node.outputs[0]!) && !result.producer) return false;
  if (result.producer && result !== input) result.producer.origins = [...new Set([...result.producer.origins, ...input.producer!.origins])];
  return editor.replaceNode(node, result);
};

/** Moves the Transposes before a node behind it. */
export const sinkTransposes: Rule = (node, editor) => (node.domain === "" ? SINKS[node.op]?.(node, editor) ?? false : false);

/** Whether a Transpose moves nothing but axes of size 1. */
function movesOnlyOnes(node: Node): boolean {
  return movesNothing(node.inputs[0]!.dims!, permOf(node));
}

/** Reshapes do not care for the place of axes of size 1. */
export const dropBeforeReshape: Rule = (node, editor) => {
  const [input] = node.inputs;
  const output = node.outputs[0];
  if (!isReshape(node) || !isTransposed(input) || !movesOnlyOnes(input.producer!) || !output?.dims || output.dims.some(isDataDependent)) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [input.producer!.inputs[0], shapeOperand(output.dims)], { allowzero: 1 }, { origins: [...input.producer!.origins, ...node.origins] }));
};

/** At the end, since Transposes cancel better while they move: those of axes of size 1 only are reshapes. */
export const transposeToReshape: Rule = (node, editor) => {
  const output = node.outputs[0];
  if (!isTransposed(output) || !movesOnlyOnes(node) || !output.dims || output.dims.some(isDataDependent)) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [node.inputs[0], shapeOperand(output.dims)], { allowzero: 1 }));
};
