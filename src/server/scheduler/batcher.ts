/**
 * The dynamic batcher: a queue, a policy and the places where batches run. Pure logic over a clock: it is told what
 * comes and which place is free, and says which batch goes where. It never waits and never throws.
 */
import type { Clock } from "./clock.ts";
import type { BatchingPolicy } from "./policy.ts";
import type { Candidates, Queued, RequestQueue } from "./queue.ts";
import { type Share, Spread } from "./spread.ts";

export interface BatcherOptions<T extends Queued> {
  readonly queue: RequestQueue<T>;
  readonly policy: BatchingPolicy;
  readonly clock: Clock;
  /** Places where batches can run at the same time. */
  readonly slots: number;
  /** Whether the places share the threads of one model, so that a batch may take one of them or all: see `Spread`. */
  readonly spread?: boolean;
  /** How many must wait before the first batch is made, so that a test knows what is in it. */
  readonly startAt?: number;
  /** @param whole whether the batch has all places, until its own is released */
  dispatch(batch: T[], slot: number, whole: boolean): void;
}

export class Batcher<T extends Queued> {
  readonly policy: BatchingPolicy;
  readonly #options: BatcherOptions<T>;
  readonly #idle: number[];
  /** Places that a batch has beside its own. */
  readonly #held: number[] = [];
  readonly #spread: Spread | undefined;
  #pumpAsked = false;
  #eager = false;
  #flushing = false;
  #pumping = false;
  #pumpAgain = false;
  #alarmNs = Number.POSITIVE_INFINITY;
  #forgetAlarm: (() => void) | undefined;
  #startAt: number;

  constructor(options: BatcherOptions<T>) {
    this.#options = options;
    this.policy = options.policy;
    this.#spread = options.spread ? new Spread(options.slots, options.policy.maxRows) : undefined;
    this.#startAt = options.startAt ?? 0;
    this.#idle = Array.from({ length: options.slots }, (_, i) => options.slots - 1 - i);
  }

  get size(): number {
    return this.#options.queue.size;
  }

  get bytes(): number {
    return this.#options.queue.bytes;
  }

  /** Batches that are running. */
  get running(): number {
    return this.#options.slots - this.#idle.length;
  }

  hasRoom(priority: number, bytes: number): boolean {
    return this.#options.queue.hasRoom(priority, bytes);
  }

  /** @returns false when the queue is full */
  submit(item: T): boolean {
    const { queue, clock } = this.#options;
    if (!queue.push(item, clock.nowNs())) return false;
    this.#spread?.arrived(this.running);
    if (this.#idle.length === 0) this.#setAlarm(queue.nextDeadlineNs);
    // What gathers nothing has nothing to wait for: its answer can leave in the turn of the loop that brought the request.
    else if (this.policy.maxRows === 1) this.#pump();
    else {
      if (this.#eager && !this.#pumpAsked) this.#pump();
      this.#askPump();
    }
    return true;
  }

  /** A batch has been executed. */
  observe(rows: number, whole: boolean, elapsedNs: number): void {
    this.policy.observe(rows, elapsedNs);
    this.#spread?.observe(rows, whole, elapsedNs);
  }

  /** The batch in that place has ended. */
  release(slot: number): void {
    this.#spread?.ended(slot);
    this.#idle.push(...this.#held.splice(0), slot);
    this.#pump();
  }

  /** Whether the first request of a turn of the event loop goes at once, and only those after it wait for each other. */
  setEager(eager: boolean): void {
    this.#eager = eager;
  }

  /** From now on nothing waits for others to come: the model is to end. */
  flush(): void {
    this.#flushing = true;
    this.#pump();
  }

  /** Everything that waits, taken out. */
  drain(): T[] {
    this.#setAlarm(Number.POSITIVE_INFINITY);
    return this.#options.queue.drain();
  }

  /** Requests that arrive together go together: batches are made after all of them have been taken in. */
  #askPump(): void {
    if (this.#pumpAsked) return;
    this.#pumpAsked = true;
    this.#options.clock.soon(() => {
      this.#pumpAsked = false;
      this.#pump();
    });
  }

  /** An item that leaves the queue may bring another at once: what it asks for is done by the loop that let it go. */
  #pump(): void {
    this.#pumpAgain = this.#pumping;
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      do {
        this.#pumpAgain = false;
        this.#dispatchAll();
      } while (this.#pumpAgain);
    } finally {
      this.#pumping = false;
    }
  }

  #dispatchAll(): void {
    const { queue, clock, dispatch } = this.#options;
    if (queue.size < this.#startAt && !this.#flushing) return;
    this.#startAt = 0;
    const nowNs = clock.nowNs();
    let waitUntilNs = Number.POSITIVE_INFINITY;
    while (this.#idle.length > 0) {
      const candidates = queue.candidates(nowNs, this.#mostRows());
      if (!candidates) break;
      const decision = this.policy.decide({ ...candidates, rows: Math.min(candidates.rows, this.policy.maxRows) }, nowNs);
      if ("waitUntilNs" in decision && !this.#flushing) {
        waitUntilNs = decision.waitUntilNs;
        break;
      }
      const { rows, whole } = this.#share("rows" in decision ? decision.rows : candidates.rows, candidates, nowNs);
      const batch = queue.take(nowNs, Math.min(rows, Math.max(this.policy.maxRows, candidates.headRows)));
      if (batch.length === 0) break;
      const slot = this.#idle.pop()!;
      if (whole) this.#held.push(...this.#idle.splice(0));
      else this.#spread?.began(slot, batch.reduce((sum, item) => sum + item.rows, 0), nowNs);
      dispatch(batch, slot, whole);
    }
    this.#setAlarm(Math.min(waitUntilNs, queue.nextDeadlineNs));
  }

  /** Rows that all places together could take. */
  #mostRows(): number {
    return this.#spread ? this.policy.maxRows * this.#options.slots : this.policy.maxRows;
  }

  #share(decided: number, { rows, headRows }: Candidates, nowNs: number): Share {
    return this.#spread ? this.#spread.share(Math.max(decided, rows), headRows, this.#idle.length, nowNs) : { rows: decided, whole: false };
  }

  #setAlarm(timeNs: number): void {
    if (timeNs === this.#alarmNs) return;
    this.#forgetAlarm?.();
    this.#forgetAlarm = undefined;
    this.#alarmNs = timeNs;
    if (timeNs === Number.POSITIVE_INFINITY) return;
    this.#forgetAlarm = this.#options.clock.at(timeNs, () => {
      this.#alarmNs = Number.POSITIVE_INFINITY;
      this.#forgetAlarm = undefined;
      this.#expireAndPump();
    });
  }

  #expireAndPump(): void {
    // With every place taken, `candidates` still drops what is late.
    if (this.#idle.length === 0) this.#options.queue.candidates(this.#options.clock.nowNs(), 1);
    this.#pump();
  }
}
