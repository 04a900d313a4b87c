import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { EngineCache } from "./engine-cache.ts";

const folder = mkdtempSync(join(tmpdir(), "sinter-engine-cache-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test("models of the same content are kept by several at once", async () => {
  const cache = new EngineCache(join(folder, "same"));
  const source = join(folder, "source.engine");
  writeFileSync(source, Buffer.alloc(3 << 20, 7));
  const adopted = await Promise.all(Array.from({ length: 8 }, () => cache.adopt(source)));
  assert.equal(new Set(adopted.map(({ path }) => path)).size, 1);
  const answer = { engine: adopted[0]!.path, description: { inputs: [], outputs: [] }, level: 0, builtMs: 1, referenceSteps: 0, hasExternalData: false };
  await Promise.all(Array.from({ length: 8 }, () => cache.remember("key", answer)));
  assert.deepEqual(await cache.recall("key"), answer);
  assert.equal(await cache.recall("other"), undefined);
  assert.deepEqual(readdirSync(cache.folder).filter((name) => name.endsWith(".tmp")), [], "nothing half-written is left");
});
