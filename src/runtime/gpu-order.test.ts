import assert from "node:assert/strict";
import { test } from "node:test";
import { type Access, waitsFor } from "./gpu-order.ts";

const read = (begin: number, end: number): Access => ({ begin, end, isWritten: false });
const write = (begin: number, end: number): Access => ({ begin, end, isWritten: true });

test("readers of one value run side by side, and their reader waits for all", () => {
  assert.deepEqual(waitsFor([[write(0, 8)], [read(0, 8), write(8, 16)], [read(0, 8), write(16, 24)], [read(8, 24), write(24, 32)]]), [[], [0], [0], [2, 1]]);
});

test("memory that is used again waits for those that read it", () => {
  assert.deepEqual(waitsFor([[write(0, 8)], [read(0, 8), write(8, 16)], [write(4, 6)]]), [[], [0], [1]]);
});

test("what follows from other waits is left out", () => {
  assert.deepEqual(waitsFor([[write(0, 4)], [read(0, 4), write(4, 8)], [read(0, 8), write(8, 12)]]), [[], [0], [1]]);
});
