/** Timing runs: warm-up, then samples for a given time; with a peer, the two in turn so that both see the same machine. */

export interface Latency {
  readonly min: number;
  readonly mean: number;
  readonly median: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
}

export function summarize(samplesMs: readonly number[]): Latency {
  const sorted = [...samplesMs].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? at(0.5) : ((sorted[sorted.length / 2 - 1] ?? Number.NaN) + at(0.5)) / 2;
  const mean = sorted.reduce((sum, ms) => sum + ms, 0) / sorted.length;
  return { min: at(0), mean, median, p90: at(0.9), p95: at(0.95), p99: at(0.99), max: at(1), count: sorted.length };
}

export interface MeasureOptions {
  readonly durationMs: number;
  readonly warmupMs: number;
  readonly minimumRuns: number;
  /** Before each turn: a pause and a run that is not counted. Another runtime's threads may keep a core busy for a while after its runs. */
  readonly restMs?: number;
  /** How long a candidate goes on before it is the other's turn; one call when absent. */
  readonly turnMs?: number;
}

/** For comparisons with a peer whose idle threads spin. */
export const FAIR_TURNS = { restMs: 120, turnMs: 150 } as const;

/** A turn of one candidate: some runs. */
export interface Turn {
  readonly samplesMs: readonly number[];
  /** From the first run's start to the last one's end. */
  readonly elapsedMs: number;
}

export type Candidate = () => Promise<Turn>;

/** One run per turn. */
export function oneRun(run: () => Promise<unknown>): Candidate {
  return async () => {
    const before = performance.now();
    await run();
    const elapsedMs = performance.now() - before;
    return { samplesMs: [elapsedMs], elapsedMs };
  };
}

/** All of `runs` over and over, at the same time, for a while per turn. */
export function concurrentRuns(runs: readonly (() => Promise<unknown>)[], turnMs: number): Candidate {
  return async () => {
    const samplesMs: number[] = [];
    const started = performance.now();
    await Promise.all(runs.map(async (run) => {
      do {
        const before = performance.now();
        await run();
        samplesMs.push(performance.now() - before);
      } while (performance.now() - started < turnMs);
    }));
    return { samplesMs, elapsedMs: performance.now() - started };
  };
}

export interface Measured {
  readonly samplesMs: readonly number[];
  /** Runs per second while it was the candidate's turn. */
  readonly throughput: number;
}

/** @returns in the candidates' order */
export async function measureInTurns(candidates: readonly Candidate[], options: MeasureOptions): Promise<Measured[]> {
  for (const candidate of candidates) {
    const started = performance.now();
    do await candidate();
    while (performance.now() - started < options.warmupMs / candidates.length);
  }
  const samples: number[][] = candidates.map(() => []);
  const elapsed = candidates.map(() => 0);
  const started = performance.now();
  while (performance.now() - started < options.durationMs || samples[0]!.length < options.minimumRuns) {
    for (const [i, candidate] of candidates.entries()) {
      if (options.restMs) {
        await new Promise((resolve) => setTimeout(resolve, options.restMs));
        await candidate();
      }
      const until = performance.now() + (options.turnMs ?? 0);
      do {
        const turn = await candidate();
        samples[i]!.push(...turn.samplesMs);
        elapsed[i]! += turn.elapsedMs;
      } while (performance.now() < until);
    }
  }
  return samples.map((samplesMs, i) => ({ samplesMs, throughput: (1000 * samplesMs.length) / elapsed[i]! }));
}
