/**
 * Sequences before the batcher: requests of one sequence run one after another, and only so many sequences at a time; others
 * wait in the order in which they began. A sequence that ends, or brings nothing for long, leaves its place.
 *
 * Pure logic over a clock, as the batcher. Whatever batches form from what is let through, each holds at most one request
 * of a sequence. Source: Triton's "Stateful Models".
 */
import type { Clock } from "./clock.ts";

/** How soon after its client has gone a waiting item is dropped. */
const SWEEP_NS = 50e6;

export interface SequenceOptions<T> {
  /** Sequences that run at a time. */
  readonly places: number;
  /** How long a sequence may bring nothing before its place is given to another. */
  readonly idleNs: number;
  readonly clock: Clock;
  /** What must wait, in places and for one, before the first item runs, so that a test knows what runs together. */
  readonly startAt?: StartAt;
  /** Whether whoever asked has gone: with one item its whole sequence is given up. */
  isCancelled(item: T): boolean;
  /** An item that never had its turn. */
  drop(item: T): void;
  /** Called when it is an item's turn; `done` when it has been answered. @param context the sequence's own */
  run(item: T, context: SequenceContext, done: () => void): void;
}

export interface StartAt {
  readonly placed: number;
  readonly backlog: number;
}

/** What a sequence keeps between its requests. */
export interface SequenceContext {
  /** Which of the places it has, from 0; the lowest that was free. */
  readonly place: number;
  state: unknown;
}

interface Sequence<T> extends SequenceContext {
  place: number;
  readonly key: string;
  readonly waiting: T[];
  running: boolean;
  /** Its last request is here. */
  ended: boolean;
  stopTimer: (() => void) | undefined;
}

export class Sequences<T> {
  readonly #options: SequenceOptions<T>;
  readonly #known = new Map<string, Sequence<T>>();
  readonly #backlog: Sequence<T>[] = [];
  readonly #placed = new Set<Sequence<T>>();
  #items = 0;
  #running = 0;
  #stopSweep: (() => void) | undefined;
  #startAt: StartAt | undefined;
  #closing: (() => void) | undefined;

  constructor(options: SequenceOptions<T>) {
    this.#options = options;
    this.#startAt = options.startAt;
  }

  /** Items that have not been answered. */
  get size(): number {
    return this.#items;
  }

  /** Items whose turn has not come. */
  get waiting(): number {
    return this.#items - this.#running;
  }

  /** Whether the sequence has begun and its last item has not come. */
  isOpen(key: string): boolean {
    return this.#known.get(key)?.ended === false;
  }

  /** @param ends whether it is the sequence's last item; the next one of that key begins another */
  submit(key: string, item: T, ends: boolean): void {
    let sequence = this.#known.get(key);
    if (!sequence || sequence.ended) {
      sequence = { key, place: -1, waiting: [], running: false, ended: false, stopTimer: undefined, state: undefined };
      this.#known.set(key, sequence);
      this.#backlog.push(sequence);
    }
    sequence.stopTimer?.();
    sequence.stopTimer = undefined;
    sequence.waiting.push(item);
    sequence.ended = ends;
    this.#items++;
    this.#watch();
    if (this.#placed.has(sequence)) this.#advance(sequence);
    else this.#fill();
    if (this.#startAt) this.#start(this.#startAt);
  }

  /** Resolves when all that was submitted has been answered; no sequence waits for more after that. */
  async close(): Promise<void> {
    if (this.#startAt) this.#start({ placed: 0, backlog: 0 });
    for (const sequence of this.#placed) if (!sequence.running && sequence.waiting.length === 0) this.#leave(sequence);
    if (this.#items > 0) await new Promise<void>((resolve) => { this.#closing = resolve; });
  }

  #start({ placed, backlog }: StartAt): void {
    const waitingIn = (some: Iterable<Sequence<T>>): number => [...some].reduce((sum, { waiting }) => sum + waiting.length, 0);
    if (waitingIn(this.#placed) < placed || waitingIn(this.#backlog) < backlog) return;
    this.#startAt = undefined;
    for (const sequence of this.#placed) this.#advance(sequence);
  }

  #fill(): void {
    while (this.#placed.size < this.#options.places && this.#backlog.length > 0) {
      const sequence = this.#backlog.shift()!;
      sequence.place = this.#lowestFree();
      this.#placed.add(sequence);
      this.#advance(sequence);
    }
  }

  /** Whoever leaves says so by a flag, at which nobody looks before the item's turn: so it is looked at now and then. */
  #watch(): void {
    const { clock } = this.#options;
    this.#stopSweep ??= clock.at(clock.nowNs() + SWEEP_NS, () => {
      this.#stopSweep = undefined;
      for (const sequence of [...this.#placed, ...this.#backlog]) if (sequence.waiting.some((item) => this.#options.isCancelled(item))) this.#giveUp(sequence);
      if (this.waiting > 0) this.#watch();
    });
  }

  #giveUp(sequence: Sequence<T>): void {
    sequence.ended = true;
    if (this.#known.get(sequence.key) === sequence) this.#known.delete(sequence.key);
    const dropped = sequence.waiting.splice(0);
    this.#items -= dropped.length;
    const at = this.#backlog.indexOf(sequence);
    if (at >= 0) this.#backlog.splice(at, 1);
    else if (!sequence.running) this.#leave(sequence);
    for (const item of dropped) this.#options.drop(item);
    if (this.#items === 0) this.#closing?.();
  }

  #lowestFree(): number {
    const taken = new Set([...this.#placed].map(({ place }) => place));
    let place = 0;
    while (taken.has(place)) place++;
    return place;
  }

  #advance(sequence: Sequence<T>): void {
    if (sequence.running || this.#startAt) return;
    const item = sequence.waiting.shift();
    if (item === undefined) {
      this.#rest(sequence);
      return;
    }
    sequence.running = true;
    this.#running++;
    this.#options.run(item, sequence, () => {
      sequence.running = false;
      this.#running--;
      this.#items--;
      this.#advance(sequence);
      if (this.#items === 0) this.#closing?.();
    });
  }

  /** Nothing of it waits. */
  #rest(sequence: Sequence<T>): void {
    if (sequence.ended || this.#closing) {
      this.#leave(sequence);
      return;
    }
    const { clock, idleNs } = this.#options;
    sequence.stopTimer = clock.at(clock.nowNs() + idleNs, () => this.#leave(sequence));
  }

  #leave(sequence: Sequence<T>): void {
    sequence.stopTimer?.();
    sequence.stopTimer = undefined;
    this.#placed.delete(sequence);
    if (this.#known.get(sequence.key) === sequence) this.#known.delete(sequence.key);
    this.#fill();
  }
}
