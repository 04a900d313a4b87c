/** What the tuner keeps on a GPU. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CompiledKernel } from "../ir/index.ts";
import { EmulatedGpu, hasHostCompiler } from "../native/cuda/testing.ts";
import { GpuDevice } from "./gpu-device.ts";

const CONSTANT_BYTES = 2 ** 20;

/** A kernel that checks that its constant is what was packed for it. */
function kernelWith(constant: number): CompiledKernel {
  return {
    name: "check", tactic: `constant ${constant}`, params: [{ kind: "packed", index: 0 }, { kind: "dim", value: constant }], tiles: 1, flops: 1, bytes: 1, scratchBytes: 0,
    packed: [{ key: `constant ${constant}`, sizeBytes: CONSTANT_BYTES, write: (into) => into.fill(constant) }],
    code: Buffer.from('#include <cstdlib>\nextern "C" void check(const unsigned char* bytes, long long expected) { for (int i = 0; i < 1048576; i++) if (bytes[i] != expected) abort(); }'),
    launch: { entry: "check", grid: [1, 1, 1], block: 1, sharedBytes: 0, tensorMaps: [] },
  };
}

test("constants stay for as long as a candidate uses them, and some of the others for the next", { skip: !hasHostCompiler && "no g++ here" }, () => {
  const gpu = new EmulatedGpu();
  const device = new GpuDevice(gpu, "host");
  const many = Array.from({ length: 20 }, (_, i) => device.prepare(kernelWith(i + 1), new Map()));
  for (const prepared of many) assert.ok(prepared.time() > 0);
  for (const prepared of many) prepared.dispose();
  const one = device.prepare(kernelWith(20), new Map());
  assert.ok(gpu.allocatedBytes >= 8 * CONSTANT_BYTES && gpu.allocatedBytes < 10 * CONSTANT_BYTES, `${gpu.allocatedBytes} bytes`);
  one.time();
  device.release();
  one.time();
  one.dispose();
  device.release();
  assert.equal(gpu.allocatedBytes, 0);
});
