/** Normalisations, recurrences, quantization, rotary embedding. */
import type { Dim, Node } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { axisIn, type Dims, dimsOf, dimsText, forAll, numberOf, require, type Rules, sameAsInput, setOutput, stringOf, typeAttribute, typeOf } from "./rule.ts";

const batch: InferRule = (node) => {
  setOutput(node, 0, typeOf(node, 0), dimsOf(node, 0));
  setOutput(node, 1, typeOf(node, 3), dimsOf(node, 3));
  setOutput(node, 2, typeOf(node, 4), dimsOf(node, 4));
};

/** Statistics have size 1 in the normalised dimensions, and the type they are computed in. */
const layer: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, typeOf(node, 0), dims);
  const axis = dims && axisIn(node, numberOf(node, "axis", -1), dims.length);
  const statistics = dims?.map((dim, i) => (i >= axis! ? 1 : dim));
  const dtype = typeAttribute(node, "stash_type", "float32");
  for (const i of [1, 2]) setOutput(node, i, dtype, statistics);
};

/** onnxruntime's: the statistics are outputs 1 and 2, input + skip is output 3. */
const skip: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, typeOf(node, 0), dims);
  for (const i of [1, 2]) setOutput(node, i, "float32", dims?.map((dim, d) => (d === dims.length - 1 ? 1 : dim)));
  setOutput(node, 3, typeOf(node, 0), dims);
};

/** X [length, batch, input] (or batch first); outputs Y, Y_h and, of LSTM, Y_c. */
const recurrent: InferRule = (node) => {
  const x = dimsOf(node, 0);
  require(node, !x || x.length === 3, () => `X has shape ${dimsText(x!)}; expected 3 dimensions: length, batch and input.`);
  const weights = dimsOf(node, 2);
  const dtype = typeOf(node, 0);
  const batchFirst = numberOf(node, "layout", 0) !== 0;
  const directions = stringOf(node, "direction", "forward") === "bidirectional" ? 2 : 1;
  const hidden: Dim | undefined = node.attributes["hidden_size"] === undefined ? weights?.[2] : numberOf(node, "hidden_size", 0);
  if (!x || hidden === undefined) return node.outputs.forEach((_, i) => setOutput(node, i, dtype, undefined));
  const [length, count] = batchFirst ? [x[1]!, x[0]!] : [x[0]!, x[1]!];
  setOutput(node, 0, dtype, batchFirst ? [count, length, directions, hidden] : [length, directions, count, hidden]);
  const state: Dims = batchFirst ? [count, directions, hidden] : [directions, count, hidden];
  for (const i of [1, 2]) setOutput(node, i, dtype, state);
};

const quantize: InferRule = (node) => {
  const stated = node.inputs[2] ? typeOf(node, 2) : typeAttribute(node, "output_dtype", "uint8");
  setOutput(node, 0, stated, dimsOf(node, 0));
};

const dequantize: InferRule = (node) => setOutput(node, 0, typeAttribute(node, "output_dtype", typeOf(node, 1)), dimsOf(node, 0));

const dynamicQuantize: InferRule = (node) => {
  setOutput(node, 0, "uint8", dimsOf(node, 0));
  setOutput(node, 1, "float32", []);
  setOutput(node, 2, "uint8", []);
};

/** Output y [batch, channels, length]; state [batch, channels, kernel - 1]. */
const causalConv: InferRule = (node: Node) => {
  const [x, weights] = [dimsOf(node, 0), dimsOf(node, 1)];
  setOutput(node, 0, typeOf(node, 0), x);
  const kernel = weights?.at(-1);
  setOutput(node, 1, typeOf(node, 0), x && typeof kernel === "number" ? [x[0]!, x[1]!, kernel - 1] : undefined);
};

export const NORMALIZATION: Rules = {
  ...forAll("InstanceNormalization GroupNormalization RotaryEmbedding com.microsoft.RotaryEmbedding", sameAsInput),
  ...forAll("LayerNormalization RMSNormalization SimplifiedLayerNormalization com.microsoft.SimplifiedLayerNormalization", layer),
  ...forAll("com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization", skip),
  ...forAll("RNN GRU LSTM", recurrent),
  BatchNormalization: batch, QuantizeLinear: quantize, DequantizeLinear: dequantize, DynamicQuantizeLinear: dynamicQuantize, CausalConvWithState: causalConv,
};
