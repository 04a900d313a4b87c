/** Sequences under a clock of the tests' own: places, what waits for one, and what must be there before anything runs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequences, type StartAt } from "./sequences.ts";
import { SimulatedClock } from "./testing.ts";

function simulated(places: number, startAt?: StartAt): { readonly ran: string[]; readonly clock: SimulatedClock; readonly sequences: Sequences<string> } {
  const clock = new SimulatedClock();
  const ran: string[] = [];
  const sequences = new Sequences<string>({
    places, idleNs: 1000, clock, isCancelled: () => false, drop: () => undefined, ...(startAt ? { startAt } : {}),
    run: (item, _context, done) => {
      ran.push(item);
      clock.at(clock.nowNs() + 10, done);
    },
  });
  return { ran, clock, sequences };
}

test("items of a sequence run one after another, and a place goes to the next sequence at the end", () => {
  const { ran, clock, sequences } = simulated(1);
  for (const [key, item, ends] of [["a", "a1", false], ["b", "b1", true], ["a", "a2", true]] as const) sequences.submit(key, item, ends);
  clock.run();
  assert.deepEqual([ran, sequences.size], [["a1", "a2", "b1"], 0]);
});

test("nothing runs until what was asked for waits, a sequence of a known name in the backlog included", async () => {
  const { ran, clock, sequences } = simulated(1, { placed: 2, backlog: 1 });
  sequences.submit("a", "a1", false);
  sequences.submit("a", "a2", true);
  clock.run(1e9);
  assert.deepEqual(ran, []);
  sequences.submit("a", "later", true);
  clock.run();
  assert.deepEqual(ran, ["a1", "a2", "later"]);
  const held = simulated(1, { placed: 9, backlog: 0 });
  held.sequences.submit("a", "a1", false);
  const closed = held.sequences.close();
  held.clock.run(100);
  await closed;
  assert.deepEqual(held.ran, ["a1"], "an end waits for nobody");
});

test("a sequence has the lowest place that is free", () => {
  const clock = new SimulatedClock();
  const places: [string, number][] = [];
  const sequences = new Sequences<string>({ places: 2, idleNs: 1000, clock, isCancelled: () => false, drop: () => undefined, run: (item, { place }, done) => {
    places.push([item, place]);
    clock.at(clock.nowNs() + (item === "a" ? 10 : 20), done);
  } });
  for (const name of ["a", "b", "c"]) sequences.submit(name, name, true);
  clock.run();
  assert.deepEqual(places, [["a", 0], ["b", 1], ["c", 0]]);
});

test("a sequence is given up with the first of its items whose client has gone, in a place and before it has one", async () => {
  const clock = new SimulatedClock();
  const [ran, dropped, gone]: [string[], string[], Set<string>] = [[], [], new Set()];
  const sequences = new Sequences<string>({
    places: 1, idleNs: 1e12, clock, isCancelled: (item) => gone.has(item), drop: (item) => dropped.push(item),
    run: (item, _context, done) => {
      ran.push(item);
      clock.at(clock.nowNs() + 200e6, done);
    },
  });
  for (const item of ["a1", "a2", "b1", "b2", "c1"]) sequences.submit(item[0]!, item, item === "c1");
  gone.add("b1");
  clock.run(100e6);
  assert.deepEqual([ran, dropped, sequences.waiting, sequences.isOpen("b")], [["a1"], ["b1", "b2"], 2, false]);
  gone.add("a2");
  clock.run(500e6);
  assert.deepEqual([ran, dropped, sequences.size], [["a1", "c1"], ["b1", "b2", "a2"], 0]);
  await sequences.close();
});
