/**
 * The process's thread pool as seen from one JavaScript thread. All of them, and every engine in the process, share
 * its threads and its core budget. Threads start when a run first needs them and sleep when there is none.
 *
 * What JavaScript changes (threads, scratch, channels) it changes as the pool's owner; a thread that is terminated
 * while it owns the pool is noticed and replaced. The walker's own lock is never held while JavaScript runs.
 */
import { createHash } from "node:crypto";
import { getPriority } from "node:os";
import { UserError } from "../base/index.ts";
import {
  allocateExecutable, allowedCpus, availableThreads, describeComputing, mapAnonymous, munmap, nativeFunction, type NativeFunction, setThreadPriority, setThreadScheduling, startThread, threadExists,
  threadId,
} from "../native/index.ts";
import { AFFINITY_BYTES, MAX_THREADS, POOL, POOL_BYTES, SCRATCH_HEADER_BYTES, THREAD } from "./layout.ts";
import { mapPool } from "./pool-memory.ts";
import { assembleWalker, WALKER_ENTRIES, type WalkerEntry } from "./walker.ts";
import { Words } from "./words.ts";

export interface PoolOptions {
  /** Threads that may compute at once. The first to open the pool decides; by default what the process may use. */
  readonly threads?: number;
}

type Walker = Readonly<Record<WalkerEntry, NativeFunction>>;

/**
 * Polls before sleeping: a few tens of microseconds when idle or waiting for a step, almost none when crowded. With a
 * processor to spare, an idle thread polls for longer than a caller takes from one result to the next run: a thread that
 * sleeps takes about 100 us to come back on a virtual machine.
 */
const SPINS = { idle: 2000, step: 4000, crowded: 50, roomy: 12_000 } as const;
/** How long a new thread may take to its first instruction. */
const THREAD_START_MS = 100;
const NANOSECONDS_PER_SECOND = 1e9;

export class Pool {
  readonly address: number;
  readonly walker: Walker;
  readonly words: Words;
  readonly #codeAddress: number;
  readonly #entries: ReadonlyMap<string, number>;
  readonly #ownerId = threadId();

  /** Use `openPool`. */
  constructor(options: PoolOptions) {
    const { code, entries } = assembleWalker();
    this.#entries = entries;
    this.address = mapPool(`sinter-pool-${createHash("sha256").update(code).digest("hex").slice(0, 16)}`);
    this.words = Words.over(this.address, POOL_BYTES);
    const published = this.words.get(POOL.code);
    if (published !== 0) {
      this.#codeAddress = published;
      this.walker = this.#bind(published);
      return;
    }
    const memory = allocateExecutable(code);
    this.walker = this.#bind(Number(memory.address));
    const mine = this.asOwner(() => this.#initialize(Number(memory.address), options));
    this.#codeAddress = this.words.get(POOL.code);
    if (mine) return;
    this.walker = this.#bind(this.#codeAddress);
    memory.dispose();
  }

  /** Threads that may compute at once. */
  get budget(): number {
    return this.words.get32(POOL.budget);
  }

  /** Threads started so far. */
  get threads(): number {
    return this.words.get32(POOL.threads);
  }

  /** Whether a processor is left over beside the threads that are awake. */
  get hasRoom(): boolean {
    return this.threads - this.words.get32(POOL.sleepers) < this.budget;
  }

  /** Starts threads until there are `count`, at most the budget. @throws SinterError when not even one can be had */
  ensureThreads(count: number): void {
    const wanted = Math.min(count, this.budget, MAX_THREADS);
    if (this.threads >= wanted) return;
    this.asOwner(() => {
      while (this.threads < wanted) if (!this.#startThread(this.threads)) return;
    });
  }

  /** Gives every thread at least this much scratch memory. @throws SinterError when there is not enough */
  ensureScratch(sizeBytes: number): void {
    if (this.words.get(POOL.scratchBytes) >= sizeBytes) return;
    this.asOwner(() => {
      for (let index = 0; index < this.threads; index++) {
        const area = mapScratch(sizeBytes);
        const unused = Number(this.walker.exchange(this.#threadAddress(index) + THREAD.pendingScratch, area));
        if (unused !== 0) unmapScratch(unused);
      }
      this.words.set(POOL.scratchBytes, sizeBytes);
    });
  }

  /** Sets the nice value of the pool's threads, now and later. A server lets its event loop go first. */
  setPriority(nice: number): void {
    this.words.set32(POOL.nice, nice);
    describeComputing(this.words.from(POOL.scheduling), nice);
    for (let index = 0; index < this.threads; index++) {
      const id = this.words.get32(POOL.threadTable + index * THREAD.bytes + THREAD.id);
      if (id !== 0 && !setThreadScheduling(id, this.address + POOL.scheduling)) setThreadPriority(id, nice);
    }
  }

  /** Nanoseconds a tick of the time-stamp counter takes, from all the time since the pool was made. */
  nsPerTick(): number {
    const ticks = Number(this.walker.ticks()) - this.words.get(POOL.startTicks);
    return (nowNs() - this.words.get(POOL.startNs)) / ticks;
  }

  /** What turns the time-stamp counter into nanoseconds of the monotonic clock. */
  clock(): (ticks: number) => number {
    const nsPerTick = this.nsPerTick();
    const [startTicks, startNs] = [this.words.get(POOL.startTicks), this.words.get(POOL.startNs)];
    return (ticks) => startNs + (ticks - startTicks) * nsPerTick;
  }

  /** Runs `change` while no other JavaScript thread changes the pool. */
  asOwner<T>(change: () => T): T {
    const owner = this.address + POOL.owner;
    const { compareExchange } = this.walker;
    while (compareExchange(owner, 0, this.#ownerId) !== 1) {
      const holder = this.words.get32(POOL.owner);
      if (holder !== 0 && !threadExists(holder) && compareExchange(owner, holder, this.#ownerId) === 1) break;
      sleepMs(1);
    }
    try {
      return change();
    } finally {
      compareExchange(owner, this.#ownerId, 0);
    }
  }

  #bind(code: number): Walker {
    const bound: Partial<Record<WalkerEntry, NativeFunction>> = {};
    for (const [name, prototype] of Object.entries(WALKER_ENTRIES) as [WalkerEntry, string][]) {
      bound[name] = nativeFunction(code + this.#entries.get(name)!, prototype);
    }
    return bound as Walker;
  }

  /** @returns false when another JavaScript thread was first */
  #initialize(code: number, options: PoolOptions): boolean {
    const { words } = this;
    if (words.get(POOL.code) !== 0) return false;
    words.set(POOL.queuePrevious, this.address);
    words.set(POOL.queueNext, this.address);
    words.set32(POOL.budget, Math.min(options.threads ?? availableThreads(), MAX_THREADS));
    words.set32(POOL.idleSpins, SPINS.idle);
    words.set32(POOL.stepSpins, SPINS.step);
    words.set32(POOL.crowdedSpins, SPINS.crowded);
    words.set32(POOL.roomySpins, SPINS.roomy);
    this.#setMask(POOL.allowed, allowedCpus());
    describeComputing(words.from(POOL.scheduling), getPriority());
    words.set(POOL.startTicks, Number(this.walker.ticks()));
    words.set(POOL.startNs, nowNs());
    this.walker.exchange(this.address + POOL.code, code);
    return true;
  }

  #threadAddress(index: number): number {
    return this.address + POOL.threadTable + index * THREAD.bytes;
  }

  /** @returns false when the system has no more threads; the ones there are will do */
  #startThread(index: number): boolean {
    const offset = POOL.threadTable + index * THREAD.bytes;
    if (this.#wasStarted(offset)) {
      this.words.set32(POOL.threads, index + 1);
      return true;
    }
    const scratch = mapScratch(this.words.get(POOL.scratchBytes));
    this.words.set(offset + THREAD.pool, this.address);
    this.words.set(offset + THREAD.scratch, scratch);
    this.words.set(offset + THREAD.pendingScratch, 0);
    const allowed = allowedCpus();
    this.#setMask(offset + THREAD.own, index < allowed.length ? [allowed[index]!] : allowed);
    try {
      startThread(this.#codeAddress + this.#entries.get("threadMain")!, this.address + offset);
    } catch (error) {
      unmapScratch(scratch);
      this.words.set(offset + THREAD.pool, 0);
      if (index === 0) throw error;
      return false;
    }
    this.words.set32(POOL.threads, index + 1);
    return true;
  }

  /** Writes a bit mask of processors. */
  #setMask(offset: number, cpus: readonly number[]): void {
    for (let word = 0; word < AFFINITY_BYTES / 4; word++) {
      const bits = cpus.filter((cpu) => cpu >> 5 === word).reduce((mask, cpu) => mask | (1 << (cpu & 31)), 0);
      this.words.set32(offset + word * 4, bits >>> 0);
    }
  }

  /** Whether an owner that was terminated had started this thread without counting it. */
  #wasStarted(offset: number): boolean {
    if (this.words.get(offset + THREAD.pool) === 0) return false;
    for (let waitedMs = 0; waitedMs < THREAD_START_MS; waitedMs++) {
      if (this.words.get32(offset + THREAD.id) !== 0) return true;
      sleepMs(1);
    }
    return false;
  }
}

/** A scratch area whose first word is its mapped size. */
export function mapScratch(sizeBytes: number): number {
  const mapped = sizeBytes + SCRATCH_HEADER_BYTES;
  const address = mapAnonymous(mapped);
  Words.over(address, SCRATCH_HEADER_BYTES).set(0, mapped);
  return address;
}

export function unmapScratch(address: number): void {
  munmap(address, Words.over(address, SCRATCH_HEADER_BYTES).get(0));
}

function nowNs(): number {
  const [seconds, ns] = process.hrtime();
  return seconds * NANOSECONDS_PER_SECOND + ns;
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

function sleepMs(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

let opened: Pool | undefined;

/**
 * The pool of this process, made by whichever JavaScript thread asks first; its threads start later.
 * @throws UserError for a thread count that is not positive; UnsupportedError off Linux x86-64
 */
export function openPool(options: PoolOptions = {}): Pool {
  const { threads } = options;
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads > 0)) {
    throw new UserError("option-invalid", `Thread count is ${threads}; expected a whole number of at least 1.`);
  }
  opened ??= new Pool(options);
  return opened;
}
