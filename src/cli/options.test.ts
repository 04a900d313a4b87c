import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import { parseBytes, parseCount, parseProfile, parseSeconds, parseShapes } from "./options.ts";

test("shapes: names may hold colons, a scalar has none", () => {
  assert.deepEqual(parseShapes("a:1x128,b:3"), { a: [1, 128], b: [3] });
  assert.deepEqual(parseShapes("x:0:2x0"), { "x:0": [2, 0] });
  assert.deepEqual(parseShapes("s:"), { s: [] });
  for (const wrong of ["", "a", "a:1x", "a:-1", "a:1.5", "a:1x128,", ":1", "a:1x0x10"]) {
    if (wrong === "a:1x0x10") assert.deepEqual(parseShapes(wrong), { a: [1, 0, 10] });
    else assert.throws(() => parseShapes(wrong), UserError, wrong);
  }
});

test("a profile takes what is left out from the others", () => {
  assert.deepEqual(parseProfile({}), []);
  assert.deepEqual(parseProfile({ shapes: "a:2" }), [{ a: { min: [2], opt: [2], max: [2] } }]);
  assert.deepEqual(parseProfile({ minShapes: "a:1", optShapes: "a:4" }), [{ a: { min: [1], opt: [4], max: [4] } }]);
  assert.deepEqual(parseProfile({ minShapes: "a:1", maxShapes: "a:8" }), [{ a: { min: [1], opt: [8], max: [8] } }]);
});

test("numbers and sizes", () => {
  assert.equal(parseCount("threads")("4"), 4);
  assert.equal(parseBytes("1.5K"), 1536);
  assert.equal(parseBytes("2g"), 2 ** 31);
  assert.equal(parseSeconds("0.25"), 0.25);
  for (const wrong of ["0", "-1", "1.5", "many", ""]) assert.throws(() => parseCount("threads")(wrong), UserError, wrong);
  for (const wrong of ["", "M", "12T", "-1"]) assert.throws(() => parseBytes(wrong), UserError, wrong);
  for (const wrong of ["0", "x", "Infinity"]) assert.throws(() => parseSeconds(wrong), UserError, wrong);
});
