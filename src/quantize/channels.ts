/**
 * The least, largest and mean value of each channel of an activation, over all samples. Means undo the shift that rounded
 * weights put on a layer's results (Nagel et al., "Data-free quantization through weight equalization and bias
 * correction", 2019, section 4.2); ranges give depthwise convolutions a scale per channel, which costs them nothing.
 */
export class ChannelStatistics {
  private readonly least: Float32Array;
  private readonly largest: Float32Array;
  private readonly sums: Float64Array;
  private count = 0;

  constructor(channels: number) {
    this.least = new Float32Array(channels);
    this.largest = new Float32Array(channels);
    this.sums = new Float64Array(channels);
  }

  /** @param sums of each channel over `rows` elements */
  add(least: Float32Array, largest: Float32Array, sums: Float32Array, rows: number): void {
    for (let channel = 0; channel < this.sums.length; channel++) {
      this.least[channel] = Math.min(this.least[channel]!, least[channel]!);
      this.largest[channel] = Math.max(this.largest[channel]!, largest[channel]!);
      this.sums[channel]! += sums[channel]!;
    }
    this.count += rows;
  }

  /** Zero is in every range. */
  get described(): ChannelRanges {
    const rounded = (value: number): number => Number(value.toPrecision(6));
    return { least: Array.from(this.least, rounded), largest: Array.from(this.largest, rounded), means: Array.from(this.sums, (sum) => rounded(sum / Math.max(1, this.count))) };
  }
}

export interface ChannelRanges {
  readonly least: readonly number[];
  readonly largest: readonly number[];
  readonly means: readonly number[];
}
