/**
 * Chooses one of several tactics for a kernel by timing them on the device.
 *
 * Candidates are timed in order of their estimate. One that is far behind the best after its first run is not run again.
 * The best few are then timed in turns, so that a slow moment of the machine hits all of them alike, and the
 * smallest lower quartile wins. Where several are close, their times at other shapes of the profile count too: what is
 * best at the optimum by one part in a hundred may be the worst for a single row.
 * With every time in the cache nothing is measured, and the choice follows from the cache alone.
 */
import { assert, SinterError, UserError } from "../base/index.ts";
import { type Bindings, type CompiledKernel, evaluate, type Tactic } from "../ir/index.ts";
import type { TimingCache } from "./timing-cache.ts";

/** How hard to search. Level 0 measures nothing. */
export type TuneLevel = 0 | 1 | 2 | 3 | 4 | 5;

/** A kernel made ready to run on the device: memory, constants and code in place. */
export interface PreparedKernel {
  /** Runs it once at the bound shape. @returns nanoseconds */
  time(): number;
  dispose(): void;
}

/** The processor as the tuner sees it. */
export interface TuneDevice {
  /** Names processor, instruction set and threads: part of every cache key. */
  readonly identity: string;
  prepare(kernel: CompiledKernel, bindings: Bindings): PreparedKernel;
  /** Frees what it keeps from kernel to kernel; after the last prepared one was disposed. */
  release?(): void;
}

export interface TuneOptions {
  readonly device: TuneDevice;
  readonly level: TuneLevel;
  readonly cache?: TimingCache;
  /** Other shapes the kernel will meet: between candidates that are close at the optimum, these decide. From level 3 on. */
  readonly alternatives?: readonly Bindings[];
  /** For one kernel; the best found so far is taken when it is spent. */
  readonly budgetMs?: number;
  /** Tactics that need more scratch memory than this are refused. */
  readonly workspaceBytes?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, tactic: string) => void;
  /** Milliseconds since some moment; for the budget. */
  readonly now?: () => number;
}

export interface TacticReport {
  readonly tactic: string;
  /** Nanoseconds at the optimum; absent when it was not run. */
  readonly ns?: number;
  readonly outcome: "chosen" | "slower" | "refused" | "skipped";
  /** Sizes by symbol, where the kernel is chosen apart for several shapes. */
  readonly shape?: Readonly<Record<string, number>>;
  readonly reason?: string;
}

export interface Tuned {
  readonly kernel: CompiledKernel;
  readonly tactic: string;
  readonly report: readonly TacticReport[];
}

/** Candidates tried, by level. */
const TRIED: Readonly<Record<TuneLevel, number>> = { 0: 1, 1: 3, 2: 8, 3: 24, 4: 48, 5: Number.POSITIVE_INFINITY };
/** Candidates timed again in turns, and how often. */
const FINALISTS = 6;
const FINAL_ROUNDS = 9;
/** A first run this many times slower than the best ends a candidate. */
const HOPELESS = 1.5;
/** In the cache: refused or skipped, so that the next build leaves it out as this one did. */
const NOT_TIMED = -1;
const DEFAULT_BUDGET_MS = 2000;
/** From this level on other shapes than the optimum count, for candidates this close to the best at the optimum. */
const LEVEL_OF_ALTERNATIVES = 3;
const CLOSE = 1.05;
/** How much the optimum counts against each other shape. */
const OPTIMUM_WEIGHT = 3;
const ALTERNATIVE_ROUNDS = 5;
/** Other shapes that would take longer than this are left out: what is fast at the optimum is fast there. */
const LONGEST_ALTERNATIVE_NS = 60e6;

interface Candidate {
  readonly tactic: Tactic;
  compiled?: CompiledKernel;
  prepared?: PreparedKernel;
  samples: number[];
  ns?: number;
  /** Mean logarithm of its time against the best, over all shapes; only of those that are close at the optimum. */
  score?: number;
  refused?: string;
}

/**
 * @param description equal for kernels that compute the same; with the device's identity it is the cache's key
 * @param tactics at least one; the first that can be used is the choice at level 0
 * @throws UserError "aborted" when the signal fires
 */
export function tune(description: string, tactics: readonly Tactic[], bindings: Bindings, options: TuneOptions): Tuned {
  assert(tactics.length > 0, `kernel "${description}" has no tactic`);
  const search = new Search(description, tactics, bindings, options);
  try {
    return search.run();
  } finally {
    search.dispose();
  }
}

/** What `tune` will compile, as far as it is known beforehand: the candidates to time, or what the cache's times choose. */
export function tacticsToCompile(description: string, tactics: readonly Tactic[], bindings: Bindings, options: TuneOptions): readonly Tactic[] {
  return new Search(description, tactics, bindings, options).toCompile();
}

class Search {
  readonly #candidates: Candidate[];
  readonly #description: string;
  readonly #key: string;
  readonly #bindings: Bindings;
  readonly #options: TuneOptions;
  readonly #deadline: number;

  constructor(description: string, tactics: readonly Tactic[], bindings: Bindings, options: TuneOptions) {
    const ordered = [...tactics].sort((a, b) => a.estimate - b.estimate);
    this.#candidates = ordered.map((tactic) => ({ tactic, samples: [] }));
    this.#description = description;
    this.#bindings = bindings;
    this.#options = options;
    this.#key = this.#keyAt(bindings);
    this.#deadline = this.#now() + (options.budgetMs ?? DEFAULT_BUDGET_MS);
  }

  run(): Tuned {
    const limit = TRIED[this.#options.level];
    const wanted = this.#withinLimit(this.#candidates.slice(0, limit));
    if (limit > 1 && wanted.length > 1) {
      if (!this.#fromCache(wanted)) this.#measure(wanted);
      if (this.#options.level >= LEVEL_OF_ALTERNATIVES) this.#judgeAcrossShapes(wanted);
    }
    return this.#choose(limit > 1);
  }

  toCompile(): Tactic[] {
    const wanted = this.#candidates.slice(0, TRIED[this.#options.level]);
    if (wanted.length > 1 && this.#fromCache(wanted)) return [[...wanted].sort(byTime)[0]!.tactic];
    return wanted.map(({ tactic }) => tactic);
  }

  dispose(): void {
    for (const candidate of this.#candidates) this.#release(candidate);
  }

  /** The cache's key for a shape: only sizes that the description names are part of it. */
  #keyAt(bindings: Bindings): string {
    const sizes = [...bindings].filter(([name]) => this.#description.includes(name)).sort(([a], [b]) => (a < b ? -1 : 1));
    return [this.#options.device.identity, this.#description, ...sizes.map(([name, size]) => `${name}=${size}`)].join(" | ");
  }

  #now(): number {
    return (this.#options.now ?? (() => performance.now()))();
  }

  /** Under a limit all are compiled first, so that a build from the cache refuses what a build without it does, and the cache says nothing of them. */
  #withinLimit(candidates: readonly Candidate[]): readonly Candidate[] {
    return this.#options.workspaceBytes === undefined ? candidates : candidates.filter((candidate) => this.#compile(candidate));
  }

  /** True when the cache knows all that would be measured. */
  #fromCache(wanted: readonly Candidate[]): boolean {
    const timings = this.#options.cache?.get(this.#key);
    if (!timings || !wanted.every((candidate) => timings[candidate.tactic.name] !== undefined)) return false;
    for (const candidate of wanted) {
      const ns = timings[candidate.tactic.name]!;
      if (ns !== NOT_TIMED) candidate.ns = ns;
    }
    return wanted.some((candidate) => candidate.ns !== undefined);
  }

  #measure(wanted: readonly Candidate[]): void {
    let best = Number.POSITIVE_INFINITY;
    wanted.forEach((candidate, index) => {
      this.#checkAborted();
      if (index > 0 && best < Number.POSITIVE_INFINITY && this.#now() > this.#deadline) return;
      this.#options.onProgress?.(index, wanted.length, candidate.tactic.name);
      if (!this.#tryOut(candidate, best)) return;
      candidate.ns = typical(candidate.samples);
      best = Math.min(best, candidate.ns);
      if (candidate.ns > best * HOPELESS) this.#release(candidate);
      for (const slower of inPlay(wanted).slice(FINALISTS)) this.#release(slower);
    });
    this.#playOff(wanted);
    for (const candidate of wanted) {
      this.#keep(candidate);
      this.#release(candidate);
    }
  }

  /** What the cache says of a tactic stays: an earlier choice of this build was made by it, and a build from the cache must make the same. */
  #keep(candidate: Candidate): void {
    const known = this.#options.cache?.get(this.#key)?.[candidate.tactic.name];
    const ns = known ?? (candidate.ns === undefined ? NOT_TIMED : Math.round(candidate.ns));
    if (known === undefined) this.#options.cache?.set(this.#key, candidate.tactic.name, ns);
    if (ns === NOT_TIMED) delete candidate.ns;
    else candidate.ns = ns;
  }

  /** Gives scores to the candidates that are close at the optimum, when other shapes are known. */
  #judgeAcrossShapes(wanted: readonly Candidate[]): void {
    const timed = wanted.filter((candidate) => candidate.ns !== undefined).sort(byTime);
    const close = timed.filter((candidate) => candidate.ns! <= timed[0]!.ns! * CLOSE).slice(0, FINALISTS);
    if (close.length < 2) return;
    const shapes = [{ weight: OPTIMUM_WEIGHT, times: close.map((candidate) => candidate.ns!) }];
    for (const bindings of this.#options.alternatives ?? []) {
      const times = this.#timesAt(bindings, close);
      if (times) shapes.push({ weight: 1, times });
    }
    if (shapes.length === 1) return;
    const total = shapes.reduce((sum, { weight }) => sum + weight, 0);
    close.forEach((candidate, i) => {
      candidate.score = shapes.reduce((sum, { weight, times }) => sum + weight * Math.log(times[i]! / Math.min(...times)), 0) / total;
    });
  }

  /** Times of the candidates at another shape, from the cache or the clock; undefined when that would take too long. */
  #timesAt(bindings: Bindings, close: readonly Candidate[]): number[] | undefined {
    const key = this.#keyAt(bindings);
    if (key === this.#key) return undefined;
    const known = this.#options.cache?.get(key);
    const kept = close.map((candidate) => known?.[candidate.tactic.name]);
    if (kept.every((ns) => ns !== undefined)) return kept.includes(NOT_TIMED) ? undefined : kept;
    const compiled = this.#compile(close[0]!)!;
    const [work, usual] = [bindings, this.#bindings].map((sizes) => evaluate(compiled.flops, sizes)) as [number, number];
    if (this.#now() > this.#deadline) {
      // Kept as well: a later build, which has the time, would choose another tactic.
      close.forEach((candidate, i) => { if (kept[i] === undefined) this.#options.cache?.set(key, candidate.tactic.name, NOT_TIMED); });
      return undefined;
    }
    if (work <= 0 || (close[0]!.ns! * work) / Math.max(1, usual) > LONGEST_ALTERNATIVE_NS) return undefined;
    const prepared = close.map((candidate) => this.#options.device.prepare(this.#compile(candidate)!, bindings));
    try {
      const samples = prepared.map((): number[] => []);
      for (let round = 0; round <= ALTERNATIVE_ROUNDS; round++) {
        this.#checkAborted();
        prepared.forEach((kernel, i) => { if (round > 0) samples[i]!.push(kernel.time()); else kernel.time(); });
      }
      const times = samples.map((list, i) => kept[i] ?? Math.max(1, Math.round(typical(list))));
      close.forEach((candidate, i) => this.#options.cache?.set(key, candidate.tactic.name, times[i]!));
      return times.includes(NOT_TIMED) ? undefined : times;
    } finally {
      for (const kernel of prepared) kernel.dispose();
    }
  }

  #playOff(wanted: readonly Candidate[]): void {
    const finalists = inPlay(wanted);
    if (finalists.length < 2) return;
    for (const candidate of finalists) candidate.samples = [];
    for (let round = 0; round < FINAL_ROUNDS; round++) {
      this.#checkAborted();
      if (round >= 3 && this.#now() > this.#deadline) break;
      for (const candidate of finalists) candidate.samples.push(candidate.prepared!.time());
    }
    const slowest = Math.max(...finalists.map((candidate) => (candidate.ns = typical(candidate.samples))));
    // Those left out of the play-off were slower than every finalist; noise of single runs must not make them win.
    for (const candidate of wanted) {
      if (candidate.ns !== undefined && !finalists.includes(candidate)) candidate.ns = Math.max(candidate.ns, slowest + 1);
    }
  }

  /** First samples of a candidate. One that the device refuses is out: another, the last of them plain, runs everywhere. */
  #tryOut(candidate: Candidate, best: number): boolean {
    try {
      if (!this.#prepare(candidate)) return false;
      const prepared = candidate.prepared!;
      prepared.time();
      candidate.samples.push(prepared.time());
      if (candidate.samples[0]! < best * HOPELESS) candidate.samples.push(prepared.time(), prepared.time());
      return true;
    } catch (error) {
      if (!(error instanceof SinterError) || error.code !== "gpu-error") throw error;
      candidate.refused = error.message;
      this.#release(candidate);
      return false;
    }
  }

  #prepare(candidate: Candidate): boolean {
    const compiled = this.#compile(candidate);
    if (!compiled) return false;
    candidate.prepared = this.#options.device.prepare(compiled, this.#bindings);
    return true;
  }

  #compile(candidate: Candidate): CompiledKernel | undefined {
    if (candidate.refused) return undefined;
    candidate.compiled ??= candidate.tactic.compile();
    const limit = this.#options.workspaceBytes ?? Number.POSITIVE_INFINITY;
    if (candidate.compiled.scratchBytes <= limit) return candidate.compiled;
    candidate.refused = `needs ${candidate.compiled.scratchBytes} bytes of workspace, the limit is ${limit}`;
    return undefined;
  }

  #release(candidate: Candidate): void {
    candidate.prepared?.dispose();
    delete candidate.prepared;
  }

  #checkAborted(): void {
    if (this.#options.signal?.aborted) throw new UserError("aborted", "Tuning was cancelled.");
  }

  #choose(measured: boolean): Tuned {
    const order = measured ? [...this.#candidates].sort(byScore) : this.#candidates;
    const chosen = order.find((candidate) => this.#compile(candidate)) ?? this.#smallest();
    return {
      kernel: chosen.compiled!,
      tactic: chosen.tactic.name,
      report: order.map((candidate) => this.#report(candidate, candidate === chosen)),
    };
  }

  /** When the workspace limit refuses every tactic, the one that needs least runs all the same. */
  #smallest(): Candidate {
    return this.#candidates.reduce((a, b) => (a.compiled!.scratchBytes <= b.compiled!.scratchBytes ? a : b));
  }

  #report(candidate: Candidate, chosen: boolean): TacticReport {
    const tactic = candidate.tactic.name;
    const timed = candidate.ns === undefined ? {} : { ns: Math.round(candidate.ns) };
    if (chosen) return { tactic, ...timed, outcome: "chosen" };
    if (candidate.refused) return { tactic, ...timed, outcome: "refused", reason: candidate.refused };
    if (candidate.ns === undefined) return { tactic, outcome: "skipped", reason: "not tried at this level or within the time budget" };
    return { tactic, ...timed, outcome: "slower" };
  }
}

/** Candidates that still hold memory, fastest first. */
function inPlay(candidates: readonly Candidate[]): Candidate[] {
  return candidates.filter((candidate) => candidate.prepared).sort(byTime);
}

function byTime(a: Candidate, b: Candidate): number {
  return (a.ns ?? Number.POSITIVE_INFINITY) - (b.ns ?? Number.POSITIVE_INFINITY) || a.tactic.estimate - b.tactic.estimate;
}

/** Those judged over all shapes first, then by their time at the optimum. */
function byScore(a: Candidate, b: Candidate): number {
  if (a.score !== undefined && b.score !== undefined) return a.score - b.score || byTime(a, b);
  if (a.score === undefined && b.score === undefined) return byTime(a, b);
  return a.score === undefined ? 1 : -1;
}

/** The lower quartile: what disturbs a run only ever makes it slower. */
function typical(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[sorted.length >> 2]!;
}
