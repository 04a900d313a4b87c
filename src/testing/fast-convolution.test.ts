/** Fast convolutions from end to end: chosen only when asked for, right, and within the bytes they may add. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { build, type BuildReport } from "../compile.ts";
import { EngineFile } from "../engine/index.ts";
import { makeModel } from "../onnx/index.ts";
import { Engine } from "../runtime/index.ts";
import { floats } from "./small-models.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-fast-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** x [n, 32, 15, 14] → 1x1 convolution → 3x3 convolution, Relu → 1x1 convolution to `wide` channels: y. */
function model(wide: number): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n", 32, 15, 14] }],
    outputs: [{ name: "y", type: "float32", dims: ["n", wide, 15, 14] }],
    initializers: {
      u: new Tensor("float32", floats(32 * 32, 1), [32, 32, 1, 1]),
      w: new Tensor("float32", floats(64 * 32 * 9, 2), [64, 32, 3, 3]), b: new Tensor("float32", floats(64, 3), [64]),
      v: new Tensor("float32", floats(wide * 64, 4), [wide, 64, 1, 1]),
    },
    nodes: [
      { op: "Conv", name: "first", inputs: ["x", "u"], outputs: ["h"], attributes: { kernel_shape: [1, 1] } },
      { op: "Conv", name: "three", inputs: ["h", "w", "b"], outputs: ["c"], attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
      { op: "Relu", name: "relu", inputs: ["c"], outputs: ["r"] },
      { op: "Conv", name: "one", inputs: ["r", "v"], outputs: ["y"], attributes: { kernel_shape: [1, 1] } },
    ],
  });
}

async function made(wide: number, fastConvolution: boolean): Promise<{ path: string; tactic: string; growth: number }> {
  const path = join(folder, `${wide}-${fastConvolution}.engine`);
  const { report }: { report: BuildReport } = await build(model(wide), { output: path, level: 0, threads: 1, fastConvolution });
  const file = EngineFile.open(path);
  const growth = file.sizeOf("weights") / file.manifest().modelWeightBytes;
  file.close();
  const step = report.steps.find(({ name }) => name.includes("three"))!;
  return { path, tactic: step.tactics.find(({ outcome }) => outcome === "chosen")!.tactic, growth };
}

async function answer(path: string, batch: number): Promise<Float32Array> {
  const engine = await Engine.load(path, { threads: 1 });
  try {
    const { y } = await engine.run({ x: new Tensor("float32", floats(batch * 32 * 15 * 14, 7), [batch, 32, 15, 14]) });
    return (y as Tensor).data as Float32Array;
  } finally {
    engine.dispose();
  }
}

test("a build that allows fast convolutions takes one where its weights fit, and answers the same", async () => {
  const [plain, fast] = [await made(2048, false), await made(2048, true)];
  assert.match(plain.tactic, /^conv /);
  assert.match(fast.tactic, /^winograd /);
  assert.ok(plain.growth < 1.15 && fast.growth <= 1.5, `${plain.growth}, ${fast.growth}`);
  for (const batch of [1, 3]) {
    const [expected, got] = [await answer(plain.path, batch), await answer(fast.path, batch)];
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const error = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0) / largest;
    assert.ok(error < 1e-5, `batch ${batch}: ${error}`);
  }
});

test("where the weights would grow beyond the bound the plain convolution stays", async () => {
  const { tactic, growth } = await made(16, true);
  assert.match(tactic, /^conv /);
  assert.ok(growth < 1.15, `${growth}`);
});

test("engines are byte-identical with the timing cache, within a limit of workspace or of weights", async () => {
  for (const [name, more] of Object.entries({ workspace: { workspaceBytes: 16_384 }, fast: { fastConvolution: true } })) {
    const [cold, warm] = ["cold", "warm"].map((which) => join(folder, `${name}-${which}.engine`)) as [string, string];
    const options = { ...more, level: 2, threads: 1, timingCache: join(folder, `${name}.json`), profiles: [{ x: { min: [1, 32, 15, 14], opt: [1, 32, 15, 14], max: [2, 32, 15, 14] } }] } as const;
    await build(model(24), { ...options, output: cold });
    await build(model(24), { ...options, output: warm });
    assert.ok(readFileSync(cold).equals(readFileSync(warm)), name);
  }
});
