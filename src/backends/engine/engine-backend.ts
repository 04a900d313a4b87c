/**
 * The backend `engine`: a version's `model.engine`, signed by a trusted key, or its `model.onnx`, compiled here.
 *
 * A model serves at once from an engine of level 0, made in a child process; `improve` makes the tuned one and `widen` one
 * for shapes outside the profile. All of them lie in the server's cache, by content. An engine for a GPU runs in that GPU's process;
 * while there is none, one made of a `model.onnx` beside it stands in for it, on the processor.
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { type Precision, PRECISIONS, SinterError, UserError } from "../../base/index.ts";
import { EngineFile } from "../../engine/index.ts";
import { availableThreads, detectCpu } from "../../native/index.ts";
import { type CompileAnswer, type CompileRequest, gpusOf, instancesOf, isFile, type ModelConfig, parameterOf } from "../../repository/index.ts";
import { Engine } from "../../runtime/index.ts";
import { requireTrusted, trustedKeys } from "../../trust/index.ts";
import type { Backend, BackendModel, ModelSource } from "../contract.ts";
import type { GpuHosts } from "../gpu/gpu-host.ts";
import { HostedEngine, type HostedEngineOptions, inTurns } from "../gpu/hosted-engine.ts";
import type { Compiler } from "./compiler.ts";
import { type EngineCache, hashFile } from "./engine-cache.ts";
import { EngineModel, type Origin } from "./engine-model.ts";
import { localEngine, threadsOfShare } from "./local-engine.ts";
import type { NativePool } from "./native-pool.ts";

type Level = CompileRequest["levels"][number];

/** What a kept engine says that cannot be used any more. */
const UNLOADABLE: ReadonlySet<string> = new Set(["engine-damaged", "engine-incompatible", "file-io"]);

export interface EngineBackendOptions {
  readonly log: Logger;
  readonly cache: EngineCache;
  readonly compiler: Compiler;
  readonly pool: NativePool;
  /** Where engines for GPUs run. */
  readonly gpus: GpuHosts;
  /** Folder of keys: see `trust`. */
  readonly keys: string;
  /** Level of tuning that models get in the background; 0: none. */
  readonly tuneLevel: Level;
  readonly defaultMaxBatch: number;
  /** Of Sinter: another one's engines are not used. */
  readonly version: string;
}

export class EngineBackend implements Backend {
  readonly name = "engine";
  readonly #options: EngineBackendOptions;

  constructor(options: EngineBackendOptions) {
    this.#options = options;
  }

  find({ folder, config }: ModelSource): string | undefined {
    const names = config.default_model_filename ? [config.default_model_filename] : ["model.engine", "model.onnx"];
    return names.map((name) => join(folder, name)).find(isFile);
  }

  async load(source: ModelSource, file: string): Promise<BackendModel> {
    const threads = threadsFor(source.config);
    if (!file.endsWith(".onnx")) return this.#loadEngine(source, file, threads);
    const onProcessor = this.#request(source.config, file, threads);
    const request = { ...onProcessor, ...whereOf(source.config) };
    try {
      return await this.#make(request, "urgent", (answer) => this.#loadModel(request, answer, gpusOf(source.config)));
    } catch (error) {
      if (request.gpu === undefined || !(error instanceof SinterError) || error.code !== "no-gpu") throw error;
      this.#options.log.warn({ model: source.config.name, reason: error.message }, "the configuration asks for a GPU; the model runs on the processor");
      return this.#make(onProcessor, "urgent", (answer) => this.#loadModel(onProcessor, answer));
    }
  }

  /** Compiles and opens; an engine that was kept and does not load any more is made anew. */
  async #make(request: CompileRequest, urgency: "urgent" | "tuning", open: (answer: CompileAnswer) => Promise<BackendModel>, signal?: AbortSignal): Promise<BackendModel> {
    const answer = await this.#compile(request, urgency, signal);
    try {
      return await open(answer);
    } catch (error) {
      if (!(error instanceof SinterError && UNLOADABLE.has(error.code))) throw error;
      await this.#options.cache.discard(answer.engine);
      return open(await this.#compile(request, urgency, signal));
    }
  }

  /** As the compiler answers, or as it answered for the same bytes and options before: then no process is started. */
  async #compile(request: CompileRequest, urgency: "urgent" | "tuning", signal?: AbortSignal): Promise<CompileAnswer> {
    const { cache, compiler, version, gpus } = this.#options;
    const { model, levels, ...rest } = { ...request, config: { ...request.config, name: "" } };
    const digest = await hashFile(model);
    const device = request.gpu === undefined ? detectCpu(process.env).id : gpus.identity;
    const keyOf = (level: number): string => createHash("sha256").update(JSON.stringify([version, device, digest, rest, level])).digest("hex").slice(0, 40);
    for (const level of levels) {
      const kept = await cache.recall(keyOf(level));
      if (kept) return kept;
    }
    const answer = await compiler.compile(request, urgency, signal);
    if (!answer.hasExternalData) await cache.remember(keyOf(answer.level), answer);
    return answer;
  }

  async #loadEngine({ folder, config }: ModelSource, file: string, threads: number): Promise<BackendModel> {
    const { path, digest } = await this.#options.cache.adopt(file);
    requireTrusted(file, digest, trustedKeys(this.#options.keys));
    const model = join(folder, "model.onnx");
    if (!isForGpu(path)) return this.#open(path, threads);
    return this.#openOnGpus(gpusOf(config) ?? [this.#options.gpus.first], path, { threads, standIn: isFile(model) ? () => this.#makeStandIn(this.#request(config, model, threads)) : undefined });
  }

  async #makeStandIn(request: CompileRequest): Promise<BackendModel> {
    const atOnce = { ...request, levels: [0 as const] };
    return this.#make(atOnce, "urgent", (answer) => this.#loadModel(request, answer));
  }

  /** @param gpus where it runs; without, here */
  async #loadModel(request: CompileRequest, answer: CompileAnswer, gpus?: readonly number[]): Promise<BackendModel> {
    const { tuneLevel } = this.#options;
    const { gpu: _, precision: __, ...onProcessor } = request;
    const open = async (path: string, about?: Origin): Promise<BackendModel> =>
      gpus ? this.#openOnGpus(gpus, path, { threads: request.threads, standIn: () => this.#makeStandIn(onProcessor) }, about) : this.#open(path, request.threads, about);
    const origin: Origin = {
      description: answer.description,
      widen: async (cover) => {
        const byInput = Object.fromEntries(answer.description.inputs.map(({ name }, i) => [name, cover.flatMap((shapes) => (shapes[i] ? [shapes[i]] : []))]));
        const wider = { ...request, cover: byInput, levels: [0 as const] };
        return this.#make(wider, "urgent", ({ engine }) => open(engine));
      },
      improve: async (signal) => {
        if (tuneLevel === 0 || answer.level >= tuneLevel) return undefined;
        const tuned = { ...request, levels: [tuneLevel] };
        return this.#make(tuned, "tuning", (better) => this.#loadModel(tuned, better, gpus), signal);
      },
    };
    return open(answer.engine, origin);
  }

  #open(path: string, threads: number, origin?: Origin): BackendModel {
    return new EngineModel(localEngine(Engine.loadSync(path, { threads }), this.#options.pool), statSync(path).size, origin);
  }

  async #openOnGpus(gpus: readonly number[], path: string, options: Pick<HostedEngineOptions, "threads" | "standIn">, origin?: Origin): Promise<BackendModel> {
    const engines: HostedEngine[] = [];
    try {
      for (const gpu of gpus) engines.push(await HostedEngine.load({ ...options, host: this.#options.gpus.of(gpu), path }));
    } catch (error) {
      for (const engine of engines) engine.dispose();
      throw error;
    }
    return new EngineModel(inTurns(engines), statSync(path).size, origin);
  }

  #request(config: ModelConfig, model: string, threads: number): CompileRequest {
    const { cache, tuneLevel, defaultMaxBatch } = this.#options;
    return { model, config: whatDecides(config), defaultMaxBatch, cache: cache.folder, levels: tuneLevel === 0 ? [0] : [tuneLevel, 0], threads, profiles: profilesOf(config) };
  }
}

function isForGpu(path: string): boolean {
  const file = EngineFile.open(path);
  try {
    return file.manifest().target.arch === "cuda";
  } finally {
    file.close();
  }
}

/** The part of a configuration that an engine depends on: others may change without a new one. */
function whatDecides({ name, max_batch_size, input, output, dynamic_batching }: ModelConfig): ModelConfig {
  return {
    name, ...(max_batch_size === undefined ? {} : { max_batch_size }), ...(input ? { input } : {}), ...(output ? { output } : {}),
    dynamic_batching: { preferred_batch_size: dynamic_batching?.preferred_batch_size ?? [] },
  };
}

/** For which GPU a model is compiled, one of those it runs on, and in which precision: the parameter `precision`. */
function whereOf(config: ModelConfig): Pick<CompileRequest, "gpu" | "precision"> {
  const [gpu] = gpusOf(config) ?? [];
  const precision = parameterOf(config, "precision");
  if (precision !== undefined && !PRECISIONS.includes(precision as Precision)) throw new UserError("config-invalid", `Model "${config.name}": parameter "precision" is "${precision}"; expected ${PRECISIONS.join(", ")}.`);
  return { ...(gpu === undefined ? {} : { gpu }), ...(precision === undefined ? {} : { precision: precision as Precision }) };
}

/** Threads each instance computes with: the parameter `threads`, or an even share of the processor. */
function threadsFor(config: ModelConfig): number {
  const text = parameterOf(config, "threads");
  if (text === undefined) return threadsOfShare(availableThreads(), Math.max(1, instancesOf(config) ?? 1));
  const threads = Number(text);
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > 1024) throw new UserError("config-invalid", `Model "${config.name}": parameter "threads" is "${text}"; expected a whole number from 1.`);
  return threads;
}

const SHAPES = /^\d+(x\d+)*(,\d+(x\d+)*){0,2}$/;

/** Parameters `profile:INPUT`, as in "1x1,8x16,64x128": smallest, usual and largest shape with the batch in front. */
function profilesOf(config: ModelConfig): CompileRequest["profiles"] {
  const profiles: Record<string, number[][]> = {};
  for (const [name, { string_value: text = "" }] of Object.entries(config.parameters ?? {})) {
    if (!name.startsWith("profile:")) continue;
    if (!SHAPES.test(text)) throw new UserError("config-invalid", `Model "${config.name}": parameter "${name}" is "${text}"; expected the smallest, usual and largest shape, as in "1x1,8x16,64x128".`);
    profiles[name.slice("profile:".length)] = text.split(",").map((shape) => shape.split("x").map(Number));
  }
  return profiles;
}
