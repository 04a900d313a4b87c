/** For tests of passes: a small model before and after the pipeline, whose results must agree on the reference. */
import assert from "node:assert/strict";
import { elementCount, Tensor } from "../base/index.ts";
import { type Graph, type Node, printGraph } from "../ir/index.ts";
import { type AttributeDescription, importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { inferTypes } from "../ops/index.ts";
import { evaluateNode, interpret } from "../reference/index.ts";
import { runPasses } from "./index.ts";

export type Line = readonly [op: string, inputs: string, outputs: string, attributes?: Readonly<Record<string, AttributeDescription>>];

export interface PassCase {
  /** Dims of float32 inputs, names of symbols included. */
  readonly inputs: Readonly<Record<string, readonly (number | string)[]>>;
  /** Sizes of the symbols. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Feeds that are no random floats. */
  readonly feeds?: Readonly<Record<string, Tensor>>;
  readonly constants?: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly Line[];
  readonly outputs?: readonly string[];
}

/** Numbers between -1.5 and 1.5 that look random and are the same each time. */
export function numbered(dims: readonly number[], seed = 1): Tensor {
  return new Tensor("float32", Float32Array.from({ length: elementCount(dims) }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * 1.5), dims);
}

export const int64 = (...items: number[]): Tensor => new Tensor("int64", items);
export const scalar = (value: number): Tensor => new Tensor("float32", [value], []);

/** The graph after all passes, having checked that it gives what the model gives. */
export function passed(given: PassCase): Graph {
  const split = (names: string): string[] => names.split(" ");
  const bytes = makeModel({
    opset: 21, initializers: given.constants ?? {},
    inputs: Object.entries(given.inputs).map(([name, dims]) => ({ name, type: given.feeds?.[name]?.type ?? "float32", dims })),
    outputs: (given.outputs ?? ["y"]).map((name) => ({ name, type: "float32" })),
    nodes: given.nodes.map(([op, inputs, outputs, attributes]): NodeDescription => ({ op, name: `${op}:${outputs}`, inputs: split(inputs), outputs: split(outputs), ...(attributes ? { attributes } : {}) })),
  });
  const feeds = Object.fromEntries(Object.entries(given.inputs).map(([name, dims], i) => [name, given.feeds?.[name] ?? numbered(dims.map((dim) => (typeof dim === "number" ? dim : given.sizes![dim]!)), i + 1)]));
  const expected = interpret(importModel(bytes).graph, feeds);
  const { graph } = importModel(bytes);
  inferTypes(graph);
  runPasses(graph, { evaluate: evaluateNode });
  interpret(graph, feeds).forEach((actual, i) => { assertNear(actual as Tensor, expected[i] as Tensor, graph); });
  return graph;
}

function assertNear(actual: Tensor, expected: Tensor, graph: Graph): void {
  assert.deepEqual(actual.dims, expected.dims, printGraph(graph));
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  b.forEach((item, i) => { assert.ok(Math.abs(a[i]! - item) <= 1e-4 * Math.max(1, Math.abs(item)), `item ${i} is ${a[i]}, expected ${item}\n${printGraph(graph)}`); });
}

export const opsOf = (graph: Graph): string[] => graph.nodes.map((node) => (node.domain ? `${node.domain}.${node.op}` : node.op));
export const countOf = (graph: Graph, op: string): number => graph.nodes.filter((node) => node.op === op).length;
export const find = (graph: Graph, op: string): Node => {
  const node = graph.nodes.find((item) => item.op === op);
  assert.ok(node, `no ${op} in\n${printGraph(graph)}`);
  return node;
};
