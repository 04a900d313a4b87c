/** Damaged models: random changes of real ones end in a graph or in an error of ours, never in another failure. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SinterError, Tensor } from "../base/index.ts";
import { printGraph } from "../ir/index.ts";
import { randomFrom } from "../testing/random.ts";
import { importModel, makeModel } from "./index.ts";

const weights = new Tensor("float32", Float32Array.from({ length: 12 }, (_, i) => i), [3, 4]);

function sampleModel(): Uint8Array {
  const branch = (op: string): object => ({ inputs: [], outputs: [{ name: `${op}_y`, type: "float32" }], nodes: [{ op, inputs: ["h"], outputs: [`${op}_y`] }] });
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["batch", 3] }, { name: "c", type: "bool", dims: [] }],
    outputs: [{ name: "z", type: "float32", dims: ["batch", "n + 1"] }],
    initializers: { w: weights, b: new Tensor("uint8", new Uint8Array(32), [2, 1, 16]), k: new Tensor("int64", BigInt64Array.of(-1n, 5n), [2]), s: new Tensor("string", ["a", "bc"], [2]) },
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["h"], name: "product" },
      { op: "If", inputs: ["c"], outputs: ["y"], attributes: { then_branch: branch("Relu") as never, else_branch: branch("Neg") as never } },
      { op: "Scaled", domain: "local", inputs: ["y"], outputs: ["t"], attributes: { factor: { float: 2 } } },
      { op: "ReduceMean", inputs: ["t"], outputs: ["m"], attributes: { axes: [1], keepdims: 1 } },
      { op: "Clip", inputs: ["m"], outputs: ["z"], attributes: { min: 0.5 } },
      { op: "TopK", inputs: ["t"], outputs: ["top", "at"], attributes: { k: 2 } },
      { op: "Upsample", inputs: ["t", "k"], outputs: ["big"], attributes: { mode: "nearest" } },
      { op: "FusedConv", domain: "com.microsoft", inputs: ["t", "w"], outputs: ["conv"], attributes: { activation: "Clip", activation_params: { floats: [0, 6] } } },
      { op: "MatMulNBits", domain: "com.microsoft", inputs: ["x", "b", "w"], outputs: ["nbits"], attributes: { K: 32, N: 2, bits: 4, block_size: 32 } },
    ],
    opset: 9,
    opsets: { local: 1, "com.microsoft": 1 },
    functions: [{ name: "Scaled", domain: "local", inputs: ["a"], outputs: ["b"], attributes: ["factor"], opsets: { "": 13 }, nodes: [
      { op: "Constant", inputs: [], outputs: ["f"], attributes: { value_float: { reference: "factor", type: "FLOAT" } } },
      { op: "Mul", inputs: ["a", "f"], outputs: ["b"] },
    ] }],
  });
}

function mutated(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  const copy = bytes.slice(0, random(8) === 0 ? random(bytes.length + 1) : bytes.length);
  for (let i = random(4); i >= 0 && copy.length > 0; i--) {
    const at = random(copy.length);
    copy[at] = random(3) === 0 ? random(256) : random(2) ? copy[at]! ^ (1 << random(8)) : [0, 0xff, 0x7f, 0x80][random(4)]!;
  }
  if (random(5) === 0 && copy.length > 8) copy.copyWithin(random(copy.length), random(copy.length), random(copy.length));
  return copy;
}

test("random changes of a model give a graph or an error of ours", () => {
  const model = sampleModel();
  assert.ok(printGraph(importModel(model).graph).includes("Mul"));
  for (let seed = 1; seed <= 20_000; seed++) {
    const bytes = mutated(model, randomFrom(seed * 2654435761));
    try {
      printGraph(importModel(bytes).graph);
    } catch (error) {
      assert.ok(error instanceof SinterError, `seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
});
