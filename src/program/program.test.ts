import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NativeMemory, viewMemory } from "../native/index.ts";
import { openPool, Program, type RunOptions, type StepSpan } from "./index.ts";
import { assembleTestKernels } from "./test-kernels.ts";

openPool({ threads: 4 });
const kernels = assembleTestKernels();

interface StepShape {
  readonly tiles: number;
  readonly grain: number;
}

/** A program that counts each tile of each step. */
class Counting {
  readonly program: Program;
  readonly #steps: readonly StepShape[];
  readonly #memory: NativeMemory;
  readonly #counts: Int32Array;

  constructor(steps: readonly StepShape[]) {
    this.#steps = steps;
    const total = steps.reduce((sum, { tiles }) => sum + tiles, 0);
    this.#memory = NativeMemory.allocate(4 * total + 4);
    this.#counts = new Int32Array(this.#memory.view().buffer);
    this.program = new Program(steps.map((step) => ({ code: kernels.count, params: 1, ...step })));
    let offset = 0;
    for (const [index, { tiles }] of steps.entries()) {
      this.program.setParam(index, 0, Number(this.#memory.address) + 4 * offset);
      offset += tiles;
    }
  }

  /** Asserts that each tile of steps [first, end) ran once since the last call, and no other. */
  check({ first = 0, end = this.#steps.length }: RunOptions = {}): void {
    let offset = 0;
    for (const [index, { tiles }] of this.#steps.entries()) {
      const expected = index >= first && index < end ? 1 : 0;
      for (let tile = 0; tile < tiles; tile++) {
        assert.equal(this.#counts[offset + tile], expected, `step ${index}, tile ${tile} of ${tiles}`);
      }
      offset += tiles;
    }
    this.#counts.fill(0);
  }

  dispose(): void {
    this.program.dispose();
    this.#memory.dispose();
  }
}

const shapes = fc.array(fc.record({ tiles: fc.nat(40), grain: fc.integer({ min: 1, max: 12 }) }), { maxLength: 12 });

test("every tile runs exactly once, for any shapes, ranges and thread counts", async () => {
  await fc.assert(
    fc.asyncProperty(shapes, fc.nat(12), fc.nat(12), fc.integer({ min: 1, max: 5 }), async (steps, from, to, threads) => {
      const counting = new Counting(steps);
      const first = Math.min(from, to, steps.length);
      const end = Math.min(Math.max(from, to), steps.length);
      for (const options of [{ threads }, { threads, first, end }, { threads, first, end, profile: true }]) {
        counting.program.runSync(options);
        counting.check(options);
        await counting.program.run(options);
        counting.check(options);
      }
      counting.dispose();
    }),
    { numRuns: 300 },
  );
});

test("a program runs thousands of times", async () => {
  const counting = new Counting([{ tiles: 33, grain: 2 }, { tiles: 1, grain: 1 }, { tiles: 1, grain: 4 }, { tiles: 17, grain: 1 }]);
  for (let run = 0; run < 3000; run++) {
    counting.program.runSync({ threads: 3 });
    counting.check();
  }
  for (let run = 0; run < 1000; run++) {
    await counting.program.run({ threads: 3 });
    counting.check();
  }
  counting.dispose();
});

test("a run that gives notice of its end ends like any other, wherever the notice falls", async () => {
  const counting = new Counting([{ tiles: 9, grain: 2 }, { tiles: 0, grain: 1 }, { tiles: 1, grain: 4 }, { tiles: 17, grain: 1 }]);
  for (let run = 0; run < 500; run++) {
    for (const options of [{ threads: 1, notice: run % 5 }, { threads: 1, first: 1, end: 3, notice: run % 5 }, { threads: 3, notice: run % 5 }]) {
      await counting.program.run(options);
      counting.check(options);
    }
  }
  counting.dispose();
});

test("steps run in order, each after the one before", async () => {
  const value = NativeMemory.allocate(8);
  const seen = new BigInt64Array(value.view().buffer);
  const tiles = 24;
  const rounds = 10;
  const steps = Array.from({ length: rounds }, () => [kernels.work, kernels.sequence, kernels.sequence]).flat();
  const program = new Program(steps.map((code) => ({ code, params: 2, tiles: code === kernels.work ? tiles : 1 })));
  let expected = 0;
  for (const [index, code] of steps.entries()) {
    program.setParam(index, 0, Number(value.address));
    const shared = code === kernels.work;
    program.setParam(index, 1, shared ? 5 : expected);
    expected += shared ? tiles : 1;
  }
  for (let run = 0; run < 200; run++) {
    seen[0] = 0n;
    program.runSync({ threads: 4 });
    assert.equal(seen[0], BigInt(expected));
    seen[0] = 0n;
    await program.run({ threads: 4 });
    assert.equal(seen[0], BigInt(expected));
  }
  program.dispose();
  value.dispose();
});

test("many contexts at once, more than there are processors", async () => {
  const contexts = Array.from({ length: 8 }, (_, index) => new Counting([{ tiles: 20 + index, grain: 1 }, { tiles: 1, grain: 1 }, { tiles: 50, grain: 3 }]));
  for (let round = 0; round < 100; round++) {
    await Promise.all(contexts.map(({ program }) => program.run({ threads: 2 })));
    for (const context of contexts) context.check();
  }
  for (const context of contexts) context.dispose();
});

test("synchronous and asynchronous runs mix", async () => {
  const slow = new Counting([{ tiles: 500, grain: 1 }, { tiles: 500, grain: 1 }]);
  const fast = new Counting([{ tiles: 9, grain: 1 }]);
  for (let round = 0; round < 200; round++) {
    const ended = slow.program.run({ threads: 4 });
    for (let index = 0; index < 3; index++) {
      fast.program.runSync({ threads: 3 });
      fast.check();
    }
    await ended;
    slow.check();
  }
  slow.dispose();
  fast.dispose();
});

test("programs without steps or tiles end at once", async () => {
  const none = new Program([]);
  none.runSync();
  await none.run();
  none.dispose();
  const empty = new Counting([{ tiles: 0, grain: 1 }, { tiles: 0, grain: 5 }]);
  empty.program.runSync({ threads: 2 });
  await empty.program.run({ threads: 2 });
  empty.dispose();
});

test("tiles may change between runs, and the grain is chosen when it is not given", () => {
  const most = 5000;
  const counts = NativeMemory.allocate(4 * most);
  const seen = new Int32Array(counts.view().buffer);
  const program = new Program([{ code: kernels.count, params: 1, tiles: 0 }]);
  program.setParam(0, 0, counts.address);
  for (const tiles of [1, 2, 31, most, 0, 33]) {
    program.setTiles(0, tiles);
    program.runSync({ threads: 4 });
    assert.ok(seen.every((count, tile) => count === (tile < tiles ? 1 : 0)), `${tiles} tiles`);
    seen.fill(0);
  }
  program.dispose();
  counts.dispose();
});

test("parameters hold 53-bit integers of both signs", () => {
  const program = new Program([{ code: kernels.count, params: 4, tiles: 1 }]);
  const values = [-1, Number.MAX_SAFE_INTEGER, -(2 ** 40) - 3, 2 ** 31];
  for (const [slot, value] of values.entries()) program.setParam(0, slot, value);
  const slots = new BigInt64Array(viewMemory(program.paramsAddress(0), 8 * values.length));
  assert.deepEqual([...slots], values.map(BigInt));
  program.dispose();
});

test("an aborted run never begins", async () => {
  const counting = new Counting([{ tiles: 5, grain: 1 }]);
  await assert.rejects(counting.program.run({ signal: AbortSignal.abort() }), { code: "aborted" });
  const blocker = busyProgram(200_000);
  const blocked = blocker.run({ threads: 4 });
  const controller = new AbortController();
  const waiting = counting.program.run({ signal: controller.signal });
  controller.abort();
  const outcome = await waiting.then(() => "ran", (error) => error.code);
  await blocked;
  if (outcome === "ran") counting.check();
  else assert.equal(outcome, "aborted");
  await counting.program.run();
  counting.check();
  blocker.dispose();
  counting.dispose();
});

const sink = NativeMemory.allocate(8);

/** A program of 8 tiles that each poll `polls` times. */
function busyProgram(polls: number): Program {
  const program = new Program([{ code: kernels.work, params: 2, tiles: 8, grain: 1 }]);
  program.setParam(0, 0, Number(sink.address));
  program.setParam(0, 1, polls);
  return program;
}

test("scratch memory grows to the largest program's need, on every thread", async () => {
  for (const scratchBytes of [64, 100_000, 3_000_000, 4096]) {
    const program = new Program([{ code: kernels.scratch, params: 1, tiles: 64, scratchBytes }]);
    program.setParam(0, 0, scratchBytes);
    for (let run = 0; run < 50; run++) {
      program.runSync({ threads: 4 });
      await program.run({ threads: 4 });
    }
    program.dispose();
  }
});

test("disposing during a run frees after it, and later use is an error", async () => {
  const program = busyProgram(50_000);
  const ended = program.run();
  assert.ok(program.running);
  program.dispose();
  await ended;
  assert.throws(() => program.runSync(), { code: "disposed" });
});

test("the event loop goes on during a run", async () => {
  const program = busyProgram(1_000_000);
  let turns = 0;
  let ended = false;
  const run = program.run({ threads: 1 }).then(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
  }
  await run;
  assert.ok(turns > 10, `${turns} turns`);
  program.dispose();
});

test("profiles say where the time went", async () => {
  const program = new Program([1, 2, 3].map(() => ({ code: kernels.work, params: 2, tiles: 2 })));
  for (const [step, polls] of [10, 200_000, 10].entries()) {
    program.setParam(step, 0, Number(sink.address));
    program.setParam(step, 1, polls);
  }
  const check = (threads: number) => {
    const [a, b, c] = program.profile();
    assert.ok(a! > 0 && c! > 0 && b! > a! && b! > c!, `${a} ${b} ${c} with ${threads} threads`);
  };
  for (const threads of [1, 2]) {
    program.runSync({ threads, profile: true });
    check(threads);
    await program.run({ threads, profile: true });
    check(threads);
  }
  program.dispose();
});

test("traces say which thread was busy with which step, and when", () => {
  const program = new Program([4, 1, 4].map((tiles) => ({ code: kernels.work, params: 2, tiles, grain: 1 })));
  for (let step = 0; step < 3; step++) {
    program.setParam(step, 0, Number(sink.address));
    program.setParam(step, 1, 100_000);
  }
  for (const threads of [1, 2]) {
    const before = Number(process.hrtime.bigint());
    const spans = program.runTraced({ threads });
    const after = Number(process.hrtime.bigint());
    assert.deepEqual([...new Set(spans.map(({ step }) => step))], [0, 1, 2], `${threads} threads`);
    assert.equal(spans.filter(({ step }) => step === 1).length, 1, "a step of one tile is done by one thread");
    for (const { participant, beginNs, endNs } of spans) {
      assert.ok(participant < threads);
      assert.ok(beginNs > before - 1e6 && endNs >= beginNs && endNs < after + 1e6, `${before} ${beginNs} ${endNs} ${after}`);
    }
    for (const step of [0, 1]) assert.ok(endOf(spans, step) <= beginOf(spans, step + 1) + 1, `step ${step} ends before the next one begins`);
  }
  assert.ok(program.profile().every((ns) => ns > 0));
  program.dispose();
});

const beginOf = (spans: readonly StepSpan[], step: number): number => Math.min(...spans.filter((span) => span.step === step).map(({ beginNs }) => beginNs));
const endOf = (spans: readonly StepSpan[], step: number): number => Math.max(...spans.filter((span) => span.step === step).map(({ endNs }) => endNs));

test("idle threads take no processor time", async () => {
  const program = busyProgram(100);
  await program.run({ threads: 4 });
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 100_000, `${user + system} us of processor time in 300 ms`);
  program.dispose();
});

test("copies of a program have its steps and parameters, and memory of their own", () => {
  const steps = [3, 5].map((tiles) => ({ code: kernels.count, params: 1, tiles }));
  const original = new Program(steps);
  const counts = Array.from({ length: 20 }, () => NativeMemory.allocate(4 * 5));
  const countsOf = (memory: NativeMemory): number[] => [...new Int32Array(memory.view().buffer, 0, 5)];
  for (const step of [0, 1]) original.setParam(step, 0, counts[0]!.address);
  const copies = counts.slice(1).map((memory) => {
    const copy = new Program(original);
    copy.setTiles(1, 2);
    copy.setParam(1, 0, memory.address);
    return copy;
  });
  original.dispose();
  copies[0]!.dispose();
  for (const copy of copies.slice(1)) copy.runSync({ threads: 1 });
  assert.deepEqual(countsOf(counts[0]!), [18, 18, 18, 0, 0]);
  assert.deepEqual(countsOf(counts[1]!), [0, 0, 0, 0, 0]);
  for (const memory of counts.slice(2)) assert.deepEqual(countsOf(memory), [1, 1, 0, 0, 0]);
  for (const copy of copies.slice(1)) copy.dispose();
  for (const memory of counts) memory.dispose();
});
