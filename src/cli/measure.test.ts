import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "../base/index.ts";
import { arrangements } from "./layer-values.ts";
import { type Candidate, concurrentRuns, measureInTurns, oneRun, summarize } from "./measure.ts";
import { list, table } from "./output.ts";
import { relativeError } from "./peer.ts";
import { summarizeValue, summaryText } from "./summary.ts";

test("percentiles of a hundred runs", () => {
  const summary = summarize(Array.from({ length: 100 }, (_, i) => 100 - i));
  assert.deepEqual(summary, { min: 1, mean: 50.5, median: 50.5, p90: 91, p95: 96, p99: 100, max: 100, count: 100 });
  assert.equal(summarize([3, 1, 2]).median, 2);
});

test("candidates take turns", async () => {
  const order: string[] = [];
  const candidate = (name: string, ms: number): Candidate => async () => {
    order.push(name);
    return { samplesMs: [ms], elapsedMs: ms };
  };
  const [a, b] = await measureInTurns([candidate("a", 2), candidate("b", 4)], { durationMs: 0, warmupMs: 0, minimumRuns: 3 });
  assert.equal(order.join(""), "ab".repeat(4));
  assert.deepEqual([a!.samplesMs, b!.samplesMs], [[2, 2, 2], [4, 4, 4]]);
  assert.deepEqual([a!.throughput, b!.throughput], [500, 250]);
});

test("concurrent runs overlap", async () => {
  let running = 0;
  let most = 0;
  const run = async (): Promise<void> => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
  };
  const turn = await concurrentRuns([run, run, run], 1)();
  assert.equal(most, 3);
  assert.ok(turn.samplesMs.length >= 3);
  assert.equal((await oneRun(run)()).samplesMs.length, 1);
});

test("relative error is over the largest expected value; infinities must be equal", () => {
  const f = (...items: number[]): Tensor => new Tensor("float32", Float32Array.from(items), [items.length]);
  assert.equal(relativeError(f(1, 2), f(1, 2)), 0);
  assert.equal(relativeError(f(1.5, 4), f(1, 4)), 0.125);
  assert.equal(relativeError(f(Number.NaN, Number.NEGATIVE_INFINITY, 1), f(Number.NaN, Number.NEGATIVE_INFINITY, 1)), 0);
  assert.equal(relativeError(f(2.5e-7), f(1.25e-7)), Math.fround(1.25e-7) / 0.01, "values that are all tiny are compared absolutely");
  assert.equal(relativeError(f(Number.NaN), f(1)), Number.POSITIVE_INFINITY);
  assert.equal(relativeError(f(Number.POSITIVE_INFINITY), f(1)), Number.POSITIVE_INFINITY);
  assert.equal(relativeError(f(1), f(1, 1)), Number.POSITIVE_INFINITY);
  assert.equal(relativeError(new Tensor("float16", Uint16Array.of(0x3c00)), new Tensor("float16", Uint16Array.of(0x4000))), 0.5);
  assert.equal(relativeError(new Tensor("string", ["a"]), new Tensor("string", ["b"])), Number.POSITIVE_INFINITY);
});

test("summaries leave NaN out", () => {
  const text = summaryText(summarizeValue("y", new Tensor("float32", Float32Array.of(1, Number.NaN, 3), [3])));
  assert.equal(text, "y: float32[3]  min 1  max 3  mean 2  NaN 1\n  1 NaN 3");
  assert.equal(summaryText(summarizeValue("s", { sequence: [undefined] })), "s: sequence of 1 values");
  assert.equal(summaryText(summarizeValue("e", Tensor.zeros("int64", [0]))), "e: int64[0]");
  assert.match(summaryText(summarizeValue("b", new Tensor("bfloat16", Uint16Array.of(0x3f80), [1]))), /min 1 /);
});

test("tables align numbers right", () => {
  assert.equal(table(["name", "ms"], [["a", "1.5"], ["long name", "12"]]), "name        ms\na          1.5\nlong name   12");
  assert.equal(list([["a", "1"], ["bcd", "2"]]), "a    1\nbcd  2");
});

test("a value is found however its axes lie", () => {
  const tensor = new Tensor("float32", Float32Array.of(0, 1, 2, 3, 4, 5), [1, 2, 3]);
  const found = [...arrangements(tensor, [1, 3, 2])].map((item) => [...(item.data as Float32Array)].join(""));
  assert.deepEqual(found, ["012345", "031425"]);
  assert.deepEqual([...arrangements(tensor, [4])], []);
});

test("a turn with a rest begins with a run that is not counted", async () => {
  const calls: string[] = [];
  const candidate = (name: string): Candidate => async () => {
    calls.push(name);
    return { samplesMs: [1], elapsedMs: 1 };
  };
  const [a] = await measureInTurns([candidate("a"), candidate("b")], { durationMs: 0, warmupMs: 0, minimumRuns: 1, restMs: 1 });
  assert.deepEqual(calls, ["a", "b", "a", "a", "b", "b"]);
  assert.equal(a!.samplesMs.length, 1);
});
