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
  return {
    min: at(0), mean: sorted.reduce((sum, ms) => sum + ms, 0) / sorted.length, median: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max: at(1), count: sorted.length,
  };
}

export interface MeasureOptions {
  readonly durationMs: number;
  readonly warmupMs: number;
  readonly minimumRuns: number;
}

/** Each candidate is a function that runs once and answers its own milliseconds. @returns samples in the candidates' order */
export async function measureInTurns(candidates: readonly (() => Promise<number>)[], options: MeasureOptions): Promise<number[][]> {
  for (const candidate of candidates) {
    const started = performance.now();
    do await candidate();
    while (performance.now() - started < options.warmupMs / candidates.length);
  }
  const samples: number[][] = candidates.map(() => []);
  const started = performance.now();
  while (performance.now() - started < options.durationMs || samples[0]!.length < options.minimumRuns) {
    for (const [i, candidate] of candidates.entries()) samples[i]!.push(await candidate());
  }
  return samples;
}
