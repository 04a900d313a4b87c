import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompiledKernel, Tactic } from "../ir/index.ts";
import type { Tuned } from "./tune.ts";
import { limitExtraWeights, type WeightChoice } from "./weight-budget.ts";

const KERNEL: CompiledKernel = { name: "k", code: new Uint8Array(), params: [], packed: [], tiles: 1, scratchBytes: 0, flops: 1, bytes: 1, tactic: "t" };

/** A kernel whose tactics are [name, extra bytes, nanoseconds]. */
function choice(...rows: readonly (readonly [string, number, number])[]): WeightChoice {
  const tactics = rows.map(([name, extraWeightBytes, estimate]): Tactic => ({ name, extraWeightBytes, estimate, compile: () => KERNEL }));
  const again = (some: readonly Tactic[]): Tuned => {
    const sorted = [...some].sort((a, b) => a.estimate - b.estimate);
    return { kernel: KERNEL, tactic: sorted[0]!.name, report: sorted.map(({ name, estimate }, i) => ({ tactic: name, ns: estimate, outcome: i === 0 ? "chosen" : "slower" })) };
  };
  return { tactics, again, tuned: again(tactics) };
}

test("larger weights stay where they save most time per byte", () => {
  const choices = [
    choice(["plain", 0, 100], ["small", 10, 60], ["large", 40, 50]),
    choice(["plain", 0, 100], ["large", 40, 20]),
    choice(["plain", 0, 100], ["large", 40, 95]),
    choice(["plain", 0, 100]),
  ];
  const chosen = (limit: number): string => limitExtraWeights(choices, limit).map(({ tuned }) => tuned.tactic).join(" ");
  assert.equal(chosen(120), "large large large plain");
  assert.equal(chosen(119), "large large plain plain");
  assert.equal(chosen(60), "small large plain plain");
  assert.equal(chosen(49), "small plain plain plain");
  assert.equal(chosen(0), "plain plain plain plain");
});
