/**
 * How often values of a tensor lie where, over many samples in bounded memory: bins of equal width from -range to
 * range. When a larger value comes the range doubles and pairs of bins become one, so no value is ever outside.
 * Zeros are counted apart: every quantization gives them exactly, so they say nothing about where to clip.
 */
export const BINS = 4096;

/** What is seen of one tensor. */
export interface Seen {
  readonly least: number;
  readonly largest: number;
  /** Elements at a fixed distance from each other, from the first on. */
  readonly elements: Float32Array;
  readonly stride: number;
  /** Of the whole tensor. */
  readonly count: number;
}

export class Histogram {
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  /** Values seen, zeros too. */
  count = 0;
  zeros = 0;
  /** A power of two; 0 until a value other than zero has come. */
  range = 0;
  readonly bins = new Float64Array(BINS);

  /** @param seen of finite numbers */
  add({ least, largest, elements, stride, count }: Seen): void {
    if (count === 0) return;
    this.min = Math.min(this.min, least);
    this.max = Math.max(this.max, largest);
    this.count += count;
    this.grow(Math.max(Math.abs(least), Math.abs(largest)));
    const factor = this.range === 0 ? 0 : BINS / 2 / this.range;
    for (let i = 0; i < elements.length; i++) {
      const value = elements[i]!;
      if (value === 0) this.zeros += stride;
      else this.bins[Math.min(BINS - 1, Math.floor(value * factor) + BINS / 2)]! += stride;
    }
  }

  private grow(largest: number): void {
    if (largest === 0 || largest <= this.range) return;
    const needed = 2 ** Math.ceil(Math.log2(largest));
    if (this.range === 0) this.range = needed;
    for (; this.range < needed; this.range *= 2) {
      const old = this.bins.slice();
      this.bins.fill(0);
      for (let i = 0; i < BINS; i++) this.bins[BINS / 4 + (i >> 1)]! += old[i]!;
    }
  }

  /** The middle of a bin. */
  centre(bin: number): number {
    return ((bin + 0.5 - BINS / 2) * 2 * this.range) / BINS;
  }

  /** Value below which this share of the values lies, zeros counted in. */
  quantile(share: number): number {
    const binned = this.bins.reduce((a, b) => a + b, this.zeros);
    if (this.range === 0 || binned === 0) return 0;
    let before = 0;
    for (let i = 0; i < BINS; i++) {
      if (i === BINS / 2) before += this.zeros;
      before += this.bins[i]!;
      if (before >= share * binned) return i < BINS / 2 ? Math.max(this.min, this.centre(i) - this.range / BINS) : Math.min(this.max, this.centre(i) + this.range / BINS);
    }
    return this.max;
  }

  /** Counts in `count` bins of equal width between min and max, for pictures and the cache. */
  coarse(count: number): number[] {
    const result = new Array<number>(count).fill(0);
    const width = (this.max - this.min) / count;
    this.bins.forEach((items, i) => { if (items > 0) result[Math.min(count - 1, Math.max(0, Math.floor((this.centre(i) - this.min) / (width || 1))))]! += items; });
    return result;
  }
}
