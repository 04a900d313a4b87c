import assert from "node:assert/strict";
import { test } from "node:test";
import type { Manifest, ManifestKernel } from "../engine/index.ts";
import { perfMap } from "./perf-map.ts";

test("perf maps name each piece of code once, from its start to the next one's", () => {
  const kernel = (code: number, name: string): ManifestKernel => ({
    kind: "kernel", code, params: [], tiles: 0, scratchBytes: 0, flops: 0, bytes: 0, completes: [],
    label: { name, operators: ["Conv", "Relu"], origins: [], tactic: "loop" },
  });
  const manifest: Pick<Manifest, "steps"> = { steps: [kernel(128, "b"), kernel(0, "a\nb"), kernel(128, "c"), kernel(192, "")] };
  assert.equal(perfMap(manifest, 0x7f00n << 12n, 256), "7f00000 80 sinter:a b (loop)\n7f00080 40 sinter:b (loop)\n7f000c0 40 sinter:Conv+Relu (loop)\n");
});
