/** Attention as exporters spell it becomes one node; masks become as small as they can be. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { dimKey, type Graph, type Node } from "../ir/index.ts";
import { countOf, find, int64, type Line, numbered, passed, type PassCase, scalar } from "./pass-case.ts";

const heads = { q: ["b", 2, "s", 4], k: ["b", 2, "s", 4], v: ["b", 2, "s", 4] } as const;
const sizes = { b: 2, s: 5 };
const low = Number.NEGATIVE_INFINITY;

const scores: readonly Line[] = [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ["Mul", "s0 half", "s1"]];
const weighted = (from: string): Line[] => [["Softmax", from, "p", { axis: -1 }], ["MatMul", "p v", "y"]];

/** Scores, lines that make "s2" of "s1", softmax and values. */
function masked(lines: readonly Line[], more: Partial<PassCase> = {}): Graph {
  return passed({ inputs: { ...heads, ...more.inputs }, sizes, constants: { half: scalar(0.5), ...more.constants }, nodes: [...scores, ...lines, ...weighted("s2")], ...(more.feeds ? { feeds: more.feeds } : {}) });
}

function attentionOf(graph: Graph): Node {
  assert.equal(countOf(graph, "Softmax"), 0);
  assert.equal(countOf(graph, "Attention"), 1);
  return find(graph, "Attention");
}

const maskDims = (node: Node): string[] | undefined => node.inputs[3]?.dims?.map(dimKey);
const triangle = (rows: number, columns: number, of: (isSeen: boolean) => number, offset = columns - rows): number[] => Array.from({ length: rows * columns }, (_, at) => of(at % columns <= Math.floor(at / columns) + offset));

/** "row" [s, 1] and "column" [1, s] count from 0. */
const counted: readonly Line[] = [["Shape", "q", "dims"], ["Gather", "dims two", "length"], ["Range", "zero length one", "range"], ["Unsqueeze", "range last", "row"], ["Unsqueeze", "range first", "column"]];
const counters = { two: new Tensor("int64", [2], []), zero: new Tensor("int64", [0], []), one: new Tensor("int64", [1], []), last: int64(1), first: int64(0) };

describe("attention", () => {
  it("takes scales off keys below their transpose", () => {
    const graph = passed({
      inputs: heads, sizes, constants: { c: scalar(0.6) },
      nodes: [["Mul", "q c", "qs"], ["Mul", "k c", "ks"], ["Transpose", "ks", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "qs kt", "s0"], ...weighted("s0")],
    });
    assert.ok(Math.abs(Number(attentionOf(graph).attributes["scale"]) - 0.36) < 1e-6);
    assert.equal(graph.nodes.length, 1);
  });

  it("joins batch and heads, masked between two regrouping reshapes", () => {
    const graph = passed({
      inputs: { q: [6, 5, 4], k: [6, 5, 4], v: [6, 5, 3], m: [2, 1, 5, 5] }, constants: { four: int64(2, 3, 5, 5), three: int64(6, 5, 5) },
      nodes: [["Transpose", "k", "kt", { perm: [0, 2, 1] }], ["MatMul", "q kt", "s0"], ["Reshape", "s0 four", "s1"], ["Add", "s1 m", "s2"], ["Reshape", "s2 three", "s3"], ...weighted("s3")],
    });
    assert.deepEqual(attentionOf(graph).outputs[0]!.dims, [2, 3, 5, 3]);
    assert.equal(countOf(graph, "Transpose"), 0);
  });

  it("reads keys and values once for a group of heads", () => {
    const repeat = (name: string): Line[] => [["Unsqueeze", `${name} two`, `${name}1`], ["Expand", `${name}1 five`, `${name}2`], ["Reshape", `${name}2 four`, `${name}3`]];
    const graph = passed({
      inputs: { q: [2, 6, 5, 4], k: [2, 2, 5, 4], v: [2, 2, 5, 4] }, constants: { two: int64(2), five: int64(2, 2, 3, 5, 4), four: int64(2, 6, 5, 4) },
      nodes: [...repeat("k"), ...repeat("v"), ["Transpose", "k3", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ["Softmax", "s0", "p", { axis: -1 }], ["MatMul", "p v3", "y"]],
    });
    assert.deepEqual(attentionOf(graph).inputs.slice(0, 3).map((value) => value?.name), ["q", "k", "v"]);
  });

  it("says causal for a comparison of counted positions", () => {
    const compared: readonly Line[][] = [[["LessOrEqual", "column row", "seen"]], [["GreaterOrEqual", "row column", "seen"]], [["Greater", "column row", "hidden"], ["Not", "hidden", "seen"]]];
    for (const lines of compared) {
      const node = attentionOf(masked([...counted, ...lines, ["Where", "seen s1 low", "s2"]], { constants: { ...counters, low: scalar(low) } }));
      assert.equal(node.attributes["causal"], 1);
      assert.equal(node.inputs[3], undefined);
    }
    const hidden = attentionOf(masked([...counted, ["Less", "row column", "hidden"], ["Where", "hidden low s1", "s2"]], { constants: { ...counters, low: scalar(low) } }));
    assert.equal(hidden.attributes["causal"], 1);
  });

  it("keeps a triangle that is no causal mask", () => {
    const shifted = passed({
      inputs: { q: [1, 1, 4, 2], k: [1, 1, 4, 2], v: [1, 1, 4, 2] }, constants: { m: new Tensor("float32", triangle(4, 4, (isSeen) => (isSeen ? 0 : low), 1), [4, 4]) },
      nodes: [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ["Add", "s0 m", "s2"], ...weighted("s2")],
    });
    assert.equal(attentionOf(shifted).attributes["causal"], undefined);
  });

  it("says causal for constant, sliced and Trilu triangles", () => {
    const inputs = { q: [1, 2, 3, 4], k: [1, 2, 5, 4], v: [1, 2, 5, 4] };
    const small: readonly Line[] = [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"]];
    const ways: readonly { lines: readonly Line[]; constants: Record<string, Tensor> }[] = [
      { lines: [["Add", "s0 m", "s2"]], constants: { m: new Tensor("float32", triangle(3, 5, (isSeen) => (isSeen ? 0 : -1e9)), [1, 1, 3, 5]) } },
      { lines: [["Slice", "m from to axes", "seen"], ["Where", "seen s0 low", "s2"]], constants: { m: new Tensor("bool", Uint8Array.from(triangle(8, 8, Number)), [1, 1, 8, 8]), from: int64(2, 0), to: int64(5, 5), axes: int64(2, 3), low: scalar(-1e4) } },
      { lines: [["ConstantOfShape", "shape", "full", { value: new Tensor("float32", [low]) }], ["Trilu", "full diagonal", "m", { upper: 1 }], ["Add", "s0 m", "s2"]], constants: { shape: int64(3, 5), diagonal: new Tensor("int64", [3], []) } },
    ];
    for (const { lines, constants } of ways) {
      const node = attentionOf(passed({ inputs, constants, nodes: [...small, ...lines, ...weighted("s2")] }));
      assert.equal(node.attributes["causal"], 1);
      assert.equal(node.inputs[3], undefined);
    }
  });

  it("keeps a padding mask one row per sentence", () => {
    const pad = new Tensor("bool", Uint8Array.of(1, 1, 1, 1, 0, 1, 1, 1, 0, 0), [2, 1, 1, 5]);
    const given = { inputs: { pad: ["b", 1, 1, "s"] }, feeds: { pad } };
    const always = attentionOf(masked([...counted, ["GreaterOrEqual", "row zero", "true"], ["And", "true pad", "seen"], ["Where", "seen none low", "m"], ["Add", "s1 m", "s2"]], { ...given, constants: { ...counters, none: scalar(0), low: scalar(-3.4e38) } }));
    assert.deepEqual(maskDims(always), ["b", "1", "1", "s"]);
    const both = attentionOf(masked([...counted, ["LessOrEqual", "column row", "before"], ["And", "before pad", "seen"], ["Where", "seen s1 low", "s2"]], { ...given, constants: { ...counters, low: scalar(low) } }));
    assert.deepEqual([both.attributes["causal"], maskDims(both)], [1, ["b", "1", "1", "s"]]);
  });

  it("gives a row without keys the mean of all values where hidden scores are finite", () => {
    const pad = new Tensor("bool", Uint8Array.of(0, 1, 1, 1, 1, 0, 0, 1, 1, 1), [2, 1, 1, 5]);
    const node = attentionOf(masked([...counted, ["LessOrEqual", "column row", "before"], ["And", "before pad", "seen"], ["Where", "seen s1 low", "s2"]], { inputs: { pad: ["b", 1, 1, "s"] }, feeds: { pad }, constants: { ...counters, low: scalar(-1e4) } }));
    assert.equal(node.attributes["causal"], undefined);
  });

  it("leaves a softmax that is read elsewhere", () => {
    const graph = passed({ inputs: heads, sizes, outputs: ["y", "p"], nodes: [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ...weighted("s0")] });
    assert.equal(countOf(graph, "Softmax"), 1);
  });

  it("repeats a mask of windows for the images of a batch, beside a bias of the heads", () => {
    const graph = passed({
      inputs: { q: [6, 2, 4, 3], k: [6, 2, 4, 3], v: [6, 2, 4, 3] }, constants: { bias: numbered([1, 2, 4, 4], 5), windows: numbered([1, 3, 1, 4, 4], 6), five: int64(2, 3, 2, 4, 4), four: int64(6, 2, 4, 4) },
      nodes: [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ["Add", "s0 bias", "s1"], ["Reshape", "s1 five", "s2"], ["Add", "s2 windows", "s3"], ["Reshape", "s3 four", "s4"], ...weighted("s4")],
    });
    assert.deepEqual(maskDims(attentionOf(graph)), ["6", "2", "4", "4"]);
  });

  it("sees repeated keys below a transpose of batch and heads as one axis", () => {
    const graph = passed({
      inputs: { q: [1, 6, 5, 4], k: [1, 2, 5, 4], v: [1, 2, 5, 4] }, constants: { two: int64(2), five: int64(1, 2, 3, 5, 4), three: int64(6, 5, 4), four: int64(1, 6, 5, 4), turned: int64(1, 6, 4, 5) },
      nodes: [
        ["Unsqueeze", "k two", "k1"], ["Expand", "k1 five", "k2"], ["Reshape", "k2 three", "k3"], ["Transpose", "k3", "k4", { perm: [0, 2, 1] }], ["Reshape", "k4 turned", "kt"],
        ["Unsqueeze", "v two", "v1"], ["Expand", "v1 five", "v2"], ["Reshape", "v2 four", "v3"], ["MatMul", "q kt", "s0"], ["Softmax", "s0", "p", { axis: -1 }], ["MatMul", "p v3", "y"],
      ],
    });
    assert.deepEqual(attentionOf(graph).inputs.slice(0, 3).map((value) => value?.name), ["q", "k", "v"]);
  });

  it("expands queries that all of a batch share", () => {
    const graph = passed({ inputs: { k: [3, 2, 5, 4], v: [3, 2, 5, 4] }, constants: { q: numbered([1, 2, 3, 4], 9) }, nodes: [["Transpose", "k", "kt", { perm: [0, 1, 3, 2] }], ["MatMul", "q kt", "s0"], ...weighted("s0")] });
    assert.deepEqual(attentionOf(graph).outputs[0]!.dims, [3, 2, 3, 4]);
  });
});
