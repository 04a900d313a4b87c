import assert from "node:assert/strict";
import { test } from "node:test";
import { constantValue, float32Constant, Graph, int64Constant, Value } from "./graph.ts";
import { symbol } from "./dim.ts";
import { printGraph, printNode } from "./print.ts";

test("nodes, types, small and large constants, attributes", () => {
  const graph = new Graph("g");
  const x = new Value("x", "float32", [symbol("batch"), 128]);
  const y = new Value("y", "float32", [symbol("batch"), 128]);
  graph.inputs = [x];
  const w = float32Constant(new Float32Array(128 * 128), [128, 128], "w");
  const h = new Value("h");
  graph.append({ op: "MatMul", inputs: [x, w], outputs: [h], attributes: { transB: 1, mode: "a", list: [1, 2] } });
  graph.append({ op: "Attend", domain: "sinter", inputs: [h, undefined, int64Constant([1, 2]), constantValue("uint8", [], Uint8Array.of(3))], outputs: [y, undefined] });
  graph.outputs = [y];
  assert.equal(printGraph(graph), `graph g(%x: float32[batch, 128]) {
  %h: ?[?] = MatMul(%x, const float32[128, 128] %w) {list: [1, 2], mode: "a", transB: 1}
  %y: float32[batch, 128], _ = sinter.Attend(%h, _, [1, 2], uint8 3)
  return %y
}
`);
});

test("subgraphs are indented below their node", () => {
  const inner = new Graph("body");
  const outer = new Value("o", "bool", []);
  const result = new Value("r", "bool", []);
  inner.append({ op: "Not", inputs: [outer], outputs: [result] });
  inner.outputs = [result];
  const graph = new Graph("g");
  const z = new Value("z");
  const node = graph.append({ op: "If", inputs: [outer], outputs: [z], attributes: { then_branch: inner, keep: 1 } });
  graph.outputs = [z];
  assert.equal(printNode(node), "%z: ?[?] = If(%o) {keep: 1}");
  assert.equal(printGraph(graph), `graph g() {
  %z: ?[?] = If(%o) {keep: 1}
    then_branch = graph body() {
      %r: bool[] = Not(%o)
      return %r
    }
  return %z
}
`);
});
