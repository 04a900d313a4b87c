/**
 * Canonical forms against onnxruntime: a model with old or contrib operators, and the same model written again from
 * the imported graph at opset 23, must give the same answers.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { type DType, elementCount, Tensor } from "../base/index.ts";
import { type AttributeValue, Graph, printGraph, subgraphsOf, type TensorConstant, type Value } from "../ir/index.ts";
import { type AttributeDescription, type GraphDescription, importModel, makeModel, type ModelDescription, type NodeDescription } from "./index.ts";
import { SCHEMAS } from "./schema.ts";

const CANONICAL_OPSET = 23;

function tensorOf({ dtype, dims, constant }: TensorConstant): Tensor {
  return dtype === "string" ? new Tensor("string", [...constant.strings!], dims) : Tensor.fromBytes(dtype, constant.bytes, dims);
}

function attributeOf(op: string, name: string, value: AttributeValue): AttributeDescription {
  const type = SCHEMAS.get(op)?.types.get(name);
  if (value instanceof Graph) return descriptionOf(value);
  if (type === 1) return { float: Number(value) };
  if (type === 6) return { floats: value as readonly number[] };
  return typeof value === "object" && "constant" in value ? tensorOf(value) : (value as AttributeDescription);
}

/** The graph as a model's description; constants it reads become initializers. */
function descriptionOf(graph: Graph): GraphDescription {
  const initializers: Record<string, Tensor> = {};
  const use = (value: Value | undefined): string => {
    if (value?.constant) initializers[value.name] = tensorOf({ dtype: value.dtype!, dims: value.dims as readonly number[], constant: value.constant });
    return value?.name ?? "";
  };
  const nodes = graph.nodes.map((node): NodeDescription => ({
    op: node.op, name: node.name, domain: node.domain, inputs: node.inputs.map(use), outputs: node.outputs.map((output) => output?.name ?? ""),
    attributes: Object.fromEntries(Object.entries(node.attributes).map(([name, value]) => [name, attributeOf(node.op, name, value)])),
  }));
  const described = (value: Value) => ({ name: value.name, type: value.dtype ?? "float32" as DType, ...(value.dims ? { dims: value.dims as readonly number[] } : {}) });
  return { inputs: graph.inputs.map(described), outputs: graph.outputs.map(described), nodes, initializers };
}

async function run(bytes: Uint8Array, feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, OrtTensor>> {
  const session = await InferenceSession.create(bytes, { logSeverityLevel: 4, intraOpNumThreads: 1, graphOptimizationLevel: "disabled" });
  const given = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, new OrtTensor(tensor.type as "float32", tensor.data as Float32Array, tensor.dims)]));
  const results = await session.run(given);
  await session.release();
  return results as Record<string, OrtTensor>;
}

async function agrees(model: ModelDescription, feeds: Readonly<Record<string, Tensor>>, tolerance = 1e-5, opset = CANONICAL_OPSET): Promise<Graph> {
  const bytes = makeModel({ irVersion: 7, ...model });
  const { graph } = importModel(bytes);
  const nodes = [...graph.nodes, ...graph.nodes.flatMap((node) => subgraphsOf(node).flatMap((inner) => inner.nodes))];
  const rewritten = makeModel({ ...descriptionOf(graph), opset, ...(nodes.some((node) => node.domain) ? { opsets: { "com.microsoft": 1 } } : {}) });
  const [expected, actual] = [await run(bytes, feeds), await run(rewritten, feeds)];
  for (const [name, tensor] of Object.entries(expected)) {
    const result = actual[name]!;
    assert.deepEqual(result.dims, tensor.dims, `${name}\n${printGraph(graph)}`);
    const got = [...(result.data as Float32Array)].map(Number);
    [...(tensor.data as Float32Array)].map(Number).forEach((value, i) => {
      assert.ok(Object.is(value, got[i]) || Math.abs(value - got[i]!) <= tolerance * Math.max(1, Math.abs(value)), `${name}[${i}]: expected ${value}, got ${got[i]}\n${printGraph(graph)}`);
    });
  }
  return graph;
}

/** Numbers that look random and are the same each time. */
function numbers(dims: readonly number[], seed = 1): Tensor {
  let state = seed * 2654435761;
  return new Tensor("float32", Float32Array.from({ length: elementCount(dims) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  }), dims);
}

const int64 = (...items: number[]): Tensor => new Tensor("int64", items);
const integers = (type: DType, dims: readonly number[], seed: number, below = 256): Tensor => new Tensor(type, [...(numbers(dims, seed).data as Float32Array)].map((item) => Math.floor(Math.abs(item) * below)), dims);

interface Case {
  readonly op: string;
  readonly opset?: number;
  readonly domain?: string;
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly constants?: Readonly<Record<string, Tensor>>;
  /** Inputs in order where some are absent or constants stand first. */
  readonly order?: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeDescription>>;
  readonly outputs?: readonly string[];
  readonly type?: DType;
  readonly tolerance?: number;
  /** Where onnxruntime lacks the newest version of an operator. */
  readonly canonicalOpset?: number;
  /** Operators of the canonical graph. */
  readonly becomes?: readonly string[];
}

function modelOf(given: Case): ModelDescription {
  const outputs = given.outputs ?? ["y"];
  return {
    opset: given.opset ?? 17, ...(given.domain ? { opsets: { [given.domain]: 1 } } : {}),
    inputs: Object.entries(given.inputs).map(([name, { type, dims }]) => ({ name, type, dims })),
    outputs: outputs.filter((name) => name && !name.startsWith("_")).map((name) => ({ name, type: given.type ?? "float32" })),
    initializers: given.constants ?? {},
    nodes: [{ op: given.op, domain: given.domain ?? "", name: "node", inputs: given.order ?? [...Object.keys(given.inputs), ...Object.keys(given.constants ?? {})], outputs, attributes: given.attributes ?? {} }],
  };
}

const x = numbers([2, 3, 4]);
const image = numbers([1, 2, 5, 6]);

const UPGRADES: readonly Case[] = [
  { op: "Squeeze", opset: 11, inputs: { x: numbers([2, 1, 3]) }, attributes: { axes: [1] }, becomes: ["Squeeze"] },
  { op: "Unsqueeze", opset: 11, inputs: { x }, attributes: { axes: [0, 2] }, becomes: ["Unsqueeze"] },
  { op: "ReduceMean", opset: 13, inputs: { x }, attributes: { axes: [-1], keepdims: 0 }, becomes: ["ReduceMean"] },
  { op: "ReduceSum", opset: 11, inputs: { x }, becomes: ["ReduceSum"] },
  { op: "Slice", opset: 9, inputs: { x }, attributes: { starts: [1, -3], ends: [2 ** 31, -1], axes: [1, 2] }, becomes: ["Slice"] },
  { op: "Slice", opset: 9, inputs: { x }, attributes: { starts: [1], ends: [2] }, becomes: ["Slice"] },
  { op: "Pad", opset: 10, inputs: { x }, attributes: { pads: [0, 1, 0, 1, 0, 2], value: { float: 2.5 } }, becomes: ["Pad"] },
  { op: "Pad", opset: 10, inputs: { x }, attributes: { pads: [0, 1, 0, 1, 0, 2], mode: "reflect" }, becomes: ["Pad"] },
  { op: "Clip", opset: 10, inputs: { x }, attributes: { max: { float: 0.5 } }, becomes: ["Clip"] },
  { op: "Split", opset: 11, inputs: { x }, attributes: { axis: 2, split: [1, 3] }, outputs: ["y", "z"], becomes: ["Split"] },
  { op: "Split", opset: 13, inputs: { x }, attributes: { axis: 2 }, outputs: ["y", "z"], becomes: ["Split"] },
  { op: "TopK", opset: 9, inputs: { x }, attributes: { k: 2, axis: 1 }, outputs: ["y", "_unused"], becomes: ["TopK"] },
  { op: "Dropout", opset: 10, inputs: { x }, attributes: { ratio: { float: 0.3 } }, becomes: ["Identity"] },
  { op: "Dropout", opset: 13, inputs: { x }, constants: { ratio: new Tensor("float32", [0.5], []) }, becomes: ["Identity"] },
  { op: "Softmax", opset: 11, inputs: { x }, attributes: { axis: 1 }, becomes: ["Shape", "Flatten", "Softmax", "Reshape"] },
  { op: "Softmax", opset: 11, inputs: { x }, attributes: { axis: 2 }, becomes: ["Softmax"] },
  { op: "LogSoftmax", opset: 11, inputs: { x }, becomes: ["Shape", "Flatten", "LogSoftmax", "Reshape"] },
  { op: "Hardmax", opset: 11, inputs: { x }, attributes: { axis: 0 }, becomes: ["Shape", "Flatten", "Hardmax", "Reshape"] },
  { op: "Upsample", opset: 7, inputs: { x: image }, attributes: { scales: { floats: [1, 1, 2, 2] } }, becomes: ["Resize"] },
  { op: "Upsample", opset: 9, inputs: { x: image }, constants: { s: new Tensor("float32", [1, 1, 2, 3]) }, attributes: { mode: "linear" }, becomes: ["Resize"] },
  { op: "Resize", opset: 10, inputs: { x: image }, constants: { s: new Tensor("float32", [1, 1, 0.6, 0.5]) }, becomes: ["Resize"] },
  { op: "Resize", opset: 10, inputs: { x: image }, constants: { s: new Tensor("float32", [1, 1, 0.6, 1.7]) }, becomes: ["Resize", "Resize"] },
  { op: "Resize", opset: 10, inputs: { x: image }, constants: { s: new Tensor("float32", [1, 1, 0.6, 1.7]) }, attributes: { mode: "linear" }, becomes: ["Resize"] },
  { op: "Resize", opset: 11, inputs: { x: image }, constants: { roi: new Tensor("float32", []), s: new Tensor("float32", []), size: int64(1, 2, 8, 9) }, attributes: { mode: "nearest", coordinate_transformation_mode: "tf_half_pixel_for_nn", nearest_mode: "floor" }, becomes: ["Resize"] },
  { op: "BatchNormalization", opset: 7, inputs: { x: image }, constants: { s: numbers([2], 2), b: numbers([2], 3), m: numbers([2], 4), v: new Tensor("float32", [0.5, 2]) }, becomes: ["BatchNormalization"] },
  { op: "BatchNormalization", opset: 7, inputs: { x: numbers([3, 2, 2]) }, constants: { s: numbers([2, 2], 2), b: numbers([2, 2], 3), m: numbers([2, 2], 4), v: new Tensor("float32", [0.5, 2, 1, 3], [2, 2]) }, attributes: { spatial: 0 }, becomes: ["Add", "Sqrt", "Sub", "Div", "Mul", "Add"] },
  { op: "GroupNormalization", opset: 18, inputs: { x: numbers([2, 6, 4]) }, constants: { s: numbers([3], 2), b: numbers([3], 3) }, attributes: { num_groups: 3 } },
  { op: "Scatter", opset: 10, inputs: { x: numbers([3, 3]) }, constants: { i: new Tensor("int64", [1, 0, 2, 0, 2, 1], [2, 3]), u: numbers([2, 3], 5) }, attributes: { axis: 0 }, becomes: ["ScatterElements"] },
  { op: "GridSample", opset: 16, inputs: { x: image, g: numbers([1, 3, 3, 2], 7) }, attributes: { mode: "bicubic" }, becomes: ["GridSample"] },
  { op: "DFT", opset: 17, inputs: { x: numbers([1, 8, 4, 2]) }, attributes: { axis: 2 }, becomes: ["DFT"] },
  { op: "RoiAlign", opset: 10, inputs: { x: image }, constants: { r: new Tensor("float32", [0, 0, 4, 4], [1, 4]), b: int64(0) }, attributes: { output_height: 2, output_width: 2, sampling_ratio: 2 }, canonicalOpset: 21, becomes: ["RoiAlign"] },
];

const ms = "com.microsoft";
const hidden = numbers([2, 3, 8]);
const scale = (value: number): Tensor => new Tensor("float32", [value], []);
const zero = (value: number): Tensor => new Tensor("uint8", [value], []);

const CONTRIB: readonly Case[] = [
  { op: "Gelu", domain: ms, inputs: { x }, becomes: ["Gelu"] },
  { op: "BiasGelu", domain: ms, inputs: { x }, constants: { b: numbers([4], 2) }, becomes: ["Add", "Gelu"] },
  { op: "FastGelu", domain: ms, inputs: { x }, constants: { b: numbers([4], 2) }, becomes: ["Add", "Gelu"] },
  { op: "QuickGelu", domain: ms, inputs: { x }, attributes: { alpha: { float: 1.5 } }, becomes: ["Mul", "Sigmoid", "Mul"] },
  { op: "SkipLayerNormalization", domain: ms, inputs: { x: hidden, s: numbers([2, 3, 8], 2) }, constants: { g: numbers([8], 3), b: numbers([8], 4), bias: numbers([8], 5) }, outputs: ["y", "", "", "sum"], attributes: { epsilon: { float: 1e-5 } }, becomes: ["Add", "Add", "LayerNormalization"] },
  { op: "SkipSimplifiedLayerNormalization", domain: ms, inputs: { x: hidden, s: numbers([2, 3, 8], 2) }, constants: { g: numbers([8], 3) }, outputs: ["y", "", "", "sum"], becomes: ["Add", "RMSNormalization"] },
  { op: "SimplifiedLayerNormalization", inputs: { x: hidden }, constants: { g: numbers([8], 3) }, becomes: ["RMSNormalization"] },
  { op: "EmbedLayerNormalization", domain: ms, inputs: { ids: integers("int32", [2, 3], 1, 5), seg: integers("int32", [2, 3], 2, 2) }, constants: { w: numbers([5, 8], 2), p: numbers([6, 8], 3), t: numbers([2, 8], 4), g: numbers([8], 5), b: numbers([8], 6) }, outputs: ["y", ""] },
  { op: "FusedMatMul", domain: ms, inputs: { a: numbers([2, 4, 3]), b: numbers([2, 5, 4], 2) }, attributes: { transA: 1, transB: 1, alpha: { float: 0.25 } }, becomes: ["Transpose", "Transpose", "MatMul", "Mul"] },
  { op: "FusedMatMul", domain: ms, inputs: { a: numbers([3, 2, 4]), b: numbers([2, 4, 5], 2) }, attributes: { transBatchA: 1 }, becomes: ["Transpose", "MatMul"] },
  { op: "FusedGemm", domain: ms, inputs: { a: numbers([3, 4]), b: numbers([4, 5], 2) }, constants: { c: numbers([5], 3) }, attributes: { activation: "LeakyRelu", activation_alpha: { float: 0.2 } }, becomes: ["Gemm", "LeakyRelu"] },
  { op: "FusedConv", domain: ms, inputs: { x: image }, constants: { w: numbers([3, 2, 3, 3], 2), b: numbers([3], 3) }, attributes: { activation: "HardSigmoid", activation_params: { floats: [0.3, 0.4] }, pads: [1, 1, 1, 1] }, becomes: ["Conv", "HardSigmoid"] },
  { op: "FusedConv", domain: ms, inputs: { x: image, z: numbers([1, 3, 5, 6], 9) }, constants: { w: numbers([3, 2, 3, 3], 2), b: numbers([3], 3) }, order: ["x", "w", "b", "z"], attributes: { activation: "Relu", pads: [1, 1, 1, 1] }, becomes: ["Conv", "Add", "Relu"] },
  { op: "MatMulIntegerToFloat", domain: ms, inputs: { a: integers("uint8", [3, 4], 1), b: integers("uint8", [4, 5], 2) }, constants: { as: scale(0.1), bs: scale(0.2), az: zero(3), bz: zero(120), bias: numbers([5]) }, becomes: ["MatMulInteger", "Cast", "Mul", "Mul", "Add"] },
  { op: "DynamicQuantizeMatMul", domain: ms, inputs: { x: numbers([3, 4]) }, constants: { b: integers("uint8", [4, 5], 2), bs: scale(0.2), bz: zero(120) }, becomes: ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"] },
  { op: "MatMulNBits", domain: ms, inputs: { x: numbers([3, 80]) }, constants: { b: integers("uint8", [5, 3, 16], 2), s: numbers([5, 3], 3), z: integers("uint8", [5, 2], 4) }, attributes: { K: 80, N: 5, bits: 4, block_size: 32 }, tolerance: 1e-4 },
  { op: "MatMulNBits", domain: ms, inputs: { x: numbers([3, 64]) }, constants: { b: integers("uint8", [5, 2, 16], 2), s: numbers([5, 2], 3) }, attributes: { K: 64, N: 5, bits: 4, block_size: 32 }, tolerance: 1e-4 },
  { op: "QLinearAdd", domain: ms, type: "uint8", inputs: { a: integers("uint8", [3, 4], 1), b: integers("uint8", [4], 2) }, constants: { as: scale(0.1), az: zero(3), bs: scale(0.2), bz: zero(9), cs: scale(0.3), cz: zero(5) }, order: ["a", "as", "az", "b", "bs", "bz", "cs", "cz"], becomes: ["DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"] },
  { op: "QLinearSigmoid", domain: ms, type: "uint8", inputs: { a: integers("uint8", [3, 4], 1) }, constants: { as: scale(0.01), az: zero(100), cs: scale(1 / 256), cz: zero(0) } },
  { op: "QLinearAveragePool", domain: ms, type: "uint8", inputs: { a: integers("uint8", [1, 4, 4, 3], 1) }, constants: { as: scale(0.01), az: zero(100), cs: scale(0.01), cz: zero(90) }, attributes: { kernel_shape: [2, 2], channels_last: 1 }, tolerance: 0.02 },
  { op: "QLinearGlobalAveragePool", domain: ms, type: "uint8", inputs: { a: integers("uint8", [1, 3, 4, 4], 1) }, constants: { as: scale(0.01), az: zero(100), cs: scale(0.01), cz: zero(90) } },
  { op: "QLinearConcat", domain: ms, type: "uint8", inputs: { a: integers("uint8", [2, 3], 1), b: integers("uint8", [2, 2], 2) }, constants: { cs: scale(0.3), cz: zero(5), as: scale(0.1), az: zero(3), bs: scale(0.2), bz: zero(9) }, order: ["cs", "cz", "a", "as", "az", "b", "bs", "bz"], attributes: { axis: 1 } },
  { op: "QGemm", domain: ms, type: "uint8", inputs: { a: integers("uint8", [3, 4], 1) }, constants: { as: scale(0.1), az: zero(3), b: integers("uint8", [5, 4], 2), bs: scale(0.2), bz: zero(120), c: integers("int32", [5], 3), ys: scale(2), yz: zero(128) }, attributes: { transB: 1 } },
  { op: "MultiHeadAttention", domain: ms, inputs: { q: numbers([2, 3, 8]), k: numbers([2, 5, 8], 2), v: numbers([2, 5, 8], 3) }, constants: { bias: numbers([24], 4), m: new Tensor("int32", [1, 1, 1, 0, 0, 1, 1, 1, 1, 1], [2, 5]), ab: numbers([1, 1, 3, 5], 8) }, order: ["q", "k", "v", "bias", "m", "ab"], attributes: { num_heads: 2 } },
  { op: "MultiHeadAttention", domain: ms, inputs: { q: numbers([2, 3, 8]), k: numbers([2, 3, 8], 2), v: numbers([2, 3, 8], 3) }, attributes: { num_heads: 4, unidirectional: 1, scale: { float: 0.3 } }, becomes: ["Attention"] },
  { op: "Attention", domain: ms, inputs: { x: hidden }, constants: { w: numbers([8, 24], 2), b: numbers([24], 3), m: new Tensor("int32", [1, 1, 0, 1, 1, 1], [2, 3]), ab: numbers([1, 1, 3, 3], 8) }, order: ["x", "w", "b", "m", "", "ab"], attributes: { num_heads: 2 } },
  { op: "Attention", domain: ms, inputs: { x: hidden, p: numbers([2, 2, 2, 4, 4], 7) }, constants: { w: numbers([8, 24], 2), b: numbers([24], 3) }, order: ["x", "w", "b", "", "p"], outputs: ["y", "present"], attributes: { num_heads: 2 } },
  { op: "RotaryEmbedding", domain: ms, inputs: { x: hidden }, constants: { p: new Tensor("int64", [0, 1, 2, 3, 4, 5], [2, 3]), c: numbers([8, 2], 3), s: numbers([8, 2], 4) }, becomes: ["RotaryEmbedding"] },
];

for (const given of [...UPGRADES, ...CONTRIB]) {
  test(`${given.domain ? `${given.domain}.` : ""}${given.op} of opset ${given.opset ?? 17} ${JSON.stringify(given.attributes ?? {})}`, async () => {
    const graph = await agrees(modelOf(given), given.inputs, given.tolerance, given.canonicalOpset);
    assert.ok(graph.nodes.every((node) => node.domain === ""), printGraph(graph));
    if (given.becomes) assert.deepEqual(graph.nodes.map((node) => node.op), given.becomes);
  });
}

test("Scan of opset 8 becomes a scan over the batch of scans", async () => {
  const body = {
    inputs: [{ name: "sum_in", type: "float32", dims: [2] }, { name: "next", type: "float32", dims: [2] }], outputs: [{ name: "sum_out", type: "float32", dims: [2] }, { name: "copy", type: "float32", dims: [2] }],
    nodes: [{ op: "Add", inputs: ["sum_in", "next"], outputs: ["sum_out"] }, { op: "Identity", inputs: ["sum_out"], outputs: ["copy"] }],
  } as const;
  await agrees({
    opset: 8, inputs: [{ name: "init", type: "float32", dims: [2, 2] }, { name: "x", type: "float32", dims: [2, 3, 2] }], outputs: [{ name: "y", type: "float32" }, { name: "z", type: "float32" }],
    nodes: [{ op: "Scan", inputs: ["", "init", "x"], outputs: ["y", "z"], attributes: { body, num_scan_inputs: 1 } }],
  }, { init: numbers([2, 2]), x: numbers([2, 3, 2], 2) });
});
