/**
 * The queue in front of a model: one line per priority level, each with a queue policy. Requests whose client has gone and
 * requests past their deadline leave before any work begins.
 *
 * Timeouts are as Triton's: a request's own timeout can only shorten the default; REJECT drops what is late, DELAY puts
 * it behind everything that is not. Source: triton-inference-server/core, src/scheduler_utils.cc (PolicyQueue).
 */

export interface Queued {
  /** Rows of the batch that it fills. */
  readonly rows: number;
  readonly bytes: number;
  /** Only requests of one group can share a batch. */
  readonly group: string;
  /** 1 is the highest; 0 the default. */
  readonly priority: number;
  /** Of the request itself; 0: none. */
  readonly timeoutUs: number;
  readonly cancelled: boolean;
  /** When it was queued, and when it is late; set by the queue. */
  enqueuedNs: number;
  deadlineNs: number;
}

export interface QueuePolicy {
  readonly timeoutAction: "REJECT" | "DELAY";
  readonly defaultTimeoutUs: number;
  readonly allowTimeoutOverride: boolean;
  /** 0: only the queue's own bound. */
  readonly maxQueueSize: number;
}

export interface QueueOptions {
  /** Levels 1 to that; 0: one line without levels. */
  readonly priorityLevels: number;
  readonly defaultPriorityLevel: number;
  policy(level: number): QueuePolicy;
  /** Bounds over all levels. */
  readonly maxRequests: number;
  readonly maxBytes: number;
}

export const FIFO: QueuePolicy = { timeoutAction: "REJECT", defaultTimeoutUs: 0, allowTimeoutOverride: false, maxQueueSize: 0 };

export type DropReason = "timeout" | "cancelled";

/** What a policy may know of the requests that could go into the next batch. */
export interface Candidates {
  readonly rows: number;
  /** Rows of the first of them. */
  readonly headRows: number;
  /** When the longest waiting of them came. */
  readonly oldestNs: number;
  /** Rows of the first request, of the first two, …: where some have more than one, and a batch cannot have any size. */
  readonly sums?: readonly number[];
}

/** Requests looked through for others of the first one's group. */
const MAX_LOOKAHEAD = 1024;

interface Level<T> {
  readonly policy: QueuePolicy;
  readonly fresh: Line<T>;
  readonly delayed: Line<T>;
}

export class RequestQueue<T extends Queued> {
  readonly #options: QueueOptions;
  readonly #levels: readonly Level<T>[];
  readonly #dropped: (item: T, reason: DropReason) => void;
  #size = 0;
  #bytes = 0;
  #nextDeadlineNs = Number.POSITIVE_INFINITY;

  constructor(options: QueueOptions, dropped: (item: T, reason: DropReason) => void) {
    this.#options = options;
    this.#dropped = dropped;
    this.#levels = Array.from({ length: Math.max(1, options.priorityLevels) }, (_, i) => ({ policy: options.policy(i + 1), fresh: new Line<T>(), delayed: new Line<T>() }));
  }

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** When the first request becomes late, or infinity. */
  get nextDeadlineNs(): number {
    return this.#nextDeadlineNs;
  }

  /** Whether a request of that priority and size would find room. */
  hasRoom(priority: number, bytes: number): boolean {
    const { policy, fresh, delayed } = this.#level(priority);
    if (policy.maxQueueSize > 0 && fresh.size + delayed.size >= policy.maxQueueSize) return false;
    return this.#size < this.#options.maxRequests && (this.#bytes === 0 || this.#bytes + bytes <= this.#options.maxBytes);
  }

  /** @returns false when it is full */
  push(item: T, nowNs: number): boolean {
    if (!this.hasRoom(item.priority, item.bytes)) return false;
    const level = this.#level(item.priority);
    item.enqueuedNs = nowNs;
    item.deadlineNs = deadline(level.policy, item.timeoutUs, nowNs);
    if (item.deadlineNs < this.#nextDeadlineNs) this.#nextDeadlineNs = item.deadlineNs;
    level.fresh.push(item);
    this.#size++;
    this.#bytes += item.bytes;
    return true;
  }

  /** What could go into the next batch, counted up to `maxRows`; undefined when nothing waits. */
  candidates(nowNs: number, maxRows: number): Candidates | undefined {
    this.#expire(nowNs);
    let head: T | undefined;
    let rows = 0;
    let oldestNs = Number.POSITIVE_INFINITY;
    let sums: number[] | undefined;
    this.#walk((item) => {
      head ??= item;
      if (item.group !== head.group) return "keep";
      if (item.rows > 1) sums ??= Array.from({ length: rows }, (_, i) => i + 1);
      rows += item.rows;
      sums?.push(rows);
      oldestNs = Math.min(oldestNs, item.enqueuedNs);
      return rows >= maxRows ? "stop" : "keep";
    });
    return head && { rows: Math.min(rows, maxRows), headRows: head.rows, oldestNs, ...(sums ? { sums } : {}) };
  }

  /** The first request and others of its group, in order, of at most `maxRows` together but at least that one. */
  take(nowNs: number, maxRows: number): T[] {
    this.#expire(nowNs);
    const taken: T[] = [];
    let rows = 0;
    this.#walk((item) => {
      if (taken.length > 0 && (item.group !== taken[0]!.group || rows + item.rows > maxRows)) return item.group === taken[0]!.group ? "stop" : "keep";
      taken.push(item);
      rows += item.rows;
      return rows >= maxRows ? "take-and-stop" : "take";
    });
    return taken;
  }

  /** Takes everything, as when the model goes. */
  drain(): T[] {
    const all: T[] = [];
    this.#walk((item) => {
      all.push(item);
      return "take";
    }, Number.POSITIVE_INFINITY);
    return all;
  }

  #level(priority: number): Level<T> {
    const { priorityLevels, defaultPriorityLevel } = this.#options;
    const level = priority >= 1 && priority <= priorityLevels ? priority : defaultPriorityLevel;
    return this.#levels[Math.min(this.#levels.length, Math.max(1, level)) - 1]!;
  }

  /** Visits live requests in the order of service. */
  #walk(visit: (item: T) => "keep" | "take" | "stop" | "take-and-stop", most = MAX_LOOKAHEAD): void {
    let seen = 0;
    for (const { fresh, delayed } of this.#levels) {
      for (const line of [fresh, delayed]) {
        for (let at = line.first; at < line.end; at++) {
          const item = line.at(at);
          if (!item) continue;
          if (item.cancelled) {
            this.#remove(line, at, item);
            this.#dropped(item, "cancelled");
            continue;
          }
          const verdict = visit(item);
          if (verdict === "take" || verdict === "take-and-stop") this.#remove(line, at, item);
          if (verdict === "stop" || verdict === "take-and-stop" || ++seen >= most) return;
        }
      }
    }
  }

  #remove(line: Line<T>, at: number, item: T): void {
    line.remove(at);
    this.#size--;
    this.#bytes -= item.bytes;
  }

  #expire(nowNs: number): void {
    if (nowNs < this.#nextDeadlineNs) return;
    this.#nextDeadlineNs = Number.POSITIVE_INFINITY;
    for (const { policy, fresh, delayed } of this.#levels) {
      for (let at = fresh.first; at < fresh.end; at++) {
        const item = fresh.at(at);
        if (!item) continue;
        if (item.deadlineNs > nowNs) {
          this.#nextDeadlineNs = Math.min(this.#nextDeadlineNs, item.deadlineNs);
          continue;
        }
        if (policy.timeoutAction === "DELAY") {
          fresh.remove(at);
          delayed.push(item);
          continue;
        }
        this.#remove(fresh, at, item);
        this.#dropped(item, "timeout");
      }
    }
  }
}

function deadline(policy: QueuePolicy, timeoutUs: number, nowNs: number): number {
  const shortened = policy.allowTimeoutOverride && timeoutUs > 0 && timeoutUs < policy.defaultTimeoutUs;
  const us = shortened ? timeoutUs : policy.defaultTimeoutUs;
  return us > 0 ? nowNs + us * 1000 : Number.POSITIVE_INFINITY;
}

/** A line whose middle can be taken out: places are kept and left empty, and the front is forgotten in steps. */
class Line<T> {
  #places: (T | undefined)[] = [];
  #first = 0;
  #size = 0;

  get first(): number {
    return this.#first;
  }

  get end(): number {
    return this.#places.length;
  }

  get size(): number {
    return this.#size;
  }

  at(place: number): T | undefined {
    return this.#places[place];
  }

  push(item: T): void {
    if (this.#first > 1024 && this.#first * 2 > this.#places.length) {
      this.#places = this.#places.slice(this.#first);
      this.#first = 0;
    }
    this.#places.push(item);
    this.#size++;
  }

  remove(place: number): void {
    this.#places[place] = undefined;
    this.#size--;
    if (this.#size === 0) {
      this.#places.length = 0;
      this.#first = 0;
    } else if (place === this.#first) while (this.#places[this.#first] === undefined) this.#first++;
  }
}
