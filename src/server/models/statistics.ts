/**
 * Counts and times of one model version, exactly as Triton counts them: a request's share of a batch's phases is the whole
 * of each, `inferenceCount` counts rows and `executionCount` batches.
 */
import type { BatchStatistic, DurationStatistic, ModelStatistics } from "../contract.ts";

class Duration implements DurationStatistic {
  count = 0;
  ns = 0;

  add(ns: number, count = 1): void {
    this.count += count;
    this.ns += ns;
  }

  snapshot(): DurationStatistic {
    return { count: this.count, ns: Math.round(this.ns) };
  }
}

/** How long the phases of one batch took, in nanoseconds. */
export interface BatchTimes {
  readonly inputNs: number;
  readonly inferNs: number;
  readonly outputNs: number;
}

interface BatchDurations {
  readonly computeInput: Duration;
  readonly computeInfer: Duration;
  readonly computeOutput: Duration;
}

export class Statistics {
  readonly #success = new Duration();
  readonly #fail = new Duration();
  readonly #queue = new Duration();
  readonly #compute = newDurations();
  readonly #batches = new Map<number, BatchDurations>();
  #lastInferenceMs = 0;
  #inferenceCount = 0;
  #executionCount = 0;

  succeeded(totalNs: number, queueNs: number, rows: number, times: BatchTimes, nowMs: number): void {
    this.#success.add(totalNs);
    this.#queue.add(queueNs);
    addTimes(this.#compute, times);
    this.#inferenceCount += rows;
    this.#lastInferenceMs = nowMs;
  }

  failed(totalNs: number): void {
    this.#fail.add(totalNs);
  }

  executed(rows: number, times: BatchTimes): void {
    this.#executionCount++;
    let batch = this.#batches.get(rows);
    if (!batch) this.#batches.set(rows, (batch = newDurations()));
    addTimes(batch, times);
  }

  snapshot(name: string, version: string, memoryBytes: number, type: "CPU" | "GPU" = "CPU"): ModelStatistics {
    const batches = [...this.#batches].sort(([a], [b]) => a - b).map(([batchSize, times]): BatchStatistic => ({ batchSize, ...snapshots(times) }));
    return {
      name, version, lastInferenceMs: this.#lastInferenceMs, inferenceCount: this.#inferenceCount, executionCount: this.#executionCount,
      success: this.#success.snapshot(), fail: this.#fail.snapshot(), queue: this.#queue.snapshot(), ...snapshots(this.#compute), batches,
      memory: [{ type, id: 0, byteSize: memoryBytes }],
    };
  }
}

function newDurations(): BatchDurations {
  return { computeInput: new Duration(), computeInfer: new Duration(), computeOutput: new Duration() };
}

function addTimes(to: BatchDurations, { inputNs, inferNs, outputNs }: BatchTimes): void {
  to.computeInput.add(inputNs);
  to.computeInfer.add(inferNs);
  to.computeOutput.add(outputNs);
}

function snapshots({ computeInput, computeInfer, computeOutput }: BatchDurations): Pick<BatchStatistic, "computeInput" | "computeInfer" | "computeOutput"> {
  return { computeInput: computeInput.snapshot(), computeInfer: computeInfer.snapshot(), computeOutput: computeOutput.snapshot() };
}
