/** Each pass on a small model: the operators before and after, and the same results from both. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { type Graph, printGraph } from "../ir/index.ts";
import { type GraphDescription, importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { inferTypes } from "../ops/index.ts";
import { evaluateNode, interpret } from "../reference/index.ts";
import { runPasses } from "./index.ts";

interface Optimised { readonly ops: readonly string[]; readonly graph: Graph }

const numbers = (count: number, seed = 1): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * 1.5);
const tensor = (dims: readonly number[], seed = 1): Tensor => new Tensor("float32", numbers(dims.reduce((a, b) => a * b, 1), seed), dims);
const scalar = (value: number): Tensor => new Tensor("float32", [value], []);
const i64 = (...items: number[]): Tensor => new Tensor("int64", items);

function optimised(model: GraphDescription, feeds: Readonly<Record<string, Tensor>>): Optimised {
  const bytes = makeModel({ opset: 21, ...model });
  const plain = importModel(bytes).graph;
  const { graph } = importModel(bytes);
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode });
  const [expected, actual] = [interpret(plain, feeds), interpret(graph, feeds)];
  expected.forEach((value, i) => { near(actual[i] as Tensor, value as Tensor); });
  assert.deepEqual(graph.outputs.map((value) => value.name), plain.outputs.map((value) => value.name));
  return { graph, ops: graph.nodes.map((node) => (node.domain ? `${node.domain}.${node.op}` : node.op)) };
}

function near(actual: Tensor, expected: Tensor): void {
  assert.deepEqual(actual.dims, expected.dims);
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  for (let i = 0; i < b.length; i++) assert.ok(Math.abs(a[i]! - b[i]!) <= 1e-4 * Math.max(1, Math.abs(b[i]!)), `item ${i} is ${a[i]}, expected ${b[i]}`);
}

const chain = (...nodes: readonly [string, readonly string[], string, NodeDescription["attributes"]?][]): NodeDescription[] =>
  nodes.map(([op, inputs, output, attributes]) => ({ op, inputs, outputs: [output], ...(attributes ? { attributes } : {}) }));

const x = (dims: readonly (number | string)[]): GraphDescription["inputs"] => [{ name: "x", type: "float32", dims }];
const y: GraphDescription["outputs"] = [{ name: "y", type: "float32" }];

describe("runPasses", () => {
  it("folds shape plumbing into one reshape", () => {
    const { graph } = optimised({
      inputs: x(["n", 4, 6]), outputs: y, initializers: { zero: i64(0), all: i64(-1) },
      nodes: chain(["Shape", ["x"], "s"], ["Gather", ["s", "zero"], "n"], ["Concat", ["n", "all"], "t", { axis: 0 }], ["Relu", ["x"], "r"], ["Reshape", ["r", "t"], "y"]),
    }, { x: tensor([2, 4, 6]) });
    assert.match(printGraph(graph), /^graph graph\(%x: float32\[n, 4, 6\]\) \{\n {2}%r: float32\[n, 4, 6\] = Relu\(%x\)\n {2}%y: float32\[n, 24\] = Reshape\(%r, %shape_\d+\) \{allowzero: 1\}\n {2}return %y\n\}\n$/);
  });

  it("takes parts out of a product as slices", () => {
    const { ops } = optimised({
      inputs: x(["n", 4, 3, 2]), outputs: y, initializers: { first: new Tensor("int64", [0], []), last: new Tensor("int64", [-1], []) },
      nodes: chain(["Relu", ["x"], "r"], ["Gather", ["r", "first"], "q", { axis: 2 }], ["Gather", ["r", "last"], "k", { axis: 2 }], ["Sub", ["q", "k"], "y"]),
    }, { x: tensor([2, 4, 3, 2]) });
    assert.deepEqual(ops.filter((op) => op !== "Reshape"), ["Relu", "Slice", "Slice", "Sub"]);
  });

  it("follows pads that are reversed pair by pair as a matrix", () => {
    const { graph } = optimised({
      inputs: x(["n", 3, 5]), outputs: y, initializers: { given: i64(0, 2, 1, 0), rest: i64(0, 0), pairs: i64(-1, 2), from: i64(-1), to: i64(Number.MIN_SAFE_INTEGER), axis: i64(0), back: i64(-1), flat: i64(-1) },
      nodes: chain(["Concat", ["given", "rest"], "all", { axis: 0 }], ["Reshape", ["all", "pairs"], "m"], ["Slice", ["m", "from", "to", "axis", "back"], "reversed"], ["Transpose", ["reversed"], "t", { perm: [1, 0] }], ["Reshape", ["t", "flat"], "pads"], ["Pad", ["x", "pads"], "y"]),
    }, { x: tensor([2, 3, 5]) });
    assert.deepEqual(graph.outputs[0]!.dims?.map(String), ["n", "4", "7"]);
  });

  it("folds BatchNormalization into the Conv before it and runs channels-last", () => {
    const { ops, graph } = optimised({
      inputs: x([1, 8, 5, 5]), outputs: y,
      initializers: { w: tensor([4, 8, 3, 3]), scale: tensor([4], 2), bias: tensor([4], 3), mean: tensor([4], 4), variance: new Tensor("float32", [1, 2, 0.5, 3]) },
      nodes: [...chain(["MaxPool", ["x"], "p", { kernel_shape: [1, 1] }], ["Conv", ["p", "w"], "c", { pads: [1, 1, 1, 1] }]), { op: "BatchNormalization", inputs: ["c", "scale", "bias", "mean", "variance"], outputs: ["b"] }, ...chain(["Relu", ["b"], "y"])],
    }, { x: tensor([1, 8, 5, 5]) });
    assert.deepEqual(ops, ["Transpose", "MaxPool", "Conv", "Relu", "Transpose"]);
    assert.equal(graph.nodes[2]!.attributes["layout"], "NHWC");
  });

  it("recognises LayerNormalization as TorchScript decomposes it", () => {
    const { ops } = optimised({
      inputs: x(["n", 6]), outputs: y, initializers: { axis: i64(-1), two: scalar(2), eps: scalar(1e-5), gamma: tensor([6], 2), beta: tensor([6], 3) },
      nodes: chain(["ReduceMean", ["x", "axis"], "m"], ["Sub", ["x", "m"], "d"], ["Pow", ["d", "two"], "q"], ["ReduceMean", ["q", "axis"], "v"], ["Add", ["v", "eps"], "e"],
        ["Sqrt", ["e"], "r"], ["Div", ["d", "r"], "u"], ["Mul", ["u", "gamma"], "g"], ["Add", ["g", "beta"], "y"]),
    }, { x: tensor([3, 6]) });
    assert.deepEqual(ops, ["LayerNormalization"]);
  });

  it("recognises RMSNormalization", () => {
    const { ops } = optimised({
      inputs: x(["n", 6]), outputs: y, initializers: { axis: i64(-1), eps: scalar(1e-5), one: scalar(1), gamma: tensor([6], 2) },
      nodes: chain(["Mul", ["x", "x"], "q"], ["ReduceMean", ["q", "axis"], "v"], ["Add", ["v", "eps"], "e"], ["Sqrt", ["e"], "s"], ["Div", ["one", "s"], "r"], ["Mul", ["x", "r"], "u"], ["Mul", ["gamma", "u"], "y"]),
    }, { x: tensor([3, 6]) });
    assert.deepEqual(ops, ["RMSNormalization"]);
  });

  const gelu = chain(["Div", ["x", "root2"], "d"], ["Erf", ["d"], "e"], ["Add", ["e", "one"], "g"], ["Mul", ["x", "g"], "p"], ["Mul", ["p", "half"], "y"]);
  const newGelu = chain(["Pow", ["x", "three"], "c"], ["Mul", ["c", "k"], "kc"], ["Add", ["x", "kc"], "i"], ["Mul", ["i", "rootPi"], "s"], ["Tanh", ["s"], "t"], ["Add", ["t", "one"], "g"], ["Mul", ["x", "half"], "h"], ["Mul", ["h", "g"], "y"]);
  const constants = { root2: scalar(Math.SQRT2), one: scalar(1), half: scalar(0.5), three: scalar(3), k: scalar(0.044715), rootPi: scalar(Math.sqrt(2 / Math.PI)), six: scalar(6), zero: scalar(0) };
  const spellings: readonly [string, NodeDescription[]][] = [
    ["Gelu", gelu], ["Gelu", newGelu], ["Swish", chain(["Sigmoid", ["x"], "s"], ["Mul", ["x", "s"], "y"])],
    ["HardSwish", chain(["Add", ["x", "three"], "a"], ["Clip", ["a", "zero", "six"], "c"], ["Mul", ["x", "c"], "m"], ["Div", ["m", "six"], "y"])],
    ["Mish", chain(["Softplus", ["x"], "s"], ["Tanh", ["s"], "t"], ["Mul", ["x", "t"], "y"])],
  ];
  for (const [name, nodes] of spellings) {
    it(`recognises ${name} in ${nodes.length} nodes`, () => {
      assert.deepEqual(optimised({ inputs: x([2, 5]), outputs: y, initializers: constants, nodes }, { x: tensor([2, 5]) }).ops, [name]);
    });
  }

  it("recognises attention with split scale, mask and torch's guard", () => {
    const inputs = ["q", "k", "v"].map((name) => ({ name, type: "float32" as const, dims: ["b", 2, "s", 4] }));
    const { ops, graph } = optimised({
      inputs: [...inputs, { name: "mask", type: "float32", dims: ["b", 1, "s", "s"] }], outputs: y, initializers: { c: scalar(0.7), zero: scalar(0) },
      nodes: chain(["Transpose", ["k"], "kt", { perm: [0, 1, 3, 2] }], ["Mul", ["q", "c"], "qs"], ["Mul", ["kt", "c"], "ks"], ["MatMul", ["qs", "ks"], "s0"], ["Add", ["s0", "mask"], "s1"],
        ["Softmax", ["s1"], "p", { axis: -1 }], ["IsNaN", ["p"], "bad"], ["Where", ["bad", "zero", "p"], "safe"], ["MatMul", ["safe", "v"], "y"]),
    }, { q: tensor([2, 2, 3, 4], 1), k: tensor([2, 2, 3, 4], 2), v: tensor([2, 2, 3, 4], 3), mask: tensor([2, 1, 3, 3], 4) });
    assert.deepEqual(ops, ["sinter.Attention"]);
    assert.ok(Math.abs(Number(graph.nodes[0]!.attributes["scale"]) - 0.49) < 1e-6);
    assert.ok(graph.nodes[0]!.origins.length >= 7);
  });

  it("sinks transposes below pointwise work, Concat and reductions until they cancel", () => {
    const { ops } = optimised({
      inputs: x([2, 3, 4, 5]), outputs: y, initializers: { c: tensor([4, 1, 1], 7), axes: i64(2, 3) },
      nodes: chain(["Transpose", ["x"], "t", { perm: [0, 2, 1, 3] }], ["Mul", ["t", "c"], "m"], ["Relu", ["m"], "r"], ["Concat", ["r", "t"], "k", { axis: 1 }], ["ReduceMax", ["k", "axes"], "z"], ["Transpose", ["z"], "y", { perm: [0, 2, 1, 3] }]),
    }, { x: tensor([2, 3, 4, 5]) });
    assert.deepEqual(ops, ["Mul", "Relu", "Concat", "ReduceMax"]);
  });

  it("keeps squeeze-and-excitation channels-last", () => {
    const { ops } = optimised({
      inputs: x([1, 4, 6, 6]), outputs: y, initializers: { w: tensor([8, 4, 1, 1], 1), a: tensor([2, 8, 1, 1], 2), b: tensor([8, 2, 1, 1], 3) },
      nodes: chain(["Conv", ["x", "w"], "c"], ["GlobalAveragePool", ["c"], "g"], ["Conv", ["g", "a"], "s"], ["Relu", ["s"], "r"], ["Conv", ["r", "b"], "e"], ["Sigmoid", ["e"], "i"], ["Mul", ["c", "i"], "m"], ["Add", ["m", "c"], "y"]),
    }, { x: tensor([1, 4, 6, 6]) });
    assert.deepEqual(ops.filter((op) => op === "Transpose").length, 1);
  });

  it("turns Gemm into MatMul and Add", () => {
    const { ops } = optimised({
      inputs: x([2, 3]), outputs: y, initializers: { w: tensor([4, 3], 2), b: tensor([4], 3) },
      nodes: chain(["Gemm", ["x", "w", "b"], "y", { transB: 1, alpha: { float: 0.5 } }]),
    }, { x: tensor([2, 3]) });
    assert.deepEqual(ops, ["MatMul", "Mul", "Add"]);
  });

  it("inlines the branch a known condition takes, and keeps an input that is an output", () => {
    const branch = (op: string): GraphDescription => ({ inputs: [], outputs: [{ name: `${op}_y`, type: "float32" }], nodes: [{ op, inputs: ["x"], outputs: [`${op}_y`] }] });
    const { ops } = optimised({
      inputs: x([3]), outputs: y, initializers: { yes: new Tensor("bool", [true], []) },
      nodes: [{ op: "If", inputs: ["yes"], outputs: ["y"], attributes: { then_branch: branch("Relu"), else_branch: branch("Neg") } }],
    }, { x: tensor([3]) });
    assert.deepEqual(ops, ["Relu"]);
    assert.deepEqual(optimised({ inputs: x([3]), outputs: y, nodes: chain(["Identity", ["x"], "y"]) }, { x: tensor([3]) }).ops, ["Identity"]);
  });
});
