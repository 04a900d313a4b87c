/**
 * Latencies in bounded memory: each power of two of microseconds is cut into 128 equal buckets, so that a percentile is
 * right within 1 part in 128. Source: HdrHistogram's layout, "a high dynamic range histogram".
 */
const SUB_BITS = 7;
const SUB = 1 << SUB_BITS;
/** Up to 2^40 us, twelve days. */
const POWERS = 40 - SUB_BITS;

export class LatencyHistogram {
  readonly #counts = new Float64Array((POWERS + 1) * SUB);
  #count = 0;
  #sum = 0;
  #max = 0;

  record(us: number): void {
    const value = Math.max(0, us);
    this.#counts[bucketOf(Math.floor(value))]!++;
    this.#count++;
    this.#sum += value;
    if (value > this.#max) this.#max = value;
  }

  get count(): number {
    return this.#count;
  }

  get meanUs(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  get maxUs(): number {
    return this.#max;
  }

  /** @param percent above 0, at most 100 @returns microseconds; 0 when nothing was recorded */
  percentile(percent: number): number {
    const wanted = Math.ceil((percent / 100) * this.#count);
    let below = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      below += this.#counts[i]!;
      if (below >= wanted && below > 0) return Math.min(middleOf(i), this.#max);
    }
    return 0;
  }

  /** Buckets that are not empty: where each begins, and how many it holds. */
  buckets(): { readonly us: number; readonly count: number }[] {
    return [...this.#counts.keys()].filter((i) => this.#counts[i]! > 0).map((i) => ({ us: lowestOf(i), count: this.#counts[i]! }));
  }
}

/** Values below `SUB` have a bucket each; above, the leading bits choose it. */
function bucketOf(us: number): number {
  if (us < SUB) return us;
  const power = Math.min(Math.floor(Math.log2(us)) - SUB_BITS, POWERS - 1);
  return Math.min((power + 1) * SUB + Math.floor(us / 2 ** power) - SUB, (POWERS + 1) * SUB - 1);
}

function lowestOf(bucket: number): number {
  if (bucket < SUB) return bucket;
  return (SUB + (bucket % SUB)) * 2 ** (Math.floor(bucket / SUB) - 1);
}

function middleOf(bucket: number): number {
  return bucket < SUB ? bucket : lowestOf(bucket) + 2 ** (Math.floor(bucket / SUB) - 1) / 2;
}
