/** Quantized models on engines: random graphs of Quantize, Dequantize and products, bit for bit what the reference makes of them. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { EngineFile } from "../engine/index.ts";
import { importModel, makeModel } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { runOnEngine } from "./engine-executor.ts";
import { randomNumbers, randomQuantizedModel } from "./random-quantized.ts";

describe("quantized engines", () => {
  it("cut off the fraction of what is cast to an integer, and do not take it for rounded", async () => {
    const x = new Tensor("float32", [3.7, -3.7, 0.5, -0.5, 2, 1.999], [6]);
    const bytes = makeModel({
      opset: 21, inputs: [{ name: "x", type: "float32", dims: [6] }], outputs: [{ name: "y", type: "float32" }], initializers: { s: new Tensor("float32", [0.5], []) },
      nodes: [{ op: "Cast", name: "cast", inputs: ["x"], outputs: ["i"], attributes: { to: 6 } }, { op: "DequantizeLinear", name: "dq", inputs: ["i", "s"], outputs: ["y"] }],
    });
    const { graph } = importModel(bytes);
    const { outputs } = await runOnEngine(graph, new Map([[graph.inputs[0]!, x]]), bytes);
    assert.deepEqual([...((outputs[0] as Tensor).data as Float32Array)].map((value) => value + 0), [1.5, -1.5, 0, 0, 1, 0.5]);
  });

  it("give what the model says, bit for bit, on native kernels alone", async () => {
    for (let seed = 1; seed <= 24; seed++) {
      const { bytes, feeds } = randomQuantizedModel(seed, seed % 2 === 0);
      const { graph } = importModel(bytes);
      const [expected] = interpret(graph, feeds) as [Tensor];
      const { outputs, references } = await runOnEngine(graph, new Map(graph.inputs.map((input) => [input, feeds[input.name]])), bytes);
      assert.deepEqual(references, [], `seed ${seed}`);
      assert.deepEqual(outputs[0], expected, `seed ${seed}`);
    }
  });

  it("keep weights of four bits at four bits, scales included under 17 % of fp32, and match their model", async () => {
    const random = randomNumbers(5);
    const [n, k, block] = [64, 256, 32];
    const initializers = {
      b: new Tensor("uint8", Array.from({ length: (n * k) / 2 }, () => random(0, 255)), [n, k / block, block / 2]),
      s: new Tensor("float32", Array.from({ length: (n * k) / block }, () => random(1, 100) / 1000), [n * (k / block)]),
    };
    const bytes = makeModel({
      opset: 21, opsets: { "com.microsoft": 1 }, inputs: [{ name: "x", type: "float32", dims: [3, k] }], outputs: [{ name: "y", type: "float32" }], initializers,
      nodes: [{ op: "MatMulNBits", domain: "com.microsoft", name: "nbits", inputs: ["x", "b", "s"], outputs: ["y"], attributes: { K: k, N: n, bits: 4, block_size: block } }],
    });
    const { graph } = importModel(bytes);
    const feeds = { x: new Tensor("float32", Array.from({ length: 3 * k }, () => random(-100, 100) / 100), [3, k]) };
    const [expected] = interpret(graph, feeds) as [Tensor];
    const folder = mkdtempSync(join(tmpdir(), "sinter-nbits-"));
    try {
      const { report } = await build(bytes, { output: join(folder, "m.engine"), level: 0 });
      assert.deepEqual(report.referenceSteps, []);
      const file = EngineFile.open(join(folder, "m.engine"));
      const stored = file.sizeOf("weights");
      file.close();
      assert.ok(stored <= 0.17 * 4 * n * k + 256, `${stored} bytes for ${n * k} weights`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    const { outputs } = await runOnEngine(graph, new Map([[graph.inputs[0]!, feeds.x]]), bytes);
    const actual = (outputs[0] as Tensor).data as Float32Array;
    (expected.data as Float32Array).forEach((item, i) => assert.ok(Math.abs(item - actual[i]!) <= 1e-4 * Math.max(1, Math.abs(item)), `item ${i}: ${actual[i]}, expected ${item}`));
  });
});
