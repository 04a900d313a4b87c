/**
 * One version of a model, ready to answer: its complete configuration, its lane, and a second lane for shapes outside the
 * profile, whose engine is made when the first such request comes. Those answers are slower, and counted.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import { assert } from "../../base/index.ts";
import type { Backend, BackendModel, ModelSource } from "../../backends/index.ts";
import { completeConfig, completeFromModel, instancesOf, type ModelConfig, type PlainMessage, readLabels } from "../../repository/index.ts";
import { type InferenceRequest, type InferenceResponse, type ModelStatistics, type RequestTrace, ServingError } from "../contract.ts";
import { type Clock, OneByOne, type StartAt } from "../scheduler/index.ts";
import { padsRequests, padValues, policyFor, type QueueBounds, queueFor, spreads } from "./batching.ts";
import { toServingError } from "./failure.ts";
import { Lane, type LaneObserver } from "./lane.ts";
import type { ServerMetrics, VersionMetrics } from "./metrics.ts";
import { OrderedReplies } from "./ordered-replies.ts";
import { Pending } from "./pending.ts";
import { scatter, type ScatterContext } from "./scatter.ts";
import type { Served } from "./served.ts";
import { Sequencer } from "./sequencer.ts";
import { Signature } from "./signature.ts";
import type { BatchTimes, Statistics } from "./statistics.ts";
import { warmUp } from "./warmup.ts";

export interface VersionDependencies {
  readonly clock: Clock;
  readonly metrics: ServerMetrics;
  readonly log: Logger;
  readonly bounds: QueueBounds;
  readonly defaultMaxBatch: number;
  /** Triton's tests of its schedulers fill a queue before anything of it runs. */
  readonly startAt?: StartAt;
  /** Counts go on where the version served before. */
  statistics(model: string, version: string): Statistics;
}

type Shapes = readonly (readonly number[] | undefined)[];

/** Most instances one model may have. */
const MAX_INSTANCES = 64;

export class ServingVersion implements Served {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  readonly signature: Signature;
  readonly platform: string;
  readonly file: string;
  readonly loadMs: number;
  readonly #source: ModelSource;
  readonly #dependencies: VersionDependencies;
  readonly #lane: Lane;
  readonly #context: ScatterContext;
  readonly #statistics: Statistics;
  readonly #metrics: VersionMetrics;
  readonly #order: OrderedReplies | undefined;
  readonly #sequencer: Sequencer | undefined;
  readonly #improving = new AbortController();
  readonly inferStream?: NonNullable<Served["inferStream"]>;
  #streams = 0;
  #streamsEnded: (() => void) | undefined;
  #wide: Lane | undefined;
  #widening: Promise<void> | undefined;
  #waitingForWide = 0;
  #improvement: Promise<void> = Promise.resolve();

  private constructor(made: { source: ModelSource; file: string; backend: Backend; config: ModelConfig; lane: Lane; context: ScatterContext; signature: Signature; metrics: VersionMetrics; statistics: Statistics; loadMs: number }, dependencies: VersionDependencies) {
    const { source, file, backend, config, lane, signature } = made;
    this.name = source.name;
    this.version = String(source.version);
    this.config = config;
    this.signature = signature;
    this.file = file;
    this.loadMs = made.loadMs;
    this.platform = config.platform || config.backend || backend.name;
    this.#source = source;
    this.#dependencies = dependencies;
    this.#lane = lane;
    this.#context = made.context;
    if (lane.model.stream) this.inferStream = (request, onResponse) => this.#stream(request, onResponse);
    this.#metrics = made.metrics;
    this.#statistics = made.statistics;
    this.#order = config.dynamic_batching?.preserve_ordering || config.sequence_batching?.oldest?.preserve_ordering ? new OrderedReplies() : undefined;
    const { sequence_batching } = config;
    this.#sequencer = sequence_batching && new Sequencer({ ...config, sequence_batching }, lane.model.description, source, {
      clock: dependencies.clock, instances: lane.instances.length, maxRequests: dependencies.bounds.maxRequests, ...(dependencies.startAt ? { startAt: dependencies.startAt } : {}), submit: (turn) => this.#submit(this.#order ? this.#order.wrap(turn) : turn), dropped: (pending) => this.#dropped(pending),
    });
  }

  /** Loads, checks and warms. @throws whatever is wrong with the configuration, the file or the model */
  static async load(source: ModelSource, backend: Backend, file: string, dependencies: VersionDependencies): Promise<ServingVersion> {
    const before = performance.now();
    const model = await backend.load(source, file);
    let lane: Lane | undefined;
    try {
      const config = named(completeFromModel(source.config, model.description, dependencies.defaultMaxBatch), backend.name);
      const signature = new Signature(config, model.description, padsRequests(config));
      const statistics = dependencies.statistics(source.name, String(source.version));
      const metrics = dependencies.metrics.version(source.name, String(source.version));
      const policy = policyFor(config);
      const shares = spreads(config, policy) ? (model.shares ?? 1) : 1;
      const instances = Math.min(MAX_INSTANCES, shares > 1 ? shares : (instancesOf(config) ?? model.defaultInstances));
      const context = scatterContext(source, signature);
      lane = await Lane.open(model, {
        context, policy, queue: queueFor(config, dependencies.bounds), instances, spread: shares > 1,
        ...(dependencies.startAt && config.dynamic_batching ? { startAt: dependencies.startAt.placed } : {}),
        pads: padValues(config), clock: dependencies.clock, observer: observe(statistics, metrics),
      });
      await warmUp(model, lane.instances, signature, { ...source, config });
      const loadMs = performance.now() - before;
      metrics.loadSeconds.set(loadMs / 1000);
      const made = new ServingVersion({ source, file, backend, config, lane, context, signature, metrics, statistics, loadMs }, dependencies);
      dependencies.metrics.watch(metrics, () => made.gauges());
      return made;
    } catch (error) {
      if (lane) await lane.close();
      else model.dispose();
      throw error;
    }
  }

  get summary(): string {
    return this.#lane.model.summary;
  }

  plainConfig(): PlainMessage {
    const choice = Object.entries(this.#lane.policy.describe()).map(([name, value]) => [`chosen:${name}`, { string_value: String(value) }] as const);
    const shown = this.#lane.policy.name === "latency-objective" ? { ...this.config, parameters: { ...this.config.parameters, ...Object.fromEntries(choice) } } : this.config;
    return completeConfig(shown);
  }

  statistics(): ModelStatistics {
    return this.#statistics.snapshot(this.name, this.version, this.#memoryBytes());
  }

  gauges(): { readonly pending: number; readonly pendingBytes: number; readonly memoryBytes: number; readonly batching: Readonly<Record<string, number>> } {
    return {
      pending: this.#lane.waiting + (this.#sequencer?.waiting ?? 0) + (this.#wide?.waiting ?? 0) + this.#waitingForWide, pendingBytes: this.#lane.waitingBytes + (this.#wide?.waitingBytes ?? 0),
      memoryBytes: this.#memoryBytes(), batching: this.#lane.policy.describe(),
    };
  }

  labels(output: string): readonly string[] | undefined {
    return this.#lane.labels(output);
  }

  /** Asked before a request's body is read. @throws ServingError UNAVAILABLE when it would find no room */
  checkRoom(bodyBytes: number): void {
    if (this.#lane.hasRoom(0, bodyBytes)) return;
    this.#metrics.failed("REJECTED");
    this.#statistics.failed(0);
    throw new ServingError("UNAVAILABLE", "Exceeds maximum queue size");
  }

  infer(request: InferenceRequest): Promise<InferenceResponse> {
    const arrivedNs = this.#dependencies.clock.nowNs();
    const { trace } = request;
    return new Promise((answer, reject) => {
      const resolve = trace?.tensors ? tracingTensors(trace, request, answer) : answer;
      try {
        const pending = new Pending(request, this.signature.prepare(request), arrivedNs, resolve, reject);
        this.#sequencer?.check(pending);
        if (this.#sequencer) this.#sequencer.submit(pending);
        else this.#submit(this.#order ? this.#order.wrap(pending) : pending);
      } catch (error) {
        this.#metrics.failed("OTHER");
        this.#statistics.failed(this.#dependencies.clock.nowNs() - arrivedNs);
        reject(toServingError(error));
      }
    });
  }

  /** Past the batcher: each request has its own time. */
  async #stream(request: InferenceRequest, onResponse: (response: InferenceResponse) => void): Promise<void> {
    const { clock, bounds } = this.#dependencies;
    const arrivedNs = clock.nowNs();
    if (this.#streams >= bounds.maxRequests) throw new ServingError("UNAVAILABLE", "Exceeds maximum queue size");
    this.#streams++;
    try {
      const pending = new Pending(request, this.signature.prepare(request), arrivedNs, () => undefined, () => undefined);
      await this.#lane.model.stream!(pending.inputs, (results) => onResponse(scatter(results, [pending], this.#context)[0]!), () => request.cancelled);
      if (request.cancelled) throw new ServingError("CANCELLED", "the request was cancelled");
      const elapsedNs = clock.nowNs() - arrivedNs;
      const times = { inputNs: 0, inferNs: elapsedNs, outputNs: 0 };
      this.#statistics.executed(pending.rows, times);
      this.#statistics.succeeded(elapsedNs, 0, pending.rows, times, Date.now());
      this.#metrics.executed(pending.rows, pending.bytes, 0);
      this.#metrics.succeeded(pending.rows, elapsedNs, 0, times);
    } catch (error) {
      this.#metrics.failed(request.cancelled ? "CANCELED" : "OTHER");
      this.#statistics.failed(clock.nowNs() - arrivedNs);
      throw toServingError(error);
    } finally {
      if (--this.#streams === 0) this.#streamsEnded?.();
    }
  }

  #dropped(pending: Pending): void {
    this.#metrics.failed("CANCELED");
    this.#statistics.failed(this.#dependencies.clock.nowNs() - pending.arrivedNs);
    pending.reject(new ServingError("CANCELLED", "the request was cancelled before it was executed"));
  }

  /** Makes the model faster in the background; the faster one takes over when it is there. */
  improve(): void {
    const { model } = this.#lane;
    const make = model.improve;
    if (!make) return;
    this.#improvement = this.#tryImprove(() => make.call(model, this.#improving.signal));
  }

  /** No batch waits for more requests from now on. */
  flush(): void {
    this.#lane.flush();
  }

  /** Answers all that was accepted, then frees everything. */
  async close(): Promise<void> {
    this.#improving.abort();
    await this.#improvement;
    await this.#sequencer?.close();
    if (this.#streams > 0) await new Promise<void>((resolve) => { this.#streamsEnded = resolve; });
    while (this.#waitingForWide > 0) await nextTurn();
    await Promise.all([this.#lane.close(), this.#wide?.close()]);
    this.#dependencies.metrics.forget(this.#metrics);
  }

  async #tryImprove(make: () => Promise<BackendModel | undefined>): Promise<void> {
    const { log } = this.#dependencies;
    const before = performance.now();
    try {
      const better = await make();
      if (!better) return;
      if (this.#improving.signal.aborted) {
        better.dispose();
        return;
      }
      await this.#lane.replace(better);
      log.info({ model: this.name, version: this.version, on: better.summary, ms: Math.round(performance.now() - before) }, "tuned engine took over");
    } catch (error) {
      if (!this.#improving.signal.aborted) log.warn({ model: this.name, version: this.version, err: error }, "tuning failed; the engine that serves stays");
    }
  }

  #submit(pending: Pending): void {
    const shapes: Shapes = pending.inputs.map((input) => input?.shape);
    const { model } = this.#lane;
    if (model.admits(shapes) || !model.widen) {
      this.#lane.submit(pending);
      return;
    }
    this.#metrics.outsideProfile.inc();
    if (this.#wide?.model.admits(shapes)) this.#wide.submit(pending);
    else void this.#submitWide(pending, shapes);
  }

  async #submitWide(pending: Pending, shapes: Shapes): Promise<void> {
    this.#waitingForWide++;
    try {
      if (this.#waitingForWide > this.#dependencies.bounds.maxRequests) throw new ServingError("UNAVAILABLE", "Exceeds maximum queue size");
      while (!this.#wide?.model.admits(shapes)) {
        if (this.#widening) await this.#widening;
        else await (this.#widening = this.#widen(shapes).finally(() => { this.#widening = undefined; }));
      }
      this.#wide.submit(pending);
    } catch (error) {
      this.#metrics.failed("BACKEND");
      this.#statistics.failed(this.#dependencies.clock.nowNs() - pending.arrivedNs);
      pending.reject(toServingError(error));
    } finally {
      this.#waitingForWide--;
    }
  }

  async #widen(shapes: Shapes): Promise<void> {
    const { log, clock, bounds } = this.#dependencies;
    const before = performance.now();
    const reach = (farther: (...sizes: number[]) => number, before: Shapes | undefined): Shapes => shapes.map((shape, i) => shape?.map((size, axis) => farther(size, before?.[i]?.[axis] ?? size)));
    const least = reach(Math.min, this.#covered[0]);
    const most = reach(Math.max, this.#covered[1]);
    const widened = await this.#lane.model.widen!([least, most]);
    assert(widened.admits(shapes), "a wider engine that does not admit what it was made for");
    this.#covered = [least, most];
    const lane = await Lane.open(widened, {
      context: scatterContext(this.#source, this.signature), policy: new OneByOne(), queue: queueFor({ name: this.name }, bounds), instances: 1, pads: new Map(), clock,
      observer: observe(this.#statistics, this.#metrics),
    });
    const old = this.#wide;
    this.#wide = lane;
    void old?.close();
    log.info({ model: this.name, version: this.version, shapes: most, ms: Math.round(performance.now() - before) }, "an engine for shapes outside the profile is ready");
  }

  /** The least and the most that the wide lane's engine was made to admit, by input and axis. */
  #covered: readonly Shapes[] = [];

  #memoryBytes(): number {
    return this.#lane.model.memoryBytes() + (this.#wide?.model.memoryBytes() ?? 0);
  }
}

/** A configuration that names neither backend nor platform says what it got. */
function named(config: ModelConfig, backend: string): ModelConfig {
  return config.backend || config.platform ? config : { ...config, backend };
}

function observe(statistics: Statistics, metrics: VersionMetrics): LaneObserver {
  return {
    executed: (_batch, { rows, inputBytes, paddingBytes }, times) => {
      statistics.executed(rows, times);
      metrics.executed(rows, inputBytes, paddingBytes);
    },
    succeeded: (item, times, nowNs) => {
      const totalNs = nowNs - item.arrivedNs;
      const queueNs = item.startedNs - item.enqueuedNs;
      statistics.succeeded(totalNs, queueNs, item.rows, times, Date.now());
      metrics.succeeded(item.rows, totalNs, queueNs, times);
      if (item.request.trace) traceSteps(item.request.trace, item, times, nowNs);
    },
    failed: (item, reason, nowNs) => {
      statistics.failed(nowNs - item.arrivedNs);
      metrics.failed(reason);
    },
  };
}

function tracingTensors(trace: RequestTrace, { inputs }: InferenceRequest, answer: (response: InferenceResponse) => void): (response: InferenceResponse) => void {
  for (const input of inputs) trace.tensor("TENSOR_QUEUE_INPUT", input);
  return (response) => {
    for (const output of response.outputs) trace.tensor("TENSOR_BACKEND_OUTPUT", output);
    answer(response);
  };
}

function traceSteps(trace: RequestTrace, { arrivedNs, enqueuedNs, startedNs }: Pending, { inputNs, inferNs }: BatchTimes, nowNs: number): void {
  trace.at("REQUEST_START", arrivedNs);
  trace.at("QUEUE_START", enqueuedNs);
  trace.at("COMPUTE_START", startedNs);
  trace.at("COMPUTE_INPUT_END", startedNs + inputNs);
  trace.at("COMPUTE_OUTPUT_START", startedNs + inputNs + inferNs);
  trace.at("COMPUTE_END", nowNs);
  trace.at("REQUEST_END", nowNs);
}

function scatterContext({ folder, version }: ModelSource, signature: Signature): ScatterContext {
  const labels = new Map(signature.outputs.flatMap(({ name, labelFile }) => (labelFile === undefined ? [] : [[name, readLabels(`${folder}/..`, labelFile)]])) as [string, string[]][]);
  return { signature, version: String(version), labels: (output) => labels.get(output) };
}
