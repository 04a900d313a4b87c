/**
 * The server's own engines, by content: `<digest>.engine` for files that were copied in, `<key>.engine` for what was
 * compiled here. Only files in this folder are mapped, so that nobody else can cut one short under a running server.
 * Files appear by rename and are never rewritten.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, statSync, unlinkSync } from "node:fs";
import { open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../../base/index.ts";
import type { CompileAnswer } from "../../repository/index.ts";

const CHUNK_BYTES = 1 << 20;
/** Temporary files older than that are left from a process that was killed. */
const STALE_MS = 60 * 60 * 1000;

export class EngineCache {
  readonly folder: string;

  /** @throws UserError "file-io" */
  constructor(folder: string) {
    this.folder = folder;
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (cause) {
      throw fileError(folder, cause);
    }
    this.#removeStale();
  }

  /** Copies a file in, unless its content is there. @returns where it is and its SHA-256 */
  async adopt(file: string): Promise<{ readonly path: string; readonly digest: string }> {
    const temporary = this.#temporary();
    try {
      const digest = await copyAndHash(file, temporary);
      const path = join(this.folder, `${digest}.engine`);
      if (!(await exists(path))) await rename(temporary, path);
      return { path, digest };
    } catch (cause) {
      throw fileError(`${file}: could not be copied to ${this.folder}`, cause);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  /** What was kept under a key; undefined when nothing was, or when the engine it names has gone. */
  async recall(key: string): Promise<CompileAnswer | undefined> {
    try {
      const answer = JSON.parse(await readFile(join(this.folder, `${key}.answer`), "utf8")) as CompileAnswer;
      return (await exists(answer.engine)) ? answer : undefined;
    } catch {
      return undefined;
    }
  }

  /** An engine that cannot be loaded, and what is said of it, so that it is made anew. */
  async discard(engine: string): Promise<void> {
    await Promise.all([engine, `${engine}.json`].map((path) => rm(path, { force: true })));
  }

  async remember(key: string, answer: CompileAnswer): Promise<void> {
    const temporary = this.#temporary();
    await writeFile(temporary, JSON.stringify(answer));
    await rename(temporary, join(this.folder, `${key}.answer`));
  }

  /** A name of its own for each writer: two models of the same content are kept under one key, by one process. */
  #temporary(): string {
    return join(this.folder, `.${process.pid}.${randomUUID()}.tmp`);
  }

  #removeStale(): void {
    for (const name of readdirSync(this.folder).filter((entry) => entry.endsWith(".tmp"))) {
      const path = join(this.folder, name);
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > STALE_MS) unlinkSync(path);
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

/** SHA-256 of a file, read in chunks. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  await using file = await open(path, "r");
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(chunk.subarray(0, bytesRead));
  }
}

/** One pass over the file, chunk by chunk, so that the event loop gets its turns. */
async function copyAndHash(from: string, to: string): Promise<string> {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  await using source = await open(from, "r");
  await using target = await open(to, "wx", 0o600);
  for (;;) {
    const { bytesRead } = await source.read(chunk, 0, CHUNK_BYTES);
    if (bytesRead === 0) break;
    hash.update(chunk.subarray(0, bytesRead));
    await target.write(chunk, 0, bytesRead);
  }
  await target.sync();
  return hash.digest("hex");
}
