/** Quantized models as exporters write them, before and after: integer products, bytes between layers, equal results. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor } from "../../base/index.ts";
import { type Graph, printGraph } from "../../ir/index.ts";
import { importModel, makeModel, type NodeDescription, type ValueDescription } from "../../onnx/index.ts";
import { inferTypes } from "../../ops/index.ts";
import { evaluateNode, interpret, numbersOf } from "../../reference/index.ts";
import { runPasses } from "../index.ts";
import { countOf, opsOf } from "../pass-case.ts";

/** Deterministic integers from `low` to `high`. */
function integers(count: number, low: number, high: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => low + Math.floor((Math.sin(seed * 12.9898 + i * 78.233) * 0.5 + 0.5) * (high - low + 0.999)));
}
const bytes = (type: "int8" | "uint8", dims: number[], seed: number): Tensor => new Tensor(type, integers(dims.reduce((a, b) => a * b, 1), type === "int8" ? -127 : 0, type === "int8" ? 127 : 255, seed), dims);
const floats = (dims: number[], seed: number, size = 2): Tensor => new Tensor("float32", integers(dims.reduce((a, b) => a * b, 1), -1000, 1000, seed).map((item) => (item / 1000) * size), dims);
const scale = (...items: number[]): Tensor => new Tensor("float32", items, items.length === 1 ? [] : [items.length]);
const zero = (type: "int8" | "uint8", ...items: number[]): Tensor => new Tensor(type, items, items.length === 1 ? [] : [items.length]);

interface Case {
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly constants: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly NodeDescription[];
  readonly output?: ValueDescription["type"];
}

/** The graph after all passes. What it computes is within one step of what the model as written does; integers by powers of two, exactly. */
function passed({ inputs, constants, nodes, output = "float32" }: Case, tolerance = 1e-5): Graph {
  const model = makeModel({
    opset: 21, initializers: constants, nodes, outputs: [{ name: "y", type: output }],
    inputs: Object.entries(inputs).map(([name, tensor]) => ({ name, type: tensor.type, dims: [...tensor.dims] })),
  });
  const [expected] = interpret(importModel(model).graph, inputs) as [Tensor];
  const { graph } = importModel(model);
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode });
  const [actual] = interpret(graph, inputs) as [Tensor];
  assert.deepEqual(actual.dims, expected.dims, printGraph(graph));
  const [a, b] = [numbersOf(actual), numbersOf(expected)];
  for (let i = 0; i < b.length; i++) assert.ok(Math.abs(a[i]! - b[i]!) <= tolerance * Math.max(1, Math.abs(b[i]!)), `item ${i} is ${a[i]}, expected ${b[i]}\n${printGraph(graph)}`);
  return graph;
}

const q = (x: string, y: string, s: string, z: string, attributes = {}): NodeDescription => ({ op: "QuantizeLinear", name: y, inputs: [x, s, z], outputs: [y], attributes });
const dq = (x: string, y: string, s: string, z: string, attributes = {}): NodeDescription => ({ op: "DequantizeLinear", name: y, inputs: [x, s, z], outputs: [y], attributes });

describe("quantized models", () => {
  it("multiply integers between quantize and dequantize, as PyTorch writes a linear layer", () => {
    const graph = passed({
      inputs: { x: floats([4, 16], 1) },
      constants: { s: scale(1 / 64), z: zero("uint8", 113), w: bytes("int8", [8, 16], 2), ws: scale(...Array.from({ length: 8 }, (_, i) => 2 ** -(4 + (i % 3)))), wz: zero("int8", ...new Array(8).fill(0)), b: new Tensor("int32", integers(8, -500, 500, 3), [8]), bs: scale(...Array.from({ length: 8 }, (_, i) => 2 ** -(10 + (i % 3)))), bz: new Tensor("int32", new Array(8).fill(0), [8]) },
      nodes: [q("x", "xq", "s", "z"), dq("xq", "xd", "s", "z"), dq("w", "wd", "ws", "wz", { axis: 0 }), { op: "DequantizeLinear", inputs: ["b", "bs", "bz"], outputs: ["bd"], attributes: { axis: 0 } }, { op: "Gemm", name: "fc", inputs: ["xd", "wd", "bd"], outputs: ["y"], attributes: { transB: 1 } }],
    });
    assert.deepEqual(opsOf(graph), ["QuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"]);
  });

  it("keep bytes from layer to layer, through pooling and a residual addition, in images", () => {
    const graph = passed({
      inputs: { x: floats([1, 4, 8, 8], 1) }, output: "uint8",
      constants: { s: scale(1 / 64), z: zero("uint8", 120), w: bytes("int8", [4, 4, 3, 3], 2), ws: scale(2 ** -7, 2 ** -8, 2 ** -7, 2 ** -9), wz: zero("int8", 0, 0, 0, 0), t: scale(1 / 16), tz: zero("uint8", 0) },
      nodes: [
        q("x", "xq", "s", "z"), dq("xq", "xd", "s", "z"), dq("w", "wd", "ws", "wz", { axis: 0 }),
        { op: "Conv", name: "c1", inputs: ["xd", "wd"], outputs: ["a"], attributes: { pads: [1, 1, 1, 1] } }, { op: "Relu", inputs: ["a"], outputs: ["r"] },
        q("r", "rq", "t", "tz"), dq("rq", "rd", "t", "tz"),
        { op: "MaxPool", inputs: ["rd"], outputs: ["p"], attributes: { kernel_shape: [2, 2], strides: [2, 2] } }, q("p", "pq", "t", "tz"), dq("pq", "pd", "t", "tz"),
        { op: "Conv", name: "c2", inputs: ["pd", "wd"], outputs: ["b"], attributes: { pads: [1, 1, 1, 1] } }, { op: "Add", inputs: ["b", "pd"], outputs: ["sum"] },
        q("sum", "y", "t", "tz"),
      ],
    }, 0);
    assert.equal(countOf(graph, "ConvInteger"), 2);
    assert.equal(countOf(graph, "Conv") + countOf(graph, "Relu"), 0);
    // The only numbers in float beside the input are those on their way through a kernel.
    assert.equal(graph.nodes.find((node) => node.op === "MaxPool")?.outputs[0]?.dtype, "uint8");
  });

  it("take QLinearConv and QLinearMatMul the same way", () => {
    const conv = passed({
      inputs: { x: bytes("uint8", [1, 3, 6, 6], 1) }, output: "uint8",
      constants: { s: scale(1 / 32), z: zero("uint8", 128), w: bytes("uint8", [4, 3, 3, 3], 2), ws: scale(2 ** -8), wz: zero("uint8", 131), b: new Tensor("int32", [100, -200, 300, 0], [4]), t: scale(1 / 4), tz: zero("uint8", 100) },
      nodes: [{ op: "QLinearConv", name: "c", inputs: ["x", "s", "z", "w", "ws", "wz", "t", "tz", "b"], outputs: ["y"] }],
    }, 0);
    assert.equal(countOf(conv, "ConvInteger"), 1);
    const product = passed({
      inputs: { x: bytes("int8", [2, 5, 8], 1) }, output: "int8",
      constants: { s: scale(1 / 32), z: zero("int8", -5), w: bytes("int8", [8, 4], 2), ws: scale(2 ** -5), wz: zero("int8", 3), t: scale(1 / 2), tz: zero("int8", 7) },
      nodes: [{ op: "QLinearMatMul", name: "m", inputs: ["x", "s", "z", "w", "ws", "wz", "t", "tz"], outputs: ["y"] }],
    }, 0);
    assert.equal(countOf(product, "MatMulInteger"), 1);
  });

  it("quantize as they run: DynamicQuantizeLinear is reductions and one QuantizeLinear", () => {
    const graph = passed({
      inputs: { x: floats([2, 6, 8], 4) },
      constants: { w: bytes("int8", [8, 4], 2), ws: scale(0.02), wz: zero("int8", 0) },
      nodes: [
        { op: "DynamicQuantizeLinear", name: "d", inputs: ["x"], outputs: ["xq", "s", "z"] }, { op: "MatMulInteger", name: "m", inputs: ["xq", "w", "z", "wz"], outputs: ["i"] },
        { op: "Cast", inputs: ["i"], outputs: ["f"], attributes: { to: 1 } }, { op: "Mul", inputs: ["s", "ws"], outputs: ["sw"] }, { op: "Mul", inputs: ["f", "sw"], outputs: ["y"] },
      ],
    });
    assert.equal(countOf(graph, "DynamicQuantizeLinear"), 0);
    assert.equal(countOf(graph, "QuantizeLinear"), 1);
  });

  it("keep weights of four bits as they are, in blocks or whole", () => {
    for (const type of ["int4", "uint4"] as const) {
      const graph = passed({
        inputs: { x: floats([3, 16], 1) },
        constants: { w: new Tensor(type, Uint8Array.from(integers(32, 0, 255, 5)), [4, 16]), ws: floats([4, 2], 6, 0.1), wz: new Tensor(type, Uint8Array.from([0x21, 0x43, 0x65, 0x07]), [4, 2]) },
        nodes: [dq("w", "wd", "ws", "wz", { axis: 1, block_size: 8 }), { op: "Transpose", inputs: ["wd"], outputs: ["wt"], attributes: { perm: [1, 0] } }, { op: "MatMul", inputs: ["x", "wt"], outputs: ["y"] }],
      });
      assert.equal(opsOf(graph).filter((name) => name === "sinter.Unpack4").length, 1);
      assert.equal(graph.nodes.find((node) => node.op === "Unpack4")?.inputs[0]?.constant?.bytes.length, 32);
    }
  });

  it("look up rows of a quantized table before they dequantize", () => {
    const graph = passed({
      inputs: { x: new Tensor("int64", [1, 3], [2]) }, constants: { w: bytes("uint8", [5, 4], 1), s: scale(0.1), z: zero("uint8", 9) },
      nodes: [dq("w", "wd", "s", "z"), { op: "Gather", inputs: ["wd", "x"], outputs: ["y"], attributes: { axis: 0 } }],
    });
    assert.deepEqual(opsOf(graph), ["Gather", "DequantizeLinear"]);
  });

  it("leave a clip where saturation does not do it", () => {
    const clipped = (high: number): Graph => passed({
      inputs: { x: floats([64], 1, 8) }, output: "uint8", constants: { low: scale(0), high: scale(high), s: scale(1 / 32), z: zero("uint8", 0) },
      nodes: [{ op: "Clip", inputs: ["x", "low", "high"], outputs: ["c"] }, q("c", "y", "s", "z")],
    }, 0);
    assert.deepEqual(opsOf(clipped(8)), ["QuantizeLinear"]);
    assert.deepEqual(opsOf(clipped(6)), ["Clip", "QuantizeLinear"]);
  });
});
