/** Whole graphs on the references: subgraphs and captures, shape constants, seeds, and what is refused. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { add, float32Constant, Graph, makeNode, mul, type Node, symbol, Value } from "../ir/index.ts";
import { constantTensor, evaluateNode, hasReference, hostValueToConstant, interpret } from "./index.ts";

const f32 = (items: readonly number[], dims?: readonly number[]): Tensor => new Tensor("float32", Float32Array.from(items), dims);

/** A pool over everything: an operator of one input. */
function pooled(graph: Graph, x: Value, name: string): Value {
  const y = new Value(name, "float32");
  graph.append({ op: "GlobalMaxPool", inputs: [x], outputs: [y] });
  return y;
}

/** Chooses between two pools of a captured value. */
function branching(): { graph: Graph; x: Value; condition: Value } {
  const graph = new Graph("main");
  const x = new Value("x", "float32", [1, 1, 3]);
  const condition = new Value("condition", "bool", []);
  graph.inputs = [condition, x];
  const branch = (op: string): Graph => {
    const inner = new Graph(op);
    const y = new Value(`${op}_y`, "float32");
    inner.append({ op, inputs: [x], outputs: [y] });
    inner.outputs = [y];
    return inner;
  };
  const y = new Value("y", "float32");
  graph.append({ op: "If", inputs: [condition], outputs: [y], attributes: { then_branch: branch("GlobalMaxPool"), else_branch: branch("GlobalAveragePool") } });
  graph.outputs = [y];
  return { graph, x, condition };
}

describe("interpret", () => {
  it("computes in double precision what the model holds in single precision", () => {
    const graph = new Graph("main");
    const x = new Value("x", "float32", [2]);
    const raised = new Value("raised", "float32", [2]);
    const back = new Value("back", "float32", [2]);
    const y = new Value("y", "float32", [2]);
    graph.inputs = [x];
    graph.append({ op: "Add", inputs: [x, float32Constant([2 ** 24])], outputs: [raised] });
    graph.append({ op: "Cast", inputs: [raised], outputs: [back], attributes: { to: 1 } });
    graph.append({ op: "Sub", inputs: [back, float32Constant([2 ** 24])], outputs: [y] });
    graph.outputs = [y];
    assert.deepEqual(interpret(graph, { x: f32([0.25, 1]) }), [f32([0, 0])]);
    assert.deepEqual(interpret(graph, { x: f32([0.25, 1]) }, { double: true }), [new Tensor("float64", Float64Array.of(0.25, 1), [2])]);
  });

  it("runs subgraphs on captured values", () => {
    const { graph, x, condition } = branching();
    const run = (on: number): unknown => interpret(graph, new Map([[x, f32([1, 5, 3], [1, 1, 3])], [condition, new Tensor("bool", Uint8Array.of(on), [])]]))[0];
    assert.deepEqual(run(1), f32([5], [1, 1, 1]));
    assert.deepEqual(run(0), f32([3], [1, 1, 1]));
  });

  it("takes feeds by name and names a missing one", () => {
    const { graph } = branching();
    assert.deepEqual(interpret(graph, { x: f32([1, 5, 3], [1, 1, 3]), condition: new Tensor("bool", Uint8Array.of(1), []) }), [f32([5], [1, 1, 1])]);
    assert.throws(() => interpret(graph, { x: f32([1, 5, 3], [1, 1, 3]) }), /Input "condition" has no value/);
  });

  it("evaluates shape constants with the dims of the feeds and with given bindings", () => {
    const graph = new Graph("main");
    const x = new Value("x", "float32", [symbol("batch"), 1, 2]);
    const shape = new Value("shape", "int64", [2]);
    shape.elements = [add(symbol("batch"), 1), mul(symbol("extra"), 2)];
    graph.inputs = [x];
    graph.outputs = [pooled(graph, x, "y"), shape];
    const [, sizes] = interpret(graph, { x: f32([1, 2, 3, 4, 5, 6], [3, 1, 2]) }, { bindings: new Map([["extra", 5]]) });
    assert.deepEqual(sizes, new Tensor("int64", [4n, 10n], [2]));
  });

  it("sees every node once, with its results", () => {
    const graph = new Graph("main");
    const x = new Value("x", "float32", [1, 1, 2]);
    graph.inputs = [x];
    graph.outputs = [pooled(graph, pooled(graph, x, "a"), "b")];
    const seen: Node[] = [];
    interpret(graph, { x: f32([4, 2], [1, 1, 2]) }, { onNode: (node, results) => { seen.push(node); assert.deepEqual(results[0], f32([4], [1, 1, 1])); } });
    assert.deepEqual(seen, graph.nodes);
  });

  it("reads constants and gives an unknown operator's name", () => {
    const graph = new Graph("main");
    const constant = float32Constant([1, 2], [1, 1, 2]);
    graph.outputs = [pooled(graph, constant, "y"), constant];
    assert.deepEqual(interpret(graph, {}), [f32([2], [1, 1, 1]), f32([1, 2], [1, 1, 2])]);
    const node = makeNode({ op: "Nonsense", name: "here", inputs: [], outputs: [new Value("z")] });
    assert.equal(hasReference(node), false);
    assert.throws(() => evaluateNode(node, []), /Nonsense "here"/);
  });

  it("stores results as constants", () => {
    const value = new Value("c", "float32", [2]);
    value.constant = hostValueToConstant(f32([1, 2]));
    assert.deepEqual(constantTensor(value), f32([1, 2]));
    const strings = new Value("s", "string", [1]);
    strings.constant = hostValueToConstant(new Tensor("string", ["a"]));
    assert.deepEqual(constantTensor(strings), new Tensor("string", ["a"]));
  });
});

describe("sinter.Attention", () => {
  const q = f32([1, 0, 0, 1, 1, 1], [1, 1, 3, 2]);
  const k = f32([1, 2, 3, 4], [1, 1, 2, 2]);
  const v = f32([10, 20], [1, 1, 2, 1]);
  const run = (attributes: Record<string, number>, mask?: Tensor): readonly number[] => {
    const node = makeNode({ op: "Attention", domain: "sinter", inputs: ["q", "k", "v", "mask"].map((name) => new Value(name)), outputs: [new Value("y")], attributes });
    const [y] = evaluateNode(node, [q, k, v, mask]);
    assert(y instanceof Tensor);
    assert.deepEqual(y.dims, [1, 1, 3, 1]);
    return [...(y.data as Float32Array)];
  };

  it("weighs values by the softmax of scores", () => {
    const weight = (a: number, b: number): number => Math.fround((10 * Math.exp(a) + 20 * Math.exp(b)) / (Math.exp(a) + Math.exp(b)));
    assert.deepEqual(run({ scale: 1 }), [weight(1, 3), weight(2, 4), weight(3, 7)]);
  });

  it("aligns the causal frontier with the last key, and gives zeros where no key is seen", () => {
    const [first, second] = run({ scale: 1, causal: 1 });
    assert.equal(first, 0);
    assert.equal(second, 10);
  });

  it("adds a mask that broadcasts", () => {
    assert.deepEqual(run({ scale: 1 }, f32([0, Number.NEGATIVE_INFINITY], [1, 2])), [10, 10, 10]);
  });
});
