import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import { SpillFile } from "./index.ts";

test("what is stored reads back, and no name is seen", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-spill-"));
  t.after(() => rmSync(folder, { recursive: true }));
  using spill = new SpillFile(folder);
  const pieces = [1, 4096, 10_001].map((length, i) => new Uint8Array(length).fill(i + 1));
  const stored = pieces.map((piece) => spill.store(piece));
  assert.deepEqual(stored, pieces);
  assert.deepEqual(readdirSync(folder), []);
});

test("a folder that cannot be written is named", () => {
  using spill = new SpillFile("/proc/none");
  assert.throws(() => spill.store(new Uint8Array(1)), (error) => error instanceof UserError && error.code === "file-io" && /\/proc\/none/.test(error.message));
});
