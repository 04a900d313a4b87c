/** Sequences under a clock of the tests' own: places, what waits for one, and what must be there before anything runs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequences, type StartAt } from "./sequences.ts";
import { SimulatedClock } from "./testing.ts";

function simulated(places: number, startAt?: StartAt): { readonly ran: string[]; readonly clock: SimulatedClock; readonly sequences: Sequences<string> } {
  const clock = new SimulatedClock();
  const ran: string[] = [];
  const sequences = new Sequences<string>({
    places, idleNs: 1000, clock, ...(startAt ? { startAt } : {}),
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
  clock.run();
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
