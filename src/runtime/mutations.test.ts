/** Ten thousand damaged engine files, loaded in a process of their own. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "../compile.ts";
import type { MutationCounts } from "../testing/mutate-engine.ts";
import { mlp } from "../testing/small-models.ts";

test("a damaged engine is refused, or its weights are found by verification; none ends the process", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-mutations-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "mlp.engine");
  await build(mlp(), { output: path, level: 0, profiles: [{ x: { min: [1, 16], opt: [4, 16], max: [64, 16] } }] });
  const seed = randomInt(2 ** 31);
  t.diagnostic(`seed ${seed}`);
  const program = fileURLToPath(new URL("../testing/mutate-engine.js", import.meta.url));
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, [program, path, "10000", String(seed)], { encoding: "utf8" });
  assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: "" }, `seed ${seed}`);
  const counts = JSON.parse(stdout) as MutationCounts;
  assert.equal(counts.refused + counts.weights + counts.unchanged, 10_000);
  assert.ok(counts.refused > 3000 && counts.weights > 100 && counts.unchanged > 100, stdout);
});
