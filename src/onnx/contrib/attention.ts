/**
 * onnxruntime's attention and rotary embedding to those of ai.onnx, where ranks are known and the form has an exact
 * counterpart: projected queries, keys and values of rank 3, masks of rank 2 (1 keeps, 0 hides by adding
 * `mask_filter_value`), past and present states apart or stacked.
 * Source: onnxruntime, ContribOperators.md: Attention, MultiHeadAttention, RotaryEmbedding; ONNX Attention-25.
 */
import type { AttributeValue, Node, Value } from "../../ir/index.ts";
import { numbersOf, type Rewrite, type Rewriter, tensorConstant } from "../rewriter.ts";
import { dataTypeOf } from "../tensor-data.ts";

const rankOf = (value: Value | undefined): number | undefined => value?.dims?.length;

/** The mask to add to the scores; the callers have checked that `padding` has rank 2. */
function additiveMask(node: Node, rewriter: Rewriter, padding: Value | undefined, bias: Value | undefined, like: Value | undefined): Value | undefined {
  if (!padding) return bias;
  const hidden = rewriter.scalarLike(Number(node.attributes["mask_filter_value"] ?? -10000), like);
  const keeps = rewriter.emit("Cast", [padding], { to: dataTypeOf("bool") });
  const row = rewriter.emit("Where", [keeps, rewriter.scalarLike(0, like), hidden]);
  const mask = rewriter.emit("Unsqueeze", [row, rewriter.int64([1, 2])]);
  return bias ? rewriter.emit("Add", [mask, bias]) : mask;
}

function attentionAttributes(node: Node): Record<string, AttributeValue> {
  const heads = Number(node.attributes["num_heads"] ?? 0);
  const scale = Number(node.attributes["scale"] ?? 0);
  const isCausal = Number(node.attributes["unidirectional"] ?? 0);
  return { q_num_heads: heads, kv_num_heads: heads, ...(scale ? { scale } : {}), ...(isCausal ? { is_causal: 1 } : {}) };
}

function multiHeadAttention(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [query, key, value, bias, padding, addend, pastKey, pastValue, pastLength, indirection] = node.inputs;
  const isCausalWithPast = Number(node.attributes["unidirectional"] ?? 0) !== 0 && pastKey !== undefined;
  const isPlain = [query, key, value].every((part) => rankOf(part) === 3) && !pastLength && !indirection && !rewriter.wants(3) && !isCausalWithPast;
  if (!isPlain || (padding && rankOf(padding) !== 2)) return undefined;
  const parts = bias ? withBias(rewriter, [query, key, value], bias) : [query, key, value];
  if (!parts) return undefined;
  const mask = additiveMask(node, rewriter, padding, addend, query);
  rewriter.emitMany("Attention", [...parts, mask, pastKey, pastValue], attentionAttributes(node), node.outputs.slice(0, 3));
  return "replaced";
}

/** Adds each part's section of the bias; undefined when the sections' sizes are not known. */
function withBias(rewriter: Rewriter, parts: readonly (Value | undefined)[], bias: Value): Value[] | undefined {
  const sizes = parts.map((part) => part?.dims?.at(-1));
  if (!sizes.every((size) => typeof size === "number")) return undefined;
  const sections = parts.map(() => rewriter.fresh("bias"));
  rewriter.emitMany("Split", [bias, rewriter.int64(sizes as number[])], { axis: 0 }, sections);
  return parts.map((part, i) => rewriter.emit("Add", [part, sections[i]]));
}

function attention(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [x, weights, bias, mask, past, addend, pastLength] = node.inputs;
  const width = weights?.dims?.at(-1);
  const stated = numbersOf(node, "qkv_hidden_sizes");
  const isCausalWithPast = Number(node.attributes["unidirectional"] ?? 0) !== 0 && past !== undefined;
  if (Number(node.attributes["do_rotary"] ?? 0) || pastLength || isCausalWithPast || (mask && rankOf(mask) !== 2)) return undefined;
  if (!stated?.length && typeof width !== "number") return undefined;
  const sizes = stated?.length ? stated : [0, 1, 2].map(() => Number(width) / 3);
  const product = rewriter.emit("MatMul", [x, weights]);
  const projected = bias ? rewriter.emit("Add", [product, bias]) : product;
  const parts = ["query", "key", "value"].map((hint) => rewriter.fresh(hint));
  rewriter.emitMany("Split", [projected, rewriter.int64(sizes)], { axis: -1 }, parts);
  const states = past ? [0, 1].map((i) => rewriter.emit("Gather", [past, rewriter.int64([i], [])], { axis: 0 })) : [];
  const presents = rewriter.wants(1) ? [rewriter.fresh("key"), rewriter.fresh("value_state")] : [];
  rewriter.emitMany("Attention", [...parts, additiveMask(node, rewriter, mask, addend, x), ...states], attentionAttributes(node), [node.outputs[0], ...presents]);
  if (presents.length > 0) {
    const stacked = presents.map((present) => rewriter.emit("Unsqueeze", [present, rewriter.int64([0])]));
    rewriter.emit("Concat", stacked, { axis: 0 }, node.outputs[1]);
  }
  return "replaced";
}

function rotaryEmbedding(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [x, positions, cosines, sines] = node.inputs;
  const rank = rankOf(x);
  const isPlain = Number(node.attributes["scale"] ?? 1) === 1 && !Number(node.attributes["is_packed_batching"] ?? 0);
  if (!isPlain || rankOf(positions) !== 2 || (rank !== 3 && rank !== 4)) return undefined;
  const partial = Number(node.attributes["rotary_embedding_dim"] ?? 0);
  const heads = Number(node.attributes["num_heads"] ?? 0) || (rank === 3 ? inferredHeads(x, cosines, partial) : 0);
  if (rank === 3 && !heads) return undefined;
  const attributes = { interleaved: Number(node.attributes["interleaved"] ?? 0), rotary_embedding_dim: partial, ...(heads ? { num_heads: heads } : {}) };
  rewriter.emit("RotaryEmbedding", [x, cosines, sines, positions], attributes, node.outputs[0]);
  return "replaced";
}

/** A row of the cosine table is half a head, unless only a part of the head turns. */
function inferredHeads(x: Value | undefined, cosines: Value | undefined, partial: number): number {
  const hidden = x?.dims?.[2];
  const half = tensorConstant(cosines)?.dims[1] ?? cosines?.dims?.[1];
  return typeof hidden === "number" && typeof half === "number" && half > 0 && partial === 0 ? hidden / (2 * half) : 0;
}

export const attentionRewrites: Readonly<Record<string, Rewrite>> = { MultiHeadAttention: multiHeadAttention, Attention: attention, RotaryEmbedding: rotaryEmbedding };
