/**
 * Transposes merge, sink below what can work in any order of axes, and cancel. Sinking only ever moves them toward
 * the graph's outputs, so it ends. What a transposed operand meets is brought to its order: constants are permuted,
 * scalars stay.
 */
import { DTYPE_BITS, elementCount } from "../base/index.ts";
import { constantValue, type Dim, type Node, type Value } from "../ir/index.ts";
import { invert, isIdentity, knownNumbers, numberOf, numbersOf, permOf, reducedAxes, shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { isReshape } from "./simplify.ts";

/** Operators of one tensor input that work element by element; further inputs are scalars. */
export const UNARY = new Set(`Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity
  IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu`.split(/\s+/));

/** Operators that broadcast their inputs against each other. */
const BROADCASTING = new Set(`Add Sub Mul Div Mod Pow And Or Xor BitwiseAnd BitwiseOr BitwiseXor Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mean Sum Where PRelu`.split(/\s+/));

const isTranspose = (node: Node | undefined): node is Node => node !== undefined && node.op === "Transpose" && node.domain === "" && node.inputs[0]?.dims !== undefined;

export const mergeTransposes: Rule = (node, editor) => {
  const inner = node.inputs[0]?.producer;
  if (!isTranspose(node) || !isTranspose(inner)) return false;
  const [first, second] = [permOf(inner), permOf(node)];
  const perm = second.map((axis) => first[axis]!);
  const source = inner.inputs[0]!;
  if (isIdentity(perm) && !(editor.isOutput(node.outputs[0]!) && !source.producer)) return editor.replaceNode(node, source);
  return editor.replaceNode(node, editor.emit("Transpose", [source], { perm }, { origins: [...inner.origins, ...node.origins] }));
};

/** Whether a transpose moves nothing but axes of size 1. */
export function movesOnlyOnes(node: Node): boolean {
  const dims = node.inputs[0]!.dims!;
  const kept = permOf(node).filter((axis) => dims[axis] !== 1);
  return kept.every((axis, i) => i === 0 || axis > kept[i - 1]!);
}

/** Reshapes do not care for the place of axes of size 1. */
export const dropBeforeReshape: Rule = (node, editor) => {
  const inner = node.inputs[0]?.producer;
  if (!isReshape(node) || !isTranspose(inner) || !movesOnlyOnes(inner) || !node.outputs[0]?.dims) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [inner.inputs[0], shapeOperand(node.outputs[0].dims)], { allowzero: 1 }, { origins: [...inner.origins, ...node.origins] }));
};

/** At the end: transposes that move only axes of size 1 are reshapes. */
export const transposeToReshape: Rule = (node, editor) => {
  const output = node.outputs[0];
  if (!isTranspose(node) || !movesOnlyOnes(node) || !output?.dims) return false;
  return editor.replaceNode(node, editor.emit("Reshape", [node.inputs[0], shapeOperand(output.dims)], { allowzero: 1 }));
};

/** How an operator is written over the untransposed input, and the order of its result's axes. */
interface Sunk {
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Node["attributes"];
  readonly perm: readonly number[];
}

type Sinker = (node: Node, perm: readonly number[], source: Value, editor: Editor) => Sunk | undefined;

export const sinkTransposes: Rule = (node, editor) => {
  if (node.domain !== "") return false;
  const sinker = UNARY.has(node.op) ? sinkUnary : BROADCASTING.has(node.op) ? sinkBroadcast : SINKERS[node.op];
  const transpose = node.inputs.map((input) => input?.producer).find(isTranspose);
  if (!sinker || !transpose) return false;
  const sunk = sinker(node, permOf(transpose), transpose.inputs[0]!, editor);
  if (!sunk) return false;
  const made = editor.emitNode(node.op, sunk.inputs, sunk.attributes, { outputs: node.outputs.length, origins: [...node.origins] });
  node.outputs.forEach((output, i) => {
    if (!output || (editor.usersOf(output).length === 0 && !editor.isOutput(output))) return;
    const result = made.outputs[i]!;
    editor.replace(output, isIdentity(sunk.perm) ? result : editor.emit("Transpose", [result], { perm: sunk.perm }));
  });
  return true;
};

const isTransposed = (value: Value | undefined, perm: readonly number[]): boolean => isTranspose(value?.producer) && String(permOf(value!.producer!)) === String(perm);

const sinkUnary: Sinker = (node, perm, source) => {
  if (!isTransposed(node.inputs[0], perm) || node.inputs.slice(1).some((input) => input && !isScalar(input))) return undefined;
  return { inputs: [source, ...node.inputs.slice(1)], attributes: node.attributes, perm };
};

const isScalar = (value: Value): boolean => value.dims !== undefined && value.dims.every((dim) => dim === 1);

const sinkBroadcast: Sinker = (node, perm) => {
  const rank = node.outputs[0]?.dims?.length;
  if (rank !== perm.length) return undefined;
  const inputs = node.inputs.map((input) => operandFor(input, perm));
  return inputs.every((input) => input !== undefined) ? { inputs, attributes: node.attributes, perm } : undefined;
};

/** The operand in the order before the transpose; undefined when that would take a transpose of its own. */
function operandFor(value: Value | undefined, perm: readonly number[]): Value | undefined {
  if (!value?.dims) return undefined;
  if (isTransposed(value, perm)) return value.producer!.inputs[0];
  if (isScalar(value) && value.dims.length <= 1) return value;
  return permutedConstant(value, perm);
}

/** A constant that broadcasts against the transposed tensor, for the untransposed one. */
function permutedConstant(value: Value, perm: readonly number[]): Value | undefined {
  if (!value.constant || value.constant.strings || !value.dtype || DTYPE_BITS[value.dtype] < 8 || value.dims!.length > perm.length) return undefined;
  const dims = [...new Array<number>(perm.length - value.dims!.length).fill(1), ...(value.dims as readonly number[])];
  const order = invert(perm);
  return constantValue(value.dtype, order.map((axis) => dims[axis]!), permuteBytes(value.constant.bytes, dims, order, DTYPE_BITS[value.dtype] / 8));
}

/** Elements of a row-major tensor in another order of axes. */
function permuteBytes(bytes: Uint8Array, dims: readonly number[], perm: readonly number[], size: number): Uint8Array {
  const count = elementCount(dims);
  const result = new Uint8Array(count * size);
  const strides = dims.map((_, i) => elementCount(dims.slice(i + 1)));
  const outDims = perm.map((axis) => dims[axis]!);
  const index = new Array<number>(dims.length).fill(0);
  let from = 0;
  for (let i = 0; i < count; i++) {
    for (let b = 0; b < size; b++) result[i * size + b] = bytes[from * size + b]!;
    for (let d = dims.length - 1; d >= 0; d--) {
      const stride = strides[perm[d]!]!;
      from += stride;
      if (++index[d]! < outDims[d]!) break;
      from -= stride * outDims[d]!;
      index[d] = 0;
    }
  }
  return result;
}

const axisAttribute = (absent: number): Sinker => (node, perm, source) => {
  if (!isTransposed(node.inputs[0], perm)) return undefined;
  const axis = (numberOf(node, "axis", absent) + perm.length) % perm.length;
  return { inputs: [source, ...node.inputs.slice(1)], attributes: { ...node.attributes, axis: perm[axis]! }, perm };
};

const sinkConcat: Sinker = (node, perm) => {
  const inputs = node.inputs.map((input) => (isTransposed(input, perm) ? input!.producer!.inputs[0] : input?.constant && input.dims?.length === perm.length ? permutedConstant(input, perm) : undefined));
  if (inputs.some((input) => input === undefined)) return undefined;
  const axis = (numberOf(node, "axis", 0) + perm.length) % perm.length;
  return { inputs, attributes: { ...node.attributes, axis: perm[axis]! }, perm };
};

const sinkReduce: Sinker = (node, perm, source) => {
  const axes = isTransposed(node.inputs[0], perm) ? reducedAxes(node) : undefined;
  if (!axes || axes.length === 0) return undefined;
  const moved = axes.map((axis) => perm[axis]!).sort((a, b) => a - b);
  const inputs = [source, shapeOperand(moved)];
  if (numberOf(node, "keepdims", 1) !== 0) return { inputs, attributes: node.attributes, perm };
  const kept = perm.filter((axis) => !moved.includes(axis));
  const order = [...kept].sort((a, b) => a - b);
  return { inputs, attributes: node.attributes, perm: kept.map((axis) => order.indexOf(axis)) };
};

const sinkSlice: Sinker = (node, perm, source) => {
  const starts = node.inputs[1]?.dims?.[0];
  if (!isTransposed(node.inputs[0], perm) || typeof starts !== "number") return undefined;
  const axes = node.inputs[3] ? knownNumbers(node.inputs[3]) : Array.from({ length: starts }, (_, i) => i);
  if (!axes) return undefined;
  const moved = axes.map((axis) => perm[(axis + perm.length) % perm.length]!);
  return { inputs: [source, node.inputs[1], node.inputs[2], shapeOperand(moved), node.inputs[4]], attributes: node.attributes, perm };
};

const sinkPad: Sinker = (node, perm, source) => {
  const pads = node.inputs[1]?.elements;
  if (!isTransposed(node.inputs[0], perm) || !pads || node.inputs[3]) return undefined;
  const order = invert(perm);
  const moved: Dim[] = [...order.map((axis) => pads[axis]!), ...order.map((axis) => pads[axis + perm.length]!)];
  return { inputs: [source, shapeOperand(moved), node.inputs[2]], attributes: node.attributes, perm };
};

/** Sizes and scales keep their order; the axes they are for are named. */
const sinkResize: Sinker = (node, perm, source) => {
  if (!isTransposed(node.inputs[0], perm)) return undefined;
  const axes = numbersOf(node, "axes")?.map((axis) => (axis + perm.length) % perm.length) ?? perm.map((_, i) => i);
  return { inputs: [source, ...node.inputs.slice(1)], attributes: { ...node.attributes, axes: axes.map((axis) => perm[axis]!) }, perm };
};

/** Scales per tensor, or one per element of the axis. */
const sinkQuantize: Sinker = (node, perm, source, editor) => {
  if (!isTransposed(node.inputs[0], perm) || numberOf(node, "block_size", 0) !== 0) return undefined;
  return node.inputs[1] && isScalar(node.inputs[1]) ? { inputs: [source, ...node.inputs.slice(1)], attributes: node.attributes, perm } : axisAttribute(1)(node, perm, source, editor);
};

const reductions = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split(" ");

const SINKERS: Readonly<Record<string, Sinker>> = {
  ...Object.fromEntries(reductions.map((op) => [op, sinkReduce])),
  Softmax: axisAttribute(-1), LogSoftmax: axisAttribute(-1), Hardmax: axisAttribute(-1), Split: axisAttribute(0),
  Concat: sinkConcat, Slice: sinkSlice, Pad: sinkPad, Resize: sinkResize, QuantizeLinear: sinkQuantize, DequantizeLinear: sinkQuantize,
};
