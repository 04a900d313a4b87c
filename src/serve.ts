/**
 * The whole server on one page: the engine cache and the backends, the model store over them, the front ends before it.
 */
import type { Logger } from "pino";
import { Compiler, EngineBackend, EngineCache, MODEL_NICE, NativePool, OnnxruntimeBackend } from "./backends/index.ts";
import { SinterError } from "./base/index.ts";
import { openPool } from "./program/index.ts";
import { type ControlMode, Extensions, GrpcFrontEnd, HttpFrontEnd, MetricsFrontEnd, MetricsRegistry, ModelServer, ModelStore, Repositories, RepositoryPoll, Restrictions, ServerMetrics, Statistics, systemClock, type TraceSetting } from "./server/index.ts";

export interface ServeOptions {
  readonly repositories: readonly string[];
  /** Where engines are kept that the server made or copied in. */
  readonly cache: string;
  /** Folder of the keys whose engines are loaded. */
  readonly keys: string;
  readonly log: Logger;
  readonly host?: string;
  /** 0: any free one; undefined: that front end is not opened. */
  readonly httpPort?: number | undefined;
  readonly grpcPort?: number | undefined;
  readonly metricsPort?: number | undefined;
  readonly mode?: ControlMode;
  /** In mode explicit: what to load at start; "*" for all. */
  readonly load?: readonly string[];
  readonly pollSeconds?: number;
  readonly exitOnError?: boolean;
  readonly exitTimeoutSeconds?: number;
  readonly defaultMaxBatch?: number;
  /** Level that models are tuned to in the background; 0: they stay as they are first compiled. */
  readonly tuneLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly maxInputBytes?: number;
  readonly maxQueueRequests?: number;
  readonly maxQueueBytes?: number;
  readonly allowUpload?: boolean;
  readonly allowClientSharedMemory?: boolean;
  /** What the trace settings are at start. */
  readonly trace?: Partial<TraceSetting>;
  /** Each "category,category:key=value": what only callers with that header may use. */
  readonly httpRestricted?: readonly string[];
  readonly grpcRestricted?: readonly string[];
  /** What the server calls itself. */
  readonly id?: string;
  readonly version: string;
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
  const engine = new EngineBackend({ cache: new EngineCache(options.cache), compiler, pool: new NativePool(), keys: options.keys, tuneLevel: options.tuneLevel ?? 3, defaultMaxBatch, version: options.version });
  const counts = new Map<string, Statistics>();
  const store = new ModelStore({
    repositories, backends: [engine, new OnnxruntimeBackend()], log,
    dependencies: {
      clock: systemClock, metrics, log, defaultMaxBatch, bounds: { maxRequests: options.maxQueueRequests ?? 65_536, maxBytes: options.maxQueueBytes ?? 1024 * MIB },
      statistics: (model, version) => kept(counts, `${model}/${version}`, () => new Statistics()),
    },
  });
  const server = new ModelServer({ store, mode, maxBodyBytes: options.maxQueueBytes ?? 1024 * MIB, allowUpload: options.allowUpload ?? false, log });
  const unwatch = metrics.watchEventLoop();
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
  async function loadFirst(target: ModelStore, from: Repositories, { load = [], exitOnError = true }: ServeOptions): Promise<void> {
    const names = mode === "explicit" && !load.includes("*") ? load : from.names();
    const failures: string[] = [];
    const waiting = [...names];
    await Promise.all(Array.from({ length: LOADS_AT_ONCE }, async () => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        await target.load(name).catch((error: Error) => {
          log.error({ reason: error.message }, `a model was not loaded`);
          failures.push(error.message);
        });
      }
    }));
    if (failures.length > 0 && exitOnError) throw new SinterError("model-missing", `${failures.length} of ${names.length} models could not be loaded (--exit-on-error false serves the others):\n  ${failures.join("\n  ")}`);
    if (failures.length === 0) server.setReady();
    log.info({ models: names.length - failures.length, http: fronts.ports.httpPort, grpc: fronts.ports.grpcPort, metrics: fronts.ports.metricsPort }, failures.length === 0 ? "ready" : "serving, but not ready: a model of the start-up set is missing");
  }
}

interface FrontEnds {
  readonly ports: Pick<RunningServer, "httpPort" | "grpcPort" | "metricsPort">;
  /** Finishes what was accepted. @returns requests cut off */
  drain(mostMs: number): Promise<number>;
  close(): Promise<void>;
}

async function openFrontEnds(server: ModelServer, registry: MetricsRegistry, options: ServeOptions): Promise<FrontEnds> {
  const extensions = new Extensions({ logger: options.log, allowClientSharedMemory: options.allowClientSharedMemory ?? false, ...(options.trace ? { trace: options.trace } : {}) });
  const host = options.host ?? "127.0.0.1";
  const identity = { name: options.id ?? "triton", version: options.version };
  const http = options.httpPort === undefined ? undefined : await HttpFrontEnd.listen(server, { host, port: options.httpPort, identity, extensions, restrictions: new Restrictions(options.httpRestricted), ...(options.maxInputBytes === undefined ? {} : { maxInputBytes: options.maxInputBytes }) });
  const grpc = options.grpcPort === undefined ? undefined : await GrpcFrontEnd.listen(server, { host, port: options.grpcPort, identity, extensions, restrictions: new Restrictions(options.grpcRestricted, "protocol", "triton-grpc-protocol-") });
  const metrics = options.metricsPort === undefined ? undefined : await MetricsFrontEnd.listen(registry, { host, port: options.metricsPort });
  return {
    ports: { httpPort: http?.port, grpcPort: grpc?.port, metricsPort: metrics?.port },
    drain: async (mostMs) => (await Promise.all([http?.drain(mostMs), grpc?.drain(mostMs)])).reduce<number>((sum, cutOff) => sum + (cutOff ?? 0), 0),
    close: async () => {
      await metrics?.close();
      extensions.close();
    },
  };
}

function kept<T>(map: Map<string, T>, key: string, make: () => T): T {
  let found = map.get(key);
  if (found === undefined) map.set(key, (found = make()));
  return found;
}
