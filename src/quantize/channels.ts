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

  /** @param dims of the values @param axis the channels' */
  add(values: Float32Array, dims: readonly number[], axis: number): void {
    const channels = this.sums.length;
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
    for (let start = 0, channel = 0; start < values.length; start += inner, channel = channel + 1 === channels ? 0 : channel + 1) {
      let [low, high, sum] = [this.least[channel]!, this.largest[channel]!, 0];
      for (let i = start; i < start + inner; i++) {
        const value = values[i]!;
        if (value < low) low = value;
        if (value > high) high = value;
        sum += value;
      }
      this.least[channel] = low;
      this.largest[channel] = high;
      this.sums[channel]! += sum;
    }
    this.count += values.length / channels;
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
