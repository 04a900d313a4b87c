/** Which depthwise convolutions are joined with the products beside them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "../base/index.ts";
import { makeModel } from "../onnx/index.ts";
import { planOf } from "../testing/plan-of.ts";
import { floats } from "../testing/small-models.ts";

const weights = (...dims: number[]): Tensor => new Tensor("float32", floats(dims.reduce((a, b) => a * b, 1)), dims);

/** An inverted residual over an image of `size` x `size` pixels, expanded to 96 channels, after a layer that reads the image as it comes. */
function kindsOf(size: number, stride: number, outputs: readonly string[] = ["y"]): string[] {
  const [inner, outer] = [size, size / stride];
  const dims: Record<string, (number | string)[]> = { y: ["n", 16, outer, outer], e: ["n", 96, inner, inner], d: ["n", 96, outer, outer] };
  const model = makeModel({
    opset: 17,
    inputs: [{ name: "x", type: "float32", dims: ["n", 16, size, size] }],
    outputs: outputs.map((name) => ({ name, type: "float32" as const, dims: dims[name]! })),
    initializers: { ws: weights(16, 16, 1, 1), we: weights(96, 16, 1, 1), wd: weights(96, 1, 3, 3), wp: weights(16, 96, 1, 1) },
    nodes: [
      { op: "Conv", inputs: ["x", "ws"], outputs: ["r"] },
      { op: "Relu", inputs: ["r"], outputs: ["s"] },
      { op: "Conv", inputs: ["s", "we"], outputs: ["c"] },
      { op: "Relu", inputs: ["c"], outputs: ["e"] },
      { op: "Conv", inputs: ["e", "wd"], outputs: ["f"], attributes: { group: 96, pads: [1, 1, 1, 1], strides: [stride, stride] } },
      { op: "Relu", inputs: ["f"], outputs: ["d"] },
      { op: "Conv", inputs: ["d", "wp"], outputs: ["y"] },
    ],
  });
  return planOf(model).steps.filter((step) => !step.startsWith("loop")).map((step) => step.replace(/^bands of .*/, (text) => `bands of ${text.split(/; (?=matmul|conv)|bands of /).slice(1).map((part) => part.split(" ")[0]).join(", ")}`).split(/ (?:batch|b0)/)[0]!);
}

test("large images between a depthwise convolution and its products are never whole", () => {
  assert.deepEqual(kindsOf(64, 1), ["conv", "bands of matmul, conv, matmul"]);
});

test("a small result is left to a product of its own", () => {
  assert.deepEqual(kindsOf(64, 2), ["conv", "bands of matmul, conv", "matmul"]);
});

test("small images have steps of their own", () => {
  assert.deepEqual(kindsOf(16, 1), ["conv", "matmul", "conv", "matmul"]);
});

test("an image that the caller asks for has memory", () => {
  assert.equal(kindsOf(64, 1, ["y", "e"])[1], "matmul");
});
