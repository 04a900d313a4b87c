/** The reference operators of com.microsoft against onnxruntime's own. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type DType, elementCount, Tensor } from "../base/index.ts";
import { difference, type Tolerance } from "./compare.ts";
import { type NodeCase, onPeer, onReference } from "./peer-node.ts";

/** A fixed sequence of numbers between -1 and 1. */
function spread(dims: readonly number[], scale = 1, seed = 1): Tensor {
  return new Tensor("float32", Float32Array.from({ length: elementCount(dims) }, (_, i) => scale * Math.sin(12.9898 * (i + seed) + seed)), dims);
}

function bytes(type: "uint8" | "int8", dims: readonly number[], seed = 1): Tensor {
  const offset = type === "uint8" ? 128 : 0;
  return new Tensor(type, [...spread(dims, 100, seed).data as Float32Array].map((value) => Math.round(value) + offset), dims);
}

const scalar = (type: DType, value: number): Tensor => new Tensor(type, [value], []);
const ints = (type: "int32" | "int64", items: readonly number[], dims: readonly number[] = [items.length]): Tensor => new Tensor(type, items, dims);
const f32: readonly DType[] = ["float32"];

const QUANT = (seed: number): readonly Tensor[] => [scalar("float32", 0.02 + seed * 0.005), scalar("uint8", 120 + seed)];

const CASES: readonly Omit<NodeCase, "domain">[] = [
  { op: "Gelu", inputs: [spread([3, 7], 4)], outputs: f32 },
  { op: "BiasGelu", inputs: [spread([3, 7], 4), spread([7])], outputs: f32 },
  { op: "FastGelu", inputs: [spread([3, 7], 4), spread([7])], outputs: f32 },
  { op: "QuickGelu", inputs: [spread([3, 7], 4)], floats: { alpha: 1.5 }, outputs: f32 },
  { op: "SkipLayerNormalization", inputs: [spread([2, 3, 8]), spread([2, 3, 8], 1, 5), spread([8], 1, 2), spread([8], 1, 3), spread([8], 1, 4)], floats: { epsilon: 1e-5 }, outputs: f32 },
  { op: "SkipSimplifiedLayerNormalization", inputs: [spread([2, 3, 8]), spread([2, 3, 8], 1, 5), spread([8], 1, 2), spread([8], 1, 4)], floats: { epsilon: 1e-5 }, outputs: f32 },
  {
    op: "EmbedLayerNormalization",
    inputs: [ints("int32", [1, 3, 2, 4, 0, 1], [2, 3]), ints("int32", [0, 0, 1, 1, 0, 1], [2, 3]), spread([5, 8]), spread([6, 8], 1, 2), spread([2, 8], 1, 3), spread([8], 1, 4), spread([8], 1, 5), ints("int32", [1, 1, 0, 1, 1, 1], [2, 3])],
    floats: { epsilon: 1e-5 }, outputs: ["float32", "int32"],
  },
  { op: "FusedMatMul", inputs: [spread([2, 4, 3]), spread([2, 5, 4], 1, 2)], attributes: { transA: 1, transB: 1 }, floats: { alpha: 0.5 }, outputs: f32 },
  { op: "FusedMatMul", inputs: [spread([3, 2, 4]), spread([2, 4, 5], 1, 2)], attributes: { transBatchA: 1 }, outputs: f32 },
  { op: "FusedGemm", inputs: [spread([3, 4]), spread([4, 5], 1, 2), spread([5], 1, 3)], attributes: { activation: "LeakyRelu" }, floats: { activation_alpha: 0.3, alpha: 2 }, outputs: f32 },
  { op: "FusedConv", inputs: [spread([1, 2, 5, 5]), spread([3, 2, 3, 3], 1, 2), spread([3], 1, 3)], attributes: { activation: "Relu", pads: [1, 1, 1, 1] }, outputs: f32 },
  { op: "FusedConv", inputs: [spread([1, 2, 5, 5]), spread([3, 2, 3, 3], 1, 2), spread([3], 1, 3)], attributes: { activation: "HardSigmoid" }, floats: { activation_params: [0.3, 0.4] }, outputs: f32 },
  { op: "QLinearAdd", inputs: [bytes("uint8", [2, 3]), ...QUANT(1), bytes("uint8", [3], 4), ...QUANT(2), ...QUANT(4)], outputs: ["uint8"] },
  { op: "QLinearMul", inputs: [bytes("uint8", [2, 3]), ...QUANT(1), bytes("uint8", [3], 4), ...QUANT(2), ...QUANT(4)], outputs: ["uint8"] },
  { op: "QLinearSigmoid", inputs: [bytes("uint8", [2, 9]), ...QUANT(1), scalar("float32", 1 / 256), scalar("uint8", 0)], outputs: ["uint8"] },
  { op: "QLinearLeakyRelu", inputs: [bytes("uint8", [2, 9]), ...QUANT(1), ...QUANT(2)], floats: { alpha: 0.2 }, outputs: ["uint8"] },
  { op: "QLinearConcat", inputs: [...QUANT(4), bytes("uint8", [2, 3]), ...QUANT(1), bytes("uint8", [2, 2], 3), ...QUANT(2)], attributes: { axis: 1 }, outputs: ["uint8"] },
  { op: "QLinearSoftmax", inputs: [bytes("uint8", [3, 6]), ...QUANT(1), scalar("float32", 1 / 256), scalar("uint8", 0)], attributes: { axis: -1, opset: 13 }, outputs: ["uint8"] },
  { op: "QLinearAveragePool", inputs: [bytes("uint8", [1, 2, 5, 5]), ...QUANT(1), ...QUANT(2)], attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }, outputs: ["uint8"] },
  { op: "QLinearGlobalAveragePool", inputs: [bytes("uint8", [1, 5, 5, 3]), ...QUANT(1), ...QUANT(2)], attributes: { channels_last: 1 }, outputs: ["uint8"] },
  { op: "MatMulIntegerToFloat", inputs: [bytes("uint8", [3, 4]), bytes("int8", [4, 5], 2), scalar("float32", 0.1), spread([5], 0.2, 3), scalar("uint8", 100), undefined, spread([5])], outputs: f32 },
  { op: "DynamicQuantizeMatMul", inputs: [spread([3, 4]), bytes("int8", [4, 5], 2), spread([5], 0.2, 3), undefined, spread([5])], outputs: f32 },
  { op: "QGemm", inputs: [bytes("uint8", [3, 4]), scalar("float32", 0.1), scalar("uint8", 100), bytes("int8", [5, 4], 2), scalar("float32", 0.03), scalar("int8", 2), ints("int32", [5, -100, 200, 7, 900])], attributes: { transB: 1 }, outputs: f32 },
  { op: "QGemm", inputs: [bytes("uint8", [3, 4]), scalar("float32", 0.1), scalar("uint8", 100), bytes("int8", [5, 4], 2), scalar("float32", 0.03), scalar("int8", 2), ints("int32", [5, -100, 200, 7, 900]), scalar("float32", 0.9), scalar("uint8", 90)], attributes: { transB: 1 }, outputs: ["uint8"] },
  { op: "MatMulNBits", inputs: [spread([2, 32]), bytes("uint8", [3, 2, 8]), spread([6], 0.2, 2)], attributes: { K: 32, N: 3, bits: 4, block_size: 16 }, outputs: f32 },
  { op: "MatMulNBits", inputs: [spread([2, 32]), bytes("uint8", [3, 2, 8]), spread([6], 0.2, 2), bytes("uint8", [3], 5)], attributes: { K: 32, N: 3, bits: 4, block_size: 16 }, outputs: f32 },
  { op: "RotaryEmbedding", inputs: [spread([2, 3, 16]), ints("int64", [0, 1, 2, 3, 2, 1], [2, 3]), spread([5, 4], 1, 2), spread([5, 4], 1, 3)], outputs: f32 },
  { op: "RotaryEmbedding", inputs: [spread([2, 3, 16]), ints("int64", [1]), spread([5, 4], 1, 2), spread([5, 4], 1, 3)], attributes: { interleaved: 1 }, outputs: f32 },
  { op: "MultiHeadAttention", inputs: [spread([2, 3, 8]), spread([2, 4, 8], 1, 2), spread([2, 4, 8], 1, 3)], attributes: { num_heads: 2 }, outputs: f32 },
  { op: "MultiHeadAttention", inputs: [spread([2, 3, 8]), spread([2, 4, 8], 1, 2), spread([2, 4, 8], 1, 3), spread([24], 1, 4), ints("int32", [1, 1, 1, 0, 1, 1, 0, 0], [2, 4])], attributes: { num_heads: 2 }, outputs: f32 },
  { op: "MultiHeadAttention", inputs: [spread([2, 4, 8]), spread([2, 4, 8], 1, 2), spread([2, 4, 8], 1, 3), undefined, undefined, spread([1, 2, 4, 4], 1, 4)], attributes: { num_heads: 2, unidirectional: 1 }, outputs: f32 },
  { op: "Attention", inputs: [spread([2, 3, 8]), spread([8, 24], 1, 2), spread([24], 1, 3), ints("int32", [3, 2])], attributes: { num_heads: 2 }, outputs: f32 },
  { op: "Attention", inputs: [spread([2, 3, 8]), spread([8, 24], 1, 2), spread([24], 1, 3)], attributes: { num_heads: 2, unidirectional: 1 }, outputs: f32 },
  { op: "Attention", inputs: [spread([2, 3, 8]), spread([8, 24], 1, 2), spread([24], 1, 3), ints("int32", [1, 1, 0, 1, 1, 1], [2, 3])], attributes: { num_heads: 2 }, outputs: f32 },
];

const CLOSE: Tolerance = { relative: 1e-4, absolute: 1e-5 };

/** Integers that stand for rounded sums may differ by one step. */
function toReal(tensor: Tensor): Tensor {
  return new Tensor("float64", Float64Array.from(tensor.data as Uint8Array, Number), tensor.dims);
}

describe("com.microsoft operators agree with onnxruntime", () => {
  CASES.forEach((one, i) => {
    it(`${one.op} ${i}`, async () => {
      const node = { ...one, domain: "com.microsoft" };
      const expected = await onPeer(node);
      const actual = onReference(node);
      expected.forEach((value, o) => {
        const mine = actual[o];
        assert(value instanceof Tensor && mine instanceof Tensor);
        assert.equal(mine.type, value.type);
        const quantized = value.type === "uint8" || value.type === "int8";
        const found = quantized ? difference(toReal(mine), toReal(value), { relative: 0, absolute: 1 }) : difference(mine, value, CLOSE);
        assert.equal(found, undefined);
      });
    });
  });
});
