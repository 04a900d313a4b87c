/** Many contexts, engines, threads and ways to run at the same time: every answer is that of its own input. */
import assert from "node:assert/strict";
import { on } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Worker } from "node:worker_threads";
import { Tensor } from "../base/index.ts";
import { build } from "../compile.ts";
import { makeModel } from "../onnx/index.ts";
import type { HostValue } from "../reference/index.ts";
import { floats, mlp, mlpReference } from "../testing/small-models.ts";
import { Engine } from "./engine.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-concurrency-"));
const small = join(folder, "mlp.engine");
const large = join(folder, "large.engine");

/** x [n, 96] → MatMul 96x640 → MatMul 640x96: more scratch memory than the small model's. */
function largeModel(): Uint8Array {
  return makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n", 96] }],
    outputs: [{ name: "y", type: "float32", dims: ["n", 96] }],
    initializers: { a: new Tensor("float32", floats(96 * 640, 2), [96, 640]), b: new Tensor("float32", floats(640 * 96, 3), [640, 96]) },
    nodes: [{ op: "MatMul", inputs: ["x", "a"], outputs: ["h"] }, { op: "MatMul", inputs: ["h", "b"], outputs: ["y"] }],
  });
}

before(async () => {
  await build(mlp(), { output: small, level: 0, profiles: [{ x: { min: [1, 16], opt: [4, 16], max: [512, 16] } }] });
  await build(largeModel(), { output: large, level: 0, profiles: [{ x: { min: [1, 96], opt: [8, 96], max: [300, 96] } }] });
});
after(() => rmSync(folder, { recursive: true, force: true }));

function near(actual: HostValue, expected: Float32Array): void {
  assert.ok(actual instanceof Tensor && actual.data instanceof Float32Array);
  assert.equal(actual.data.length, expected.length);
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(actual.data[i]! - value) < 1e-5, `item ${i}: ${actual.data[i]} instead of ${value}`);
}

function rows(count: number, seed: number): { readonly x: Tensor; readonly expected: Float32Array } {
  const items = floats(count * 16, seed);
  return { x: new Tensor("float32", items, [count, 16]), expected: mlpReference(items, count) };
}

test("twelve contexts of one engine, each with shapes of its own, on two threads", async () => {
  using engine = await Engine.load(small, { threads: 2 });
  await Promise.all(Array.from({ length: 12 }, async (_, at) => {
    using context = engine.createContext();
    for (let run = 0; run < 25; run++) {
      const { x, expected } = rows(1 + ((at * 37 + run * 11) % 512), at * 100 + run);
      near((await context.run({ x }))["y"], expected);
    }
  }));
});

test("runs of one context keep their order and their inputs", async () => {
  using engine = await Engine.load(small, { threads: 2 });
  using context = engine.createContext();
  const cases = Array.from({ length: 40 }, (_, i) => rows(1 + ((i * 29) % 512), i + 1));
  const order: number[] = [];
  const results = await Promise.all(cases.map(async ({ x }, i) => {
    const result = await context.run({ x });
    order.push(i);
    return result;
  }));
  for (const [i, result] of results.entries()) near(result["y"], cases[i]!.expected);
  assert.deepEqual(order, cases.map((_, i) => i));
});

test("synchronous runs beside runs in flight, also while scratch memory grows", async () => {
  using first = await Engine.load(small, { threads: 2 });
  using inFlight = first.createContext();
  using here = first.createContext();
  const running = Array.from({ length: 30 }, async (_, i) => {
    const { x, expected } = rows(512, i + 1);
    near((await inFlight.run({ x }))["y"], expected);
  });
  assert.throws(() => inFlight.runSync({ x: rows(1, 1).x }), /in flight/);
  for (let i = 0; i < 10; i++) {
    const { x, expected } = rows(100 + i, i);
    near(here.runSync({ x })["y"], expected);
  }
  using second = await Engine.load(large, { threads: 2 });
  using alone = await Engine.load(large, { threads: 1 });
  const x = new Tensor("float32", floats(300 * 96, 5), [300, 96]);
  const expected = alone.createContext().runSync({ x })["y"] as Tensor;
  const results = await Promise.all([...Array.from({ length: 10 }, () => second.run({ x })), ...running]);
  for (const result of results.slice(0, 10)) near((result as Record<string, HostValue>)["y"], expected.data as Float32Array);
});

const WORKER = `
  const { parentPort, workerData } = require("node:worker_threads");
  (async () => {
    const { Engine, Tensor } = await import(workerData.door);
    const { floats, mlpReference } = await import(workerData.models);
    const engine = await Engine.load(workerData.path, { threads: 2 });
    await engine.run({ x: new Tensor("float32", new Float32Array(512 * 16), [512, 16]) });
    parentPort.postMessage("loaded");
    let worst = 0;
    for (let run = 0; run < workerData.runs; run++) {
      const count = workerData.runs > 1000 ? 512 : 1 + ((run * 53) % 512);
      const items = floats(count * 16, run + 1);
      const { y } = await engine.run({ x: new Tensor("float32", items, [count, 16]) });
      const expected = mlpReference(items, count);
      for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(y.data[i] - expected[i]));
    }
    engine.dispose();
    parentPort.postMessage(worst);
  })();
`;

function startWorker(runs: number): Worker {
  const door = new URL("../index.js", import.meta.url).href;
  const models = new URL("../testing/small-models.js", import.meta.url).href;
  return new Worker(WORKER, { eval: true, workerData: { door, models, path: small, runs } });
}

/** The worker's messages, each kept until it is asked for. */
async function* messages(worker: Worker): AsyncGenerator<unknown, undefined> {
  for await (const [message] of on(worker, "message")) yield message;
  return undefined;
}

const next = async (worker: AsyncGenerator<unknown>): Promise<unknown> => (await worker.next()).value;

test("several worker threads and this one run the same engine", async () => {
  using engine = await Engine.load(small, { threads: 2 });
  const workers = [1, 2, 3].map(() => startWorker(40));
  const heard = workers.map(messages);
  await Promise.all(heard.map(next));
  const answers = heard.map(next);
  for (let run = 0; run < 40; run++) {
    const { x, expected } = rows(1 + ((run * 31) % 512), run + 1);
    near((await engine.run({ x }))["y"], expected);
  }
  for (const worst of await Promise.all(answers)) assert.ok((worst as number) < 1e-5, `off by ${worst}`);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test("workers that are terminated during runs disturb nobody", async () => {
  using engine = await Engine.load(small, { threads: 2 });
  for (let round = 0; round < 4; round++) {
    const worker = startWorker(1e9);
    await next(messages(worker));
    const { x, expected } = rows(512, round + 1);
    near((await engine.run({ x }))["y"], expected);
    await worker.terminate();
    near((await engine.run({ x }))["y"], expected);
  }
});
