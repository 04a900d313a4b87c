/**
 * How a batch and the processors come together when a model's places share its threads: rows go as one batch on all of them, or
 * as parts, a place and its share of the threads each. One batch on all threads has the shortest time; parts wait for each other
 * at no barrier, leave room for who comes next, and lose less when the event loop or a client takes a processor for a while.
 *
 * Which is better depends on the model, on the load and on what else runs, so it is measured: of every size both ways are timed, and
 * those who come while a batch runs are counted. The way with the least time that all wait together is taken.
 */

/** Batches of a size before its time is believed. */
const LEAST_SAMPLES = 3;
/** Weight of a new time among those before. */
const LEARNING = 1 / 8;
/** What one more batch takes off the weight of those before, for the rate of arrivals. */
const FADING = 0.98;
/** Of so many choices for one size, one is against what is known, lest that stay true only because nobody looks. */
const DOUBT_EVERY = 64;

export interface Share {
  readonly rows: number;
  /** Whether the batch takes all places, which are all free. */
  readonly whole: boolean;
}

/** What is known of one way of running batches: times of sizes that are near each other are one. */
class Times {
  readonly #samples: number[] = [];
  readonly #nsPerRow: number[] = [];

  observe(rows: number, elapsedNs: number): void {
    const size = sizeClass(rows);
    const known = this.#samples[size] ?? 0;
    const weight = Math.max(LEARNING, 1 / (known + 1));
    this.#samples[size] = known + 1;
    this.#nsPerRow[size] = (this.#nsPerRow[size] ?? 0) * (1 - weight) + (elapsedNs / rows) * weight;
  }

  isKnown(rows: number): boolean {
    return (this.#samples[sizeClass(rows)] ?? 0) >= LEAST_SAMPLES;
  }

  /** From the nearest size that was seen; 0 when none was. */
  of(rows: number): number {
    const size = sizeClass(rows);
    for (let off = 0; off <= Math.max(size, this.#nsPerRow.length); off++) {
      const nsPerRow = this.#nsPerRow[size - off] ?? this.#nsPerRow[size + off];
      if (nsPerRow !== undefined) return nsPerRow * rows;
    }
    return 0;
  }
}

/** Two classes for each doubling; up to 4 rows each number is one of its own. */
function sizeClass(rows: number): number {
  return Math.round(2 * Math.log2(rows));
}

export class Spread {
  readonly #places: number;
  readonly #maxRows: number;
  readonly #whole = new Times();
  readonly #part = new Times();
  readonly #choices: number[] = [];
  /** When busy places will be free, as far as that can be told. */
  readonly #freeAtNs = new Map<number, number>();
  // Fading sums: requests that came while a batch ran, and how long batches ran, each times the places they had.
  #arrivals = 0;
  #busyNs = 0;

  /** @param maxRows of a batch */
  constructor(places: number, maxRows: number) {
    this.#places = places;
    this.#maxRows = maxRows;
  }

  /** A request has come while so many places were taken. */
  arrived(running: number): void {
    this.#arrivals += running;
  }

  /** A batch has been executed. */
  observe(rows: number, whole: boolean, elapsedNs: number): void {
    (whole ? this.#whole : this.#part).observe(rows, elapsedNs);
    this.#arrivals *= FADING;
    this.#busyNs = this.#busyNs * FADING + elapsedNs * (whole ? this.#places : 1);
  }

  /** A part has begun in a place. */
  began(place: number, rows: number, nowNs: number): void {
    this.#freeAtNs.set(place, nowNs + this.#part.of(rows));
  }

  ended(place: number): void {
    this.#freeAtNs.delete(place);
  }

  /**
   * @param rows that may go now
   * @param headRows of the first request, which cannot be split
   */
  share(rows: number, headRows: number, idle: number, nowNs: number): Share {
    const part = Math.max(headRows, Math.ceil(rows / (idle + this.#soonFree(Math.ceil(rows / idle), nowNs))));
    const isWhole = idle === this.#places && rows <= this.#maxRows && this.#prefersWhole(rows, part);
    return { rows: isWhole ? rows : part, whole: isWhole };
  }

  /** Busy places that will be free before half of such a part is done: they get their share of what waits. */
  #soonFree(part: number, nowNs: number): number {
    const untilNs = nowNs + this.#part.of(part) / 2;
    let count = 0;
    for (const freeAtNs of this.#freeAtNs.values()) if (freeAtNs < untilNs) count++;
    return count;
  }

  #prefersWhole(rows: number, part: number): boolean {
    if (!this.#whole.isKnown(rows)) return true;
    if (!this.#part.isKnown(part)) return false;
    const size = sizeClass(rows);
    this.#choices[size] = (this.#choices[size] ?? 0) + 1;
    const isBetter = this.#waitNs(rows, this.#whole.of(rows), true) <= this.#waitNs(rows, this.#part.of(part), part * this.#places < rows + part);
    return this.#choices[size] % DOUBT_EVERY === 0 ? !isBetter : isBetter;
  }

  /** What these rows wait together, and those who come meanwhile and find no place free. */
  #waitNs(rows: number, elapsedNs: number, takesAll: boolean): number {
    const perNs = this.#busyNs > 0 ? this.#arrivals / this.#busyNs : 0;
    return rows * elapsedNs + (takesAll ? (perNs * elapsedNs * elapsedNs) / 2 : 0);
  }
}
