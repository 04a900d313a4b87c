/** The scheduler under a clock and seeds of the tests' own. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LatencyObjective } from "./latency-objective.ts";
import { OneByOne, QueueDelay } from "./policy.ts";
import { poisson, quantile, type SimulatedRequest, simulate } from "./testing.ts";

const MS = 1e6;
const idsOf = (simulation: { batches: readonly { readonly ids: number[] }[] }) => simulation.batches.map(({ ids }) => ids);

test("what waits while a batch runs goes together in the next", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: () => 10 * MS });
  for (let i = 0; i < 12; i++) simulation.send(i * MS);
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0], [1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11]]);
});

test("requests that arrive in one turn of the event loop share a batch", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: () => MS });
  for (let i = 0; i < 5; i++) simulation.send(0);
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0, 1, 2, 3, 4]]);
});

test("an eager batcher keeps to preferred sizes and the queue delay, a flushed one waits for nobody", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [4], 5000), batchNs: () => MS });
  simulation.batcher.setEager(true);
  for (let i = 0; i < 6; i++) simulation.send(0);
  simulation.clock.at(2 * MS, () => simulation.batcher.flush());
  simulation.send(4 * MS);
  simulation.clock.run();
  assert.deepEqual(simulation.batches.map(({ ids, startNs }) => [ids, startNs]), [[[0, 1, 2, 3], 0], [[4, 5], 2 * MS], [[6], 4 * MS]]);
});

test("a batcher that is to start at so many requests waits for them once, and for none when it is to end", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), startAt: 3, batchNs: () => MS });
  for (let i = 0; i < 4; i++) simulation.send(10 * i * MS);
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0, 1, 2], [3]]);
  const ending = simulate({ policy: new QueueDelay(8, [], 0), startAt: 3, batchNs: () => MS });
  ending.send(0);
  ending.clock.at(MS, () => ending.batcher.flush());
  ending.clock.run();
  assert.deepEqual(idsOf(ending), [[0]]);
});

test("the queue delay holds small batches back, preferred sizes go at once", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [4], 5000), batchNs: () => MS });
  for (let i = 0; i < 4; i++) simulation.send(i * MS);
  for (let i = 0; i < 2; i++) simulation.send(20 * MS + i * MS);
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0, 1, 2, 3], [4, 5]]);
  assert.equal(simulation.batches[0]!.startNs, 3 * MS);
  assert.equal(simulation.batches[1]!.startNs, 25 * MS);
});

test("batches never exceed the maximum, whatever sizes requests have, and none is split", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: (rows) => rows * MS });
  for (const [i, rows] of [3, 4, 5, 8, 1, 1, 7].entries()) simulation.send(i === 0 ? 0 : MS, { rows });
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0], [1], [2], [3], [4, 5], [6]]);
});

test("without a dynamic batcher every request runs alone", () => {
  const simulation = simulate({ policy: new OneByOne(), batchNs: () => MS, slots: 2 });
  for (let i = 0; i < 4; i++) simulation.send(0, { rows: 2 });
  simulation.clock.run();
  assert.deepEqual(simulation.batches.map(({ rows, startNs }) => [rows, startNs]), [[2, 0], [2, 0], [2, MS], [2, MS]]);
});

test("groups do not mix, and a group does not hold up the others", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: () => 10 * MS });
  simulation.send(0);
  for (const group of ["a", "b", "a", "b", "a"]) simulation.send(MS, { group });
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0], [1, 3, 5], [2, 4]]);
});

test("higher priorities go first, the default is as configured", () => {
  const simulation = simulate({ policy: new OneByOne(), batchNs: () => 10 * MS, levels: 3 });
  simulation.send(0);
  for (const priority of [3, 0, 1, 2, 1, 99]) simulation.send(MS, { priority });
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation).flat(), [0, 3, 5, 4, 1, 2, 6]);
});

test("late requests are refused on time, before any work, while an instance is busy", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: () => 100 * MS, queuePolicy: { defaultTimeoutUs: 20_000, allowTimeoutOverride: true } });
  simulation.send(0);
  const late = simulation.send(MS);
  const later = simulation.send(MS, { timeoutUs: 5000 });
  const longer = simulation.send(MS, { timeoutUs: 500_000 });
  simulation.clock.run(6 * MS + 1);
  assert.deepEqual([later.outcome, late.outcome], ["timeout", "waiting"]);
  simulation.clock.run(21 * MS + 1);
  assert.deepEqual([late.outcome, longer.outcome], ["timeout", "timeout"], "a longer timeout than the default changes nothing");
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation), [[0]]);
});

test("with DELAY late requests go behind those that are not", () => {
  const simulation = simulate({ policy: new OneByOne(), batchNs: () => 30 * MS, queuePolicy: { defaultTimeoutUs: 10_000, timeoutAction: "DELAY" } });
  simulation.send(0);
  simulation.send(MS);
  simulation.send(25 * MS);
  simulation.clock.run();
  assert.deepEqual(idsOf(simulation).flat(), [0, 2, 1]);
});

test("requests whose client has gone never run", () => {
  const simulation = simulate({ policy: new QueueDelay(8, [], 0), batchNs: () => 10 * MS });
  simulation.send(0);
  const gone = simulation.send(MS);
  simulation.send(MS);
  simulation.clock.at(2 * MS, () => { gone.cancelled = true; });
  simulation.clock.run();
  assert.equal(gone.outcome, "cancelled");
  assert.deepEqual(idsOf(simulation), [[0], [2]]);
});

test("a request that comes as another leaves the queue takes no place that is promised", () => {
  const simulation = simulate({ policy: new OneByOne(), batchNs: () => 10 * MS, onDrop: () => simulation.batcher.submit({ ...gone, id: 9, cancelled: false }) });
  simulation.send(0);
  const gone = simulation.send(MS, { cancelled: true });
  simulation.send(MS);
  simulation.clock.run();
  assert.deepEqual(simulation.batches.map(({ ids, startNs }) => [ids, startNs]), [[[0], 0], [[2], 10 * MS], [[9], 20 * MS]]);
});

test("a full queue refuses, and has room again when its requests have gone", () => {
  const simulation = simulate({ policy: new OneByOne(), batchNs: () => 10 * MS, queuePolicy: { maxQueueSize: 2 } });
  const sent = [0, 1, 1, 1].map((at) => simulation.send(at * MS));
  const again = simulation.send(15 * MS);
  simulation.clock.run();
  assert.deepEqual(sent.map(({ outcome }) => outcome), ["done", "done", "done", "refused"]);
  assert.equal(again.outcome, "done");
});

test("every request gets exactly one outcome, under random loads", (context) => {
  for (let seed = 1; seed <= 50; seed++) {
    context.diagnostic(`seed ${seed}`);
    const policy = seed % 3 === 0 ? new OneByOne() : seed % 3 === 1 ? new QueueDelay(16, [4, 8], seed * 100) : new LatencyObjective(16, 20, 2000);
    const simulation = simulate({ policy, slots: 1 + (seed % 3), batchNs: (rows) => MS + rows * 0.2 * MS, levels: seed % 4, queuePolicy: { defaultTimeoutUs: seed % 2 ? 30_000 : 0, maxQueueSize: 40 } });
    for (const [i, timeNs] of poisson(500, 1000 + 100 * seed, seed).entries()) {
      const request = simulation.send(timeNs, { rows: 1 + ((i * seed) % 4), group: String((i * 7) % (1 + (seed % 3))), priority: i % 5 });
      if (i % 17 === 0) simulation.clock.at(timeNs + MS, () => { request.cancelled = true; });
    }
    simulation.clock.run();
    const ran = idsOf(simulation).flat();
    assert.equal(new Set(ran).size, ran.length, `seed ${seed}: a request ran twice`);
    for (const request of simulation.requests) {
      assert.notEqual(request.outcome, "waiting", `seed ${seed}: request ${request.id} was lost`);
      assert.equal(request.outcome === "done", ran.includes(request.id), `seed ${seed}: request ${request.id}`);
    }
    for (const { rows, ids } of simulation.batches) assert.ok(rows <= 16 || ids.length === 1, `seed ${seed}: a batch of ${rows}`);
  }
});

const latencyOf = (requests: readonly SimulatedRequest[]): number => quantile(requests.map(({ doneNs, enqueuedNs }) => doneNs - enqueuedNs), 0.99);

test("a latency objective is held where it can be, with larger batches than it would have without delay", () => {
  const batchNs = (rows: number): number => 2 * MS + rows * 0.5 * MS;
  const run = (objectiveMs: number) => {
    const policy = new LatencyObjective(64, objectiveMs, 50_000);
    const simulation = simulate({ policy, batchNs });
    for (const timeNs of poisson(4000, 600, 5)) simulation.send(timeNs);
    simulation.clock.run();
    const settled = simulation.requests.slice(500);
    return { p99: latencyOf(settled), mean: simulation.requests.length / simulation.batches.length, chosen: policy.describe() };
  };
  const [tight, loose] = [run(20), run(60)];
  assert.ok(tight.p99 <= 20 * MS, `p99 ${tight.p99 / MS} ms for 20`);
  assert.ok(loose.p99 <= 60 * MS, `p99 ${loose.p99 / MS} ms for 60`);
  assert.ok(loose.mean > tight.mean, `mean batches ${loose.mean} and ${tight.mean}`);
  assert.ok(loose.chosen["batch_size_limit"]! > tight.chosen["batch_size_limit"]!);
});

test("an objective that the load rules out does not make the queue grow without end", () => {
  const simulation = simulate({ policy: new LatencyObjective(64, 5, 1000), batchNs: (rows) => 4 * MS + rows * 0.1 * MS });
  for (const timeNs of poisson(5000, 4000, 3)) simulation.send(timeNs);
  simulation.clock.run();
  assert.ok(latencyOf(simulation.requests.slice(1000)) < 60 * MS, `p99 ${latencyOf(simulation.requests.slice(1000)) / MS} ms`);
});

/** Two places that share a model's threads: on all of them a batch takes three quarters of a part's time. */
const divided = () => simulate({ policy: new QueueDelay(16, [], 0), slots: 2, spread: true, batchNs: (rows, whole) => (whole ? 1.5 : 2) * rows * MS });

test("places that share a model's threads: many rows are divided once both ways are known, and a part leaves the others their share", () => {
  const simulation = divided();
  for (let round = 0; round < 8; round++) for (let i = 0; i < 8; i++) simulation.send(round * 100 * MS);
  simulation.clock.run();
  assert.deepEqual(simulation.batches.map(({ rows, whole }) => [rows, whole]), [[8, true], [8, true], [8, true], ...Array.from({ length: 10 }, () => [4, false])]);
  const { length } = simulation.batches;
  for (let i = 0; i < 8; i++) simulation.send(1000 * MS);
  for (let i = 0; i < 6; i++) simulation.send(1001 * MS);
  for (const rows of [15, 1]) simulation.send(2000 * MS, { rows });
  simulation.clock.run();
  const later = simulation.batches.slice(length).map(({ rows, startNs }) => [rows, startNs / MS]);
  assert.deepEqual(later.slice(0, 4), [[4, 1000], [4, 1000], [3, 1008], [3, 1008]]);
});

test("places that share a model's threads: one client that waits for its answers has all of them", () => {
  const simulation = divided();
  for (let i = 0; i < 200; i++) simulation.send(i * 10 * MS);
  simulation.clock.run();
  const whole = simulation.batches.filter((batch) => batch.whole).length;
  assert.ok(whole >= 190 && whole < 200, `${whole} of 200: a few are parts, to know their time`);
});

test("places that share a model's threads: under load the slowest requests wait less than for batches on all threads", () => {
  const [apart, together] = [divided(), simulate({ policy: new QueueDelay(16, [], 0), batchNs: (rows) => 1.5 * rows * MS })];
  for (const simulation of [apart, together]) {
    for (const timeNs of poisson(4000, 450, 7)) simulation.send(timeNs);
    simulation.clock.run();
  }
  const [p99, peer] = [latencyOf(apart.requests), latencyOf(together.requests)];
  assert.ok(p99 < 0.8 * peer, `p99 ${p99 / MS} ms, on all threads ${peer / MS} ms`);
});
