import assert from "node:assert/strict";
import { test } from "node:test";
import { findOutOfRange } from "./check-manifest.ts";
import { ENGINE_FORMAT, type Manifest } from "./manifest.ts";

const label = { name: "k", operators: ["Relu"], origins: ["relu"], tactic: "loop" };

/** x [n] → one kernel with packed weights → y [n]; a constant in the weights. */
function manifest(): Manifest {
  return {
    format: ENGINE_FORMAT, version: "1", precision: "fp32", level: 0, modelWeightBytes: 8,
    model: { name: "m", producer: "", opset: 21, digest: "", metadata: {} },
    target: { arch: "x64", isa: "avx2", cpu: "", features: [] },
    inputs: [{ name: "x", dtype: "float32", shape: [0], storage: 0 }], outputs: [{ name: "y", dtype: "float32", shape: [0], storage: 1 }],
    dims: ["n", 4, ["mul", 1, 0], 64],
    storages: [{ place: "input", size: 2 }, { place: "output", size: 2 }, { place: "arena", size: 2 }, { place: "weights", size: 3, offset: 64 }],
    profiles: [{ symbols: { n: { min: 1, opt: 1, max: 8 } }, arenaBytes: 64, offsets: [-1, -1, 0, -1] }],
    steps: [{ kind: "kernel", code: 64, params: [[0, 0], [1, 2, 1], [2, 128]], tiles: 1, scratchBytes: 0, flops: 1, bytes: 1, label, completes: [{ name: "y", dtype: "float32", shape: [0], storage: 1 }] }],
  };
}

/** A field by its path, the number put there, and what is said. */
const WRONG: readonly (readonly [path: string, value: unknown, message: RegExp])[] = [
  ["dims.2.1", 2, /operand of dimension 2 is 2/],
  ["dims.2.0", "constructor", /operator "constructor"/],
  ["dims.1", 1.5, /dimension 1 is 1.5/],
  ["storages.0.size", 4, /size of storage 0 is 4/],
  ["storages.3.offset", 65, /offset of storage 3 is 65/],
  ["storages.3.offset", -64, /offset of storage 3 is -64/],
  ["storages.3.size", 2, /storage 3 of the weights has no fixed size/],
  ["storages.2.place", "code", /storage 2 is in "code"/],
  ["inputs.0.storage", 4, /storage of "x" is 4/],
  ["outputs.0.shape.0", -1, /dimension of "y" is -1/],
  ["steps.0.code", 128, /entry of a kernel is 128/],
  ["steps.0.params.0.1", 4, /parameter is 4/],
  ["steps.0.params.1.1", 4, /storage of a parameter is 4/],
  ["steps.0.params.2.1", 129, /weights of a parameter is 129/],
  ["steps.0.params.2.0", 3, /parameter is of kind 3/],
  ["steps.0.tiles", 99, /size of a kernel is 99/],
  ["steps.0.scratchBytes", -1, /scratch memory of a kernel is -1/],
  ["steps.0.completes.0.storage", 9, /storage of "y" is 9/],
  ["steps.0.kind", "goto", /step is a "goto"/],
  ["profiles.0.offsets.2", 65, /place of a value is 65/],
  ["profiles.0.offsets", [], /other storages/],
  ["profiles.0.arenaBytes", -1, /size of an arena is -1/],
  ["steps", undefined, /missing/],
];

test("what lies in range passes", () => {
  assert.equal(findOutOfRange(manifest(), 128, 128), undefined);
});

for (const [path, value, message] of WRONG) {
  test(`${path} = ${String(value)} is found`, () => {
    const changed = structuredClone(manifest()) as unknown as Record<string, unknown>;
    const keys = path.split(".");
    const last = keys.pop()!;
    const place = keys.reduce<Record<string, unknown>>((object, key) => object[key] as Record<string, unknown>, changed);
    place[last] = value;
    assert.match(findOutOfRange(changed as unknown as Manifest, 128, 128) ?? "nothing", message);
  });
}
