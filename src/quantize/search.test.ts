/** The search for layers to keep in float, on losses that are known. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fewestInFloat } from "./search.ts";

/** Each layer in int8 takes its loss. */
const measured = (losses: Readonly<Record<string, number>>) => async (kept: ReadonlySet<string>): Promise<number> =>
  1 - Object.entries(losses).reduce((sum, [name, loss]) => sum + (kept.has(name) ? 0 : loss), 0);

describe("the fewest layers in float", () => {
  it("is none when all in int8 is good enough", async () => {
    const { kept } = await fewestInFloat(["a", "b"], 0.9, measured({ a: 0.02, b: 0.01 }));
    assert.equal(kept.size, 0);
  });

  it("is the one that hurts, wherever the order puts it", async () => {
    const losses = { a: 0.001, b: 0.001, c: 0.2, d: 0.001, e: 0.001 };
    const { kept, score } = await fewestInFloat(["a", "b", "c", "d", "e"], 0.99, measured(losses));
    assert.ok(kept.has("c") && score >= 0.99);
    assert.deepEqual([...kept], ["c"]);
  });

  it("answers the best mix when none with an int8 layer is good enough", async () => {
    const { kept, score } = await fewestInFloat(["a", "b", "c"], 0.99, measured({ a: 0.1, b: 0.1, c: 0.1 }));
    assert.equal(kept.size, 2);
    assert.ok(score < 0.99);
  });
});
