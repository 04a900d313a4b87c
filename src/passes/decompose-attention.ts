/**
 * What the attention kernel does not do (soft cap, windows, padded keys, scores as an output, a causal frontier between
 * different lengths) from its parts: MatMul, softmax, MatMul. A row in which no key may be seen gives zeros, so that
 * the softmax is spelled out there, with a largest score that stays finite. Source: ONNX Attention-25.
 */
import { type Dim, dimEqual, type Node, sub, type Value } from "../ir/index.ts";
import { floatConstant, numberOf, shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { reshaped, transposed } from "./permute.ts";

/** q [b, g, r, i, d], k and v [b, g, 1, j, d]: r query heads share one of the g heads of keys. */
interface Operands {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly heads: Dim;
  readonly queries: Dim;
  readonly keys: Dim;
}

const scalar = (value: number): Value => floatConstant("float32", [value], [])!;

/** Runs after the attention kernel has taken what it can. */
export const decomposeAttention: Rule = (node, editor) => {
  if (node.op !== "Attention" || node.domain !== "" || !isDecomposable(node)) return false;
  const [query, , , mask] = node.inputs;
  const isFlat = query!.dims!.length === 3;
  const [k, v] = [states(node, 1, editor), states(node, 2, editor)];
  const operands = grouped(node, k, v, editor);
  const { heads, queries, keys } = operands;
  const full = [query!.dims![0]!, heads, queries, keys];
  const product = editor.emit("MatMul", [operands.q, transposed(editor, operands.k, [0, 1, 2, 4, 3])]);
  const scores = editor.emit("Mul", [reshaped(editor, product, full), scalar(numberOf(node, "scale", 0) || 1 / Math.sqrt(Number(operands.q.dims![4]!)))]);
  const softcap = numberOf(node, "softcap", 0);
  const capped = softcap > 0 ? editor.emit("Mul", [editor.emit("Tanh", [editor.emit("Mul", [scores, scalar(1 / softcap)])]), scalar(softcap)]) : scores;
  const hidden = hiddenKeys(node, queries, keys, editor);
  const masked = mask ? editor.emit("Add", [capped, additive(mask, keys, editor)]) : capped;
  const seen = hidden ? editor.emit("Where", [hidden, scalar(Number.NEGATIVE_INFINITY), masked]) : masked;
  const weights = mask || hidden ? guardedSoftmax(seen, editor) : editor.emit("Softmax", [seen], { axis: -1 });
  const mixed = editor.emit("MatMul", [reshaped(editor, weights, product.dims!), operands.v]);
  const attended = reshaped(editor, mixed, [full[0]!, heads, queries, v.dims![3]!]);
  if (node.outputs[1]) editor.replace(node.outputs[1], k);
  if (node.outputs[2]) editor.replace(node.outputs[2], v);
  const mode = numberOf(node, "qk_matmul_output_mode", 0);
  if (node.outputs[3]) editor.replace(node.outputs[3], [scores, capped, seen, weights][mode]!);
  return editor.replaceNode(node, isFlat ? joined(attended, editor) : attended);
};

function isDecomposable(node: Node): boolean {
  const [query, key, value, mask] = node.inputs;
  const known = node.inputs.every((input) => !input || input.dims !== undefined);
  const isFloat = [query, key, value].every((input) => input?.dtype === "float32") && (!mask || mask.dtype === "bool" || mask.dtype === "float32");
  if (!known || !isFloat || node.outputs[0] === undefined) return false;
  const isFlat = query!.dims!.length === 3;
  const widths = [query!, key!, value!].map((input) => input.dims!.at(-1)!);
  const heads = isFlat ? [numberOf(node, "q_num_heads", 0), numberOf(node, "kv_num_heads", 0)] : [query!.dims![1]!, key!.dims![1]!];
  return heads.every((count) => typeof count === "number" && count > 0) && widths.every((width) => typeof width === "number") && (!mask?.dims || (mask.dims.length > 0 && mask.dims.length <= 4));
}

/** [b, g, past + new, d] of the keys (1) or values (2). */
function states(node: Node, input: 1 | 2, editor: Editor): Value {
  const now = apart(node.inputs[input]!, numberOf(node, "kv_num_heads", 1), editor);
  const past = node.inputs[input + 3];
  return past ? editor.emit("Concat", [past, now], { axis: 2 }) : now;
}

/** [b, s, h * d] as [b, h, s, d]. */
function apart(value: Value, heads: number, editor: Editor): Value {
  if (value.dims!.length === 4) return value;
  const [batch, length, width] = value.dims as [Dim, Dim, number];
  return transposed(editor, reshaped(editor, value, [batch, length, heads, width / heads]), [0, 2, 1, 3]);
}

function joined(value: Value, editor: Editor): Value {
  const [batch, heads, length, size] = value.dims as [Dim, number, Dim, number];
  return reshaped(editor, transposed(editor, value, [0, 2, 1, 3]), [batch, length, heads * size]);
}

function grouped(node: Node, k: Value, v: Value, editor: Editor): Operands {
  const whole = apart(node.inputs[0]!, numberOf(node, "q_num_heads", 1), editor);
  const [batch, heads, queries, size] = whole.dims as [Dim, number, Dim, number];
  const groups = k.dims![1] as number;
  const widened = (value: Value): Value => reshaped(editor, value, [value.dims![0]!, groups, 1, value.dims![2]!, value.dims![3]!]);
  return { q: reshaped(editor, whole, [batch, groups, heads / groups, queries, size]), k: widened(k), v: widened(v), heads, queries, keys: k.dims![2]! };
}

/** The mask as numbers to add; a mask that is shorter than the keys hides the rest. */
function additive(mask: Value, keys: Dim, editor: Editor): Value {
  const numbers = mask.dtype === "bool" ? editor.emit("Where", [mask, scalar(0), scalar(Number.NEGATIVE_INFINITY)]) : mask;
  const length = mask.dims!.at(-1)!;
  if (dimEqual(length, keys) || length === 1) return numbers;
  const rank = mask.dims!.length;
  const pads = [...new Array<Dim>(2 * rank - 1).fill(0), sub(keys, length)];
  return editor.emit("Pad", [numbers, shapeOperand(pads), scalar(Number.NEGATIVE_INFINITY)]);
}

/** Where the key is beyond the frontier, outside the window or padding: broadcasts to [b, h, i, j]. */
function hiddenKeys(node: Node, queries: Dim, keys: Dim, editor: Editor): Value | undefined {
  const [left, right] = [numberOf(node, "left_window_size", -1), numberOf(node, "right_window_size", -1)];
  const lengths = node.inputs[6] && reshaped(editor, node.inputs[6], [node.inputs[6].dims![0]!, 1, 1, 1]);
  const whole = (dim: Dim): Value => shapeOperand([dim], "int64", []);
  const key = editor.emit("Range", [whole(0), whole(keys), whole(1)]);
  const column = reshaped(editor, editor.emit("Range", [whole(0), whole(queries), whole(1)]), [queries, 1]);
  const before = lengths ? editor.emit("Sub", [lengths, whole(queries)]) : whole(node.inputs[4]?.dims?.[2] ?? 0);
  const position = (shift: number): Value => editor.emit("Add", [column, shift === 0 ? before : editor.emit("Add", [before, whole(shift)])]);
  const reasons = [
    ...(numberOf(node, "is_causal", 0) !== 0 ? [editor.emit("Greater", [key, position(0)])] : []),
    ...(left >= 0 ? [editor.emit("Less", [key, position(-left)])] : []),
    ...(right >= 0 ? [editor.emit("Greater", [key, position(right)])] : []),
    ...(lengths ? [editor.emit("GreaterOrEqual", [key, lengths])] : []),
  ];
  return reasons.length === 0 ? undefined : reasons.reduce((a, b) => editor.emit("Or", [a, b]));
}

/** Zeros where all scores are minus infinity; a row that sees a key has a sum of 1 or more before the division. */
function guardedSoftmax(scores: Value, editor: Editor): Value {
  const axes = shapeOperand([-1]);
  const largest = editor.emit("Max", [editor.emit("ReduceMax", [scores, axes], { keepdims: 1 }), scalar(-3e38)]);
  const powers = editor.emit("Exp", [editor.emit("Sub", [scores, largest])]);
  const sum = editor.emit("ReduceSum", [powers, axes], { keepdims: 1 });
  return editor.emit("Div", [powers, editor.emit("Max", [sum, scalar(1e-30)])]);
}
