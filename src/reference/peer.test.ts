/** Reference operators against onnxruntime on random tensors: arithmetic, movement, reductions, products, casts. */
import assert from "node:assert";
import { test } from "node:test";
import fc from "fast-check";
import { InferenceSession, Tensor as PeerTensor } from "onnxruntime-node";
import { type DType, Tensor } from "../base/index.ts";
import { makeModel, type AttributeDescription } from "../onnx/index.ts";
import type { ReferenceAttributes } from "./contract.ts";
import { call, tensor } from "./testing.ts";

type Attributes = Readonly<Record<string, number | string | readonly number[] | { readonly float: number }>>;

interface PeerCase {
  readonly op: string;
  readonly attributes: Attributes;
  readonly inputs: readonly Tensor[];
  readonly output: DType;
}

async function onPeer({ op, attributes, inputs, output }: PeerCase): Promise<{ dims: readonly number[]; data: ArrayLike<unknown> }> {
  const names = inputs.map((_, i) => `x${i}`);
  const bytes = makeModel({
    opset: 21,
    inputs: inputs.map((x, i) => ({ name: names[i]!, type: x.type, dims: x.dims.map((_, axis) => `d${i}_${axis}`) })),
    outputs: [{ name: "y", type: output }],
    nodes: [{ op, inputs: names, outputs: ["y"], attributes: attributes as Readonly<Record<string, AttributeDescription>> }],
  });
  const session = await InferenceSession.create(bytes, { logSeverityLevel: 4, intraOpNumThreads: 1 });
  const feeds = Object.fromEntries(inputs.map((x, i) => [names[i]!, new PeerTensor(x.type as "float32", x.data as Float32Array, x.dims)]));
  const { y } = await session.run(feeds);
  await session.release();
  assert.ok(y);
  return { dims: y.dims, data: y.data as ArrayLike<unknown> };
}

const plain = (attributes: Attributes): ReferenceAttributes => Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, typeof value === "object" && "float" in value ? value.float : value as number]));

async function agrees(one: PeerCase): Promise<void> {
  const expected = await onPeer(one);
  const [actual] = call(one.op, one.inputs, plain(one.attributes));
  assert.ok(actual instanceof Tensor);
  assert.deepStrictEqual([actual.type, [...actual.dims]], [one.output, [...expected.dims]], one.op);
  for (let i = 0; i < expected.data.length; i++) {
    const a: unknown = actual.data[i];
    const b: unknown = expected.data[i];
    if (typeof a !== "number" || typeof b !== "number" || one.output !== "float32") assert.strictEqual(a, b, `${one.op}, element ${i}`);
    else assert.ok(Object.is(a, b) || a === b || Math.abs(a - b) <= 2e-6 + 2e-5 * Math.abs(b), `${one.op}, element ${i}: ${a}, expected ${b}`);
  }
}

const shape = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });

/** A tensor of small numbers that are multiples of 1/4, so that ties occur. */
function filled(type: DType, dims: readonly number[], seed: number, scale = type === "float32" ? 4 : 1): Tensor {
  let state = seed >>> 0;
  const count = dims.reduce((a, b) => a * b, 1);
  return tensor(type, Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 41 - (type.startsWith("u") ? 0 : 20)) / scale;
  }), dims);
}

const i64 = (values: readonly number[]): Tensor => tensor("int64", values);

function property(name: string, cases: (dims: readonly number[], seed: number) => PeerCase[]): void {
  test(`${name} agree with onnxruntime`, async () => {
    await fc.assert(fc.asyncProperty(shape, fc.nat(), async (dims, seed) => {
      for (const one of cases(dims, seed)) await agrees(one);
    }), { numRuns: 8 });
  });
}

const UNARY = ["Abs", "Ceil", "Floor", "Round", "Neg", "Exp", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Relu", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Sign", "Sin", "Cos", "Mish", "Atan", "Sinh", "Asinh"];
property("functions of one element", (dims, seed) => UNARY.map((op) => ({ op, attributes: {}, inputs: [filled("float32", dims, seed)], output: "float32" })));

property("operators of two tensors", (dims, seed) => {
  const other = dims.map((size, axis) => (axis % 2 === seed % 2 ? 1 : size));
  const pair = (type: DType): Tensor[] => [filled(type, dims, seed), filled(type, other, seed + 1)];
  return [
    ...["Add", "Sub", "Mul", "Max", "Min"].flatMap((op) => (["float32", "int32", "int64"] as const).map((type): PeerCase => ({ op, attributes: {}, inputs: pair(type), output: type }))),
    ...["Less", "GreaterOrEqual", "Equal"].flatMap((op) => (["float32", "int64"] as const).map((type): PeerCase => ({ op, attributes: {}, inputs: pair(type), output: "bool" }))),
    { op: "Mod", attributes: { fmod: 1 }, inputs: [pair("float32")[0]!, tensor("float32", [3])], output: "float32" },
    { op: "Mod", attributes: {}, inputs: [pair("int64")[0]!, i64([-3])], output: "int64" },
    { op: "Div", attributes: {}, inputs: [pair("int32")[0]!, tensor("int32", [-3])], output: "int32" },
  ];
});

property("reductions", (dims, seed) => {
  const axis = seed % dims.length;
  const x = filled("float32", dims, seed);
  return [
    ...["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"].map((op): PeerCase => ({ op, attributes: { keepdims: seed % 2 }, inputs: [x, i64([axis])], output: "float32" })),
    ...["Softmax", "LogSoftmax", "Hardmax"].map((op): PeerCase => ({ op, attributes: { axis }, inputs: [x], output: "float32" })),
    ...["ArgMax", "ArgMin"].map((op): PeerCase => ({ op, attributes: { axis, select_last_index: seed % 2 }, inputs: [x], output: "int64" })),
    { op: "CumSum", attributes: { exclusive: seed % 2, reverse: (seed >> 1) % 2 }, inputs: [x, tensor("int64", [axis], [])], output: "float32" },
  ];
});

property("operators that move elements", (dims, seed) => {
  const x = filled("int32", dims, seed);
  const axis = seed % dims.length;
  const size = dims[axis]!;
  // onnxruntime wraps around once only.
  const pads = dims.map((length, i) => Math.min(length, (seed + i) % 3));
  const same = (op: string, inputs: readonly Tensor[], attributes: Attributes = {}): PeerCase => ({ op, attributes, inputs, output: "int32" });
  return [
    same("Transpose", [x]),
    same("Slice", [x, i64([-1]), i64([-100]), i64([axis]), i64([-2])]),
    same("Slice", [x, i64([1]), i64([100]), i64([axis])]),
    same("Gather", [x, tensor("int64", [0, -1, size - 1, -size], [2, 2])], { axis }),
    same("Tile", [x, i64(dims.map((_, i) => 1 + ((seed + i) % 2)))]),
    ...["constant", "edge", "wrap"].map((mode) => same("Pad", [x, i64([...pads, ...pads])], { mode })),
    same("Concat", [x, x], { axis }),
    same("Flatten", [x], { axis }),
    same("ScatterND", [x, tensor("int64", [-1], [1, 1]), filled("int32", [1, ...dims.slice(1)], seed + 3)]),
  ];
});

property("products", (dims, seed) => {
  const k = dims[dims.length - 1]!;
  return [
    { op: "MatMul", attributes: {}, inputs: [filled("float32", dims, seed), filled("float32", [k, 3], seed + 1)], output: "float32" },
    { op: "MatMul", attributes: {}, inputs: [filled("float32", [2, 1, 3, k], seed), filled("float32", [4, k, 2], seed + 1)], output: "float32" },
    { op: "Gemm", attributes: { transB: 1, alpha: { float: 0.5 } }, inputs: [filled("float32", [3, k], seed), filled("float32", [2, k], seed + 1), filled("float32", [2], seed)], output: "float32" },
    { op: "Einsum", attributes: { equation: "bij,kj->bki" }, inputs: [filled("float32", [2, 3, k], seed), filled("float32", [4, k], seed + 1)], output: "float32" },
  ];
});

property("quantization and casts", (dims, seed) => {
  const x = filled("float32", dims, seed);
  const scales = tensor("float32", Array.from({ length: dims[0]! }, (_, i) => 0.25 * (i + 1)));
  return [
    { op: "QuantizeLinear", attributes: { axis: 0 }, inputs: [x, scales, filled("int8", [dims[0]!], seed)], output: "int8" },
    { op: "DequantizeLinear", attributes: { axis: 0 }, inputs: [filled("uint8", dims, seed), scales, filled("uint8", [dims[0]!], seed)], output: "float32" },
    { op: "Cast", attributes: { to: 6 }, inputs: [x], output: "int32" },
    { op: "Cast", attributes: { to: 9 }, inputs: [x], output: "bool" },
  ];
});
