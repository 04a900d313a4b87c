/** What engines, contexts and runs leave behind when they are gone, and what happens to those in use meanwhile. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "../compile.ts";
import { mlp, uniqueModel } from "../testing/small-models.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-lifetime-"));
const path = join(folder, "mlp.engine");
const onReference = join(folder, "unique.engine");

before(async () => {
  await build(mlp(), { output: path, level: 0, profiles: [{ x: { min: [1, 16], opt: [4, 16], max: [4096, 16] } }] });
  await build(uniqueModel(), { output: onReference, level: 0, profiles: [{ x: { min: [0], opt: [8], max: [100_000] } }] });
});
after(() => rmSync(folder, { recursive: true, force: true }));

const PRELUDE = `
  import { readdirSync, readFileSync } from "node:fs";
  const { Engine, Tensor } = await import(${JSON.stringify(new URL("../index.js", import.meta.url).href)});
  const path = ${JSON.stringify(path)}, onReference = ${JSON.stringify(onReference)};
  const input = (rows) => new Tensor("float32", new Float32Array(rows * 16).fill(0.5), [rows, 16]);
`;

/** Runs module code in a process of its own, where a wrong pointer ends that process only. @returns what it printed, as JSON */
function inProcess(body: string): unknown {
  const flags = ["--expose-gc", "--max-semi-space-size=1", "--input-type=module"];
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, [...flags, "-e", `${PRELUDE}${body}`], { encoding: "utf8", timeout: 60_000 });
  assert.deepEqual({ stderr, status, signal }, { stderr: "", status: 0, signal: null });
  return JSON.parse(stdout) as unknown;
}

test("an engine is loaded, runs and goes two thousand times without growth", () => {
  const grown = inProcess(`
    const x = input(2);
    async function cycle() {
      const engine = await Engine.load(path, { threads: 2 });
      await engine.run({ x });
      engine.createContext().runSync({ x: input(3) });
      engine.dispose();
    }
    async function measure() {
      for (let i = 0; i < 5; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      return { mib: process.memoryUsage().rss / 2 ** 20, mappings: readFileSync("/proc/self/maps", "utf8").split("\\n").length, files: readdirSync("/proc/self/fd").length };
    }
    for (let i = 0; i < 1500; i++) await cycle();
    const before = await measure();
    for (let i = 0; i < 2000; i++) await cycle();
    const after = await measure();
    console.log(JSON.stringify({ mib: after.mib - before.mib, mappings: after.mappings - before.mappings, files: after.files - before.files }));
  `) as { mib: number; mappings: number; files: number };
  // One page a cycle would be 8 MiB and 2,000 mappings; the JavaScript heap breathes by a few MiB.
  assert.ok(grown.mib < 7 && grown.mappings < 30 && grown.files <= 0, JSON.stringify(grown));
});

test("engines with reference steps leave no thread behind", () => {
  const grown = inProcess(`
    const threads = () => readdirSync("/proc/self/task").length;
    async function cycle() {
      const engine = await Engine.load(onReference, { threads: 2 });
      await engine.run({ x: new Tensor("float32", Float32Array.of(1, 0, 2), [3]) });
      engine.dispose();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (let i = 0; i < 3; i++) await cycle();
    const before = threads();
    for (let i = 0; i < 20; i++) await cycle();
    console.log(threads() - before);
  `);
  assert.ok((grown as number) <= 0, `${grown} threads more`);
});

test("runs in flight end well while their engine and context are disposed", () => {
  const outcome = inProcess(`
    const outcome = { answered: 0, refused: 0 };
    for (let round = 0; round < 200; round++) {
      const engine = await Engine.load(path, { threads: 2 });
      const context = engine.createContext();
      const runs = [context.run({ x: input(4096) }), context.run({ x: input(64) }), engine.run({ x: input(4096) }), engine.run({ x: input(1) })];
      if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      if (round % 2) void context.dispose();
      engine.dispose();
      for (const result of await Promise.allSettled(runs)) {
        if (result.status === "fulfilled") outcome.answered++;
        else if (/disposed/.test(result.reason.message)) outcome.refused++;
        else throw result.reason;
      }
    }
    console.log(JSON.stringify(outcome));
  `) as { answered: number; refused: number };
  assert.deepEqual(outcome, { answered: 800, refused: 0 });
});

test("runs on the reference end well while their engine is disposed", () => {
  const lengths = inProcess(`
    const lengths = [];
    for (let round = 0; round < 5; round++) {
      const engine = await Engine.load(onReference, { threads: 2 });
      const x = new Tensor("float32", Float32Array.from({ length: 100_000 }, (_, i) => i), [100_000]);
      const runs = [engine.run({ x }), engine.run({ x })];
      engine.dispose();
      for (const { doubled } of await Promise.all(runs)) lengths.push(doubled.dims[0]);
    }
    console.log(JSON.stringify(lengths));
  `);
  assert.deepEqual(lengths, Array.from({ length: 10 }, () => 100_000));
});

test("a process ends by itself with engines and contexts that nobody disposed", () => {
  assert.equal(inProcess(`
    const engine = await Engine.load(path, { threads: 2 });
    await engine.run({ x: input(4096) });
    const other = await Engine.load(onReference);
    await other.run({ x: new Tensor("float32", Float32Array.of(1), [1]) });
    console.log(1);
  `), 1);
});
