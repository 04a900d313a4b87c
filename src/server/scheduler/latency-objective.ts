/**
 * Batch size and queue delay chosen to hold a p99, within the configuration's bounds.
 *
 * A request waits at worst for the batch that is running, then for its own delay and its own batch. With the time of a
 * batch of b rows measured as t(b) = fixed + b * perRow (least squares over recent batches, older ones fading), the
 * largest b with delay + 2 t(b) below the objective is chosen; what is left of the objective may be spent on waiting.
 * When requests come faster than batches of that size can be served, no size holds the objective, and the smallest that
 * keeps up is taken: queues that grow cost more than the objective does.
 */
import type { BatchingPolicy, Decision } from "./policy.ts";
import type { Candidates } from "./queue.ts";

/** Share of the objective that is planned with; the rest is for what the model of time leaves out. */
const PLANNED = 0.85;
/** What one more batch takes off the weight of those before. */
const FADING = 0.98;
/** Batches of that weight before the choice is trusted; until then batches go as they come. */
const LEAST_WEIGHT = 4;
/** How far above the arrivals a size must be able to go to keep up. */
const HEADROOM = 1.15;

export class LatencyObjective implements BatchingPolicy {
  readonly name = "latency-objective";
  readonly maxRows: number;
  readonly #objectiveNs: number;
  readonly #maxDelayNs: number;
  readonly #instances: number;
  // Fading sums for the regression: weight, rows, time, rows squared, rows by time.
  #w = 0;
  #r = 0;
  #t = 0;
  #rr = 0;
  #rt = 0;
  #limit: number;
  #delayNs = 0;
  /** Rows that came per nanosecond, fading. */
  #arrivalRate = 0;
  #lastNs = 0;

  constructor(maxRows: number, objectiveMs: number, maxDelayUs: number, instances: number) {
    this.maxRows = maxRows;
    this.#objectiveNs = objectiveMs * 1e6;
    this.#maxDelayNs = maxDelayUs * 1000;
    this.#instances = instances;
    this.#limit = maxRows;
  }

  decide({ rows, headRows, oldestNs }: Candidates, nowNs: number): Decision {
    if (rows >= this.#limit) return this.#take(Math.max(this.#limit, headRows), nowNs);
    const dueNs = oldestNs + this.#delayNs;
    return nowNs >= dueNs ? this.#take(rows, nowNs) : { waitUntilNs: dueNs };
  }

  observe(rows: number, elapsedNs: number): void {
    this.#w = this.#w * FADING + 1;
    this.#r = this.#r * FADING + rows;
    this.#t = this.#t * FADING + elapsedNs;
    this.#rr = this.#rr * FADING + rows * rows;
    this.#rt = this.#rt * FADING + rows * elapsedNs;
    if (this.#w >= LEAST_WEIGHT) this.#choose();
  }

  /** Predicted time of a batch. */
  timeNs(rows: number): number {
    if (this.#w === 0) return 0;
    const [meanRows, meanTime] = [this.#r / this.#w, this.#t / this.#w];
    const variance = this.#rr / this.#w - meanRows * meanRows;
    // One size only: all of its time is taken to grow with the rows, which promises too little of larger ones.
    const perRow = variance > 1e-9 ? Math.max(0, (this.#rt / this.#w - meanRows * meanTime) / variance) : meanTime / meanRows;
    return Math.max(0, meanTime + perRow * (rows - meanRows));
  }

  describe(): Readonly<Record<string, number>> {
    return { latency_objective_ms: this.#objectiveNs / 1e6, batch_size_limit: this.#limit, queue_delay_us: Math.round(this.#delayNs / 1000), predicted_batch_us: Math.round(this.timeNs(this.#limit) / 1000) };
  }

  #take(rows: number, nowNs: number): Decision {
    const sinceNs = Math.max(1, nowNs - this.#lastNs);
    if (this.#lastNs > 0) this.#arrivalRate += 0.1 * (rows / sinceNs - this.#arrivalRate);
    this.#lastNs = nowNs;
    return { rows };
  }

  #choose(): void {
    const budgetNs = this.#objectiveNs * PLANNED;
    let held = 1;
    while (held < this.maxRows && 2 * this.timeNs(held + 1) <= budgetNs) held++;
    let keepingUp = 1;
    while (keepingUp < this.maxRows && (this.#instances * keepingUp) / Math.max(1, this.timeNs(keepingUp)) < this.#arrivalRate * HEADROOM) keepingUp++;
    this.#limit = Math.max(held, keepingUp);
    this.#delayNs = Math.min(this.#maxDelayNs, Math.max(0, budgetNs - 2 * this.timeNs(this.#limit)));
  }
}
