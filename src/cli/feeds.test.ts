import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import type { ValueInfo } from "../runtime/index.ts";
import { makeFeeds } from "./feeds.ts";

const inputs: readonly ValueInfo[] = [
  { name: "input_ids", type: "int64", dims: ["batch", "seq"] },
  { name: "attention_mask", type: "int64", dims: ["batch", "seq"] },
  { name: "token_type_ids", type: "int32", dims: ["batch", "seq"] },
  { name: "position_ids", type: "int64", dims: ["batch", "seq"] },
  { name: "pixels", type: "float32", dims: [1, 3, "h"] },
  { name: "half", type: "float16", dims: [2] },
  { name: "words", type: "string", dims: [1] },
];

test("random inputs: the same for a seed, within range, of the shapes asked for", () => {
  const make = (seed: number) => makeFeeds(inputs, { shapes: { pixels: [1, 3, 5] }, files: [], seed }, { batch: 2, seq: 3 });
  const feeds = make(7);
  assert.deepEqual(feeds, make(7));
  assert.notDeepEqual(feeds["pixels"], make(9)["pixels"]);
  assert.deepEqual(feeds["input_ids"]!.dims, [2, 3]);
  assert.deepEqual(feeds["pixels"]!.dims, [1, 3, 5]);
  assert.ok((feeds["pixels"]!.data as Float32Array).every((value) => value >= -1 && value < 1));
  assert.ok((feeds["input_ids"]!.data as BigInt64Array).every((value) => value >= 0n && value < 100n));
});

test("masks are ones, token types zeros, positions count", () => {
  const feeds = makeFeeds(inputs, { shapes: {}, files: [] }, { batch: 2, seq: 3 });
  assert.deepEqual([...feeds["attention_mask"]!.data], [1n, 1n, 1n, 1n, 1n, 1n]);
  assert.deepEqual([...feeds["token_type_ids"]!.data], [0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...feeds["position_ids"]!.data], [0n, 1n, 2n, 0n, 1n, 2n]);
  assert.deepEqual([...feeds["words"]!.data], ["text"]);
});

test("unknown names are refused", () => {
  assert.throws(() => makeFeeds(inputs, { shapes: { x: [1] }, files: [] }, {}), UserError);
  assert.throws(() => makeFeeds(inputs, { shapes: {}, files: ["x=a.npy"] }, {}), UserError);
  assert.throws(() => makeFeeds(inputs, { shapes: {}, files: ["pixels="] }, {}), UserError);
});
