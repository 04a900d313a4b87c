/** Integer models end to end: native kernels, exact results, and the same bits on every instruction set. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type DType, elementCount, Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { type GraphDescription, importModel, makeModel, type NodeDescription } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { planOf } from "../testing/plan-of.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-integer-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function bytes(dtype: "int8" | "uint8", dims: readonly number[], seed = 1): Tensor {
  let state = seed * 7919;
  const next = (): number => { state = (Math.imul(state, 1664525) + 1013904223) | 0; return (state >>> 16) & 255; };
  const data = Uint8Array.from({ length: elementCount(dims) }, next);
  return Tensor.fromBytes(dtype, data, dims);
}

const one = (dtype: DType, value: number): Tensor => (dtype === "float32" ? new Tensor("float32", [value], []) : new Tensor(dtype as "int8", [value], []));
const scales = (count: number): Tensor => new Tensor("float32", Float32Array.from({ length: count }, (_, i) => 0.001 + i * 0.0001), [count, 1, 1]);

const chain = (...nodes: readonly [string, readonly string[], string, NodeDescription["attributes"]?][]): NodeDescription[] =>
  nodes.map(([op, inputs, output, attributes]) => ({ op, inputs, outputs: [output], ...(attributes ? { attributes } : {}) }));

/** @returns what each step of the plan is */
async function check(name: string, given: GraphDescription, feeds: Readonly<Record<string, Tensor>>): Promise<string[]> {
  const model = makeModel({ opset: 21, ...given });
  const expected = interpret(importModel(model).graph, feeds) as Tensor[];
  for (const limit of ["native", "avx512", "avx2"]) {
    const path = join(folder, `${name}-${limit}.engine`);
    await build(model, { output: path, level: 0, env: { ...process.env, SINTER_CPU: limit } });
    using engine = await Engine.load(path);
    assert.equal(engine.hasReferenceSteps, false, name);
    using context = engine.createContext();
    const results = context.runSync(feeds);
    given.outputs.forEach(({ name: output }, i) => {
      const got = results[output] as Tensor;
      assert.deepEqual(got.dims, expected[i]!.dims);
      assert.deepEqual(got.bytes, expected[i]!.bytes, `${name}, ${limit}: ${output}`);
    });
  }
  return planOf(model).steps;
}

test("a quantized residual block stays in bytes between its convolutions", async () => {
  const requantize = (sum: string, x: string, scale: string): NodeDescription[] => chain(
    ["Cast", [sum], `${sum}f`, { to: 1 }], ["Mul", [`${sum}f`, scale], `${sum}s`],
    ["Relu", [`${sum}s`], `${sum}r`], ["QuantizeLinear", [`${sum}r`, "yScale", "yZero"], x],
  );
  const steps = await check("block", {
    inputs: [{ name: "x", type: "uint8", dims: [1, 8, 9, 9] }], outputs: [{ name: "y", type: "uint8" }],
    initializers: {
      w1: bytes("int8", [16, 8, 3, 3]), w2: bytes("int8", [16, 16, 1, 1], 2), w3: bytes("int8", [16, 1, 3, 3], 3), s: scales(16),
      xZero: one("uint8", 3), yZero: one("uint8", 120), yScale: one("float32", 0.25), half: one("float32", 0.5),
    },
    nodes: [
      ...chain(["ConvInteger", ["x", "w1", "xZero"], "c1", { pads: [1, 1, 1, 1] }]), ...requantize("c1", "q1", "s"),
      ...chain(["ConvInteger", ["q1", "w2", "yZero"], "c2"]), ...requantize("c2", "q2", "s"),
      ...chain(["ConvInteger", ["q2", "w3", "yZero"], "c3", { pads: [1, 1, 1, 1], group: 16, strides: [1, 1] }]),
      ...chain(["Cast", ["c3"], "f3", { to: 1 }], ["Mul", ["f3", "s"], "s3"], ["DequantizeLinear", ["q1", "yScale", "yZero"], "r1"], ["Add", ["s3", "r1"], "a3"], ["QuantizeLinear", ["a3", "yScale", "yZero"], "y"]),
    ],
  }, { x: bytes("uint8", [1, 8, 9, 9], 4) });
  assert.deepEqual(steps.map((step) => step.split(" ")[0]), ["loop", "conv", "matmul", "conv", "loop"]);
  assert.match(steps[1]!, /out b\d+:uint8/);
});

test("dynamic quantization of a whole tensor, and of rows", async () => {
  const weights = { w: bytes("int8", [30, 40], 5), sw: one("float32", 0.02), zw: new Tensor("int8", Int8Array.from({ length: 40 }, () => 0), [40]) };
  const whole = await check("dynamic", {
    inputs: [{ name: "x", type: "float32", dims: [1, 7, 30] }], outputs: [{ name: "y", type: "float32" }], initializers: weights,
    nodes: [
      { op: "DynamicQuantizeLinear", inputs: ["x"], outputs: ["q", "s", "z"] },
      ...chain(["MatMulInteger", ["q", "w", "z", "zw"], "m"], ["Cast", ["m"], "f", { to: 1 }], ["Mul", ["s", "sw"], "scale"], ["Mul", ["f", "scale"], "y"]),
    ],
  }, { x: new Tensor("float32", Float32Array.from({ length: 210 }, (_, i) => Math.sin(i)), [1, 7, 30]) });
  assert.equal(whole.filter((step) => step.startsWith("matmul")).length, 1);
  const rows = await check("rows", {
    inputs: [{ name: "q", type: "uint8", dims: [7, 30] }, { name: "z", type: "uint8", dims: [7] }], outputs: [{ name: "y", type: "int32" }], initializers: weights,
    nodes: chain(["MatMulInteger", ["q", "w", "z", "zw"], "y"]),
  }, { q: bytes("uint8", [7, 30], 6), z: bytes("uint8", [7], 7) });
  assert.deepEqual(rows.map((step) => step.split(" ")[0]), ["matmul"]);
});
