/**
 * Normalisation with residual, and the embedding layer of BERT-like models.
 * Source: onnxruntime, ContribOperators.md: SkipLayerNormalization, SkipSimplifiedLayerNormalization,
 * SimplifiedLayerNormalization, EmbedLayerNormalization.
 */
import type { Node, Value } from "../../ir/index.ts";
import type { Rewrite, Rewriter } from "../rewriter.ts";
import { dataTypeOf } from "../tensor-data.ts";

const epsilonOf = (node: Node, absent: number): number => Number(node.attributes["epsilon"] ?? absent);

/** input + skip (+ bias); the last sum is output 3 where that is wanted. */
function residual(node: Node, rewriter: Rewriter, bias: Value | undefined): Value {
  const [x, skip] = node.inputs;
  const sum = rewriter.wants(3) ? node.outputs[3] : undefined;
  if (!bias) return rewriter.emit("Add", [x, skip], {}, sum);
  return rewriter.emit("Add", [rewriter.emit("Add", [x, skip]), bias], {}, sum);
}

function skipLayer(node: Node, rewriter: Rewriter): "replaced" {
  const [, , gamma, beta, bias] = node.inputs;
  const sum = residual(node, rewriter, bias);
  const statistics = rewriter.wants(1) || rewriter.wants(2) ? [node.outputs[1], node.outputs[2]] : [];
  rewriter.emitMany("LayerNormalization", [sum, gamma, beta], { axis: -1, epsilon: epsilonOf(node, 1e-12) }, [node.outputs[0], ...statistics]);
  return "replaced";
}

function skipSimplified(node: Node, rewriter: Rewriter): "replaced" | undefined {
  if (rewriter.wants(1) || rewriter.wants(2)) return undefined;
  const [, , gamma, bias] = node.inputs;
  const sum = residual(node, rewriter, bias);
  rewriter.emit("RMSNormalization", [sum, gamma], { axis: -1, epsilon: epsilonOf(node, 1e-12) }, node.outputs[0]);
  return "replaced";
}

function simplified(node: Node, rewriter: Rewriter): "replaced" | undefined {
  if (rewriter.wants(1)) return undefined;
  const { axis = -1, stash_type: stashType = 1 } = node.attributes;
  rewriter.emit("RMSNormalization", node.inputs.slice(0, 2), { axis, stash_type: stashType, epsilon: epsilonOf(node, 1e-5) }, node.outputs[0]);
  return "replaced";
}

function embed(node: Node, rewriter: Rewriter): "replaced" {
  const [ids, segmentIds, words, positions, segments, gamma, beta, mask, positionIds] = node.inputs;
  const word = rewriter.emit("Gather", [words, ids], { axis: 0 });
  let sum = rewriter.emit("Add", [word, positionIds ? rewriter.emit("Gather", [positions, positionIds], { axis: 0 }) : leadingRows(rewriter, positions, ids)]);
  if (segmentIds && segments) sum = rewriter.emit("Add", [sum, rewriter.emit("Gather", [segments, segmentIds], { axis: 0 })]);
  if (rewriter.wants(2)) rewriter.emit("Identity", [sum], {}, node.outputs[2]);
  rewriter.emit("LayerNormalization", [sum, gamma, beta], { axis: -1, epsilon: epsilonOf(node, 1e-12) }, node.outputs[0]);
  if (rewriter.wants(1)) maskIndex(node, rewriter, ids, mask);
  return "replaced";
}

/** As many rows of the table as the ids have columns. */
function leadingRows(rewriter: Rewriter, table: Value | undefined, ids: Value | undefined): Value {
  const length = rewriter.emit("Shape", [ids], { start: 1, end: 2 });
  return rewriter.emit("Slice", [table, rewriter.int64([0]), length, rewriter.int64([0])]);
}

/** The number of unmasked positions per row; zeros without a mask. */
function maskIndex(node: Node, rewriter: Rewriter, ids: Value | undefined, mask: Value | undefined): void {
  const to = dataTypeOf("int32");
  if (mask) {
    rewriter.emit("Cast", [rewriter.emit("ReduceSum", [mask, rewriter.int64([1])], { keepdims: 0 })], { to }, node.outputs[1]);
    return;
  }
  const zeros = rewriter.emit("ConstantOfShape", [rewriter.emit("Shape", [ids], { start: 0, end: 1 })]);
  rewriter.emit("Cast", [zeros], { to }, node.outputs[1]);
}

export const normalizationRewrites: Readonly<Record<string, Rewrite>> = {
  SkipLayerNormalization: skipLayer,
  SkipSimplifiedLayerNormalization: skipSimplified,
  SimplifiedLayerNormalization: simplified,
  EmbedLayerNormalization: embed,
};
