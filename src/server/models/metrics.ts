/**
 * What the server tells Prometheus of its models: Triton's metrics by their names and labels, and true histograms of each
 * phase. Source of the names: triton-inference-server/core, src/metrics.cc.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Counter, Gauge, Histogram, MetricsRegistry } from "../metrics/index.ts";
import type { FailureReason } from "./lane.ts";
import type { BatchTimes } from "./statistics.ts";

const LABELS = ["model", "version"] as const;
/** Seconds, from 50 us to 30 s in steps of about two. */
const SECONDS = [5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const PHASES = ["queue", "input", "compute", "output", "total"] as const;
const FAILURES: readonly FailureReason[] = ["REJECTED", "CANCELED", "BACKEND", "OTHER"];
const NS_PER_US = 1000;
const NS_PER_SECOND = 1e9;

/** What is read when metrics are asked for. */
export interface VersionGauges {
  readonly pending: number;
  readonly pendingBytes: number;
  readonly memoryBytes: number;
  /** What the batching policy works with. */
  readonly batching: Readonly<Record<string, number>>;
  /** Of engines that count it: by layer, the sum over executions of the share of saturated values. */
  readonly saturation: ReadonlyMap<string, number>;
}

export class ServerMetrics {
  readonly registry: MetricsRegistry;
  readonly #families: ReturnType<typeof families>;
  readonly #versions = new Map<VersionMetrics, () => VersionGauges>();

  constructor(registry: MetricsRegistry) {
    this.registry = registry;
    this.#families = families(registry);
    registry.onCollect(() => this.#collect());
  }

  version(model: string, version: string): VersionMetrics {
    return new VersionMetrics(this.#families, { model, version });
  }

  /** @param read asked at each collection until `forget` */
  watch(metrics: VersionMetrics, read: () => VersionGauges): void {
    this.#versions.set(metrics, read);
  }

  /** Gauges of a version that has gone; its counters stay, since the version may come back. */
  forget(metrics: VersionMetrics): void {
    this.#versions.delete(metrics);
    metrics.show({ pending: 0, pendingBytes: 0, memoryBytes: 0, batching: {}, saturation: new Map() });
  }

  /** Watches how late the event loop is. @returns how to stop */
  watchEventLoop(): () => void {
    const monitor = monitorEventLoopDelay({ resolution: 10 });
    monitor.enable();
    const gauges = [50, 99, 99.9].map((percentile) => ({ gauge: this.#families.eventLoop.labels({ percentile: String(percentile) }), percentile }));
    this.registry.onCollect(() => {
      for (const { gauge, percentile } of gauges) gauge.set(Math.max(0, monitor.percentile(percentile) / NS_PER_SECOND - 0.01));
      monitor.reset();
    });
    return () => monitor.disable();
  }

  #collect(): void {
    for (const [metrics, read] of this.#versions) metrics.show(read());
    const { rss, heapUsed } = process.memoryUsage();
    this.#families.resident.labels().set(rss);
    this.#families.heap.labels().set(heapUsed);
  }
}

export class VersionMetrics {
  readonly loadSeconds: Gauge;
  readonly outsideProfile: Counter;
  readonly #families: ReturnType<typeof families>;
  readonly #labels: Readonly<Record<string, string>>;
  readonly #counters: Readonly<Record<"success" | "rows" | "executions" | "requestUs" | "queueUs" | "inputUs" | "inferUs" | "outputUs" | "inputBytes" | "paddingBytes", Counter>>;
  readonly #failures: ReadonlyMap<FailureReason, Counter>;
  readonly #phases: Readonly<Record<(typeof PHASES)[number], Histogram>>;
  readonly #batchRows: Histogram;
  /** What was shown of each layer last. */
  readonly #saturation = new Map<string, number>();
  readonly #gauges: Readonly<Record<"pending" | "pendingBytes" | "memory", Gauge>>;

  constructor(all: ReturnType<typeof families>, labels: Readonly<Record<string, string>>) {
    this.#families = all;
    this.#labels = labels;
    const of = <T>(family: { labels(values: Readonly<Record<string, string>>): T }, more: Readonly<Record<string, string>> = {}): T => family.labels({ ...labels, ...more });
    this.loadSeconds = of(all.loadSeconds);
    this.outsideProfile = of(all.outsideProfile);
    this.#counters = {
      success: of(all.success), rows: of(all.rows), executions: of(all.executions), requestUs: of(all.requestUs), queueUs: of(all.queueUs), inputUs: of(all.inputUs),
      inferUs: of(all.inferUs), outputUs: of(all.outputUs), inputBytes: of(all.inputBytes), paddingBytes: of(all.paddingBytes),
    };
    this.#failures = new Map(FAILURES.map((reason) => [reason, of(all.failure, { reason })]));
    this.#phases = { queue: of(all.phase, { phase: "queue" }), input: of(all.phase, { phase: "input" }), compute: of(all.phase, { phase: "compute" }), output: of(all.phase, { phase: "output" }), total: of(all.phase, { phase: "total" }) };
    this.#batchRows = of(all.batchRows);
    this.#gauges = { pending: of(all.pending), pendingBytes: of(all.pendingBytes), memory: of(all.memory) };
  }

  succeeded(rows: number, totalNs: number, queueNs: number, { inputNs, inferNs, outputNs }: BatchTimes): void {
    const counters = this.#counters;
    counters.success.inc();
    counters.rows.inc(rows);
    counters.requestUs.inc(totalNs / NS_PER_US);
    counters.queueUs.inc(queueNs / NS_PER_US);
    counters.inputUs.inc(inputNs / NS_PER_US);
    counters.inferUs.inc(inferNs / NS_PER_US);
    counters.outputUs.inc(outputNs / NS_PER_US);
    const phases = this.#phases;
    phases.queue.observe(queueNs / NS_PER_SECOND);
    phases.input.observe(inputNs / NS_PER_SECOND);
    phases.compute.observe(inferNs / NS_PER_SECOND);
    phases.output.observe(outputNs / NS_PER_SECOND);
    phases.total.observe(totalNs / NS_PER_SECOND);
  }

  failed(reason: FailureReason): void {
    this.#failures.get(reason)!.inc();
  }

  executed(rows: number, inputBytes: number, paddingBytes: number): void {
    this.#counters.executions.inc();
    this.#counters.inputBytes.inc(inputBytes);
    if (paddingBytes > 0) this.#counters.paddingBytes.inc(paddingBytes);
    this.#batchRows.observe(rows);
  }

  show({ pending, pendingBytes, memoryBytes, batching, saturation }: VersionGauges): void {
    this.#gauges.pending.set(pending);
    this.#gauges.pendingBytes.set(pendingBytes);
    this.#gauges.memory.set(memoryBytes);
    for (const [setting, value] of Object.entries(batching)) this.#families.batching.labels({ ...this.#labels, setting }).set(value);
    for (const [layer, sum] of saturation) {
      const before = this.#saturation.get(layer) ?? 0;
      // A better engine that has taken the place of the first begins anew.
      this.#families.saturation.labels({ ...this.#labels, layer }).inc(sum >= before ? sum - before : sum);
      this.#saturation.set(layer, sum);
    }
  }
}

function families(registry: MetricsRegistry) {
  const counter = (name: string, help: string, more: readonly string[] = []) => registry.counter(name, help, [...LABELS, ...more]);
  const gauge = (name: string, help: string, more: readonly string[] = []) => registry.gauge(name, help, [...LABELS, ...more]);
  return {
    success: counter("nv_inference_request_success", "Number of successful inference requests, all batch sizes"),
    // In the order that Triton's tests read.
    failure: registry.counter("nv_inference_request_failure", "Number of failed inference requests, all batch sizes", ["model", "reason", "version"]),
    rows: counter("nv_inference_count", "Number of inferences performed (a batch of n is n inferences)"),
    executions: counter("nv_inference_exec_count", "Number of model executions performed"),
    requestUs: counter("nv_inference_request_duration_us", "Cumulative inference request duration in microseconds"),
    queueUs: counter("nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds"),
    inputUs: counter("nv_inference_compute_input_duration_us", "Cumulative compute input duration in microseconds"),
    inferUs: counter("nv_inference_compute_infer_duration_us", "Cumulative compute inference duration in microseconds"),
    outputUs: counter("nv_inference_compute_output_duration_us", "Cumulative inference compute output duration in microseconds"),
    pending: gauge("nv_inference_pending_request_count", "Requests that wait and have not been given to the backend"),
    loadSeconds: gauge("nv_model_load_duration_secs", "Time the model took to load, in seconds"),
    phase: registry.histogram("sinter_request_phase_seconds", "Time of each phase of successful requests", [...LABELS, "phase"], SECONDS),
    batchRows: registry.histogram("sinter_batch_rows", "Rows per executed batch", LABELS, ROWS),
    pendingBytes: gauge("sinter_pending_request_bytes", "Bytes of the inputs of waiting requests"),
    memory: gauge("sinter_model_memory_bytes", "Memory that the model's weights, code and contexts take"),
    batching: gauge("sinter_batching_setting", "What the batching policy works with at the moment", ["setting"]),
    saturation: counter("sinter_saturated_share_total", "Sum over executions of the share of the values entering a quantized layer that lay at an end of their range, of engines that count it", ["layer"]),
    outsideProfile: counter("sinter_requests_outside_profile_total", "Requests of shapes outside the profile the engine was made for"),
    inputBytes: counter("sinter_batch_input_bytes_total", "Bytes of inputs in executed batches, padding included"),
    paddingBytes: counter("sinter_batch_padding_bytes_total", "Bytes of padding in executed batches"),
    eventLoop: registry.gauge("sinter_event_loop_delay_seconds", "How late the event loop was since the last collection", ["percentile"]),
    resident: registry.gauge("process_resident_memory_bytes", "Resident memory size in bytes"),
    heap: registry.gauge("sinter_heap_used_bytes", "Memory used by JavaScript objects"),
  };
}
