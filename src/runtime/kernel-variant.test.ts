/** Several kernels of one step: the bound shape's work decides. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ManifestKernel } from "../engine/index.ts";
import { variantAt } from "./kernel-variant.ts";

const kernel: ManifestKernel = {
  kind: "kernel", code: 0, params: [], tiles: 0, scratchBytes: 0, flops: 0, bytes: 0, completes: [],
  label: { name: "product", operators: [], origins: [], tactic: "small" },
  larger: [
    { from: 100, code: 64, params: [], tiles: 0, scratchBytes: 16, tactic: "middle" },
    { from: 1000, code: 128, params: [], tiles: 0, scratchBytes: 0, tactic: "large" },
  ],
};

test("the last kernel whose share of the work has begun", () => {
  const at = (work: number): string => { const { code, label } = variantAt(kernel, Float64Array.of(work)); return `${label.tactic} at ${code}`; };
  assert.deepEqual([0, 99, 100, 999, 1000, 1e12].map(at), ["small at 0", "small at 0", "middle at 64", "middle at 64", "large at 128", "large at 128"]);
});
