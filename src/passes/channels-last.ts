/**
 * Image operators work channels-last: each gets attribute `layout` "NHWC" and a transpose on either side; sinking and
 * merging transposes then leaves them at the graph's ends only. Weights stay in ONNX's order. A first convolution that
 * reads a channels-first input keeps it: attribute `inputLayout` "NCHW".
 */
import type { Graph, Node } from "../ir/index.ts";
import { permOf } from "./attributes.ts";
import type { Rule } from "./editor.ts";

const IMAGE_OPERATORS = new Set(["Conv", "ConvInteger", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]);

const toLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
const toFirst = (rank: number): number[] => [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)];

export const channelsLast: Rule = (node, editor) => {
  const rank = node.inputs[0]?.dims?.length;
  if (node.domain !== "" || !IMAGE_OPERATORS.has(node.op) || node.attributes["layout"] !== undefined || rank === undefined || rank < 3) return false;
  if (node.outputs[1] && (editor.usersOf(node.outputs[1]).length > 0 || editor.isOutput(node.outputs[1]))) return false;
  const turned = editor.emit("Transpose", [node.inputs[0]], { perm: toLast(rank) });
  const result = editor.emit(node.op, [turned, ...node.inputs.slice(1)], { ...node.attributes, layout: "NHWC" });
  return editor.replaceNode(node, editor.emit("Transpose", [result], { perm: toFirst(rank) }));
};

/** The convolution that reads a graph input takes it as it comes. */
export const readChannelsFirst = (graph: Graph): Rule => (node, editor) => {
  const transpose = node.inputs[0]?.producer;
  if (!isNativeConv(node) || transpose?.op !== "Transpose" || transpose.domain !== "" || node.attributes["inputLayout"] !== undefined) return false;
  const source = transpose.inputs[0];
  const rank = source?.dims?.length ?? 0;
  if (!source || !graph.inputs.includes(source) || String(permOf(transpose)) !== String(toLast(rank))) return false;
  const made = editor.emit("Conv", [source, ...node.inputs.slice(1)], { ...node.attributes, inputLayout: "NCHW" });
  return editor.replaceNode(node, made);
};

/** What the convolution generator takes; the plain lowering reads channels-last only. */
function isNativeConv(node: Node): boolean {
  const weights = node.inputs[1];
  const rank = weights?.dims?.length ?? 0;
  return node.op === "Conv" && node.domain === "" && node.attributes["layout"] === "NHWC" && weights?.constant !== undefined && weights.dtype === "float32" && (rank === 3 || rank === 4) && Number(node.attributes["group"] ?? 1) === 1;
}
