/**
 * Nodes that change nothing: Identity, Dropout in inference, Cast to the same type, Transpose in order, Reshape and
 * Expand to the same shape, Slice of everything, Concat of one, Pad of nothing, multiplication by 1 and addition of 0
 * where the shape stays. Chains of reshapes become the last one.
 */
import { dimsEqual, type Node, type Value } from "../ir/index.ts";
import { isDataDependent } from "../ops/index.ts";
import { isIdentity, knownNumbers, numberOf, permOf, shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { scalarOf } from "./match.ts";

type Test = (node: Node, input: Value, output: Value) => boolean;

const sameDims: Test = (_node, input, output) => input.dims !== undefined && output.dims !== undefined && dimsEqual(input.dims, output.dims);
const always: Test = () => true;

const neutral = (wanted: number): Test => (node, input, output) => scalarOf(node.inputs[1]) === wanted && sameDims(node, input, output);

const NOTHING: Readonly<Record<string, Test>> = {
  Identity: always,
  Dropout: (node) => !node.inputs[2],
  Cast: (_node, input, output) => input.dtype === output.dtype,
  CastLike: (_node, input, output) => input.dtype !== undefined && input.dtype === output.dtype,
  Transpose: (node) => node.inputs[0]?.dims !== undefined && isIdentity(permOf(node)),
  Reshape: sameDims, Flatten: sameDims, Squeeze: sameDims, Unsqueeze: sameDims, Expand: sameDims, Tile: sameDims,
  Slice: (node, input, output) => sameDims(node, input, output) && (!node.inputs[4] || (knownNumbers(node.inputs[4])?.every((step) => step === 1) ?? false)),
  Concat: (node) => node.inputs.length === 1,
  Sum: (node) => node.inputs.length === 1, Max: (node) => node.inputs.length === 1, Min: (node) => node.inputs.length === 1, Mean: (node) => node.inputs.length === 1,
  Pad: (node) => knownNumbers(node.inputs[1])?.every((pad) => pad === 0) ?? false,
  Mul: neutral(1), Div: neutral(1), Add: neutral(0), Sub: neutral(0), Pow: neutral(1),
  Resize: (node, input, output) => sameDims(node, input, output) && !node.inputs[1],
};

export const removeNothing: Rule = (node, editor) => {
  const [input] = node.inputs;
  const output = node.outputs[0];
  if (!input || !output || node.domain !== "" || node.outputs.slice(1).some((other) => other && editor.usersOf(other).length > 0)) return swapNeutral(node, editor);
  if (!NOTHING[node.op]?.(node, input, output)) return swapNeutral(node, editor);
  // A graph output that is its own input or a constant stays a copy.
  if (editor.isOutput(output) && (!input.producer || editor.isOutput(input))) return false;
  return editor.replaceNode(node, input);
};

/** Constants of Add and Mul stand second. */
function swapNeutral(node: Node, editor: Editor): boolean {
  if (node.domain !== "" || (node.op !== "Add" && node.op !== "Mul")) return false;
  const [a, b] = node.inputs;
  if (!a?.constant || b?.constant) return false;
  editor.setInput(node, 0, b);
  editor.setInput(node, 1, a);
  return true;
}

const RESHAPES = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze"]);

export const isReshape = (node: Node | undefined): node is Node => node !== undefined && node.domain === "" && RESHAPES.has(node.op);

/** Any reshape becomes Reshape with its target as a shape operand; a reshape of a reshape reads the first one's input. */
export const mergeReshapes: Rule = (node, editor) => {
  const output = node.outputs[0];
  if (!isReshape(node) || !output?.dims || !node.inputs[0] || output.dims.some(isDataDependent)) return false;
  const before = node.inputs[0].producer;
  if (isReshape(before) && before.inputs[0]?.dims) {
    const merged = editor.emit("Reshape", [before.inputs[0], shapeOperand(output.dims)], { allowzero: 1 }, { origins: [...new Set([...before.origins, ...node.origins])] });
    return editor.replaceNode(node, merged);
  }
  const isPlain = node.op === "Reshape" && numberOf(node, "allowzero", 0) === 1 && node.inputs[1]?.elements !== undefined;
  if (isPlain) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [node.inputs[0], shapeOperand(output.dims)], { allowzero: 1 }));
};
