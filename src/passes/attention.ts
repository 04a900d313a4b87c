/**
 * Attention: softmax(scale * q kᵀ + mask) v, as exporters spell it (scale before, after or split over both operands;
 * masks added or chosen by Where; batch and heads as one dimension or two; keys and values repeated for groups of
 * heads; torch's guard against rows without keys). The result is sinter.Attention over q [b, h, i, d], k [b, g, j, d],
 * v [b, g, j, e], where g divides h; head splits and merges stay outside, as views.
 */
import { type Dim, dimEqual, type Node, product, type Value } from "../ir/index.ts";
import { floatConstant, permOf, shapeOperand } from "./attributes.ts";
import { simplifyMask } from "./attention-mask.ts";
import { sameShape, scaledBy, type Scores, scoresOf, type Step, type Weights, weightsOf } from "./attention-scores.ts";
import type { Editor, Rule } from "./editor.ts";
import { originsOf } from "./match.ts";
import { reshaped, transposed } from "./permute.ts";
import { isReshape } from "./simplify.ts";

/** Finite hidden scores become at most this, so that adding them to a score leaves nothing of it. */
const ABSORBING = -1e30;

export const recogniseAttention: Rule = (node, editor) => {
  if (node.op !== "MatMul" || node.domain !== "") return false;
  const weights = weightsOf(node.inputs[0]);
  const scores = weights && isServed(node, weights, editor) ? scoresOf(weights.softmax.inputs[0]) : undefined;
  const [left, right, values] = [scores?.product.inputs[0], scores?.product.inputs[1], node.inputs[1]];
  const out = node.outputs[0]?.dims;
  if (!weights || !scores || !left || !right || !values || !out) return false;
  if (![left, right, values].every((value) => value.dtype === "float32" && (value.dims?.length === 3 || value.dims?.length === 4))) return false;
  const grid = gridOf(scores);
  if (!grid || !masksFit(scores.steps, grid) || ![left, right, values].every((value) => fits(value, grid))) return false;
  const q = strip(left, editor);
  const k = strip(right, editor);
  const rank = k.value.dims!.length;
  const keys = transposed(editor, k.value, rank === 4 ? [0, 1, 3, 2] : [0, 2, 1]);
  const [ungroupedKeys, ungroupedValues] = ungrouped(onGrid(keys, grid, editor), onGrid(values, grid, editor), grid, editor);
  const { mask, scale } = replay(scores.steps, grid, editor);
  const simple = mask ? simplifyMask(mask, { queries: grid[2]!, keys: grid[3]! }, editor) : { causal: false, value: undefined };
  const inputs = [expandedTo(onGrid(q.value, grid, editor), grid, editor), ungroupedKeys, ungroupedValues, simple.value && fourDims(simple.value, editor)];
  const attributes = { scale: scale * q.factor * k.factor, ...(simple.causal ? { causal: 1 } : {}) };
  const nodes = [...scores.nodes, ...weights.nodes, ...q.nodes, ...k.nodes, node];
  const attended = editor.emit("Attention", inputs, attributes, { domain: "sinter", origins: originsOf(nodes) });
  return editor.replaceNode(node, reshaped(editor, attended, out));
};

/** Whether nothing else reads the softmax or what follows it; else it would be computed twice. */
function isServed(node: Node, { nodes }: Weights, editor: Editor): boolean {
  const own = new Set([...nodes, node]);
  return nodes.every((inner) => !editor.isOutput(inner.outputs[0]!) && editor.usersOf(inner.outputs[0]!).every((user) => own.has(user)));
}

// ---- operands ---------------------------------------------------------------------------------------------------

/** [b, h, i, j]: the scores' dims where they have four; h = 1 where they have three. Five are batch, windows, heads. */
function gridOf({ shapes }: Scores): readonly Dim[] | undefined {
  if (!shapes.every((dims) => dims.length >= 3 && dims.length <= 5)) return undefined;
  const four = shapes.filter((dims) => dims.length === 4);
  if (four.some((dims) => !dims.every((dim, i) => dimEqual(dim, four[0]![i]!)))) return undefined;
  const grid = four[0] ?? [shapes[0]![0]!, 1, ...shapes[0]!.slice(-2)];
  const fits = (dims: readonly Dim[]): boolean => dims.length < 5 || (dimEqual(product(dims.slice(0, 2)), grid[0]!) && dimEqual(dims[2]!, grid[1]!));
  return shapes[0]!.length < 5 && shapes.every(fits) ? grid : undefined;
}

/** Whether an operand's leading dims are those of the grid; four of them may broadcast. */
function fits({ dims }: Value, grid: readonly Dim[]): boolean {
  if (dims!.length === 4) return [0, 1].every((i) => dims![i] === 1 || dimEqual(dims![i]!, grid[i]!));
  return dimEqual(dims![0]!, product(grid.slice(0, 2)));
}

function onGrid(value: Value, grid: readonly Dim[], editor: Editor): Value {
  return value.dims!.length === 4 ? value : reshaped(editor, value, [grid[0]!, grid[1]!, ...value.dims!.slice(1)]);
}

/** Repeated along batch and heads where it broadcasts; rows and columns as they are. */
function expandedTo(value: Value, grid: readonly Dim[], editor: Editor, heads = grid[1]!): Value {
  const wanted = [grid[0]!, heads, ...value.dims!.slice(2)];
  return wanted.every((dim, i) => dimEqual(dim, value.dims![i]!)) ? value : editor.emit("Expand", [value, shapeOperand(wanted)]);
}

/** Keys and values as they were before they were repeated for groups of query heads. */
function ungrouped(keys: Value, values: Value, grid: readonly Dim[], editor: Editor): [Value, Value] {
  const [a, b] = [keys, values].map((value) => groupOf(value));
  const heads = a && b && sameHeads(a, b) && typeof grid[1] === "number" ? a[1]! : grid[1]!;
  const isGrouped = a !== undefined && b !== undefined && dimEqual(heads, a[1]!);
  const [k, v] = isGrouped ? [narrowed(keys, a, editor), narrowed(values, b, editor)] : [keys, values];
  return [expandedTo(k, grid, editor, heads), expandedTo(v, grid, editor, heads)];
}

const sameHeads = (a: readonly Dim[], b: readonly Dim[]): boolean => typeof a[1] === "number" && a[1] === b[1];

const narrowed = (value: Value, dims: readonly Dim[], editor: Editor): Value => (value.dims![1] === 1 ? value : reshaped(editor, value.producer!.inputs[0]!.producer!.inputs[0]!, dims));

/** Dims [b, g, j, d] under Reshape(Expand([b, g, 1, j, d] to [b, g, r, j, d]) to [b, g * r, j, d]), or with one head anyway. */
function groupOf(value: Value): readonly Dim[] | undefined {
  if (value.dims![1] === 1) return value.dims;
  const expand = isReshape(value.producer) ? value.producer.inputs[0]?.producer : undefined;
  const [from, to] = [expand?.inputs[0]?.dims, expand?.outputs[0]?.dims];
  if (expand?.op !== "Expand" || expand.domain !== "" || from?.length !== 5 || to?.length !== 5 || from[2] !== 1) return undefined;
  if (![0, 1, 3, 4].every((i) => dimEqual(from[i]!, to[i]!))) return undefined;
  const dims = [to[0]!, product([to[1]!, to[2]!]), to[3]!, to[4]!];
  return dims.every((dim, i) => dimEqual(dim, value.dims![i]!)) ? [from[0]!, from[1]!, from[3]!, from[4]!] : undefined;
}

interface Stripped { readonly value: Value; readonly factor: number; readonly nodes: readonly Node[] }

/** Takes factors off an operand, above Transposes and Reshapes too. */
function strip(value: Value, editor: Editor): Stripped {
  const node = value.producer;
  const scaled = scaledBy(node);
  if (scaled && sameShape(scaled.value, value)) {
    const inner = strip(scaled.value, editor);
    return { value: inner.value, factor: inner.factor * scaled.factor, nodes: [...inner.nodes, node!] };
  }
  const moves = node?.domain === "" && (node.op === "Transpose" || isReshape(node)) && node.inputs[0]?.dims !== undefined;
  const inner = moves ? strip(node.inputs[0]!, editor) : undefined;
  if (!node || !inner || inner.factor === 1) return { value, factor: 1, nodes: [] };
  return { ...inner, value: node.op === "Transpose" ? transposed(editor, inner.value, permOf(node)) : reshaped(editor, inner.value, value.dims!) };
}

// ---- mask -------------------------------------------------------------------------------------------------------

/** Whether what is added at each step can be written over the grid. */
function masksFit(steps: readonly Step[], grid: readonly Dim[]): boolean {
  return steps.every((step) => {
    if (step.kind === "scale") return true;
    const { dims } = step.kind === "add" ? step.term : step.condition;
    const rank = step.dims.length;
    if (!dims || dims.length > rank) return false;
    if (rank === 5) return widened(dims).slice(0, 2).every((dim, i) => dim === 1 || dimEqual(dim, step.dims[i]!));
    return rank === 4 || dims.length < 3 || dims[0] === 1 || dimEqual(dims[0]!, product(grid.slice(0, 2)));
  });
}

/** The steps done to a mask that starts at zero, and the factor that the product gets. */
function replay(steps: readonly Step[], grid: readonly Dim[], editor: Editor): { mask: Value | undefined; scale: number } {
  let mask: Value | undefined;
  let scale = 1;
  for (const step of steps) {
    if (step.kind === "scale") {
      scale *= step.factor;
      mask &&= editor.emit("Mul", [mask, floatConstant("float32", [step.factor], [])]);
    } else if (step.kind === "add") {
      const term = lifted(step.term, step.dims, grid, editor);
      mask = mask ? editor.emit("Add", [mask, term]) : term;
    } else {
      const shown = mask ?? floatConstant("float32", [0], [])!;
      const hidden = floatConstant("float32", [step.hidden === Number.NEGATIVE_INFINITY ? step.hidden : Math.min(step.hidden, ABSORBING)], [])!;
      const condition = lifted(step.condition, step.dims, grid, editor);
      mask = editor.emit("Where", step.keepsWhenTrue ? [condition, shown, hidden] : [condition, hidden, shown]);
    }
  }
  return { mask, scale };
}

const widened = (dims: readonly Dim[]): readonly Dim[] => [...new Array<Dim>(5 - dims.length).fill(1), ...dims];

/** What broadcasts against scores of three or five dimensions, for four. */
function lifted(value: Value, scores: readonly Dim[], grid: readonly Dim[], editor: Editor): Value {
  const dims = value.dims!;
  if (scores.length === 5) return liftedWindows(value, scores, editor);
  if (scores.length === 4 || dims.length < 3) return value;
  const leading = dims[0] === 1 ? [1, 1] : grid.slice(0, 2);
  return reshaped(editor, value, [...leading, ...dims.slice(1)]);
}

/** A mask per window, repeated for the images of the batch. */
function liftedWindows(value: Value, scores: readonly Dim[], editor: Editor): Value {
  const [images, windows, ...rest] = widened(value.dims!);
  if (images === 1 && windows === 1) return reshaped(editor, value, rest);
  const apart = reshaped(editor, value, [images!, windows!, ...rest]);
  const repeated = editor.emit("Expand", [apart, shapeOperand([scores[0]!, scores[1]!, ...rest])]);
  return reshaped(editor, repeated, [product(scores.slice(0, 2)), ...rest]);
}

function fourDims(mask: Value, editor: Editor): Value {
  return reshaped(editor, mask, [...new Array<Dim>(4 - mask.dims!.length).fill(1), ...mask.dims!]);
}
