import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mul, symbol } from "../ir/index.ts";
import { contiguousView, expandView, reshapeView, sliceView, type Storage, transposeView, type View } from "./view.ts";

const storage: Storage = { name: "s", place: "arena", sizeBytes: 0 };

/** Storage positions of a view's elements in row-major order. */
function positions(view: View): number[] {
  let list = [view.offset as number];
  for (const [axis, dim] of view.dims.entries()) list = list.flatMap((at) => Array.from({ length: dim as number }, (_, i) => at + i * (view.strides[axis] as number)));
  return list;
}

/** Every way to write a number as an ordered product. */
function factorizations(size: number): number[][] {
  const found: number[][] = [[size]];
  for (let first = 1; first < size; first++) if (size % first === 0 && first > 1) for (const rest of factorizations(size / first)) found.push([first, ...rest]);
  return found;
}

test("a reshaped view lists the same elements in the same order, or refuses", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(), (dims, permute, choose) => {
    const axes = dims.map((_, i) => i);
    const rotated = axes.map((_, i) => axes[(i + permute) % axes.length]!);
    const view = transposeView(contiguousView(storage, "float32", dims), rotated);
    const size = dims.reduce((a, b) => a * b, 1);
    const shapes = factorizations(size);
    const reshaped = reshapeView(view, shapes[choose % shapes.length]!);
    if (reshaped) assert.deepEqual(positions(reshaped), positions(view));
    else assert.notEqual(permute % axes.length, 0);
  }), { numRuns: 1000 });
});

test("splitting heads of a symbolic sequence and back is free; merging transposed heads is not", () => {
  const b = symbol("b");
  const s = symbol("s");
  const view = contiguousView(storage, "float32", [b, s, 768]);
  const heads = reshapeView(view, [b, s, 12, 64]);
  assert.ok(heads);
  assert.deepEqual(heads.strides.map(String), [String(mul(s, 768)), "768", "64", "1"]);
  const transposed = transposeView(heads, [0, 2, 1, 3]);
  assert.equal(reshapeView(transposed, [b, 12, mul(s, 64)]), undefined);
  assert.ok(reshapeView(transposeView(transposed, [0, 2, 1, 3]), [mul(b, s), 768]));
});

test("slices and expansions address the right elements", () => {
  const view = contiguousView(storage, "float32", [3, 4]);
  assert.deepEqual(positions(sliceView(view, 1, 1, 2, 2)), [1, 3, 5, 7, 9, 11]);
  assert.deepEqual(positions(expandView(sliceView(view, 0, 2, 1, 1), [2, 4])!), [8, 9, 10, 11, 8, 9, 10, 11]);
  assert.equal(expandView(view, [5, 4]), undefined);
});
