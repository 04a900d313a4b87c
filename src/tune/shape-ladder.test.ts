/** The shapes that a GPU's kernels are chosen for. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { shapeLadder } from "./shape-ladder.ts";

const ladder = (ranges: Parameters<typeof shapeLadder>[0]): object[] =>
  shapeLadder(ranges, new Map([["fixed", 7], ...Object.entries(ranges).map(([name, { opt }]) => [name, opt] as const)])).map((bindings) => Object.fromEntries(bindings));

describe("a ladder of shapes", () => {
  it("has the ends, the optimum, and rungs of about four times between them", () => {
    assert.deepEqual(ladder({ batch: { min: 1, opt: 8, max: 128 } }), [{ fixed: 7, batch: 1 }, { fixed: 7, batch: 3 }, { fixed: 7, batch: 8 }, { fixed: 7, batch: 32 }, { fixed: 7, batch: 128 }]);
  });

  it("is the optimum alone where nothing else is far from it", () => {
    assert.deepEqual(ladder({ batch: { min: 4, opt: 4, max: 7 } }), [{ fixed: 7, batch: 4 }]);
    assert.deepEqual(ladder({}), [{ fixed: 7 }]);
  });

  it("lets several symbols grow together, and has few rungs over a wide range", () => {
    const shapes = ladder({ batch: { min: 1, opt: 1, max: 16 }, seq: { min: 1, opt: 128, max: 512 } });
    assert.deepEqual(shapes[0], { fixed: 7, batch: 1, seq: 1 });
    assert.deepEqual(shapes.at(-1), { fixed: 7, batch: 16, seq: 512 });
    assert.equal(shapes.length, 7);
  });
});
