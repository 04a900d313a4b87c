/**
 * When a batch goes and how large it is: an interface with named implementations, so that the batcher's loop knows none of
 * them. A policy is asked whenever an instance is free and something waits.
 */
import type { Candidates } from "./queue.ts";

/** Take so many rows now, or ask again at that time (or when something comes). */
export type Decision = { readonly rows: number } | { readonly waitUntilNs: number };

export interface BatchingPolicy {
  readonly name: string;
  /** Rows beyond this make no difference to a decision. */
  readonly maxRows: number;
  decide(candidates: Candidates, nowNs: number): Decision;
  /** A batch has been executed. */
  observe(rows: number, elapsedNs: number): void;
  /** What it works with at the moment, for people and metrics: numbers by name, units last. */
  describe(): Readonly<Record<string, number>>;
}

/** One request is one batch: models without a dynamic batcher. */
export class OneByOne implements BatchingPolicy {
  readonly name = "one-by-one";
  readonly maxRows = 1;

  decide(candidates: Candidates): Decision {
    return { rows: candidates.headRows };
  }

  observe(): void {
    // Nothing depends on it.
  }

  describe(): Readonly<Record<string, number>> {
    return {};
  }
}

/**
 * Triton's: the largest preferred size that is there goes at once; anything else waits until the oldest request has waited
 * the queue delay, then goes as it is. Requests of several rows must add up to a preferred size to be one. Without preferred sizes the largest batch is the only one preferred.
 */
export class QueueDelay implements BatchingPolicy {
  readonly name = "queue-delay";
  readonly maxRows: number;
  readonly #preferred: readonly number[];
  readonly #delayNs: number;

  constructor(maxRows: number, preferred: readonly number[], delayUs: number) {
    this.maxRows = maxRows;
    this.#preferred = (preferred.length > 0 ? [...preferred] : [maxRows]).filter((size) => size >= 1 && size <= maxRows).sort((a, b) => b - a);
    this.#delayNs = delayUs * 1000;
  }

  decide({ rows, headRows, oldestNs, sums }: Candidates, nowNs: number): Decision {
    const reached = sums ? this.#reached(sums) : this.#preferred.find((size) => rows >= size);
    if (reached !== undefined) return { rows: Math.max(reached, headRows) };
    const dueNs = oldestNs + this.#delayNs;
    return nowNs >= dueNs ? { rows } : { waitUntilNs: dueNs };
  }

  /** The largest preferred size that requests add up to; before one by which the largest is passed, what was there goes. */
  #reached(sums: readonly number[]): number | undefined {
    const largest = this.#preferred[0]!;
    let best: number | undefined;
    for (const [i, sum] of sums.entries()) {
      if (i > 0 && sum > largest) best ??= sums[i - 1];
      if (i > 0 && sum > this.maxRows) break;
      if (this.#preferred.includes(sum) || (i === 0 && sum >= largest)) best = sum;
    }
    return best;
  }

  observe(): void {
    // Nothing depends on it.
  }

  describe(): Readonly<Record<string, number>> {
    return { queue_delay_us: this.#delayNs / 1000, batch_size_limit: this.maxRows };
  }
}
