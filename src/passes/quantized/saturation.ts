/**
 * Q(Relu(x)) and Q(Clip(x)) where the integer type ends inside the clip's range: saturation does the clipping already.
 * Exact, since rounding is monotone.
 */
import type { Node, Value } from "../../ir/index.ts";
import type { Rule } from "../editor.ts";
import { scalarOf } from "../match.ts";
import { constantNumbers, isNode, isPerTensor } from "./operands.ts";

const RANGES: Readonly<Record<string, readonly [number, number]>> = { int8: [-128, 127], uint8: [0, 255] };

export const dropSaturatedClips: Rule = (node, editor) => {
  if (!isNode(node, "QuantizeLinear") || !isPerTensor(node)) return false;
  const before = node.inputs[0]?.producer;
  const range = RANGES[node.outputs[0]?.dtype ?? ""];
  if (!before || !range || !editor.isOnlyUse(node.inputs[0]!)) return false;
  const clip = clipOf(before);
  const scale = scalarOf(node.inputs[1]);
  const zero = node.inputs[2] ? constantNumbers(node.inputs[2])?.[0] : 0;
  if (!clip || scale === undefined || zero === undefined || !(scale > 0)) return false;
  const [low, high] = clip.map((bound) => Math.round(bound / scale) + zero) as [number, number];
  if (low > range[0] || high < range[1]) return false;
  return editor.replaceNode(node, editor.emit("QuantizeLinear", [before.inputs[0], ...node.inputs.slice(1)], node.attributes));
};

/** The range that the node cuts its input to. */
function clipOf(node: Node): readonly [number, number] | undefined {
  if (node.domain !== "") return undefined;
  if (node.op === "Relu") return [0, Number.POSITIVE_INFINITY];
  if (node.op !== "Clip") return undefined;
  const bound = (value: Value | undefined, absent: number): number | undefined => (value ? scalarOf(value) : absent);
  const [low, high] = [bound(node.inputs[1], Number.NEGATIVE_INFINITY), bound(node.inputs[2], Number.POSITIVE_INFINITY)];
  return low === undefined || high === undefined ? undefined : [low, high];
}
