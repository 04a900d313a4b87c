/** What becomes one kernel: small models and the text of their plans. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "../base/index.ts";
import { makeModel, type NodeDescription } from "../onnx/index.ts";
import { planOf } from "../testing/plan-of.ts";
import { floats, nonZeroModel, uniqueModel } from "../testing/small-models.ts";

const weights = (...dims: number[]): Tensor => new Tensor("float32", floats(dims.reduce((a, b) => a * b, 1)), dims);

function plan(nodes: NodeDescription[], inputs: Record<string, (number | string)[]>, outputs: Record<string, (number | string)[]>, initializers: Record<string, Tensor> = {}): string[] {
  const values = (dims: Record<string, (number | string)[]>) => Object.entries(dims).map(([name, shape]) => ({ name, type: "float32" as const, dims: shape }));
  return planOf(makeModel({ inputs: values(inputs), outputs: values(outputs), nodes, initializers, opset: 17 })).steps;
}

test("bias, activation and residual ride on the matmul before them", () => {
  const steps = plan([
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "Add", inputs: ["m", "b"], outputs: ["a"] },
    { op: "Relu", inputs: ["a"], outputs: ["r"] },
    { op: "Add", inputs: ["r", "x"], outputs: ["y"] },
  ], { x: ["batch", 4, 8] }, { y: ["batch", 4, 8] }, { w: weights(8, 8), b: weights(8) });
  assert.equal(steps.length, 1);
  assert.match(steps[0]!, /^matmul batch \[\] m 4\*batch n 8 k 8 .* with .*add\.f32.*acc/);
});

test("a value that two readers need gets memory, once", () => {
  const steps = plan([
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "Relu", inputs: ["m"], outputs: ["y"] },
    { op: "ReduceMean", inputs: ["m"], outputs: ["z"], attributes: { axes: [1], keepdims: 1 } },
  ], { x: [4, 8] }, { y: [4, 8], z: [4, 1] }, { w: weights(8, 8) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["matmul", "loop", "loop"]);
});

test("a chain of pointwise work is one loop over its inputs", () => {
  const steps = plan([
    { op: "Mul", inputs: ["x", "x"], outputs: ["a"] },
    { op: "Exp", inputs: ["a"], outputs: ["b"] },
    { op: "Sub", inputs: ["b", "x"], outputs: ["y"] },
  ], { x: ["n", 5] }, { y: ["n", 5] });
  assert.equal(steps.length, 1);
  assert.match(steps[0]!, /^loop i0<n, i1<5: .*exp\.f32/);
});

test("head splits and merges around attention are strides", () => {
  const head = (name: string): NodeDescription[] => [
    { op: "MatMul", inputs: ["x", `w${name}`], outputs: [`${name}0`] },
    { op: "Reshape", inputs: [`${name}0`, "split"], outputs: [`${name}1`] },
    { op: "Transpose", inputs: [`${name}1`], outputs: [name], attributes: { perm: [0, 2, 1, 3] } },
  ];
  const steps = plan([
    ...head("q"), ...head("k"), ...head("v"),
    { op: "Transpose", inputs: ["k"], outputs: ["kt"], attributes: { perm: [0, 1, 3, 2] } },
    { op: "MatMul", inputs: ["q", "kt"], outputs: ["s"] },
    { op: "Softmax", inputs: ["s"], outputs: ["p"], attributes: { axis: -1 } },
    { op: "MatMul", inputs: ["p", "v"], outputs: ["o"] },
    { op: "Transpose", inputs: ["o"], outputs: ["o1"], attributes: { perm: [0, 2, 1, 3] } },
    { op: "Reshape", inputs: ["o1", "merge"], outputs: ["y"] },
  ], { x: ["b", "s", 32] }, { y: ["b", "s", 32] }, {
    wq: weights(32, 32), wk: weights(32, 32), wv: weights(32, 32),
    split: new Tensor("int64", [0, 0, 4, 8], [4]), merge: new Tensor("int64", [0, 0, 32], [3]),
  });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["matmul", "matmul", "matmul", "attention", "loop"].slice(0, steps.length));
  assert.match(steps[3]!, /heads 4\/1 .* strides \[32\*s, 8, 32, 1\]/);
});

test("a convolution takes its bias, activation and residual along, channels last; one of single pixels is a matmul", () => {
  const steps = plan([
    { op: "Conv", inputs: ["x", "w", "b"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "Relu", inputs: ["c"], outputs: ["r"] },
    { op: "Conv", inputs: ["r", "v"], outputs: ["d"] },
    { op: "Add", inputs: ["d", "r"], outputs: ["e"] },
    { op: "GlobalAveragePool", inputs: ["e"], outputs: ["y"] },
  ], { x: [1, 3, 8, 8] }, { y: [1, 16, 1, 1] }, { w: weights(16, 3, 3, 3), b: weights(16), v: weights(16, 16, 1, 1) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["conv", "matmul", "loop"]);
  assert.match(steps[0]!, /channels-first with .*max\.f32/);
  assert.match(steps[1]!, /with .*add\.f32/);
});

test("a transposed convolution is one convolution per remainder of its stride, each with the whole epilogue", () => {
  const steps = plan([
    { op: "ConvTranspose", inputs: ["x", "w", "b"], outputs: ["c"], attributes: { strides: [2, 2] } },
    { op: "Relu", inputs: ["c"], outputs: ["r"] },
    { op: "GlobalAveragePool", inputs: ["r"], outputs: ["y"] },
  ], { x: ["batch", 3, "h", "w"] }, { y: ["batch", 16, 1, 1] }, { w: weights(3, 16, 2, 2), b: weights(16) });
  const convolutions = steps.filter((step) => step.startsWith("conv "));
  assert.equal(convolutions.length, 4);
  for (const step of convolutions) assert.match(step, /max\.f32.*add\.f32\(acc/);
});

test("what decides a size runs on the reference, the rest does not", () => {
  const { steps } = planOf(uniqueModel());
  assert.equal(steps[0], "reference Unique");
  assert.deepEqual(steps.slice(1).map((step) => step.split(" ")[0]), ["loop"]);
});

test("what is counted first runs natively, its size told between", () => {
  assert.deepEqual(planOf(nonZeroModel()).steps.map((step) => step.split(" ")[0]), ["sequential", "size", "sequential", "loop"]);
});

test("results that reshapes lead to an output are written there; an input that they lead there is copied", () => {
  const shape = new Tensor("int64", [8, 2], [2]);
  const reshaped = plan([{ op: "Relu", inputs: ["x"], outputs: ["r"] }, { op: "Reshape", inputs: ["r", "shape"], outputs: ["y"] }], { x: [4, 4] }, { y: [8, 2] }, { shape });
  assert.equal(reshaped.length, 1);
  const copied = plan([{ op: "Reshape", inputs: ["x", "shape"], outputs: ["y"] }], { x: [4, 4] }, { y: [8, 2] }, { shape });
  assert.deepEqual(copied.map((step) => step.split(" ")[0]), ["loop"]);
});

test("what a Concat joins is written to its place, also when others read it", () => {
  const steps = plan([
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "MatMul", inputs: ["x", "v"], outputs: ["a"] },
    { op: "Relu", inputs: ["a"], outputs: ["r"] },
    { op: "Concat", inputs: ["m", "r"], outputs: ["c"], attributes: { axis: -1 } },
    { op: "Softmax", inputs: ["c"], outputs: ["y"], attributes: { axis: -1 } },
    { op: "ReduceMax", inputs: ["m"], outputs: ["z"], attributes: { axes: [1], keepdims: 1 } },
  ], { x: ["n", 8] }, { y: ["n", 16], z: ["n", 1] }, { w: weights(8, 8), v: new Tensor("float32", floats(64, 9), [8, 8]) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]).sort(), ["loop", "loop", "matmul", "matmul"]);
  assert.equal(steps.filter((step) => /^matmul .* out .*\]\/\[16, 1\]/.test(step)).length, 2, steps.join("\n"));
});

test("a product over several rows of batches is not written where its rows lie at two distances", () => {
  const steps = plan([
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "Concat", inputs: ["m", "x"], outputs: ["y"], attributes: { axis: 1 } },
  ], { x: ["n", 4, 8] }, { y: ["n", 8, 8] }, { w: weights(8, 8) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["matmul", "loop", "loop"]);
});

test("rotary embeddings read both halves in place, in one step", () => {
  const zero = new Tensor("int64", [0], [1]);
  const [two, four] = [new Tensor("int64", [2], [1]), new Tensor("int64", [4], [1])];
  const steps = plan([
    { op: "Relu", inputs: ["x"], outputs: ["r"] },
    { op: "Slice", inputs: ["r", "zero", "two", "axis"], outputs: ["low"] }, { op: "Slice", inputs: ["r", "two", "four", "axis"], outputs: ["high"] },
    { op: "Neg", inputs: ["high"], outputs: ["turned"] }, { op: "Concat", inputs: ["turned", "low"], outputs: ["half"], attributes: { axis: 1 } },
    { op: "Mul", inputs: ["r", "c"], outputs: ["a"] }, { op: "Mul", inputs: ["half", "s"], outputs: ["b"] }, { op: "Add", inputs: ["a", "b"], outputs: ["y"] },
  ], { x: ["n", 4], c: ["n", 4], s: ["n", 4] }, { y: ["n", 4] }, { zero, two, four, axis: new Tensor("int64", [1], [1]) });
  assert.equal(steps.length, 2);
  assert.match(steps[1]!, /neg\.f32/);
});

test("a product whose rows are regrouped before a transpose leaves the transpose to a step of its own", () => {
  const steps = plan([
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] }, { op: "Reshape", inputs: ["m", "apart"], outputs: ["a"] }, { op: "Mul", inputs: ["a", "two"], outputs: ["b"] },
    { op: "Transpose", inputs: ["b"], outputs: ["y"], attributes: { perm: [0, 2, 1, 3, 4] } },
  ], { x: ["n", 6, 8] }, { y: ["n", 3, 2, 4, 2] }, { w: weights(8, 8), two: new Tensor("float32", [2], []), apart: new Tensor("int64", [0, 2, 3, 4, 2], [5]) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["matmul", "loop"]);
});
