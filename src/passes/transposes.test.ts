/** Transposes and channels-last: parts of real networks end with Transposes at their ends only, and any chain keeps its results. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Tensor } from "../base/index.ts";
import { countOf, find, int64, type Line, numbered, opsOf, passed } from "./pass-case.ts";

const conv = (input: string, weights: string, output: string, pad = 1): Line => ["Conv", `${input} ${weights}`, output, { pads: [pad, pad, pad, pad] }];
const w33 = (o: number, i: number, seed = 5) => numbered([o, i, 3, 3], seed);

describe("channels-last", () => {
  it("reads a graph input channels-first and ends with one Transpose", () => {
    const graph = passed({ inputs: { x: ["n", 3, 8, 8] }, sizes: { n: 2 }, constants: { w: w33(4, 3), u: w33(4, 4, 6) }, nodes: [conv("x", "w", "a"), ["Relu", "a", "b"], conv("b", "u", "c"), ["Add", "c b", "d"], ["MaxPool", "d", "y", { kernel_shape: [2, 2], strides: [2, 2] }]] });
    assert.deepEqual(opsOf(graph), ["Conv", "Relu", "Conv", "Add", "MaxPool", "Transpose"]);
    assert.equal(graph.nodes[0]!.attributes["inputLayout"], "NCHW");
    assert.equal(find(graph, "MaxPool").attributes["layout"], "NHWC");
  });

  it("leaves nothing behind a flattened global pool or mean", () => {
    for (const pool of [["GlobalAveragePool", "a", "p"], ["ReduceMean", "a axes", "p"]] as const) {
      const graph = passed({ inputs: { x: ["n", 3, 6, 6] }, sizes: { n: 2 }, constants: { w: w33(4, 3), axes: int64(2, 3), f: numbered([4, 5]) }, nodes: [conv("x", "w", "a"), pool, ["Flatten", "p", "q"], ["MatMul", "q f", "y"]] });
      assert.equal(countOf(graph, "Transpose"), 0);
    }
  });

  it("passes squeeze-and-excitation through two linear layers", () => {
    const graph = passed({
      inputs: { x: [2, 3, 6, 6] }, constants: { w: w33(4, 3), axes: int64(2, 3), f: numbered([4, 4]), back: int64(2, 4, 1, 1), u: w33(2, 4, 7) },
      nodes: [conv("x", "w", "a"), ["ReduceMean", "a axes", "p", { keepdims: 0 }], ["MatMul", "p f", "q"], ["Sigmoid", "q", "r"], ["Reshape", "r back", "s"], ["Mul", "a s", "t"], conv("t", "u", "y")],
    });
    assert.deepEqual(graph.nodes.filter((node) => node.op === "Transpose").map((node) => node.outputs[0]!.name), ["y"]);
  });

  it("passes a channel shuffle, keeping the shuffle alone", () => {
    const graph = passed({
      inputs: { x: [2, 3, 6, 6] }, constants: { w: w33(4, 3), u: w33(2, 4, 7), split: int64(2, 2, 2, 6, 6), join: int64(2, 4, 6, 6), axes: int64(2, 3) },
      nodes: [conv("x", "w", "a"), ["Reshape", "a split", "b"], ["Transpose", "b", "c", { perm: [0, 2, 1, 3, 4] }], ["Reshape", "c join", "d"], conv("d", "u", "e"), ["ReduceMax", "e axes", "y", { keepdims: 0 }]],
    });
    assert.deepEqual(graph.nodes.filter((node) => node.op === "Transpose").map((node) => node.attributes["perm"]), [[0, 1, 2, 4, 3]]);
  });

  it("passes patches to tokens, and tokens to patches", () => {
    const graph = passed({
      inputs: { x: ["n", 3, 6, 6] }, sizes: { n: 2 }, constants: { w: w33(4, 3), u: w33(2, 4, 7), tokens: int64(0, 4, -1), image: int64(0, 4, 6, 6), g: numbered([4]), m: numbered([4, 4]), axes: int64(2, 3) },
      nodes: [conv("x", "w", "a"), ["Reshape", "a tokens", "b"], ["Transpose", "b", "c", { perm: [0, 2, 1] }], ["LayerNormalization", "c g", "d"], ["MatMul", "d m", "e"], ["Transpose", "e", "f", { perm: [0, 2, 1] }], ["Reshape", "f image", "h"], conv("h", "u", "i"), ["ReduceMax", "i axes", "y"]],
    });
    assert.equal(countOf(graph, "Transpose"), 0);
  });

  it("takes Resize, Concat, Pad, Slice, Split and depth to space along", () => {
    const graph = passed({
      inputs: { x: [1, 3, 6, 6] }, constants: { w: w33(8, 3), u: w33(2, 5, 7), scales: numbered([4]), sizes: int64(1, 8, 9, 12), pads: int64(0, 0, 1, 2, 0, 0, 0, 1), from: int64(1), to: int64(4), axis: int64(1), parts: int64(3, 5), sum: int64(1) },
      nodes: [conv("x", "w", "a"), ["Resize", "a   sizes", "b", { mode: "linear" }], ["Pad", "b pads", "c"], ["Slice", "c from to axis", "d"], ["Split", "c parts", "e f", { axis: 1 }], ["Concat", "e d", "g", { axis: 1 }],
        ["DepthToSpace", "a", "h", { blocksize: 2 }], ["SpaceToDepth", "a", "i", { blocksize: 2 }], conv("f", "u", "j"), ["ReduceSum", "g sum", "k"], ["GlobalMaxPool", "h", "l"], ["GlobalMaxPool", "i", "m"], ["GlobalMaxPool", "j", "n"], ["GlobalMaxPool", "k", "o"], ["Concat", "l m n o", "y", { axis: 1 }]],
    });
    // Only the two that depth to space and space to depth are made of.
    assert.deepEqual(graph.nodes.filter((node) => node.op === "Transpose").map((node) => node.inputs[0]!.dims!.length), [6, 6]);
  });
});

const operations: readonly ((rank: number, axis: number) => Line)[] = [
  () => ["Relu", "x", "z"], () => ["Mul", "x c", "z"], () => ["Add", "x x", "z"], (_, axis) => ["Softmax", "x", "z", { axis }], (_, axis) => ["ReduceSum", "x", "z", { keepdims: axis % 2 }],
  (_, axis) => ["Concat", "x x", "z", { axis }], (_, axis) => ["ReduceMax", `x axis${axis}`, "z", { keepdims: axis % 2 }], (_, axis) => ["Slice", `x one big axis${axis}`, "z"], (_, axis) => ["Gather", "x picks", "z", { axis }],
  (_, axis) => ["Gather", "x pick", "z", { axis }], (_, axis) => ["Unsqueeze", `x axis${axis}`, "z"], (_, axis) => ["Flatten", "x", "z", { axis }], () => ["Reshape", "x pairs", "z"], () => ["Tile", "x twice", "z"],
];

describe("sinking transposes", () => {
  it("keeps every result, whatever stands between two transposes", () => {
    const order = fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 });
    fc.assert(fc.property(order, fc.nat(operations.length - 1), fc.nat(3), fc.nat(50), (perm, which, axis, seed) => {
      const [op, inputs, output, attributes] = operations[which]!(4, axis);
      const constants = { c: numbered([3, 1, 6], seed), one: int64(1), big: int64(9), picks: int64(1, 0), pick: new Tensor("int64", [1], []), pairs: int64(0, -1, 2), twice: int64(1, 2, 1, 3), ...Object.fromEntries([0, 1, 2, 3].map((a) => [`axis${a}`, int64(a)])) };
      const dims = [2, 3, 4, 6];
      const before = new Array<number>(4);
      perm.forEach((from, i) => { before[from] = dims[i]!; });
      passed({ inputs: { t: before }, constants, nodes: [["Transpose", "t", "x", { perm }], [op, inputs, output, attributes ?? {}], ["Abs", "z", "y"]] });
    }), { numRuns: 150 });
  });
});
