import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { floats, mlp, mlpReference, nonZeroModel, stringModel, uniqueModel } from "../testing/small-models.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-engine-"));
const path = join(folder, "mlp.engine");
const profile = { x: { min: [1, 16], opt: [4, 16], max: [64, 16] } };

before(async () => {
  await build(mlp(), { output: path, level: 0, profiles: [profile] });
});
after(() => rmSync(folder, { recursive: true, force: true }));

function near(actual: unknown, expected: Float32Array): void {
  assert.ok(actual instanceof Tensor && actual.data instanceof Float32Array);
  assert.equal(actual.data.length, expected.length);
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(actual.data[i]! - value) < 1e-5, `item ${i}: ${actual.data[i]} instead of ${value}`);
}

function input(batch: number, seed = 9): Tensor {
  return new Tensor("float32", floats(batch * 16, seed), [batch, 16]);
}

describe("an engine", () => {
  test("says what it takes and gives", async () => {
    using engine = await Engine.load(path);
    assert.deepEqual(engine.inputs, [{ name: "x", type: "float32", dims: ["batch", 16] }]);
    assert.deepEqual(engine.outputs, [{ name: "y", type: "float32", dims: ["batch", 8] }]);
    assert.equal(engine.hasReferenceSteps, false);
  });

  test("answers right for every batch size, by run, runSync and shared runs", async () => {
    using engine = await Engine.load(path, { threads: 2 });
    using context = engine.createContext();
    for (const batch of [1, 2, 3, 7, 16, 33, 64]) {
      const x = input(batch, batch);
      const expected = mlpReference(x.data as Float32Array, batch);
      near((await context.run({ x }))["y"], expected);
      near(context.runSync({ x })["y"], expected);
      near((await engine.run({ x }))["y"], expected);
    }
  });

  test("runs many contexts at the same time", async () => {
    using engine = await Engine.load(path, { threads: 2 });
    const runs = Array.from({ length: 40 }, async (_, i) => {
      const x = input(1 + (i % 64), i + 1);
      near((await engine.run({ x }))["y"], mlpReference(x.data as Float32Array, 1 + (i % 64)));
    });
    await Promise.all(runs);
  });

  test("uses native memory where it lies, and the caller's tensors for results", async () => {
    using engine = await Engine.load(path);
    using context = engine.createContext();
    const x = engine.allocate("x", [3, 16]);
    (x.data as Float32Array).set(floats(48, 7));
    const y = engine.allocate("y", [3, 8]);
    const results = await context.run({ x }, { outputs: { y } });
    assert.equal(results["y"], y);
    near(y, mlpReference(floats(48, 7), 3));
    const plain = Tensor.zeros("float32", [3, 8]);
    await context.run({ x }, { outputs: { y: plain } });
    near(plain, mlpReference(floats(48, 7), 3));
    await assert.rejects(context.run({ x }, { outputs: { y: Tensor.zeros("float32", [2, 8]) } }), /Output "y".*\[2,8\].*\[3,8\]/);
  });

  test("refuses wrong inputs in words", async () => {
    using engine = await Engine.load(path);
    await assert.rejects(engine.run({}), /Input "x" is missing.*float32\[batch, 16\]/);
    await assert.rejects(engine.run({ x: input(1), z: input(1) }), /No input is called "z"/);
    await assert.rejects(engine.run({ x: new Tensor("float64", new Float64Array(16), [1, 16]) }), /type float64/);
    await assert.rejects(engine.run({ x: new Tensor("float32", new Float32Array(16), [16]) }), /rank 1/);
    await assert.rejects(engine.run({ x: new Tensor("float32", new Float32Array(17), [1, 17]) }), /17 at axis 1; expected 16/);
    await assert.rejects(engine.run({ x: input(65) }), /"batch" is 65; the profile allows 1 to 64/);
    assert.throws(() => engine.allocate("w", [1]), /no input or output "w"/);
  });

  test("an abort signal stops a run that waits, and no other", async () => {
    using engine = await Engine.load(path);
    using context = engine.createContext();
    const abort = new AbortController();
    const first = context.run({ x: input(64) });
    const second = context.run({ x: input(1) }, { signal: abort.signal });
    abort.abort();
    await first;
    await assert.rejects(second, /cancelled/);
    near((await context.run({ x: input(2) }))["y"], mlpReference(floats(32, 9), 2));
  });

  test("refuses work after dispose", async () => {
    const engine = await Engine.load(path);
    const context = engine.createContext();
    const last = context.run({ x: input(64) });
    engine.dispose();
    engine.dispose();
    near((await last)["y"], mlpReference(floats(64 * 16, 9), 64));
    await assert.rejects(engine.run({ x: input(1) }), /disposed/);
    await assert.rejects(context.run({ x: input(1) }), /disposed/);
  });
});

describe("an engine file", () => {
  test("is byte-identical when it is built again", async () => {
    const again = join(folder, "again.engine");
    await build(mlp(), { output: again, level: 0, profiles: [profile] });
    assert.ok(readFileSync(again).equals(readFileSync(path)));
  });
});

test("sizes that the data decide become known between native steps", async () => {
  const file = join(folder, "nonzero.engine");
  await build(nonZeroModel(), { output: file, level: 0, profiles: [{ x: { min: [0], opt: [8], max: [1000] } }] });
  using engine = await Engine.load(file);
  assert.equal(engine.hasReferenceSteps, false);
  for (const data of [[0, 1, 0, 2, 3], [0, 0], [], [5], Array.from({ length: 1000 }, (_, i) => i % 3)]) {
    const expected = data.flatMap((value, i) => (value ? [2 * i] : []));
    const doubled = (await engine.run({ x: new Tensor("float32", Float32Array.from(data), [data.length]) }))["doubled"] as Tensor;
    assert.deepEqual(doubled.dims, [1, expected.length]);
    assert.deepEqual([...(doubled.data as Float32Array)], expected);
  }
});

describe("reference steps", () => {
  test("decide shapes while running, in a worker", async () => {
    const file = join(folder, "unique.engine");
    await build(uniqueModel(), { output: file, level: 0, profiles: [{ x: { min: [0], opt: [8], max: [1000] } }] });
    using engine = await Engine.load(file);
    assert.equal(engine.hasReferenceSteps, true);
    for (const data of [[0, 1, 0, 2, 3], [0, 0], [], [5], Array.from({ length: 1000 }, (_, i) => i % 3)]) {
      const expected = [...new Set(data)].sort((a, b) => a - b).map((value) => 2 * value);
      const results = await engine.run({ x: new Tensor("float32", Float32Array.from(data), [data.length]) });
      const doubled = results["doubled"] as Tensor;
      assert.deepEqual(doubled.dims, [expected.length]);
      assert.deepEqual([...(doubled.data as Float32Array)], expected);
    }
  });

  test("take strings", async () => {
    const file = join(folder, "strings.engine");
    await build(stringModel(), { output: file, level: 0 });
    using engine = await Engine.load(file);
    const results = await engine.run({ a: new Tensor("string", ["x", "y"], [2]), b: new Tensor("string", ["1", "2"], [2]) });
    assert.deepEqual((results["joined"] as Tensor).data, ["x1", "y2"]);
  });
});
