/** Inference over models that `makeModel` writes: symbolic shapes, shape arithmetic, data-dependent sizes, problems. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Tensor, UserError } from "../../base/index.ts";
import { dimKey, type Graph } from "../../ir/index.ts";
import { type GraphDescription, importModel, makeModel } from "../../onnx/index.ts";
import { inferRules, inferTypes } from "./index.ts";
import { REFERENCE_OPERATORS } from "../../reference/index.ts";

function inferred(model: GraphDescription): Graph {
  const { graph } = importModel(makeModel({ opset: 21, ...model }));
  inferTypes(graph);
  return graph;
}

const dimsText = (graph: Graph, output = 0): string | undefined => graph.outputs[output]!.dims?.map(dimKey).join(", ");
const i64 = (...items: number[]): Tensor => new Tensor("int64", items);

describe("inferTypes", () => {
  it("has a rule for every operator of ai.onnx that has a reference", () => {
    const missing = Object.keys(REFERENCE_OPERATORS).filter((op) => !op.includes(".") && op !== "Constant" && !inferRules.has(op));
    assert.deepEqual(missing, []);
  });

  it("follows Shape, Gather, Concat into Reshape", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["batch", "seq", 768] }], outputs: [{ name: "y", type: "float32" }],
      initializers: { zero: i64(0), one: i64(1), rest: i64(12, 64) },
      nodes: [
        { op: "Shape", inputs: ["x"], outputs: ["shape"] },
        { op: "Gather", inputs: ["shape", "zero"], outputs: ["batch"] },
        { op: "Gather", inputs: ["shape", "one"], outputs: ["seq"] },
        { op: "Concat", inputs: ["batch", "seq", "rest"], outputs: ["target"], attributes: { axis: 0 } },
        { op: "Reshape", inputs: ["x", "target"], outputs: ["y"] },
      ],
    });
    assert.equal(dimsText(graph), "batch, seq, 12, 64");
  });

  it("solves -1 with symbols, and cancels what both sides share", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["n", 3, "h", "w"] }], outputs: [{ name: "y", type: "float32" }],
      initializers: { target: i64(0, 3, -1) }, nodes: [{ op: "Reshape", inputs: ["x", "target"], outputs: ["y"] }],
    });
    assert.equal(dimsText(graph), "n, 3, h*w");
  });

  it("takes int64's largest value as the end of a slice", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["n", 8] }], outputs: [{ name: "y", type: "float32" }],
      initializers: { start: i64(1), end: new Tensor("int64", new BigInt64Array([2n ** 63n - 1n])), axis: i64(1) },
      nodes: [{ op: "Slice", inputs: ["x", "start", "end", "axis"], outputs: ["y"] }],
    });
    assert.equal(dimsText(graph), "n, 7");
  });

  it("gives sizes that data decides a symbol of their own", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["n", 4] }], outputs: [{ name: "y", type: "int64" }],
      nodes: [{ op: "NonZero", inputs: ["x"], outputs: ["y"] }],
    });
    assert.equal(dimsText(graph), "2, #y.1");
  });

  it("sizes windows with padding, stride and dilation", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["n", 3, 224, "w"] }, { name: "k", type: "float32", dims: [64, 3, 7, 7] }], outputs: [{ name: "y", type: "float32" }],
      nodes: [{ op: "Conv", inputs: ["x", "k"], outputs: ["y"], attributes: { strides: [2, 2], pads: [3, 3, 3, 3] } }],
    });
    assert.equal(dimsText(graph), "n, 64, 112, floorDiv(w + 1, 2)");
  });

  it("knows that sizes of windows are not below 0", () => {
    const graph = inferred({
      inputs: [{ name: "x", type: "float32", dims: ["n", 1, "w"] }, { name: "k", type: "float32", dims: [1, 1, 3] }], outputs: [{ name: "y", type: "float32" }], initializers: { from: i64(0), to: i64(-1), axis: i64(2) },
      nodes: [{ op: "Conv", inputs: ["x", "k"], outputs: ["a"] }, { op: "Conv", inputs: ["a", "k"], outputs: ["b"], attributes: { pads: [1, 2] } }, { op: "Slice", inputs: ["b", "from", "to", "axis"], outputs: ["c"] }, { op: "Add", inputs: ["a", "c"], outputs: ["y"] }],
    });
    assert.equal(dimsText(graph), "n, 1, max(0, w + -2)");
  });

  it("reports all problems of a graph together, naming the nodes", () => {
    const model: GraphDescription = {
      inputs: [{ name: "a", type: "float32", dims: [2, 3] }, { name: "b", type: "float32", dims: [4, 5] }], outputs: [{ name: "y", type: "float32" }, { name: "z", type: "float32" }],
      nodes: [{ op: "Add", name: "sum", inputs: ["a", "b"], outputs: ["y"] }, { op: "MatMul", name: "product", inputs: ["a", "b"], outputs: ["z"] }],
    };
    assert.throws(() => inferred(model), (error: unknown) => error instanceof UserError && error.code === "model-invalid" && /Add "sum"/.test(error.message) && /MatMul "product".*3 columns against 4 rows/.test(error.message));
  });
});
