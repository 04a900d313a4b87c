/**
 * onnxruntime's own operators ("com.microsoft"): those with an exact composition of ai.onnx operators become it. Some
 * need ranks that only shape inference finds: these stay in their domain at first, and `decomposeContrib` can be asked
 * again later.
 * Source: onnxruntime, docs/ContribOperators.md.
 */
import type { Node, Value } from "../../ir/index.ts";
import { type Rewrite, Rewriter } from "../rewriter.ts";
import { activationRewrites } from "./activation.ts";
import { attentionRewrites } from "./attention.ts";
import { matMulRewrites } from "./matmul.ts";
import { normalizationRewrites } from "./normalization.ts";
import { quantizedRewrites } from "./quantized.ts";

export const CONTRIB: ReadonlyMap<string, Rewrite> = new Map(Object.entries({
  ...activationRewrites, ...attentionRewrites, ...matMulRewrites, ...normalizationRewrites, ...quantizedRewrites,
}));

/** Those that may stay as they are, since they have a reference of their own. */
export const KEPT_CONTRIB: ReadonlySet<string> = new Set([
  "Attention", "FusedConv", "FusedGemm", "FusedMatMul", "MatMulNBits", "MultiHeadAttention", "QLinearAveragePool",
  "QLinearGlobalAveragePool", "RotaryEmbedding", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization",
]);

/**
 * Tries the composition of a contrib node with what is known of its inputs by now.
 * @param isWanted whether anything reads the value
 * @returns the nodes that take its place, in order, or undefined when it must stay
 */
export function decomposeContrib(node: Node, isWanted: (value: Value) => boolean): Node[] | undefined {
  const rewrite = node.domain === "com.microsoft" ? CONTRIB.get(node.op) : undefined;
  if (!rewrite) return undefined;
  const rewriter = new Rewriter(node, 1, isWanted);
  return rewrite(node, rewriter) === "replaced" ? rewriter.nodes : undefined;
}
