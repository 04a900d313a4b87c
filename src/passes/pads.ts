/** A constant zero Pad of the spatial dimensions before a Conv (or an average that counts its padding) joins that node's pads. */
import type { Node } from "../ir/index.ts";
import { knownNumbers, numberOf, numbersOf, stringOf } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { scalarOf } from "./match.ts";

export const mergePads: Rule = (node, editor) => {
  const pad = node.inputs[0]?.producer;
  if (!takesPads(node) || pad?.op !== "Pad" || pad.domain !== "" || stringOf(pad, "mode", "constant") !== "constant" || pad.inputs[3]) return false;
  const fill = pad.inputs[2] ? scalarOf(pad.inputs[2]) : 0;
  const amounts = knownNumbers(pad.inputs[1]);
  const rank = pad.inputs[0]?.dims?.length;
  if (fill !== 0 || !amounts || rank === undefined || node.attributes["layout"] !== undefined || amounts.some((amount) => amount < 0)) return false;
  const [begins, ends] = [amounts.slice(0, rank), amounts.slice(rank)];
  if ([begins[0], begins[1], ends[0], ends[1]].some((amount) => amount !== 0)) return false;
  const own = stringOf(node, "auto_pad", "NOTSET") === "VALID" ? undefined : numbersOf(node, "pads");
  const pads = [...begins.slice(2), ...ends.slice(2)].map((amount, i) => amount + (own?.[i] ?? 0));
  const { auto_pad: _, ...attributes } = node.attributes;
  const merged = editor.emit(node.op, [pad.inputs[0], ...node.inputs.slice(1)], { ...attributes, pads }, { origins: [...pad.origins, ...node.origins] });
  return editor.replaceNode(node, merged);
};

function takesPads(node: Node): boolean {
  if (node.domain !== "" || stringOf(node, "auto_pad", "NOTSET").startsWith("SAME")) return false;
  return node.op === "Conv" || (node.op === "AveragePool" && numberOf(node, "count_include_pad", 0) !== 0 && numberOf(node, "ceil_mode", 0) === 0);
}
