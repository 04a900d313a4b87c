/**
 * Batch size and queue delay chosen to hold a p99, within the configuration's bounds.
 *
 * A request waits at worst for the batch that is running, then for its own delay and its own batch. With the time of a
 * batch of b rows measured as t(b) = fixed + b * perRow (least squares over recent batches, older ones fading), the
 * largest b with delay + 2 t(b) below the objective is chosen; what is left of the objective may be spent on waiting.
 * A request that has already waited longer than that plan says that requests come faster than such batches serve them; then
 * the batch is as large as the bounds allow, since a queue that grows costs more than the objective does.
 */
import type { BatchingPolicy, Decision } from "./policy.ts";
import type { Candidates } from "./queue.ts";

/** Share of the objective that is planned with; the rest is for what the model of time leaves out. */
const PLANNED = 0.85;
/** What one more batch takes off the weight of those before. */
const FADING = 0.98;
/** Batches of that weight before the choice is trusted; until then batches go as they come. */
const LEAST_WEIGHT = 4;

export class LatencyObjective implements BatchingPolicy {
  readonly name = "latency-objective";
  readonly maxRows: number;
  readonly #objectiveNs: number;
  readonly #maxDelayNs: number;
  // Fading sums for the regression: weight, rows, time, rows squared, rows by time.
  #w = 0;
  #r = 0;
  #t = 0;
  #rr = 0;
  #rt = 0;
  #limit: number;
  #delayNs = 0;

  constructor(maxRows: number, objectiveMs: number, maxDelayUs: number) {
    this.maxRows = maxRows;
    this.#objectiveNs = objectiveMs * 1e6;
    this.#maxDelayNs = maxDelayUs * 1000;
    this.#limit = maxRows;
  }

  decide({ rows, headRows, oldestNs }: Candidates, nowNs: number): Decision {
    const isLate = this.#w >= LEAST_WEIGHT && nowNs - oldestNs > this.#delayNs + this.timeNs(this.#limit);
    if (rows >= this.#limit) return { rows: isLate ? rows : Math.max(this.#limit, headRows) };
    const dueNs = oldestNs + this.#delayNs;
    return nowNs >= dueNs ? { rows } : { waitUntilNs: dueNs };
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

  #choose(): void {
    const budgetNs = this.#objectiveNs * PLANNED;
    let held = 1;
    while (held < this.maxRows && 2 * this.timeNs(held + 1) <= budgetNs) held++;
    this.#limit = held;
    this.#delayNs = Math.min(this.#maxDelayNs, Math.max(0, budgetNs - 2 * this.timeNs(this.#limit)));
  }
}
