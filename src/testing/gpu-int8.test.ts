/** Int8 on a GPU: the same plan as on a processor, and the same integers; where no GPU is, on an emulated one. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { calibrate } from "../calibrate.ts";
import { buildInt8 } from "../mixed-precision.ts";
import { EmulatedGpu, hasHostCompiler, hostCompiler } from "../native/cuda/testing.ts";
import { importModel, makeModel } from "../onnx/index.ts";
import { interpret } from "../reference/index.ts";
import { Engine } from "../runtime/index.ts";
import { runOnEngine } from "./engine-executor.ts";
import { randomQuantizedModel } from "./random-quantized.ts";
import { floats } from "./small-models.ts";

const SIZE = 12;

/** A network as they are: a first layer of three channels, a block with two branches, a filter per channel, a mean, a product. */
function network(): Uint8Array {
  const weights = (seed: number, ...dims: number[]): Tensor => new Tensor("float32", floats(dims.reduce((a, b) => a * b), seed), dims);
  const conv = (name: string, input: string, output: string, attributes = {}) => ({ op: "Conv", name, inputs: [input, `${name}.w`, `${name}.b`], outputs: [output], attributes });
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n", 3, SIZE, SIZE] }],
    outputs: [{ name: "y", type: "float32", dims: ["n", 10] }],
    initializers: {
      "first.w": weights(1, 16, 3, 3, 3), "first.b": weights(2, 16), "depth.w": weights(3, 16, 1, 3, 3), "depth.b": weights(4, 16), "wide.w": weights(5, 16, 16, 3, 3), "wide.b": weights(6, 16),
      "main.w": weights(7, 32, 16, 1, 1), "main.b": weights(8, 32), "side.w": weights(9, 32, 16, 1, 1), "side.b": weights(10, 32), "fc.w": weights(11, 32, 10),
    },
    nodes: [
      conv("first", "x", "a", { pads: [1, 1, 1, 1], strides: [2, 2] }), { op: "HardSwish", inputs: ["a"], outputs: ["b"] },
      conv("depth", "b", "c", { pads: [1, 1, 1, 1], group: 16 }), { op: "Relu", inputs: ["c"], outputs: ["d"] },
      conv("wide", "b", "e", { pads: [1, 1, 1, 1] }), { op: "Relu", inputs: ["e"], outputs: ["f"] },
      conv("main", "d", "g"), conv("side", "f", "h"), { op: "Add", inputs: ["g", "h"], outputs: ["i"] }, { op: "Relu", inputs: ["i"], outputs: ["j"] },
      { op: "GlobalAveragePool", inputs: ["j"], outputs: ["k"] }, { op: "Flatten", inputs: ["k"], outputs: ["l"], attributes: { axis: 1 } },
      { op: "MatMul", name: "fc", inputs: ["l", "fc.w"], outputs: ["y"] },
    ],
  });
}

const picture = (seed: number, count = 1): Tensor => new Tensor("float32", floats(count * 3 * SIZE * SIZE, seed).map((value) => 3 * value + 0.4), [count, 3, SIZE, SIZE]);

describe("int8 on a GPU", { skip: !hasHostCompiler && "no g++ here" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-gpu-int8-"));
  after(() => rmSync(folder, { recursive: true }));

  test("a calibrated network gives what it gives on a processor", async () => {
    const entries = [1, 2, 3, 4].map((seed) => ({ id: String(seed), columns: {} }));
    const calibration = await calibrate(network(), { data: { name: "noise", entries, load: async (i) => ({ ...entries[i]!, feeds: { x: picture(i + 1) } }) } });
    const gpu = new EmulatedGpu(80);
    const [host, device] = ["host.engine", "device.engine"].map((name) => join(folder, name)) as [string, string];
    await buildInt8(network(), { output: host, calibration, level: 0 });
    const { report } = await buildInt8(network(), { output: device, calibration, level: 0, target: "cuda", compatibility: true, gpu, cudaCompiler: hostCompiler });
    const layers = Object.values(report.quantization!.layers);
    assert.ok(layers.length === 6 && layers.every(({ precision }) => precision === "int8"));
    const stored = (name: string): string => / out \w+:(\w+)/.exec(report.steps.find((step) => step.name === name)!.description)![1]!;
    assert.deepEqual(["first", "depth", "wide"].map(stored), ["uint8", "uint8", "uint8"], "bytes stay bytes from layer to layer");
    assert.deepEqual(["main", "side"].map(stored), ["float16", "float16"], "what is not quantized is stored in 16 bits");
    using expected = Engine.loadSync(host);
    using engine = Engine.loadSync(device, { openGpu: () => gpu });
    const feeds = { x: picture(9, 3) };
    const [want, got] = [(await expected.run(feeds))["y"] as Tensor, (await engine.run(feeds))["y"] as Tensor];
    const size = Math.max(...[...(want.data as Float32Array)].map(Math.abs));
    [...(got.data as Float32Array)].forEach((value, i) => assert.ok(Math.abs(value - Number(want.data[i])) <= 0.01 * size, `[${i}] is ${value}, expected ${want.data[i]}`));
  });

  test("models that come quantized give what they say, bit for bit", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { bytes, feeds } = randomQuantizedModel(seed, seed % 2 === 0);
      const { graph } = importModel(bytes);
      const gpu = new EmulatedGpu();
      const { outputs, references } = await runOnEngine(graph, new Map(graph.inputs.map((input) => [input, feeds[input.name]])), bytes, { build: { target: "cuda", gpu, cudaCompiler: hostCompiler }, load: { openGpu: () => gpu } });
      assert.deepEqual(references, [], `seed ${seed}`);
      assert.deepEqual(outputs, interpret(graph, feeds), `seed ${seed}`);
    }
  });
});
