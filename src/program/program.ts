/**
 * A program: an array of steps in native memory, each a kernel with its parameters and tiles, and the run that walks
 * it. One allocation holds everything; setting tiles and parameters writes integers and allocates nothing.
 *
 * A kernel is `kernel(params, firstTile, endTile, scratch, participant)`, System V. Steps run in order, each after all
 * tiles of the one before. A program has one run at a time; disposing it during a run frees it afterwards.
 * If a worker is terminated during a run, the run ends and the memory stays.
 */
import { assert, UserError } from "../base/index.ts";
import { NativeMemory } from "../native/index.ts";
import { Channel, type PendingRun } from "./channel.ts";
import { COUNTER, LINE_BYTES, MOST_SPANS, RUN, RUN_FLAG, SPAN, STEP } from "./layout.ts";
import { openPool, type Pool } from "./pool.ts";
import { Words } from "./words.ts";

export interface StepSpec {
  /** Where the kernel's machine code lies. It must stay there until the program is disposed and its last run ended. */
  readonly code: bigint | number;
  /** How many 8-byte parameters the kernel reads. */
  readonly params: number;
  /** Pieces of work that any thread may do in any order. 0: the step does nothing. */
  readonly tiles: number;
  /** Fewest tiles that a thread claims at once, at least 1; by default an eighth of each thread's share. */
  readonly grain?: number;
  /** Scratch memory every thread gets, aligned to 64 bytes; its contents are undefined. */
  readonly scratchBytes?: number;
}

/** Claims per thread in a step whose grain is left to us: few enough to cost nothing, many enough to even out. */
const CLAIMS_PER_THREAD = 8;

/**
 * A claim takes this part of a thread's share of what is left: many neighbouring tiles at first, whose weights follow each other
 * in memory, few at last, so that threads end together.
 */
const CLAIMED_SHARE = 2;
/** Of a step: what is claimed from either end is counted in 32 bits. */
const MOST_TILES = 2 ** 31 - 1;

export interface RunOptions {
  /** Threads to take part; by default the pool's budget. Never more than the budget or the tiles allow. */
  readonly threads?: number;
  /** Index of the first step; by default 0. */
  readonly first?: number;
  /** Index after the last step; by default all. */
  readonly end?: number;
  /** Records how long each step takes, see `profile`. */
  readonly profile?: boolean;
}

/** A participant's time in a step. */
export interface StepSpan {
  readonly step: number;
  readonly participant: number;
  /** Nanoseconds of the monotonic clock. */
  readonly beginNs: number;
  readonly endNs: number;
}

export interface AsyncRunOptions extends RunOptions {
  /**
   * The step whose begin tells the event loop that the run ends soon. Waking a sleeping thread can take longer than what
   * is left of the run then; awake, it looks for the end at every turn. Runs of several threads send none.
   */
  readonly notice?: number | undefined;
  /** Gives the run up if no thread has begun it. */
  readonly signal?: AbortSignal | undefined;
}

interface Outcome {
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

let channel: Channel | undefined;

/** The calling thread's channel, made with its first program. */
function openChannel(pool: Pool): Channel {
  channel ??= new Channel(pool);
  return channel;
}

export class Program implements PendingRun {
  readonly stepCount: number;
  /** Address of the run's record. */
  readonly runAddress: number;
  readonly #pool: Pool;
  readonly #channel: Channel;
  readonly #memory: NativeMemory;
  readonly #words: Words;
  readonly #scratchBytes: number;
  readonly #counters: number;
  /** Byte offset of each step's parameters. */
  readonly #params: Int32Array;
  #groupsKnown = false;
  /** The most chunks any step has. */
  #mostChunks = 1;
  #outcome: Outcome | undefined;
  #disposed = false;

  /**
   * @param source the steps, or a program whose steps, tiles and parameters are copied
   * @throws SinterError when there is not enough memory
   */
  constructor(source: readonly StepSpec[] | Program) {
    this.#pool = openPool();
    this.#channel = openChannel(this.#pool);
    const copied = source instanceof Program ? source : undefined;
    const steps = copied ? [] : (source as readonly StepSpec[]);
    this.stepCount = copied?.stepCount ?? steps.length;
    this.#scratchBytes = copied ? copied.#scratchBytes : steps.reduce((most, { scratchBytes = 0 }) => Math.max(most, scratchBytes), 0);
    this.#pool.ensureScratch(this.#scratchBytes);
    this.#counters = RUN.bytes + this.stepCount * STEP.bytes;
    const layout = copied ? { params: copied.#params, sizeBytes: copied.#memory.sizeBytes } : placeParams(steps, this.#counters);
    this.#params = layout.params;
    this.#memory = NativeMemory.allocate(layout.sizeBytes);
    this.runAddress = Number(this.#memory.address);
    this.#words = new Words(this.#memory.view().buffer);
    if (copied) this.#words.copy(copied.#words, RUN.bytes);
    this.#words.set(RUN.steps, this.runAddress + RUN.bytes);
    this.#words.set(RUN.counters, this.runAddress + this.#counters);
    this.#words.set(RUN.channel, this.#channel.address);
    for (let step = 0; step < this.stepCount; step++) this.#words.set(RUN.bytes + step * STEP.bytes + STEP.params, this.paramsAddress(step));
    for (const [index, step] of steps.entries()) this.#writeStep(index, step);
  }

  /** Sets a parameter: an integer of at most 53 bits, or an address. Numbers cost no allocation. */
  setParam(step: number, slot: number, value: number | bigint): void {
    this.#words.set(this.#params[step]! + slot * 8, Number(value));
  }

  /** Where the parameters of a step lie. */
  paramsAddress(step: number): number {
    return this.runAddress + this.#params[step]!;
  }

  /** Changes a step's tiles, see `StepSpec`. */
  setTiles(step: number, tiles: number, grain = Math.max(1, Math.ceil(tiles / (CLAIMS_PER_THREAD * this.#pool.budget)))): void {
    const isValid = step >= 0 && step < this.stepCount && Number.isSafeInteger(tiles) && tiles >= 0 && tiles <= MOST_TILES && Number.isSafeInteger(grain) && grain > 0;
    if (!isValid) assert(false, `step ${step} of ${this.stepCount}: ${tiles} tiles by ${grain}`);
    const offset = RUN.bytes + step * STEP.bytes;
    this.#words.set(offset + STEP.tiles, tiles);
    this.#words.set(offset + STEP.grain, grain);
    this.#groupsKnown = false;
  }

  get running(): boolean {
    return this.#outcome !== undefined;
  }

  /** Runs on the calling thread, with pool threads when `threads` is above 1; returns when all is done. */
  runSync(options: RunOptions = {}): void {
    const { first, end } = this.#range(options);
    if (first === end) return;
    const participants = this.#participants(options.threads);
    const scratch = this.#channel.scratch(this.#scratchBytes);
    const { walker, address } = this.#pool;
    if (participants === 1) {
      const counter = options.profile ? this.runAddress + this.#counters + first * COUNTER.bytes : 0;
      walker.walkAlone(this.runAddress + RUN.bytes + first * STEP.bytes, end - first, scratch, counter, 0, 0);
      return;
    }
    this.#prepare(first, end, participants - 1, 1, RUN_FLAG.synchronous | (options.profile ? RUN_FLAG.profile : 0));
    walker.runSync(address, this.runAddress, scratch);
  }

  /** Runs on pool threads; the promise settles on this thread's event loop. Steps and parameters stay unchanged until then. */
  run(options: AsyncRunOptions = {}): Promise<void> {
    const { first, end } = this.#range(options);
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(aborted(signal));
    if (first === end) return Promise.resolve();
    const participants = this.#participants(options.threads, 0);
    const kind = participants === 1 ? RUN_FLAG.single : 0;
    this.#prepare(first, end, participants, 0, kind | (options.profile ? RUN_FLAG.profile : 0));
    this.#words.set(RUN.notice, options.notice === undefined ? 0 : this.runAddress + RUN.bytes + options.notice * STEP.bytes);
    const ended = new Promise<void>((resolve, reject) => {
      this.#outcome = { resolve, reject };
    });
    this.#channel.submit(this);
    return signal === undefined ? ended : this.#untilAborted(ended, signal);
  }

  /** Nanoseconds each step took in the last run that was profiled; 0 for steps it did not run. */
  profile(): Float64Array {
    const nsPerTick = this.#pool.nsPerTick();
    const elapsedNs = new Float64Array(this.stepCount);
    for (let step = 0; step < this.stepCount; step++) {
      const offset = this.#counters + step * COUNTER.bytes;
      elapsedNs[step] = (this.#words.get(offset + COUNTER.end) - this.#words.get(offset + COUNTER.begin)) * nsPerTick;
    }
    return elapsedNs;
  }

  /** Runs on the calling thread, with pool threads when `threads` is above 1, and says when each thread was busy with which step. */
  runTraced(options: Pick<RunOptions, "threads"> = {}): StepSpan[] {
    const threads = Math.min(MOST_SPANS, options.threads ?? this.#pool.budget);
    using spans = NativeMemory.allocate(Math.max(1, this.stepCount) * MOST_SPANS * SPAN.bytes);
    this.#words.set(RUN.spans, Number(spans.address));
    try {
      this.runSync({ threads, profile: true });
    } finally {
      this.#words.set(RUN.spans, 0);
    }
    const words = new Words(spans.view().buffer);
    const clock = this.#pool.clock();
    return Array.from({ length: this.stepCount }, (_, step) => this.#spansOf(step, words, clock)).flat();
  }

  /** From the participants' own marks, or, of a step that one ran alone, from the step's. */
  #spansOf(step: number, words: Words, clock: (ticks: number) => number): StepSpan[] {
    const span = (participant: number, begin: number, end: number): StepSpan => ({ step, participant, beginNs: clock(begin), endNs: clock(end) });
    const shared = Array.from({ length: MOST_SPANS }, (_, participant): StepSpan[] => {
      const offset = (step * MOST_SPANS + participant) * SPAN.bytes;
      const begin = words.get(offset + SPAN.begin);
      return begin === 0 ? [] : [span(participant, begin, words.get(offset + SPAN.end))];
    }).flat();
    if (shared.length > 0) return shared;
    const offset = this.#counters + step * COUNTER.bytes;
    const [begin, end] = [this.#words.get(offset + COUNTER.begin), this.#words.get(offset + COUNTER.end)];
    return end === 0 ? [] : [span(this.#words.get32(offset + COUNTER.participant), begin, end)];
  }

  /** For the channel: the next finished run in its list. */
  takeNext(): number {
    return this.#words.get(RUN.nextDone);
  }

  /** For the channel: the run has ended. */
  finish(): void {
    this.#settle()?.resolve();
  }

  /** Frees the program's memory, after the run in flight if there is one. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#outcome === undefined) this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #writeStep(index: number, step: StepSpec): void {
    const offset = RUN.bytes + index * STEP.bytes;
    this.#words.set(offset + STEP.code, Number(step.code));
    this.setTiles(index, step.tiles, step.grain);
  }

  #range({ first = 0, end = this.stepCount }: RunOptions): { readonly first: number; readonly end: number } {
    if (this.#disposed) throw new UserError("disposed", "The program was used after it was disposed.");
    assert(this.#outcome === undefined, "a program was run while its last run was in flight");
    assert(first >= 0 && first <= end && end <= this.stepCount, `steps ${first} to ${end} of ${this.stepCount}`);
    return { first, end };
  }

  /** How many threads the run will have, the caller included; starts the pool's when needed. */
  #participants(threads = this.#pool.budget, callers = 1): number {
    if (!this.#groupsKnown) this.#findGroups();
    const count = Math.max(1, Math.min(threads, this.#pool.budget, this.#mostChunks));
    if (count > callers) this.#pool.ensureThreads(count - callers);
    return count;
  }

  /** Finds neighbouring steps of one chunk each, from the back. */
  #findGroups(): void {
    let group = 0;
    this.#mostChunks = 1;
    for (let step = this.stepCount - 1; step >= 0; step--) {
      const offset = RUN.bytes + step * STEP.bytes;
      const chunks = Math.ceil(this.#words.get(offset + STEP.tiles) / this.#words.get(offset + STEP.grain));
      group = chunks <= 1 ? group + 1 : 0;
      this.#words.set32(offset + STEP.serial, group);
      this.#mostChunks = Math.max(this.#mostChunks, chunks);
    }
    this.#groupsKnown = true;
  }

  #prepare(first: number, end: number, wanted: number, present: number, flags: number): void {
    const words = this.#words;
    words.clear(this.#counters + first * COUNTER.bytes, (end - first) * COUNTER.bytes);
    words.set(RUN.first, first);
    words.set(RUN.end, end);
    words.set(RUN.current, first);
    words.set32(RUN.wanted, wanted);
    words.set32(RUN.nextIndex, present);
    words.set32(RUN.active, present);
    words.set32(RUN.state, 0);
    words.set32(RUN.flags, flags);
    words.set32(RUN.share, Math.ceil(Math.log2(CLAIMED_SHARE * (wanted + present))));
  }

  async #untilAborted(ended: Promise<void>, signal: AbortSignal): Promise<void> {
    const abort = () => {
      if (this.#outcome !== undefined && this.#channel.cancel(this)) this.#settle()?.reject(aborted(signal));
    };
    signal.addEventListener("abort", abort, { once: true });
    try {
      await ended;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #settle(): Outcome | undefined {
    const outcome = this.#outcome;
    this.#outcome = undefined;
    if (this.#disposed) this.#memory.dispose();
    return outcome;
  }
}

/** Byte offsets of each step's parameters behind the counters, and where they end. */
function placeParams(steps: readonly StepSpec[], counters: number): { readonly params: Int32Array; readonly sizeBytes: number } {
  const params = new Int32Array(steps.length);
  let sizeBytes = counters + steps.length * COUNTER.bytes;
  for (const [index, step] of steps.entries()) {
    params[index] = sizeBytes;
    sizeBytes += Math.ceil((step.params * 8) / LINE_BYTES) * LINE_BYTES;
  }
  return { params, sizeBytes };
}

function aborted(signal: AbortSignal): UserError {
  return new UserError("aborted", "The run was cancelled before it began.", { cause: signal.reason });
}
