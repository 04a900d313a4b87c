/**
 * Where one JavaScript thread hears that its runs have ended: a list in native memory, and one pipe that wakes its
 * event loop when the list is no longer empty. It keeps the process alive only while a run is in flight.
 *
 * Channels outlive their threads, since a terminated worker's runs still end there. A channel whose thread is gone and
 * whose runs have ended is given to the next thread that needs one.
 */
import { SinterError } from "../base/index.ts";
import { closeDescriptor, createWakePipe, threadExists, threadId, type WakePipe } from "../native/index.ts";
import { CHANNEL, CHANNEL_TABLE, MAX_CHANNELS, SCRATCH_HEADER_BYTES } from "./layout.ts";
import { mapScratch, type Pool, unmapScratch } from "./pool.ts";
import { Words } from "./words.ts";

/** How long to look for the end of a run that said it was near. */
const WATCH_MS = 1;

/** A run that was submitted. */
export interface PendingRun {
  readonly runAddress: number;
  /** Called when the run has ended; answers the address of the next run in the list. */
  takeNext(): number;
  finish(): void;
}

export class Channel {
  readonly address: number;
  readonly #pool: Pool;
  readonly #words: Words;
  readonly #pending = new Map<number, PendingRun>();
  #pipe: WakePipe | undefined;
  #scratchBytes = -1;
  /** Until when each turn of the event loop looks for finished runs; 0 when none does. */
  #watchUntil = 0;

  constructor(pool: Pool) {
    this.#pool = pool;
    this.address = pool.asOwner(() => claimChannel(pool));
    this.#words = Words.over(this.address, CHANNEL.bytes);
  }

  /** Address of scratch memory of at least `sizeBytes` for runs on the calling thread. */
  scratch(sizeBytes: number): number {
    if (sizeBytes > this.#scratchBytes) {
      const old = this.#words.get(CHANNEL.scratch);
      this.#words.set(CHANNEL.scratch, mapScratch(sizeBytes));
      if (old !== 0) unmapScratch(old);
      this.#scratchBytes = sizeBytes;
    }
    return this.#words.get(CHANNEL.scratch) + SCRATCH_HEADER_BYTES;
  }

  submit(run: PendingRun): void {
    this.#pipe ??= this.#openPipe();
    if (this.#pending.size === 0) this.#pipe.ref();
    this.#pending.set(run.runAddress, run);
    this.#pool.walker.submit(this.#pool.address, run.runAddress);
  }

  /** Takes back a run that no thread has begun. @returns whether it could */
  cancel(run: PendingRun): boolean {
    if (this.#pool.walker.cancel(this.#pool.address, run.runAddress) !== 1) return false;
    this.#pool.walker.addTo(this.address + CHANNEL.inFlight, -1);
    this.#forget(run);
    return true;
  }

  #openPipe(): WakePipe {
    const pipe = createWakePipe(() => this.#wake());
    this.#words.set(CHANNEL.fd, pipe.writeFd);
    return pipe;
  }

  #forget(run: PendingRun): void {
    this.#pending.delete(run.runAddress);
    if (this.#pending.size === 0) this.#pipe?.unref();
  }

  /** The pipe has been written to: a run has ended, or will soon. */
  #wake(): void {
    this.#drain();
    if (this.#words.get32(CHANNEL.endsSoon) === 0) return;
    this.#words.set32(CHANNEL.endsSoon, 0);
    const isWatching = this.#watchUntil !== 0;
    this.#watchUntil = performance.now() + WATCH_MS;
    if (!isWatching) this.#watch();
  }

  /** Looks for finished runs at every turn of the event loop, while a processor is left over for that. */
  #watch(): void {
    if (this.#words.get(CHANNEL.finished) !== 0) {
      this.#watchUntil = 0;
      this.#drain();
    } else if (this.#pending.size > 0 && this.#pool.hasRoom && performance.now() < this.#watchUntil) {
      setImmediate(() => this.#watch());
    } else this.#watchUntil = 0;
  }

  #drain(): void {
    const finished: PendingRun[] = [];
    let address = Number(this.#pool.walker.drain(this.address));
    while (address !== 0) {
      const run = this.#pending.get(address)!;
      address = run.takeNext();
      this.#forget(run);
      finished.push(run);
    }
    for (let index = finished.length - 1; index >= 0; index--) finished[index]!.finish();
  }
}

/** Takes a channel nobody has; the pool is owned by the caller. */
function claimChannel(pool: Pool): number {
  const { words } = pool;
  const id = threadId();
  for (let index = 0; index < MAX_CHANNELS; index++) {
    const offset = CHANNEL_TABLE + index * CHANNEL.bytes;
    const owner = words.get32(offset + CHANNEL.owner);
    const isTaken = owner !== 0 && owner !== id && threadExists(owner);
    if (isTaken || words.get(offset + CHANNEL.inFlight) !== 0) continue;
    const abandonedFd = words.get(offset + CHANNEL.fd);
    words.set32(offset + CHANNEL.owner, id);
    words.set(offset + CHANNEL.fd, 0);
    if (abandonedFd !== 0) closeDescriptor(abandonedFd);
    pool.walker.drain(pool.address + offset);
    return pool.address + offset;
  }
  throw new SinterError("limit-exceeded", `Thread pool: ${MAX_CHANNELS} JavaScript threads use it already; end some.`);
}
