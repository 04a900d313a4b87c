/**
 * Load, in two shapes. Closed loop: so many requests in flight, each followed by the next. Open loop: requests come when a
 * Poisson process says, whatever the server does, and a latency counts from the moment a request should have been sent, so that a
 * server that stalls is charged for all that would have come in the meantime (no coordinated omission).
 */
import type { LoadTarget, LoadTensor, ServerCounts } from "./contract.ts";
import { LatencyHistogram } from "./histogram.ts";
import { difference } from "./statistics.ts";

export interface LoadPlan {
  /** Requests in flight, or requests per second. */
  readonly kind: "concurrency" | "rate";
  readonly value: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  readonly timeoutMs: number;
  readonly seed: number;
}

export interface LoadResult {
  readonly plan: LoadPlan;
  readonly latency: LatencyHistogram;
  readonly answered: number;
  readonly failed: number;
  /** Texts of failures, and how often each was seen; the first few kinds. */
  readonly failures: ReadonlyMap<string, number>;
  readonly seconds: number;
  /** What the server counted between beginning and end, warm-up included. */
  readonly server: ServerCounts;
  /** Requests that were sent in that time. */
  readonly sent: number;
}

/** @returns why an answer is wrong, undefined when it is right */
export type CheckAnswer = (outputs: readonly LoadTensor[]) => string | undefined;

const MOST_KINDS = 8;

class Recorder {
  readonly latency = new LatencyHistogram();
  readonly failures = new Map<string, number>();
  answered = 0;
  failed = 0;

  fail(text: string): void {
    this.failed++;
    const key = this.failures.has(text) || this.failures.size < MOST_KINDS ? text : "other failures";
    this.failures.set(key, (this.failures.get(key) ?? 0) + 1);
  }
}

class Load {
  readonly #target: LoadTarget;
  readonly #plan: LoadPlan;
  readonly #check: CheckAnswer;
  recorder = new Recorder();
  sent = 0;

  constructor(target: LoadTarget, plan: LoadPlan, check: CheckAnswer) {
    this.#target = target;
    this.#plan = plan;
    this.#check = check;
  }

  /** One request, whose latency counts from `startMs`. */
  async one(startMs: number): Promise<void> {
    const { recorder } = this;
    this.sent++;
    try {
      const outputs = await this.#target.call(this.#plan.timeoutMs);
      recorder.latency.record((performance.now() - startMs) * 1000);
      const wrong = this.#check(outputs);
      if (wrong === undefined) recorder.answered++;
      else recorder.fail(wrong);
    } catch (error) {
      recorder.fail((error as Error).message);
    }
  }

  async closedLoop(endMs: number): Promise<void> {
    const worker = async (): Promise<void> => {
      while (performance.now() < endMs) await this.one(performance.now());
    };
    await Promise.all(Array.from({ length: this.#plan.value }, worker));
  }

  async openLoop(endMs: number, random: () => number): Promise<void> {
    const open = new Set<Promise<void>>();
    const gapMs = 1000 / this.#plan.value;
    for (let at = performance.now(); ; ) {
      at += -Math.log(1 - random()) * gapMs;
      if (at >= endMs) break;
      await until(at);
      const running: Promise<void> = this.one(at).finally(() => open.delete(running));
      open.add(running);
    }
    await Promise.all(open);
  }
}

/** Timers are late by up to a millisecond; the rest is waited for in turns of the event loop. */
async function until(timeMs: number): Promise<void> {
  for (let left = timeMs - performance.now(); left > 0; left = timeMs - performance.now()) {
    await new Promise<void>((resolve) => (left > 2 ? setTimeout(resolve, left - 1.5) : setImmediate(resolve)));
  }
}

/** Uniform in [0, 1). Source: Marsaglia, "Xorshift RNGs". */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

export async function runLoad(target: LoadTarget, model: string, plan: LoadPlan, check: CheckAnswer): Promise<LoadResult> {
  const load = new Load(target, plan, check);
  const random = seededRandom(plan.seed);
  const phase = (seconds: number): Promise<void> => {
    const end = performance.now() + 1000 * seconds;
    return plan.kind === "rate" ? load.openLoop(end, random) : load.closedLoop(end);
  };
  const before = await target.counts(model);
  if (plan.warmupSeconds > 0) await phase(plan.warmupSeconds);
  const warmup = load.recorder;
  load.recorder = new Recorder();
  const begin = performance.now();
  await phase(plan.seconds);
  const seconds = (performance.now() - begin) / 1000;
  const { latency, answered, failed, failures } = load.recorder;
  for (const [text, count] of warmup.failures) failures.set(`${text} (warm-up)`, count);
  return { plan, latency, answered, failed: failed + warmup.failed, failures, seconds, sent: load.sent, server: await settledCounts(target, model, before, load.sent) };
}

/** What the server counted since; an answer may leave a moment before it is counted. */
async function settledCounts(target: LoadTarget, model: string, before: ServerCounts, sent: number): Promise<ServerCounts> {
  for (let tries = 10; ; tries--) {
    const counts = difference(await target.counts(model), before);
    if (counts.success + counts.fail >= sent || tries === 0) return counts;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
