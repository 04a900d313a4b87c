/** A clock that tests turn, a model whose batches take a known time, and arrivals from a seed. */
import { Batcher } from "./batcher.ts";
import type { Clock } from "./clock.ts";
import type { BatchingPolicy } from "./policy.ts";
import { type DropReason, FIFO, type Queued, type QueuePolicy, RequestQueue } from "./queue.ts";

export class SimulatedClock implements Clock {
  #nowNs = 0;
  #order = 0;
  readonly #events: { readonly timeNs: number; readonly order: number; readonly run: () => void; live: boolean }[] = [];

  nowNs(): number {
    return this.#nowNs;
  }

  at(timeNs: number, run: () => void): () => void {
    const event = { timeNs: Math.max(timeNs, this.#nowNs), order: this.#order++, run, live: true };
    this.#events.push(event);
    return () => { event.live = false; };
  }

  soon(run: () => void): void {
    this.at(this.#nowNs, run);
  }

  /** Runs everything in order until nothing is left, or until that time. */
  run(untilNs = Number.POSITIVE_INFINITY): void {
    for (;;) {
      this.#events.sort((a, b) => a.timeNs - b.timeNs || a.order - b.order);
      const next = this.#events[0];
      if (!next || next.timeNs > untilNs) break;
      this.#events.shift();
      this.#nowNs = next.timeNs;
      if (next.live) next.run();
    }
    if (untilNs !== Number.POSITIVE_INFINITY) this.#nowNs = Math.max(this.#nowNs, untilNs);
  }
}

export interface SimulatedRequest extends Queued {
  readonly id: number;
  cancelled: boolean;
  outcome: "waiting" | "done" | DropReason | "refused";
  doneNs: number;
  batchRows: number;
}

export interface Simulation {
  readonly clock: SimulatedClock;
  readonly batcher: Batcher<SimulatedRequest>;
  readonly batches: { readonly ids: number[]; readonly rows: number; readonly startNs: number; readonly whole: boolean }[];
  readonly requests: SimulatedRequest[];
  /** Submits a request at a time. */
  send(timeNs: number, options?: Partial<SimulatedRequest>): SimulatedRequest;
}

export interface SimulationOptions {
  readonly policy: BatchingPolicy;
  readonly slots?: number;
  readonly spread?: boolean;
  /** @param whole as `Batcher` dispatches it */
  readonly batchNs: (rows: number, whole: boolean) => number;
  readonly startAt?: number;
  readonly levels?: number;
  readonly queuePolicy?: Partial<QueuePolicy>;
  readonly maxRequests?: number;
  readonly onDrop?: () => void;
}

export function simulate({ policy, slots = 1, spread = false, startAt = 0, batchNs, levels = 0, queuePolicy = {}, maxRequests = 1e6, onDrop }: SimulationOptions): Simulation {
  const clock = new SimulatedClock();
  const batches: Simulation["batches"] = [];
  const requests: SimulatedRequest[] = [];
  const queue = new RequestQueue<SimulatedRequest>(
    { priorityLevels: levels, defaultPriorityLevel: levels, policy: () => ({ ...FIFO, ...queuePolicy }), maxRequests, maxBytes: 1e12 },
    (item, reason) => {
      item.outcome = reason;
      onDrop?.();
    },
  );
  const batcher: Batcher<SimulatedRequest> = new Batcher({ queue, policy, clock, slots, spread, startAt, dispatch: (batch, slot, whole) => {
    const rows = batch.reduce((sum, item) => sum + item.rows, 0);
    const startNs = clock.nowNs();
    batches.push({ ids: batch.map(({ id }) => id), rows, startNs, whole });
    const elapsedNs = batchNs(rows, whole);
    clock.at(startNs + elapsedNs, () => {
      batcher.observe(rows, whole, elapsedNs);
      for (const item of batch) Object.assign(item, { outcome: "done", doneNs: clock.nowNs(), batchRows: rows });
      batcher.release(slot);
    });
  } });
  const send = (timeNs: number, options: Partial<SimulatedRequest> = {}): SimulatedRequest => {
    const request: SimulatedRequest = { id: requests.length, rows: 1, bytes: 100, group: "", priority: 0, timeoutUs: 0, cancelled: false, enqueuedNs: 0, deadlineNs: 0, outcome: "waiting", doneNs: 0, batchRows: 0, ...options };
    requests.push(request);
    clock.at(timeNs, () => { if (!batcher.submit(request)) request.outcome = "refused"; });
    return request;
  };
  return { clock, batcher, batches, requests, send };
}

/** Times of a Poisson process. */
export function poisson(count: number, perSecond: number, seed: number): number[] {
  let state = seed | 1;
  let timeNs = 0;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    timeNs += (-Math.log(1 - (state >>> 0) / 2 ** 32) / perSecond) * 1e9;
    return timeNs;
  });
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}
