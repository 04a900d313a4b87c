/** Plans carried out: bytes enter the layers named, others stay; values are shared in bytes where all readers can read them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor } from "../../base/index.ts";
import type { Graph } from "../../ir/index.ts";
import { importModel, makeModel } from "../../onnx/index.ts";
import { inferTypes } from "../../ops/index.ts";
import { evaluateNode, interpret } from "../../reference/index.ts";
import { countOf } from "../pass-case.ts";
import { runPasses } from "../index.ts";
import type { LayerPlan, QuantizationPlan } from "./index.ts";

const numbers = (count: number, seed: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233));
const tensor = (dims: number[], seed: number): Tensor => new Tensor("float32", numbers(dims.reduce((a, b) => a * b, 1), seed), dims);

/** Three convolutions with a shortcut around the second. */
const model = makeModel({
  inputs: [{ name: "x", type: "float32", dims: [1, 3, 8, 8] }], outputs: [{ name: "y", type: "float32" }],
  initializers: { w1: tensor([6, 3, 3, 3], 1), w2: tensor([6, 1, 3, 3], 2), w3: tensor([4, 6, 1, 1], 3), b: tensor([6], 4) },
  nodes: [
    { op: "Conv", name: "first", inputs: ["x", "w1", "b"], outputs: ["a"] }, { op: "Relu", inputs: ["a"], outputs: ["r"] },
    { op: "Conv", name: "depthwise", inputs: ["r", "w2"], outputs: ["d"], attributes: { group: 6, pads: [1, 1, 1, 1] } }, { op: "Add", name: "shortcut", inputs: ["d", "r"], outputs: ["s"] },
    { op: "Conv", name: "last", inputs: ["s", "w3"], outputs: ["y"] },
  ],
});
const feeds = { x: tensor([1, 3, 8, 8], 5) };

/** The largest absolute value of each value of the model. */
const largest = new Map<string, number>();
interpret(importModel(model).graph, feeds, { onNode: (node, [result]) => { largest.set(node.outputs[0]!.name, Math.max(...((result as Tensor).data as Float32Array).map(Math.abs))); } });
const range = (name: string): number => largest.get(name)!;

const int8 = (scale: number, scales?: readonly number[]): LayerPlan => ({ precision: "int8", input: { type: scales ? "uint8" : "int8", scale, zeroPoint: 0, ...(scales ? { scales } : {}) } });

function quantized(plan: QuantizationPlan): { graph: Graph; error: number } {
  const { graph } = importModel(model);
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode, quantization: { plan: () => plan } });
  const [exact] = interpret(importModel(model).graph, feeds) as [Tensor];
  const [actual] = interpret(graph, feeds) as [Tensor];
  const [a, b] = [actual.data as Float32Array, exact.data as Float32Array];
  return { graph, error: Math.max(...b.map((item, i) => Math.abs(item - a[i]!))) / Math.max(...b.map(Math.abs)) };
}

describe("a quantization plan", () => {
  it("quantizes the layers it names and no other", () => {
    const { graph, error } = quantized({ layers: { first: int8(1 / 127), last: { precision: "fp32", reason: "kept by name" } } });
    assert.equal(countOf(graph, "ConvInteger"), 1);
    assert.equal(countOf(graph, "Conv"), 2);
    assert.ok(error < 0.02, `error ${error}`);
  });

  it("quantizes a layer that another feeds without anything between", () => {
    const chain = makeModel({
      inputs: [{ name: "x", type: "float32", dims: [4, 8] }], outputs: [{ name: "y", type: "float32" }],
      initializers: { a: tensor([8, 8], 1), b: tensor([8, 8], 2) },
      nodes: [{ op: "MatMul", name: "first", inputs: ["x", "a"], outputs: ["h"] }, { op: "MatMul", name: "second", inputs: ["h", "b"], outputs: ["y"] }],
    });
    const x = { x: tensor([4, 8], 3) };
    const [exact] = interpret(importModel(chain).graph, x) as [Tensor];
    for (const plan of [int8(0.05), { precision: "int8", input: "dynamic" } as const]) {
      const { graph } = importModel(chain);
      inferTypes(graph);
      runPasses(graph, { evaluate: evaluateNode, quantization: { plan: () => ({ layers: { first: plan, second: plan } }) } });
      assert.equal(countOf(graph, "MatMulInteger"), 2);
      const [actual] = interpret(graph, x) as [Tensor];
      (exact.data as Float32Array).forEach((item, k) => assert.ok(Math.abs(item - (actual.data as Float32Array)[k]!) < 0.3, `item ${k}`));
    }
  });

  it("reads a shared value in bytes everywhere, so that no float form of it is kept", () => {
    const { graph, error } = quantized({ layers: { first: int8(1 / 127), depthwise: int8(range("r") / 127), last: int8(range("s") / 127) } });
    assert.equal(countOf(graph, "ConvInteger"), 3);
    const rounded = graph.nodes.find((node) => node.op === "QuantizeLinear" && graph.nodes.some((user) => user.op === "DequantizeLinear" && user.inputs[0] === node.outputs[0]));
    assert.ok(rounded, "the shortcut reads bytes");
    assert.ok(error < 0.1, `error ${error}`);
  });

  it("gives a depthwise convolution a scale per channel", () => {
    const { graph, error } = quantized({ layers: { depthwise: int8(range("r") / 255, [1, 2, 3, 4, 3, 2].map((item) => ((item + 8) / 8) * (range("r") / 255))) } });
    const scale = graph.nodes.find((node) => node.op === "QuantizeLinear")?.inputs[1];
    assert.deepEqual(scale?.dims, [6]);
    assert.equal(countOf(graph, "ConvInteger"), 1);
    assert.ok(error < 0.05, `error ${error}`);
  });

  it("undoes the shift of rounded weights with the means of the input", () => {
    const constant = { x: new Tensor("float32", new Float32Array(192).fill(0.5), [1, 3, 8, 8]) };
    const shiftOf = (inputMeans?: readonly number[]): number => {
      const { graph } = importModel(model);
      inferTypes(graph);
      const first: LayerPlan = { precision: "int8", input: { type: "int8", scale: 1 / 128, zeroPoint: 0 }, ...(inputMeans ? { inputMeans } : {}) };
      runPasses(graph, { evaluate: evaluateNode, quantization: { plan: () => ({ layers: { first } }) } });
      const [exact] = interpret(importModel(model).graph, constant) as [Tensor];
      const [actual] = interpret(graph, constant) as [Tensor];
      return Math.max(...(exact.data as Float32Array).map((item, i) => Math.abs(item - (actual.data as Float32Array)[i]!)));
    };
    // A constant input is its own mean: with it, nothing of the error is left.
    assert.ok(shiftOf() > 1e-3);
    assert.ok(shiftOf([0.5, 0.5, 0.5]) < 1e-5);
  });
});
