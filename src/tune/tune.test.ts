import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import { type CompiledKernel, mul, symbol, type Tactic } from "../ir/index.ts";
import { otherShapes } from "./other-shapes.ts";
import { TimingCache } from "./timing-cache.ts";
import { tune, type TuneDevice, type TuneOptions } from "./tune.ts";

/** A tactic whose simulated time is its first number, estimate its second. */
function tactic(name: string, estimate: number, scratchBytes = 0): Tactic {
  const kernel: CompiledKernel = { name: "k", code: new Uint8Array(), params: [], packed: [], tiles: 1, scratchBytes, flops: 0, bytes: 0, tactic: name };
  return { name, estimate, compile: () => kernel };
}

interface Simulation { readonly device: TuneDevice; readonly runs: Map<string, number>; live: number }

function simulate(times: Readonly<Record<string, number>>): Simulation {
  const simulation = { runs: new Map<string, number>(), live: 0, device: undefined as unknown as TuneDevice };
  simulation.device = {
    identity: "simulated, 1 threads",
    prepare(kernel) {
      simulation.live++;
      return {
        time() {
          simulation.runs.set(kernel.tactic, (simulation.runs.get(kernel.tactic) ?? 0) + 1);
          return times[kernel.tactic]!;
        },
        dispose() { simulation.live--; },
      };
    },
  };
  return simulation;
}

const TACTICS = [tactic("a", 1), tactic("b", 2), tactic("c", 3), tactic("d", 4)];
const TIMES = { a: 300, b: 100, c: 110, d: 1000 };

function options(device: TuneDevice, more: Partial<TuneOptions> = {}): TuneOptions {
  return { device, level: 3, now: () => 0, ...more };
}

test("the fastest candidate wins, hopeless ones run least, and all memory is given back", () => {
  const simulation = simulate(TIMES);
  const tuned = tune("mm", TACTICS, new Map(), options(simulation.device));
  assert.equal(tuned.tactic, "b");
  assert.ok(simulation.runs.get("d")! < simulation.runs.get("c")!);
  assert.equal(simulation.live, 0);
  assert.deepEqual(tuned.report.map((row) => [row.tactic, row.outcome]), [["b", "chosen"], ["c", "slower"], ["a", "slower"], ["d", "slower"]]);
});

test("level 0 takes the best estimate and measures nothing", () => {
  const simulation = simulate(TIMES);
  const tuned = tune("mm", TACTICS, new Map(), options(simulation.device, { level: 0 }));
  assert.equal(tuned.tactic, "a");
  assert.equal(simulation.runs.size, 0);
  assert.equal(tuned.report[1]!.outcome, "skipped");
});

test("shapes for which the time was not enough are left out by later builds too, however much time they have", () => {
  const [cache, n] = [new TimingCache(), symbol("n")];
  const tactics = ["b", "c"].map((name) => ({ ...tactic(name, 1), compile: () => ({ ...tactic(name, 1).compile(), flops: n }) }));
  const at = (size: number): ReadonlyMap<string, number> => new Map([["n", size]]);
  let clock = 0;
  const hasty = tune("mm", tactics, at(100), options(simulate(TIMES).device, { cache, alternatives: [at(1)], budgetMs: 1.5, now: () => clock++ }));
  const later = simulate({ b: 1000, c: 1 });
  const unhurried = tune("mm", tactics, at(100), options(later.device, { cache, alternatives: [at(1)] }));
  assert.equal(unhurried.tactic, hasty.tactic);
  assert.equal(later.runs.size, 0);
});

test("with every time in the cache the choice follows from the cache alone", () => {
  const cache = new TimingCache();
  const first = simulate(TIMES);
  tune("mm", TACTICS, new Map(), options(first.device, { cache }));
  const second = simulate({ a: 1, b: 2, c: 3, d: 4 });
  const tuned = tune("mm", TACTICS, new Map(), options(second.device, { cache }));
  assert.equal(tuned.tactic, "b");
  assert.equal(second.runs.size, 0);
});

test("between candidates that are close at the optimum, other shapes decide; far ones stay out", () => {
  const [m, ns] = [symbol("m"), { a: [100, 200], b: [103, 50], c: [150, 1] } as Record<string, readonly [number, number]>];
  const timed: string[] = [];
  const device: TuneDevice = {
    identity: "simulated, 1 threads",
    prepare: (kernel, bindings) => ({ time: () => { timed.push(kernel.tactic); return ns[kernel.tactic]![bindings.get("m") === 128 ? 0 : 1]; }, dispose() {} }),
  };
  const tactics = ["a", "b", "c"].map((name, i): Tactic => {
    const kernel = { ...TACTICS[0]!.compile(), tactic: name, flops: mul(2, m) };
    return { name, estimate: i, compile: () => kernel };
  });
  const [optimum, others] = [new Map([["m", 128]]), otherShapes({ m: { min: 1, opt: 128, max: 128 } }, new Map([["m", 128]]))];
  assert.deepEqual(others.map((shape) => shape.get("m")), [1, 11]);
  const cache = new TimingCache();
  assert.equal(tune("mm m", tactics, optimum, options(device)).tactic, "a");
  assert.equal(tune("mm m", tactics, optimum, options(device, { cache, alternatives: others })).tactic, "b");
  const before = timed.length;
  assert.equal(tune("mm m", tactics, optimum, options(device, { cache, alternatives: others })).tactic, "b");
  assert.equal(timed.length, before, "all from the cache");
  assert.equal(tune("mm m", tactics, new Map([["m", 7]]), options(device, { cache })).tactic, "c", "another optimum is another entry");
});

test("tactics above the workspace limit are refused with the reason; the smallest runs when all are", () => {
  const tactics = [tactic("a", 1, 5000), tactic("b", 2, 100)];
  const tuned = tune("mm", tactics, new Map(), options(simulate({ a: 1, b: 9 }).device, { workspaceBytes: 1000 }));
  assert.equal(tuned.tactic, "b");
  assert.match(tuned.report.find((row) => row.tactic === "a")!.reason!, /5000 bytes of workspace/);
  assert.equal(tune("mm", tactics, new Map(), options(simulate({ a: 1, b: 9 }).device, { workspaceBytes: 10 })).tactic, "b");
});

test("with a workspace limit, a build from the cache makes the same choice and report; one without a limit times what was refused", () => {
  const [cache, tactics] = [new TimingCache(), [tactic("a", 1, 5000), tactic("b", 2, 100), tactic("c", 3, 100)]];
  const limited = (times: Readonly<Record<string, number>>) => tune("mm", tactics, new Map(), options(simulate(times).device, { cache, workspaceBytes: 1000 }));
  const cold = limited({ a: 1, b: 9, c: 12 });
  const warm = limited({ a: 1, b: 90, c: 1 });
  assert.equal(cold.tactic, "b");
  assert.deepEqual([warm.tactic, warm.report], [cold.tactic, cold.report]);
  assert.equal(tune("mm", tactics, new Map(), options(simulate({ a: 1, b: 9, c: 12 }).device, { cache })).tactic, "a");
  assert.deepEqual(limited({ a: 1, b: 90, c: 1 }).report.map((row) => row.outcome), ["chosen", "slower", "refused"], "times of what is refused do no harm");
});

test("a kernel that chooses again among fewer tactics leaves the cache's times as they were, so that a build from the cache chooses alike", () => {
  const cache = new TimingCache();
  const choose = (times: Readonly<Record<string, number>>) => [TACTICS.slice(0, 3), TACTICS.slice(1)].map((among) => tune("mm", among, new Map(), options(simulate(times).device, { cache })));
  const cold = [tune("mm", TACTICS.slice(0, 3), new Map(), options(simulate(TIMES).device, { cache })), tune("mm", TACTICS.slice(1), new Map(), options(simulate({ b: 120, c: 90, d: 95 }).device, { cache }))];
  const warm = choose({ a: 1, b: 2, c: 3, d: 4 });
  assert.deepEqual(cold.map(({ tactic: name }) => name), ["b", "d"]);
  assert.deepEqual(warm.map(({ tactic: name, report }) => [name, report]), cold.map(({ tactic: name, report }) => [name, report]));
});

test("a spent budget keeps the best so far", () => {
  let clock = 0;
  const tuned = tune("mm", TACTICS, new Map(), options(simulate(TIMES).device, { budgetMs: 1.5, now: () => clock++ }));
  assert.ok(tuned.report.some((row) => row.outcome === "skipped"));
  assert.equal(tuned.report[0]!.outcome, "chosen");
});

test("an aborted signal ends the search with an error", () => {
  const simulation = simulate(TIMES);
  assert.throws(() => tune("mm", TACTICS, new Map(), options(simulation.device, { signal: AbortSignal.abort() })), (error) => error instanceof UserError && error.code === "aborted");
  assert.equal(simulation.live, 0);
});

test("cache files merge, are byte-identical for equal contents, and refuse other files", () => {
  const folder = mkdtempSync(join(tmpdir(), "timing-"));
  try {
    const path = join(folder, "deep", "cache.json");
    const [one, two] = [new TimingCache(), new TimingCache()];
    one.set("k1", "x", 10);
    two.set("k1", "y", 20);
    two.set("k0", "z", 30);
    one.save(path);
    two.save(path);
    const merged = TimingCache.load(path);
    assert.deepEqual(merged.get("k1"), { x: 10, y: 20 });
    const text = readFileSync(path, "utf8");
    merged.save(path);
    assert.equal(readFileSync(path, "utf8"), text);
    assert.equal(TimingCache.load(join(folder, "none.json")).get("k1"), undefined);
    writeFileSync(path, "{\"kernels\": 3}");
    assert.throws(() => TimingCache.load(path), (error) => error instanceof UserError && error.code === "file-io");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
