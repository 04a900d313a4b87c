/** Engines for a GPU, built, loaded and run on an emulated one: all of the runtime's logic where no GPU is. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { addressOf } from "../native/index.ts";
import { EmulatedGpu, hasHostCompiler, hostCompiler } from "../native/cuda/testing.ts";
import { floats, mlp, mlpReference, nonZeroModel } from "../testing/small-models.ts";
import { Engine } from "./index.ts";

const near = (got: Float32Array, want: Float32Array): void => {
  assert.equal(got.length, want.length);
  got.forEach((value, i) => assert.ok(Math.abs(value - want[i]!) < 1e-5, `[${i}] is ${value}, expected ${want[i]}`));
};
const data = (value: unknown): Float32Array => (value as Tensor).data as Float32Array;

describe("engines on a GPU", { skip: !hasHostCompiler && "no g++ here" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-gpu-"));
  const path = join(folder, "mlp.engine");
  let gpu = new EmulatedGpu();
  const load = (): Engine => Engine.loadSync(path, { openGpu: () => (gpu = gpu.isLost ? new EmulatedGpu() : gpu) });
  before(() => build(mlp(), { output: path, target: "cuda", gpu, cudaCompiler: hostCompiler, level: 0 }));
  after(() => rmSync(folder, { recursive: true }));

  test("runs are one graph each, for every shape", async () => {
    using engine = load();
    for (const batch of [1, 5, 5, 16]) {
      const x = floats(batch * 16, batch);
      const graphs = gpu.graphs;
      const { y } = await engine.run({ x: new Tensor("float32", x, [batch, 16]) });
      near(data(y), mlpReference(x, batch));
      assert.equal(gpu.graphs, graphs + 1);
    }
  });

  test("memory that is registered is read and written where it lies, other memory by way of pinned memory", async () => {
    using engine = load();
    using context = engine.createContext();
    const [x, y] = [engine.allocate("x", [16, 16]), engine.allocate("y", [16, 8])];
    (x.data as Float32Array).set(floats(16 * 16));
    await context.run({ x }, { outputs: { y } });
    near(data(y), mlpReference(floats(16 * 16), 16));
    const before = context.memoryBytes;
    for (const { bytes } of [x, y]) assert.ok(gpu.register(addressOf(bytes)!, bytes.byteLength));
    using direct = engine.createContext();
    data(y).fill(0);
    assert.equal((await direct.run({ x }, { allocate: () => y }))["y"], y);
    near(data(y), mlpReference(floats(16 * 16), 16));
    assert.ok(direct.memoryBytes <= before - x.bytes.byteLength - y.bytes.byteLength, `${direct.memoryBytes} bytes, ${before} by way of pinned memory`);
    await assert.rejects(direct.run({ x }, { outputs: { y: Tensor.zeros("float32", [15, 8]) } }), { code: "input-invalid" });
  });

  test("many runs at the same time get a context each", async () => {
    using engine = load();
    const results = await Promise.all([1, 2, 3, 4, 5].map((batch) => engine.run({ x: new Tensor("float32", floats(batch * 16, batch), [batch, 16]) })));
    results.forEach(({ y }, i) => near(data(y), mlpReference(floats((i + 1) * 16, i + 1), i + 1)));
  });

  test("the device's memory is given back", () => {
    const used = gpu.allocatedBytes;
    for (let i = 0; i < 20; i++) {
      using engine = load();
      using context = engine.createContext();
      context.runSync({ x: new Tensor("float32", floats(16), [1, 16]) });
    }
    assert.equal(gpu.allocatedBytes, used);
  });

  test("a fault ends one run; the next finds a new device", async () => {
    using engine = load();
    const x = new Tensor("float32", floats(16), [1, 16]);
    await engine.run({ x });
    const lost = gpu;
    gpu.faulty = true;
    await assert.rejects(engine.run({ x }), { code: "gpu-fault" });
    near(data((await engine.run({ x })).y), mlpReference(floats(16), 1));
    assert.notEqual(gpu, lost);
  });

  test("steps are timed, traced, and measured on the device", () => {
    using engine = load();
    using context = engine.createContext();
    const x = new Tensor("float32", floats(32), [2, 16]);
    assert.equal(context.profile({ x }).length, engine.metadata.steps.length);
    const seen: string[] = [];
    near(data(context.trace({ x }, (_, values) => seen.push(...Object.keys(values)))["y"]), mlpReference(floats(32), 2));
    assert.ok(seen.includes("y"));
    assert.equal(context.deviceTimes({ x }, 3).length, 3);
  });

  test("reference steps read from the device and write to it", async () => {
    const other = join(folder, "nonzero.engine");
    await build(nonZeroModel(), { output: other, target: "cuda", gpu, cudaCompiler: hostCompiler, level: 0 });
    using engine = Engine.loadSync(other, { openGpu: () => gpu });
    using context = engine.createContext();
    for (const values of [[0, 3, 0, -1], [1, 1, 1], [0, 0]]) {
      const { doubled } = context.runSync({ x: new Tensor("float32", Float32Array.from(values), [values.length]) });
      assert.deepEqual([...data(doubled)], values.flatMap((value, i) => (value === 0 ? [] : [2 * i])));
    }
  });

  test("an engine of another architecture is refused with what to do", async () => {
    const other = join(folder, "other.engine");
    await build(mlp(), { output: other, target: "cuda:sm_61", cudaCompiler: hostCompiler });
    assert.throws(() => Engine.loadSync(other, { openGpu: () => gpu }), (error: Error) => /built for a GPU of sm_61 \(sm_61\); this GPU is emulated \(sm_75\): the engine holds machine code only .* Build the model again/.test(error.message));
    await build(mlp(), { output: other, target: "cuda:sm_61", compatibility: true, cudaCompiler: hostCompiler });
    using engine = Engine.loadSync(other, { openGpu: () => gpu });
    near(data(engine.createContext().runSync({ x: new Tensor("float32", floats(16), [1, 16]) })["y"]), mlpReference(floats(16), 1));
  });
});
