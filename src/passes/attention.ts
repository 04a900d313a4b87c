/**
 * Attention: softmax(scale * q kᵀ + mask) v, as exporters spell it (scale before, after or split over both operands;
 * masks added or chosen by Where; torch's guard against rows without keys), and ONNX's own operator. The result is
 * sinter.Attention over q [b, h, i, d], k [b, h', j, d], v [b, h', j, e]; head splits and merges stay outside.
 */
import { type Dim, dimEqual, type Node, type Value } from "../ir/index.ts";
import { floatConstant, numberOf, shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { originsOf, scalarOf } from "./match.ts";

interface Term { readonly value: Value; readonly factor: number }
interface Choice { readonly condition: Value; readonly hidden: number; readonly keepsWhenTrue: boolean }

interface Scores {
  readonly product: Node;
  scale: number;
  readonly terms: Term[];
  readonly choices: Choice[];
  readonly nodes: Node[];
}

/** Scores at or below this are as good as hidden. */
const HIDDEN = -1e4 + 1;

/** value * factor for Mul and Div by a number. */
function scaledBy(node: Node | undefined): { value: Value; factor: number } | undefined {
  if (!node || node.domain !== "" || (node.op !== "Mul" && node.op !== "Div")) return undefined;
  const [a, b] = node.inputs;
  const right = scalarOf(b);
  if (a && right !== undefined && right !== 0) return { value: a, factor: node.op === "Mul" ? right : 1 / right };
  const left = node.op === "Mul" ? scalarOf(a) : undefined;
  return left !== undefined && b ? { value: b, factor: left } : undefined;
}

/** Follows the scores up to the product, collecting what was done to it. */
function scoresOf(value: Value | undefined, depth = 6): Scores | undefined {
  const node = value?.producer;
  if (!node || node.domain !== "" || depth === 0) return undefined;
  if (node.op === "MatMul") return { product: node, scale: 1, terms: [], choices: [], nodes: [node] };
  const scaled = scaledBy(node);
  if (scaled) {
    const inner = scoresOf(scaled.value, depth - 1);
    if (!inner || inner.choices.length > 0) return undefined;
    const terms = inner.terms.map((term) => ({ ...term, factor: term.factor * scaled.factor }));
    return { ...inner, scale: inner.scale * scaled.factor, terms, nodes: [...inner.nodes, node] };
  }
  if (node.op === "Add") return withTerm(node, depth);
  return node.op === "Where" ? withChoice(node, depth) : undefined;
}

function withTerm(node: Node, depth: number): Scores | undefined {
  for (const [at, other] of [[0, 1], [1, 0]] as const) {
    const inner = scoresOf(node.inputs[at], depth - 1);
    const term = node.inputs[other];
    if (inner && term && sameShape(node.inputs[at], node.outputs[0])) return { ...inner, terms: [...inner.terms, { value: term, factor: 1 }], nodes: [...inner.nodes, node] };
  }
  return undefined;
}

function withChoice(node: Node, depth: number): Scores | undefined {
  const [condition, a, b] = node.inputs;
  for (const [scores, hiddenValue, keepsWhenTrue] of [[a, b, true], [b, a, false]] as const) {
    const hidden = scalarOf(hiddenValue);
    if (hidden === undefined || hidden > HIDDEN || !condition || !sameShape(scores, node.outputs[0])) continue;
    const inner = scoresOf(scores, depth - 1);
    if (inner) return { ...inner, choices: [...inner.choices, { condition, hidden, keepsWhenTrue }], nodes: [...inner.nodes, node] };
  }
  return undefined;
}

function sameShape(a: Value | undefined, b: Value | undefined): boolean {
  return a?.dims !== undefined && b?.dims !== undefined && a.dims.length === b.dims.length && a.dims.every((dim, i) => dimEqual(dim, b.dims![i]!));
}

/** The scores' softmax below torch's guard: Where(IsNaN(p), 0, p). */
function softmaxOf(value: Value | undefined): { softmax: Node; nodes: Node[] } | undefined {
  const node = value?.producer;
  if (!node || node.domain !== "") return undefined;
  if (node.op === "Where") {
    const [condition, zero, inner] = node.inputs;
    const test = condition?.producer;
    if (test?.op !== "IsNaN" || test.inputs[0] !== inner || scalarOf(zero) !== 0) return undefined;
    const found = softmaxOf(inner);
    return found && { softmax: found.softmax, nodes: [...found.nodes, test, node] };
  }
  const rank = node.inputs[0]?.dims?.length ?? 0;
  const axis = numberOf(node, "axis", -1);
  return node.op === "Softmax" && (axis === -1 || axis === rank - 1) ? { softmax: node, nodes: [node] } : undefined;
}

export const recogniseAttention: Rule = (node, editor) => {
  if (node.op !== "MatMul" || node.domain !== "") return false;
  const found = softmaxOf(node.inputs[0]);
  const scores = found && scoresOf(found.softmax.inputs[0]);
  const v = node.inputs[1];
  if (!found || !scores || !v?.dims || v.constant) return false;
  const q = strip(scores.product.inputs[0]!);
  const k = strip(scores.product.inputs[1]!);
  const operands = [q.value, k.value, v];
  const rank = node.outputs[0]?.dims?.length;
  if ((rank !== 3 && rank !== 4) || !operands.every((value) => value.dims?.length === rank && value.dtype === "float32")) return false;
  const rows = q.value.dims!.slice(0, -2);
  if (!operands.every((value) => rows.every((dim, i) => dimEqual(dim, value.dims![i]!)))) return false;
  const nodes = [...scores.nodes, ...found.nodes, ...q.nodes, ...k.nodes, node];
  const swap = rank === 4 ? [0, 1, 3, 2] : [0, 2, 1];
  const keys = editor.emit("Transpose", [k.value], { perm: swap });
  const mask = maskOf(scores, editor, scores.product.outputs[0]!.dims!);
  if (mask === null) return false;
  const [four, result] = rank === 4 ? [(value: Value) => value, (value: Value) => value] : [(value: Value) => withHeads(value, editor), (value: Value) => withoutHeads(value, editor)];
  const inputs = [four(q.value), four(keys), four(v), mask && fourDims(mask, editor, rank)];
  const attended = editor.emit("Attention", inputs, { scale: scores.scale * q.factor * k.factor }, { domain: "sinter", origins: originsOf(nodes) });
  return editor.replaceNode(node, result(attended));
};

/** Takes factors off an operand. */
function strip(value: Value): { value: Value; factor: number; nodes: Node[] } {
  const scaled = scaledBy(value.producer);
  if (!scaled || !sameShape(scaled.value, value)) return { value, factor: 1, nodes: [] };
  const inner = strip(scaled.value);
  return { value: inner.value, factor: inner.factor * scaled.factor, nodes: [...inner.nodes, value.producer!] };
}

const withHeads = (value: Value, editor: Editor): Value => reshaped(editor, value, [value.dims![0]!, 1, ...value.dims!.slice(1)]);
const withoutHeads = (value: Value, editor: Editor): Value => reshaped(editor, value, [value.dims![0]!, ...value.dims!.slice(2)]);

function reshaped(editor: Editor, value: Value, dims: readonly Dim[]): Value {
  return editor.emit("Reshape", [value, shapeOperand(dims)], { allowzero: 1 });
}

/** A mask of rank 4 that broadcasts to [b, h, i, j]; of rank-3 attention the batch takes both. */
function fourDims(mask: Value, editor: Editor, rank: number): Value {
  const full = [...new Array<Dim>(Math.max(0, rank - mask.dims!.length)).fill(1), ...mask.dims!];
  const dims = rank === 4 ? full : [full[0]!, 1, ...full.slice(1)];
  return dims.length === mask.dims!.length ? mask : reshaped(editor, mask, dims);
}

/** Everything added to the scores as one value; null when some part cannot be. */
function maskOf(scores: Scores, editor: Editor, dims: readonly Dim[]): Value | undefined | null {
  const parts: Value[] = [];
  for (const { value, factor } of scores.terms) {
    if (!value.dims || value.dtype !== "float32" || value.dims.length > dims.length) return null;
    parts.push(factor === 1 ? value : editor.emit("Mul", [value, floatConstant("float32", [factor], [])]));
  }
  for (const { condition, hidden, keepsWhenTrue } of scores.choices) {
    if (!condition.dims || condition.dims.length > dims.length) return null;
    const [zero, low] = [floatConstant("float32", [0], []), floatConstant("float32", [hidden], [])];
    parts.push(editor.emit("Where", keepsWhenTrue ? [condition, zero, low] : [condition, low, zero]));
  }
  return parts.length === 0 ? undefined : parts.reduce((a, b) => editor.emit("Add", [a, b]));
}

/** ONNX Attention-25 without soft cap, window, or score output. Past states are put before the new ones. */
export const lowerAttention: Rule = (node, editor) => {
  if (node.op !== "Attention" || node.domain !== "" || !isPlain(node, editor)) return false;
  const [query, key, value, mask, pastKey, pastValue] = node.inputs;
  if (![query, key, value].every((input) => input?.dims && input.dtype === "float32")) return false;
  const isFlat = query!.dims!.length === 3;
  const causal = numberOf(node, "is_causal", 0) !== 0;
  const q = isFlat ? splitHeads(query!, numberOf(node, "q_num_heads", 1), editor) : query!;
  const newKeys = isFlat ? splitHeads(key!, numberOf(node, "kv_num_heads", 1), editor) : key!;
  const newValues = isFlat ? splitHeads(value!, numberOf(node, "kv_num_heads", 1), editor) : value!;
  if (causal && !dimEqual(q.dims![2]!, newKeys.dims![2]!)) return false;
  if (mask?.dims && mask.dims.length > 4) return false;
  const k = pastKey ? editor.emit("Concat", [pastKey, newKeys], { axis: 2 }) : newKeys;
  const v = pastValue ? editor.emit("Concat", [pastValue, newValues], { axis: 2 }) : newValues;
  const size = q.dims![3]!;
  if (typeof size !== "number" && node.attributes["scale"] === undefined) return false;
  const scale = numberOf(node, "scale", 0) || 1 / Math.sqrt(Number(size));
  const additive = mask && fourDims(mask.dtype === "bool" ? hiddenWhereFalse(mask, editor) : mask, editor, 4);
  const attended = editor.emit("Attention", [q, k, v, additive], { scale, ...(causal ? { causal: 1 } : {}) }, { domain: "sinter" });
  if (node.outputs[1]) editor.replace(node.outputs[1], k);
  if (node.outputs[2]) editor.replace(node.outputs[2], v);
  return editor.replaceNode(node, isFlat ? mergeHeads(attended, editor) : attended);
};

function isPlain(node: Node, editor: Editor): boolean {
  const wantsScores = node.outputs[3] !== undefined && (editor.usersOf(node.outputs[3]).length > 0 || editor.isOutput(node.outputs[3]));
  const lengths = node.inputs[6] !== undefined;
  const windows = numberOf(node, "left_window_size", -1) >= 0 || numberOf(node, "right_window_size", -1) >= 0;
  const mask = node.inputs[3];
  return !wantsScores && !lengths && !windows && numberOf(node, "softcap", 0) === 0 && node.outputs[0] !== undefined && (!mask || mask.dtype === "bool" || mask.dtype === "float32");
}

function hiddenWhereFalse(mask: Value, editor: Editor): Value {
  return editor.emit("Where", [mask, floatConstant("float32", [0], []), floatConstant("float32", [Number.NEGATIVE_INFINITY], [])]);
}

/** [b, s, h * d] to [b, h, s, d]. */
function splitHeads(value: Value, heads: number, editor: Editor): Value {
  const [batch, length, width] = value.dims as [Dim, Dim, Dim];
  const split = reshaped(editor, value, [batch, length, heads, Number(width) / heads]);
  return editor.emit("Transpose", [split], { perm: [0, 2, 1, 3] });
}

/** [b, h, s, d] to [b, s, h * d]. */
function mergeHeads(value: Value, editor: Editor): Value {
  const [batch, heads, length, size] = value.dims as [Dim, Dim, Dim, Dim];
  const turned = editor.emit("Transpose", [value], { perm: [0, 2, 1, 3] });
  return reshaped(editor, turned, [batch, length, Number(heads) * Number(size)]);
}
