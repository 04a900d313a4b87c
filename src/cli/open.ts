/** A file given to a command: an engine is loaded; a model is built first, into a cache kept by content, options and processor. */
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileError, type Precision, UserError } from "../base/index.ts";
import { build } from "../compile.ts";
import { EngineFile } from "../engine/index.ts";
import { detectCpu, MappedFile, openCudaCompiler, openGpu } from "../native/index.ts";
import { importModel } from "../onnx/index.ts";
import { Engine } from "../runtime/index.ts";
import type { Profile } from "../schedule/index.ts";
import type { TuneLevel } from "../tune/index.ts";
import { VERSION } from "../version.ts";
import { makeFolder } from "./folders.ts";
import { withInterrupt } from "./interrupt.ts";
import { describeProgress, ProgressLine } from "./output.ts";

export interface OpenOptions {
  readonly threads?: number;
  readonly profiles: readonly Profile[];
  readonly level?: TuneLevel;
  readonly precision?: Precision;
  readonly fastConvolution?: boolean;
  /** What a model is built for; this processor by default. */
  readonly target?: string;
}

export interface Opened {
  readonly engine: Engine;
  readonly path: string;
  readonly loadMs: number;
  /** Of the engine file. */
  readonly sizeBytes: number;
  /** The ONNX file, when one was given. */
  readonly model: string | undefined;
  /** Milliseconds of the build; undefined when the engine was there already. */
  readonly buildMs: number | undefined;
}

export function isEngineFile(path: string): boolean {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const start = Buffer.alloc(8);
    readSync(file, start, 0, 8, 0);
    return EngineFile.isEngine(start);
  } catch (cause) {
    throw fileError(path, cause);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Where built engines are kept: $XDG_CACHE_HOME/sinter or ~/.cache/sinter. */
export function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "sinter");
}

export async function openEngine(path: string, options: OpenOptions): Promise<Opened> {
  const model = isEngineFile(path) ? undefined : path;
  checkTarget(path, model !== undefined, options.target);
  const built = model === undefined ? { path, buildMs: undefined } : await buildCached(model, options);
  const before = performance.now();
  const engine = await Engine.load(built.path, options.threads === undefined ? {} : { threads: options.threads });
  return { engine, path: built.path, loadMs: performance.now() - before, sizeBytes: statSync(built.path).size, model, buildMs: built.buildMs };
}

/** @throws UserError "option-invalid" for a target that an engine is not built for, or that is not on this machine */
function checkTarget(path: string, isModel: boolean, target: string | undefined): void {
  if (target?.startsWith("cuda:")) throw new UserError("option-invalid", `--target ${target} is a GPU elsewhere, which cannot run it; build the engine with sinter build, or give --target cuda for this machine's GPU.`);
  if (isModel || target === undefined) return;
  const file = EngineFile.open(path);
  try {
    const { arch } = file.manifest().target;
    if (arch !== target) throw new UserError("option-invalid", `--target ${target}: ${path} is an engine for ${arch}; give the model, or leave --target out.`);
  } finally {
    file.close();
  }
}

/** What the machine's device is called in keys: engines are kept for it alone. */
function deviceOf(target: string | undefined): string {
  if (target !== "cuda") return detectCpu(process.env).id;
  const { name, capability, driver } = openGpu().description;
  return `${name} sm_${capability} driver ${driver} ${openCudaCompiler().identity}`;
}

/** An engine of the model, built now or earlier, in `folder`. */
export async function buildCached(model: string, options: OpenOptions, folder = cacheFolder()): Promise<{ readonly path: string; readonly buildMs: number | undefined }> {
  const level = options.level ?? 3;
  const precision = options.precision ?? "fp32";
  const path = join(folder, `${keyOf(model, { ...options, level, precision })}.engine`);
  if (existsSync(path)) return { path, buildMs: undefined };
  makeFolder(folder);
  const line = new ProgressLine();
  try {
    const { elapsedMs } = await withInterrupt((signal) => build(model, {
      output: path, level, precision, profiles: options.profiles, timingCache: join(folder, "timings.json"), signal,
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.fastConvolution ? { fastConvolution: true } : {}), ...(options.target === undefined ? {} : { target: options.target }),
      onProgress: (progress) => line.show(describeProgress(progress), progress.stage),
    }));
    return { path, buildMs: elapsedMs };
  } finally {
    line.clear();
  }
}

/** The model file by content, files of external weights by name, size and date, and all that a build depends on. */
function keyOf(model: string, { profiles, level, threads, precision, fastConvolution = false, target }: OpenOptions): string {
  const files: string[] = [];
  importModel(model, {
    mapFile: (path) => {
      files.push(path);
      return MappedFile.open(path);
    },
  }).close();
  const external = files.slice(1).map((path) => [path, statSync(path).size, statSync(path).mtimeMs]);
  using file = MappedFile.open(model);
  return createHash("sha256").update(file.bytes()).update(JSON.stringify([VERSION, deviceOf(target), profiles, level, threads ?? 0, precision, fastConvolution, external])).digest("hex").slice(0, 32);
}

/** Dimension sizes of the engine's first profile: what inputs get that no option names. */
export function optimumSizes(engine: Engine): Record<string, number> {
  const profile = engine.metadata.profiles[0];
  return Object.fromEntries(Object.entries(profile?.symbols ?? {}).map(([name, range]) => [name, range.opt]));
}
