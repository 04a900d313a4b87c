/** A file given to a command: an engine is loaded; a model is built first, into a cache kept by content, options and processor. */
import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, readSync, existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { UserError } from "../base/index.ts";
import { build } from "../compile.ts";
import { EngineFile } from "../engine/index.ts";
import { detectCpu } from "../native/index.ts";
import { Engine } from "../runtime/index.ts";
import type { Profile } from "../schedule/index.ts";
import type { TuneLevel } from "../tune/index.ts";
import { VERSION } from "../version.ts";
import { ProgressLine } from "./output.ts";

export interface OpenOptions {
  readonly threads?: number;
  readonly profiles: readonly Profile[];
  readonly level?: TuneLevel;
}

export interface Opened {
  readonly engine: Engine;
  readonly path: string;
  readonly loadMs: number;
  /** The ONNX file, when one was given. */
  readonly model: string | undefined;
}

export function isEngineFile(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new UserError("file-io", `${path}: ${(cause as Error).message}.`, { cause });
  }
  const start = Buffer.alloc(8);
  readSync(file, start, 0, 8, 0);
  closeSync(file);
  return EngineFile.isEngine(start);
}

/** Where built engines are kept: $XDG_CACHE_HOME/sinter or ~/.cache/sinter. */
export function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sinter");
}

export async function openEngine(path: string, options: OpenOptions): Promise<Opened> {
  const model = isEngineFile(path) ? undefined : path;
  const file = model === undefined ? path : await buildCached(model, options);
  const before = performance.now();
  const engine = await Engine.load(file, options.threads === undefined ? {} : { threads: options.threads });
  return { engine, path: file, loadMs: performance.now() - before, model };
}

/** @returns the path of an engine of the model, built now or earlier */
export async function buildCached(model: string, options: OpenOptions): Promise<string> {
  const cpu = detectCpu(process.env);
  const level = options.level ?? 3;
  const key = createHash("sha256").update(readFileSync(model)).update(JSON.stringify([VERSION, cpu.id, options.profiles, level, 1])).digest("hex").slice(0, 32);
  const folder = cacheFolder();
  mkdirSync(folder, { recursive: true });
  const output = join(folder, `${key}.engine`);
  if (existsSync(output)) return output;
  const line = new ProgressLine();
  try {
    await build(model, {
      output, level, profiles: options.profiles, timingCache: join(folder, "timings.json"),
      onProgress: (progress) => line.show(`Building ${model}: ${progress.stage} ${progress.total > 1 ? `${progress.done + 1}/${progress.total} ` : ""}${progress.detail}`, progress.stage),
    });
  } finally {
    line.clear();
  }
  return output;
}

/** Dimension sizes of the engine's first profile: what inputs get that no option names. */
export function optimumSizes(engine: Engine): Record<string, number> {
  const profile = engine.metadata.profiles[0];
  return Object.fromEntries(Object.entries(profile?.symbols ?? {}).map(([name, range]) => [name, range.opt]));
}
