/**
 * The whole server on one page: the engine cache and the backends, the model store over them, the front ends before it.
 */
import { Compiler, EngineBackend, EngineCache, GpuHosts, IdentityBackend, MODEL_NICE, NativePool, OnnxruntimeBackend, RepeatBackend } from "./backends/index.ts";
import { SinterError } from "./base/index.ts";
import { Nvml } from "./native/index.ts";
import { openPool } from "./program/index.ts";
import { type ControlMode, type FrontEndOptions, MetricsRegistry, ModelServer, ModelStore, openFrontEnds, Repositories, RepositoryPoll, ServerMetrics, Statistics, systemClock, watchGpus } from "./server/index.ts";
import type { ConfigChoice } from "./repository/index.ts";

export interface ServeOptions extends FrontEndOptions {
  readonly repositories: readonly string[];
  /** Where engines are kept that the server made or copied in. */
  readonly cache: string;
  /** Folder of the keys whose engines are loaded. */
  readonly keys: string;
  readonly mode?: ControlMode;
  /** In mode explicit: what to load at start; "*" for all. */
  readonly load?: readonly string[];
  readonly pollSeconds?: number;
  readonly exitOnError?: boolean;
  /** Whether the server is ready only with all of its start-up set; on by default. */
  readonly strictReadiness?: boolean;
  readonly config?: ConfigChoice;
  /** Models loaded at a time at start. */
  readonly loadsAtOnce?: number;
  readonly loadRetries?: number;
  readonly exitTimeoutSeconds?: number;
  readonly defaultMaxBatch?: number;
  /** Requests in places, and in the backlog of sequences, before a model's first batch: for tests of scheduling. */
  readonly startAt?: { readonly placed: number; readonly backlog: number };
  /** Level that models are tuned to in the background; 0: they stay as they are first compiled. */
  readonly tuneLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly maxQueueRequests?: number;
  readonly maxQueueBytes?: number;
  readonly allowUpload?: boolean;
  /** The module that the processes run which have a GPU each; ours by default. */
  readonly gpuModule?: URL;
}

export interface RunningServer {
  readonly server: ModelServer;
  readonly store: ModelStore;
  readonly registry: MetricsRegistry;
  readonly httpPort: number | undefined;
  readonly grpcPort: number | undefined;
  readonly metricsPort: number | undefined;
  /** Drains and frees everything. @returns requests that were cut off */
  stop(): Promise<number>;
}

const MIB = 2 ** 20;
/** Models loaded at a time at start. */
const LOADS_AT_ONCE = 4;

/** Resolves when the start-up set is warm. @throws SinterError when a model of it fails, unless `exitOnError` is false */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { log, mode = "none", defaultMaxBatch = 4 } = options;
  openPool().setPriority(MODEL_NICE);
  const metrics = new ServerMetrics(new MetricsRegistry());
  const repositories = new Repositories(options.repositories);
  const compiler = new Compiler();
  const pool = new NativePool();
  const gpus = new GpuHosts({ log, env: process.env, module: options.gpuModule });
  const engine = new EngineBackend({ log, gpus, cache: new EngineCache(options.cache), compiler, pool, keys: options.keys, tuneLevel: options.tuneLevel ?? 3, defaultMaxBatch, version: options.version });
  const counts = new Map<string, Statistics>();
  const store = new ModelStore({
    repositories, backends: [engine, new OnnxruntimeBackend(), new IdentityBackend(pool), new RepeatBackend()], log, config: options.config ?? {}, retries: options.loadRetries ?? 0,
    dependencies: {
      clock: systemClock, metrics, log, defaultMaxBatch, ...(options.startAt ? { startAt: options.startAt } : {}), bounds: { maxRequests: options.maxQueueRequests ?? 65_536, maxBytes: options.maxQueueBytes ?? 1024 * MIB },
      statistics: (model, version) => kept(counts, `${model}/${version}`, () => new Statistics()),
    },
  });
  const server = new ModelServer({ store, mode, maxBodyBytes: options.maxQueueBytes ?? 1024 * MIB, allowUpload: options.allowUpload ?? false, log });
  const unwatch = metrics.watchEventLoop();
  const nvml = Nvml.open();
  if (nvml) watchGpus(metrics.registry, nvml);
  else log.debug("NVML is not here: no metrics of GPUs");
  const fronts = await openFrontEnds(server, metrics.registry, options);
  let poll: RepositoryPoll | undefined;
  const stop = async (): Promise<number> => {
    await poll?.stop();
    const untilMs = performance.now() + (options.exitTimeoutSeconds ?? 30) * 1000;
    server.setDraining();
    const cutOff = await fronts.drain(untilMs - performance.now());
    const left = await server.drain(Math.max(0, untilMs - performance.now()));
    compiler.close();
    if (left === 0) await store.close();
    await fronts.close();
    unwatch();
    return Math.max(cutOff, left);
  };
  try {
    await loadFirst(store, repositories, options);
  } catch (error) {
    await stop();
    throw error;
  }
  if (mode === "poll") poll = new RepositoryPoll(store, repositories, (options.pollSeconds ?? 15) * 1000, log);
  return { server, store, registry: metrics.registry, ...fronts.ports, stop };

  /** The start-up set; the server is ready when all of it is. */
  async function loadFirst(target: ModelStore, from: Repositories, { load = [], exitOnError = true, strictReadiness = true, loadsAtOnce = LOADS_AT_ONCE }: ServeOptions): Promise<void> {
    const names = mode === "explicit" && !load.includes("*") ? load : from.names();
    const failures: string[] = [];
    const waiting = [...names];
    await Promise.all(Array.from({ length: loadsAtOnce }, async () => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        await target.load(name).catch((error: Error) => {
          log.error({ reason: error.message }, `a model was not loaded`);
          failures.push(error.message);
        });
      }
    }));
    if (failures.length > 0 && exitOnError) throw new SinterError("model-missing", `${failures.length} of ${names.length} models could not be loaded (--exit-on-error false serves the others):\n  ${failures.join("\n  ")}`);
    if (failures.length === 0 || !strictReadiness) server.setReady();
    log.info({ models: names.length - failures.length, http: fronts.ports.httpPort, grpc: fronts.ports.grpcPort, metrics: fronts.ports.metricsPort }, failures.length === 0 || !strictReadiness ? "ready" : "serving, but not ready: a model of the start-up set is missing");
  }
}

function kept<T>(map: Map<string, T>, key: string, make: () => T): T {
  let found = map.get(key);
  if (found === undefined) map.set(key, (found = make()));
  return found;
}
