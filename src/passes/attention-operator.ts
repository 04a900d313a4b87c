/**
 * ONNX's own Attention, where its features allow, as sinter.Attention over [b, h, s, d] with head splits and merges
 * outside. Source: ONNX Attention-24.
 */
import { add, type Dim, dimEqual, type Node, type Value } from "../ir/index.ts";
import { simplifyMask } from "./attention-mask.ts";
import { floatConstant, numberOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { reshaped } from "./permute.ts";

/** ONNX Attention-25 without soft cap, window, or score output. Past states are put before the new ones. */
export const lowerAttention: Rule = (node, editor) => {
  if (node.op !== "Attention" || node.domain !== "" || !isPlain(node, editor)) return false;
  const [query, key, value, mask, pastKey, pastValue] = node.inputs;
  if (![query, key, value].every((input) => input?.dims && input.dtype === "float32")) return false;
  const isFlat = query!.dims!.length === 3;
  const causal = numberOf(node, "is_causal", 0) !== 0;
  if (!lengthsFit(node, isFlat ? 1 : 2) || (typeof query!.dims!.at(-1) !== "number" && node.attributes["scale"] === undefined)) return false;
  const q = isFlat ? splitHeads(query!, numberOf(node, "q_num_heads", 1), editor) : query!;
  const newKeys = isFlat ? splitHeads(key!, numberOf(node, "kv_num_heads", 1), editor) : key!;
  const newValues = isFlat ? splitHeads(value!, numberOf(node, "kv_num_heads", 1), editor) : value!;
  const k = pastKey ? editor.emit("Concat", [pastKey, newKeys], { axis: 2 }) : newKeys;
  const v = pastValue ? editor.emit("Concat", [pastValue, newValues], { axis: 2 }) : newValues;
  const keys = k.dims![2]!;
  const scale = numberOf(node, "scale", 0) || 1 / Math.sqrt(Number(q.dims![3]!));
  const given = mask && simplifyMask(mask.dtype === "bool" ? hiddenWhereFalse(mask, editor) : mask, { queries: q.dims![2]!, keys }, editor);
  const isCausal = causal || given?.causal === true;
  const attended = editor.emit("Attention", [q, k, v, given?.value && fourDims(given.value, editor)], { scale, ...(isCausal ? { causal: 1 } : {}) }, { domain: "sinter" });
  if (node.outputs[1]) editor.replace(node.outputs[1], k);
  if (node.outputs[2]) editor.replace(node.outputs[2], v);
  return editor.replaceNode(node, isFlat ? mergeHeads(attended, editor) : attended);
};

/**
 * The causal frontier starts at the end of the past only where there are as many new keys as queries; a mask that is
 * shorter than the keys hides the rest, which is not said here.
 */
function lengthsFit(node: Node, axis: number): boolean {
  const [query, key, , mask, past] = node.inputs;
  const [queries, newKeys] = [query!.dims![axis]!, key!.dims![axis]!];
  if (past && !past.dims) return false;
  if (numberOf(node, "is_causal", 0) !== 0 && !dimEqual(queries, newKeys)) return false;
  return !mask || (mask.dims !== undefined && mask.dims.length > 0 && mask.dims.length <= 4 && dimEqual(mask.dims.at(-1)!, add(past?.dims?.[2] ?? 0, newKeys)));
}

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

function fourDims(mask: Value, editor: Editor): Value {
  return reshaped(editor, mask, [...new Array<Dim>(4 - mask.dims!.length).fill(1), ...mask.dims!]);
}
