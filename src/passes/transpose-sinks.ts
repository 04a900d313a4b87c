/**
 * How each operator is passed by a Transpose before it: one row per operator. A row rewrites op(Transpose(x)) to
 * Transpose(op'(x)) and answers whether it did.
 */
import { type AttributeValue, type Dim, int64Constant, type Node, type Value } from "../ir/index.ts";
import { invert, knownNumbers, numberOf, numbersOf, permOf, reducedAxes, shapeOperand, stringOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { sinkThroughReshape } from "./transpose-reshape.ts";
import { compose, isTransposed, movesNothing, reshaped, transposed } from "./permute.ts";

/** Largest constant that is transposed to let a Transpose pass, in elements. */
const MAX_CONSTANT = 4 * 1024 * 1024;

/** How far down users are followed to see whether they undo a Transpose. */
const LOOKAHEAD = 4;

interface Source {
  readonly value: Value;
  readonly perm: readonly number[];
  readonly rank: number;
}

/** What is under the Transpose that makes the node's input. */
function sourceOf(node: Node, input = 0): Source | undefined {
  const value = node.inputs[input];
  if (!isTransposed(value)) return undefined;
  const perm = permOf(value.producer!);
  return { value: value.producer!.inputs[0]!, perm, rank: perm.length };
}

const axisOf = (node: Node, rank: number, absent: number): number => {
  const axis = numberOf(node, "axis", absent);
  return axis < 0 ? axis + rank : axis;
};

const wantsOnlyFirst = (node: Node, editor: Editor): boolean => node.outputs.slice(1).every((value) => !value || (editor.usersOf(value).length === 0 && !editor.isOutput(value)));

/** The node again on other inputs, its result transposed and put in its place. */
function behind(node: Node, editor: Editor, inputs: readonly (Value | undefined)[], perm: readonly number[], attributes: Record<string, AttributeValue> = {}): boolean {
  const made = editor.emit(node.op, inputs, { ...node.attributes, ...attributes });
  return editor.replaceNode(node, transposed(editor, made, perm));
}

const withInput = (node: Node, value: Value): (Value | undefined)[] => [value, ...node.inputs.slice(1)];

/** Works on each element; the other inputs, if any, are scalars. */
const unary: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source || !wantsOnlyFirst(node, editor)) return false;
  return behind(node, editor, withInput(node, source.value), source.perm);
};

/** Order of the axes that are left when `removed` (axes of the Transpose's result) go. */
function permWithout(perm: readonly number[], removed: ReadonlySet<number>): number[] {
  const kept = perm.filter((_, i) => !removed.has(i));
  const sorted = [...kept].sort((a, b) => a - b);
  return kept.map((axis) => sorted.indexOf(axis));
}

// ---- several inputs ---------------------------------------------------------------------------------------------

type Operand = { readonly kind: "free"; make(): Value | undefined } | { readonly kind: "source"; make(): Value } | { readonly kind: "costly"; make(): Value };

/** An input as the source of the Transposes would see it, and what that costs. */
function operandOf(editor: Editor, value: Value | undefined, perm: readonly number[], broadcasts: boolean): Operand | undefined {
  if (!value) return { kind: "free", make: () => undefined };
  if (isTransposed(value) && String(permOf(value.producer!)) === String(perm)) return { kind: "source", make: () => value.producer!.inputs[0]! };
  const { dims } = value;
  if (!dims || dims.length > perm.length || (!broadcasts && dims.length !== perm.length)) return undefined;
  if (broadcasts && dims.every((dim) => dim === 1)) return { kind: "free", make: () => value };
  const full = [...new Array<Dim>(perm.length - dims.length).fill(1), ...dims];
  const back = invert(perm);
  if (movesNothing(full, back)) return { kind: "free", make: () => reshaped(editor, value, back.map((axis) => full[axis]!)) };
  const isSmall = value.constant !== undefined && full.reduce<number>((count, dim) => count * Number(dim), 1) <= MAX_CONSTANT;
  return { kind: isSmall ? "free" : "costly", make: () => transposed(editor, reshaped(editor, value, full), back) };
}

/** All inputs seen through the inverse of one Transpose, if that takes away more of them than it adds. */
function operandsThrough(node: Node, editor: Editor, broadcasts: boolean): { inputs: (Value | undefined)[]; perm: readonly number[] } | undefined {
  const rank = node.outputs[0]?.dims?.length;
  const first = node.inputs.findIndex((value) => isTransposed(value) && value.dims!.length === rank);
  if (first < 0 || !wantsOnlyFirst(node, editor)) return undefined;
  const { perm } = sourceOf(node, first)!;
  const operands = node.inputs.map((value) => operandOf(editor, value, perm, broadcasts));
  if (!operands.every((operand) => operand !== undefined)) return undefined;
  const count = (kind: Operand["kind"]): number => new Set(node.inputs.filter((_, i) => operands[i]!.kind === kind)).size;
  const [gone, added] = [count("source"), count("costly")];
  if (added > 0 && added >= gone && !(added === gone && isUndone(editor, node.outputs[0]!, perm, LOOKAHEAD))) return undefined;
  return { inputs: operands.map((operand) => operand.make()), perm };
}

/** Operators of one tensor that work element by element; further inputs are scalars. */
export const UNARY: ReadonlySet<string> = new Set(`Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish
  Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu`.split(/\s+/));
const BROADCASTING = new Set("Add Sub Mul Div Mod Pow And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mean Sum PRelu Where BitShift BitwiseAnd BitwiseOr BitwiseXor".split(" "));

/** Whether every reader of the value, through pointwise operators, transposes back. */
function isUndone(editor: Editor, value: Value, perm: readonly number[], depth: number): boolean {
  const users = editor.usersOf(value);
  if (depth === 0 || users.length === 0 || editor.isOutput(value)) return false;
  return users.every((user) => {
    if (user.domain !== "") return false;
    if (user.op === "Transpose") return compose(perm, permOf(user)).every((axis, i) => axis === i);
    return UNARY.has(user.op) && isUndone(editor, user.outputs[0]!, perm, depth - 1);
  });
}

const broadcast: Rule = (node, editor) => {
  const through = operandsThrough(node, editor, true);
  return through !== undefined && behind(node, editor, through.inputs, through.perm);
};

const concat: Rule = (node, editor) => {
  const through = operandsThrough(node, editor, false);
  return through !== undefined && behind(node, editor, through.inputs, through.perm, { axis: through.perm[axisOf(node, through.perm.length, 0)]! });
};

// ---- axes -------------------------------------------------------------------------------------------------------

const split: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source) return false;
  const made = editor.emitNode("Split", withInput(node, source.value), { ...node.attributes, axis: source.perm[axisOf(node, source.rank, 0)]! }, { outputs: node.outputs.length });
  node.outputs.forEach((value, i) => { if (value) editor.replace(value, transposed(editor, made.outputs[i]!, source.perm)); });
  return true;
};

/** Axes given as an operand, or all of the first `count`. */
function axesOperand(node: Node, input: number, count: number, source: Source): Value | undefined {
  const axes = node.inputs[input] ? knownNumbers(node.inputs[input]) : Array.from({ length: count }, (_, i) => i);
  return axes && int64Constant(axes.map((axis) => source.perm[axis < 0 ? axis + source.rank : axis]!));
}

const slice: Rule = (node, editor) => {
  const source = sourceOf(node);
  const count = node.inputs[1]?.dims?.[0];
  if (!source || typeof count !== "number") return false;
  const axes = axesOperand(node, 3, count, source);
  return axes !== undefined && behind(node, editor, [source.value, node.inputs[1], node.inputs[2], axes, node.inputs[4]].slice(0, Math.max(4, node.inputs.length)), source.perm);
};

const pad: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source) return false;
  const pads = node.inputs[3] ? undefined : knownNumbers(node.inputs[1]);
  if (pads) {
    const back = invert(source.perm);
    const moved = int64Constant([...back.map((axis) => pads[axis]!), ...back.map((axis) => pads[axis + source.rank]!)]);
    return behind(node, editor, [source.value, moved, ...node.inputs.slice(2)], source.perm);
  }
  const axes = axesOperand(node, 3, source.rank, source);
  return axes !== undefined && behind(node, editor, [source.value, node.inputs[1], node.inputs[2], axes], source.perm);
};

const reduce: Rule = (node, editor) => {
  const source = sourceOf(node);
  const axes = reducedAxes(node);
  if (!source || !axes) return false;
  const perm = numberOf(node, "keepdims", 1) !== 0 ? source.perm : permWithout(source.perm, new Set(axes));
  if (axes.length === 0) return behind(node, editor, withInput(node, source.value), source.perm);
  return behind(node, editor, [source.value, int64Constant(axes.map((axis) => source.perm[axis]!).sort((a, b) => a - b))], perm);
};

const argument: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source) return false;
  const axis = axisOf(node, source.rank, 0);
  const perm = numberOf(node, "keepdims", 1) !== 0 ? source.perm : permWithout(source.perm, new Set([axis]));
  return behind(node, editor, [source.value], perm, { axis: source.perm[axis]! });
};

/** Only where the axis is the last one of the source: rows that lie in a run are what kernels want. */
const alongRow: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source) return false;
  const axis = source.perm[axisOf(node, source.rank, -1)]!;
  return axis === source.rank - 1 && behind(node, editor, [source.value], source.perm, { axis });
};

/** Normalises trailing axes, which must stay in place. */
const trailing: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source || !wantsOnlyFirst(node, editor)) return false;
  const first = axisOf(node, source.rank, -1);
  const others = node.inputs.slice(1).every((value) => !value || (value.dims && value.dims.length <= source.rank - first));
  return others && source.perm.every((axis, i) => i < first || axis === i) && behind(node, editor, withInput(node, source.value), source.perm);
};

/** Rows times a matrix: the order of the rows does not matter. */
const matmul: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source || source.rank < 3 || node.inputs[1]?.dims?.length !== 2 || source.perm[source.rank - 1] !== source.rank - 1) return false;
  return behind(node, editor, withInput(node, source.value), source.perm);
};

const gather: Rule = (node, editor) => {
  const source = sourceOf(node);
  const rank = node.inputs[1]?.dims?.length;
  if (!source || rank === undefined || rank > 1) return false;
  const axis = axisOf(node, source.rank, 0);
  const perm = rank === 1 ? source.perm : permWithout(source.perm, new Set([axis]));
  return behind(node, editor, withInput(node, source.value), perm, { axis: source.perm[axis]! });
};

/** One number per axis in a shape operand: Expand's target, Tile's repeats. */
const perAxis: Rule = (node, editor) => {
  const source = sourceOf(node);
  const elements = node.inputs[1]?.elements;
  if (!source || elements?.length !== source.rank) return false;
  return behind(node, editor, [source.value, shapeOperand(invert(source.perm).map((axis) => elements[axis]!))], source.perm);
};

const resize: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source) return false;
  const axes = numbersOf(node, "axes") ?? source.perm.map((_, i) => i);
  return behind(node, editor, withInput(node, source.value), source.perm, { axes: axes.map((axis) => source.perm[axis < 0 ? axis + source.rank : axis]!) });
};

/** Scale per tensor, or per element of one axis. */
const quantize: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source || numberOf(node, "block_size", 0) !== 0) return false;
  const scale = node.inputs[1]?.dims;
  if (!scale || scale.length > 1) return false;
  const attributes = scale.length === 0 ? {} : { axis: source.perm[axisOf(node, source.rank, 1)]! };
  return behind(node, editor, withInput(node, source.value), source.perm, attributes);
};

// ---- images -----------------------------------------------------------------------------------------------------

/** Whether the Transpose makes channels-first from channels-last. */
const fromChannelsLast = ({ perm, rank }: Source): boolean => rank >= 3 && perm.every((axis, i) => axis === (i === 0 ? 0 : i === 1 ? rank - 1 : i - 1));

const image: Rule = (node, editor) => {
  const source = sourceOf(node);
  if (!source || !fromChannelsLast(source) || stringOf(node, "layout", "NCHW") !== "NCHW" || !wantsOnlyFirst(node, editor)) return false;
  return behind(node, editor, withInput(node, source.value), source.perm, { layout: "NHWC" });
};

/** [N, H, W, parts...] spelled as Reshape, Transpose, Reshape in channels-last order. */
const depthToSpace: Rule = (node, editor) => {
  const source = sourceOf(node);
  const dims = source?.value.dims;
  const out = node.outputs[0]?.dims;
  if (!source || !dims || !out || source.rank !== 4 || !fromChannelsLast(source)) return false;
  const block = numberOf(node, "blocksize", 1);
  const [n, h, w] = dims as [Dim, Dim, Dim, Dim];
  const channels = out[1]!;
  const depthFirst = stringOf(node, "mode", "DCR") === "DCR";
  const parts = reshaped(editor, source.value, depthFirst ? [n, h, w, block, block, channels] : [n, h, w, channels, block, block]);
  const placed = transposed(editor, parts, depthFirst ? [0, 1, 3, 2, 4, 5] : [0, 1, 4, 2, 5, 3]);
  return editor.replaceNode(node, transposed(editor, reshaped(editor, placed, [n, out[2]!, out[3]!, channels]), source.perm));
};

const spaceToDepth: Rule = (node, editor) => {
  const source = sourceOf(node);
  const dims = source?.value.dims;
  const out = node.outputs[0]?.dims;
  if (!source || !dims || !out || source.rank !== 4 || !fromChannelsLast(source)) return false;
  const block = numberOf(node, "blocksize", 1);
  const [n, , , c] = dims as [Dim, Dim, Dim, Dim];
  const [, depth, height, width] = out as [Dim, Dim, Dim, Dim];
  const parts = reshaped(editor, source.value, [n, height, block, width, block, c]);
  const placed = transposed(editor, parts, [0, 1, 3, 2, 4, 5]);
  return editor.replaceNode(node, transposed(editor, reshaped(editor, placed, [n, height, width, depth]), source.perm));
};

const rows = (ops: Iterable<string>, rule: Rule): Record<string, Rule> => Object.fromEntries([...ops].map((op) => [op, rule]));

export const SINKS: Readonly<Record<string, Rule>> = {
  ...rows(UNARY, unary),
  ...rows(BROADCASTING, broadcast),
  ...rows(["ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"], reduce),
  ...rows(["ArgMax", "ArgMin"], argument),
  ...rows(["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"], alongRow),
  ...rows(["LayerNormalization", "RMSNormalization"], trailing),
  ...rows(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], sinkThroughReshape),
  ...rows(["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ConvTranspose"], image),
  ...rows(["QuantizeLinear", "DequantizeLinear"], quantize),
  ...rows(["Expand", "Tile"], perAxis),
  Concat: concat, Split: split, Slice: slice, Pad: pad, MatMul: matmul, Gather: gather, Resize: resize,
  DepthToSpace: depthToSpace, SpaceToDepth: spaceToDepth,
};
