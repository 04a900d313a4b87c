/**
 * The backend `engine`: a version's `model.engine`, signed by a trusted key, or its `model.onnx`, compiled here.
 *
 * A model serves at once from an engine of level 0, made in a child process; `improve` makes the tuned one and `widen` one
 * for shapes outside the profile. All of them lie in the server's cache, by content.
 */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../base/index.ts";
import { availableThreads, detectCpu } from "../../native/index.ts";
import { type CompileAnswer, type CompileRequest, isFile, type ModelConfig, parameterOf } from "../../repository/index.ts";
import { Engine } from "../../runtime/index.ts";
import { requireTrusted, trustedKeys } from "../../trust/index.ts";
import type { Backend, BackendModel, ModelSource } from "../contract.ts";
import type { Compiler } from "./compiler.ts";
import { type EngineCache, hashFile } from "./engine-cache.ts";
import { EngineModel, type Origin, threadsOfShare } from "./engine-model.ts";
import type { NativePool } from "./native-pool.ts";

type Level = CompileRequest["levels"][number];

export interface EngineBackendOptions {
  readonly cache: EngineCache;
  readonly compiler: Compiler;
  readonly pool: NativePool;
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
    if (!file.endsWith(".onnx")) return this.#loadEngine(file, threads);
    const request = this.#request(source.config, file, threads);
    return this.#loadModel(request, await this.#compile(request, "urgent"));
  }

  /** As the compiler answers, or as it answered for the same bytes and options before: then no process is started. */
  async #compile(request: CompileRequest, urgency: "urgent" | "tuning", signal?: AbortSignal): Promise<CompileAnswer> {
    const { cache, compiler, version } = this.#options;
    const { model, levels, ...rest } = { ...request, config: { ...request.config, name: "" } };
    const digest = await hashFile(model);
    const keyOf = (level: number): string => createHash("sha256").update(JSON.stringify([version, detectCpu(process.env).id, digest, rest, level])).digest("hex").slice(0, 40);
    for (const level of levels) {
      const kept = await cache.recall(keyOf(level));
      if (kept) return kept;
    }
    const answer = await compiler.compile(request, urgency, signal);
    if (!answer.hasExternalData) await cache.remember(keyOf(answer.level), answer);
    return answer;
  }

  async #loadEngine(file: string, threads: number): Promise<BackendModel> {
    const { path, digest } = await this.#options.cache.adopt(file);
    requireTrusted(file, digest, trustedKeys(this.#options.keys));
    return this.#open(path, threads);
  }

  #loadModel(request: CompileRequest, answer: CompileAnswer): BackendModel {
    const { tuneLevel } = this.#options;
    const origin: Origin = {
      description: answer.description,
      widen: async (shapes) => {
        const cover = Object.fromEntries(answer.description.inputs.flatMap(({ name }, i) => (shapes[i] ? [[name, shapes[i]]] : [])));
        const wider = { ...request, cover, levels: [0 as const] };
        return this.#open((await this.#compile(wider, "urgent")).engine, request.threads);
      },
      improve: async (signal) => {
        if (tuneLevel === 0 || answer.level >= tuneLevel) return undefined;
        const tuned = { ...request, levels: [tuneLevel] };
        return this.#loadModel(tuned, await this.#compile(tuned, "tuning", signal));
      },
    };
    return this.#open(answer.engine, request.threads, origin);
  }


  #open(path: string, threads: number, origin?: Origin): BackendModel {
    return new EngineModel(Engine.loadSync(path, { threads }), statSync(path).size, this.#options.pool, origin);
  }

  #request(config: ModelConfig, model: string, threads: number): CompileRequest {
    const { cache, tuneLevel, defaultMaxBatch } = this.#options;
    return { model, config: whatDecides(config), defaultMaxBatch, cache: cache.folder, levels: tuneLevel === 0 ? [0] : [tuneLevel, 0], threads, profiles: profilesOf(config) };
  }
}

/** The part of a configuration that an engine depends on: others may change without a new one. */
function whatDecides({ name, max_batch_size, input, output, dynamic_batching }: ModelConfig): ModelConfig {
  return {
    name, ...(max_batch_size === undefined ? {} : { max_batch_size }), ...(input ? { input } : {}), ...(output ? { output } : {}),
    dynamic_batching: { preferred_batch_size: dynamic_batching?.preferred_batch_size ?? [] },
  };
}

/** Threads each instance computes with: the parameter `threads`, or an even share of the processor. */
function threadsFor(config: ModelConfig): number {
  const text = parameterOf(config, "threads");
  if (text === undefined) return threadsOfShare(availableThreads(), Math.max(1, instancesOf(config) ?? 1));
  const threads = Number(text);
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > 1024) throw new UserError("config-invalid", `Model "${config.name}": parameter "threads" is "${text}"; expected a whole number from 1.`);
  return threads;
}

function instancesOf(config: ModelConfig): number | undefined {
  return config.instance_group?.length ? config.instance_group.reduce((sum, { count }) => sum + (count || 1), 0) : undefined;
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
