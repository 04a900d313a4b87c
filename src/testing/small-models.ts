/** Small models for tests of the compiler and the runtime, made in memory. */
import { Tensor } from "../base/index.ts";
import { makeModel } from "../onnx/index.ts";

/** Deterministic floats in [-0.5, 0.5). */
export function floats(count: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 32;
  });
}

/** x [batch, 16] → Gemm 16x32 → Relu → Gemm 32x8 → Softmax: y [batch, 8]. */
export function mlp(): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["batch", 16] }],
    outputs: [{ name: "y", type: "float32", dims: ["batch", 8] }],
    initializers: {
      w1: new Tensor("float32", floats(512, 2), [16, 32]), b1: new Tensor("float32", floats(32, 3), [32]),
      w2: new Tensor("float32", floats(256, 4), [32, 8]), b2: new Tensor("float32", floats(8, 5), [8]),
    },
    nodes: [
      { op: "Gemm", name: "fc1", inputs: ["x", "w1", "b1"], outputs: ["h"] },
      { op: "Relu", name: "act", inputs: ["h"], outputs: ["r"] },
      { op: "Gemm", name: "fc2", inputs: ["r", "w2", "b2"], outputs: ["z"] },
      { op: "Softmax", name: "probabilities", inputs: ["z"], outputs: ["y"], attributes: { axis: 1 } },
    ],
  });
}

/** x [n] → the indices of its non-zero elements, doubled: a shape only the data decide, then native work on it. */
export function nonZeroModel(): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n"] }],
    outputs: [{ name: "doubled", type: "float32", dims: [1, undefined] }],
    nodes: [
      { op: "NonZero", name: "find", inputs: ["x"], outputs: ["at"] },
      { op: "Cast", name: "cast", inputs: ["at"], outputs: ["f"], attributes: { to: 1 } },
      { op: "Add", name: "double", inputs: ["f", "f"], outputs: ["doubled"] },
    ],
  });
}

/** x [n] → its different values in order, doubled: a shape only the data decide, by an operator without a native form. */
export function uniqueModel(): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n"] }],
    outputs: [{ name: "doubled", type: "float32", dims: [undefined] }],
    nodes: [{ op: "Unique", name: "find", inputs: ["x"], outputs: ["u"] }, { op: "Add", name: "double", inputs: ["u", "u"], outputs: ["doubled"] }],
  });
}

/** Strings in, their concatenation out: host-only values. */
export function stringModel(): Uint8Array {
  return makeModel({
    inputs: [{ name: "a", type: "string", dims: ["n"] }, { name: "b", type: "string", dims: ["n"] }],
    outputs: [{ name: "joined", type: "string", dims: ["n"] }],
    nodes: [{ op: "StringConcat", name: "join", inputs: ["a", "b"], outputs: ["joined"] }],
  });
}

/** What the mlp answers, in plain arithmetic. */
export function mlpReference(x: Float32Array, batch: number): Float32Array {
  const [w1, b1, w2, b2] = [floats(512, 2), floats(32, 3), floats(256, 4), floats(8, 5)];
  const result = new Float32Array(batch * 8);
  for (let row = 0; row < batch; row++) {
    const hidden = Array.from({ length: 32 }, (_, j) => Math.max(0, b1[j]! + sum(16, (k) => x[row * 16 + k]! * w1[k * 32 + j]!)));
    const logits = Array.from({ length: 8 }, (_, j) => b2[j]! + sum(32, (k) => hidden[k]! * w2[k * 8 + j]!));
    const most = Math.max(...logits);
    const total = sum(8, (j) => Math.exp(logits[j]! - most));
    for (const [j, logit] of logits.entries()) result[row * 8 + j] = Math.exp(logit - most) / total;
  }
  return result;
}

function sum(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
}
