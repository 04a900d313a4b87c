import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mul, symbol } from "../ir/index.ts";
import { layoutArena } from "./memory.ts";

test("storages alive at the same step never overlap", () => {
  const placement = fc.record({ size: fc.integer({ min: 1, max: 5000 }), first: fc.nat({ max: 20 }), length: fc.nat({ max: 6 }) });
  fc.assert(fc.property(fc.array(placement, { maxLength: 30 }), (items) => {
    const placements = items.map(({ size, first, length }, i) => ({ storage: { name: String(i), place: "arena" as const, sizeBytes: size }, firstStep: first, lastStep: first + length }));
    const { offsets, sizeBytes } = layoutArena(placements, new Map());
    for (const [i, a] of placements.entries()) {
      const from = offsets.get(a.storage)!;
      assert.equal(from % 64, 0);
      assert.ok(from + (a.storage.sizeBytes as number) <= sizeBytes);
      for (const b of placements.slice(0, i)) {
        if (a.firstStep > b.lastStep || b.firstStep > a.lastStep) continue;
        const other = offsets.get(b.storage)!;
        assert.ok(from >= other + (b.storage.sizeBytes as number) || other >= from + (a.storage.sizeBytes as number), `${a.storage.name} and ${b.storage.name} overlap`);
      }
    }
  }));
});

test("sizes follow the profile's maximum; unbounded ones are left to the run", () => {
  const rows = { name: "rows", place: "arena" as const, sizeBytes: mul(symbol("seq"), 256) };
  const found = { name: "found", place: "arena" as const, sizeBytes: mul(symbol("count"), 8) };
  const placements = [{ storage: rows, firstStep: 0, lastStep: 1 }, { storage: found, firstStep: 0, lastStep: 1 }];
  const layout = layoutArena(placements, new Map([["seq", { min: 1, max: 100 }]]));
  assert.equal(layout.sizeBytes, 25600);
  assert.equal(layout.offsets.has(found), false);
});
