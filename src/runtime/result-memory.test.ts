import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Tensor } from "../base/index.ts";
import { nativeAddress } from "./native-tensors.ts";
import { ResultMemory } from "./result-memory.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Waits until what is not held any more was given back. */
async function collected(): Promise<void> {
  for (let i = 0; i < 4; i++) {
    collect();
    await new Promise((done) => setTimeout(done, 10));
  }
}

const DIMS = [3, 100_000];

/** As many results, each filled with its number; a function of its own, so that nothing here holds one. */
function filled(results: ResultMemory, count: number): Tensor[] {
  return Array.from({ length: count }, (_, i) => {
    const tensor = results.allocate("y", "float32", DIMS)!;
    (tensor.data as Float32Array).fill(i);
    return tensor;
  });
}

function checkFilled(held: readonly Tensor[]): void {
  held.forEach((tensor, i) => assert.ok((tensor.data as Float32Array).every((value) => value === i)));
}

test("large results that are held have memory of their own; memory of dropped ones is used again", async () => {
  const results = new ResultMemory();
  const held = filled(results, 6);
  const addresses = new Set(held.map(nativeAddress));
  assert.equal(addresses.size, 6);
  await collected();
  checkFilled(held);
  held.length = 0;
  await collected();
  assert.deepEqual(new Set(filled(results, 6).map(nativeAddress)), addresses);
  results.dispose();
});

test("small results, strings and results after the end of the engine", async () => {
  const results = new ResultMemory();
  assert.equal(results.allocate("y", "float32", [10]), undefined);
  assert.equal(results.allocate("y", "string", [10_000_000]), undefined);
  let tensor: Tensor | undefined = results.allocate("y", "float32", DIMS);
  results.dispose();
  (tensor!.data as Float32Array).fill(7);
  await collected();
  assert.ok((tensor!.data as Float32Array).every((value) => value === 7));
  tensor = undefined;
  await collected();
});
