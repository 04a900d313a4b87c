/**
 * From a histogram to the range that bytes will span. All calibrators answer [low, high] with zero inside; they differ
 * in what they are willing to clip:
 *
 *   minmax      nothing
 *   percentile  the outer 0.01 %
 *   mse         what makes the mean squared error of rounding and clipping least
 *   entropy     what makes the distribution of the bytes most like that of the values (Kullback-Leibler)
 *
 * Sources: Migacz, "8-bit inference with TensorRT", GTC 2017 (entropy); Wu et al., "Integer quantization for deep
 * learning inference", 2020, section 4.2 (all four compared).
 */
import type { ActivationPlan } from "../passes/index.ts";
import { BINS, type Histogram } from "./histogram.ts";

export const CALIBRATORS = ["entropy", "minmax", "percentile", "mse"] as const;
export type Calibrator = (typeof CALIBRATORS)[number];

export const SCHEMES = ["asymmetric", "symmetric"] as const;
/** asymmetric: uint8 with a zero point; symmetric: int8 about zero, or uint8 from zero where nothing is negative. */
export type Scheme = (typeof SCHEMES)[number];

export type Clip = readonly [low: number, high: number];

/** Share of the values that `percentile` clips, over both ends. */
const CLIPPED_SHARE = 1e-4;
/** Ranges that the searches try, from nearly nothing to everything. */
const CANDIDATES = 128;

export function clipOf(histogram: Histogram, calibrator: Calibrator, scheme: Scheme): Clip {
  const all = withZero(histogram.min, histogram.max, scheme);
  if (histogram.range === 0 || histogram.count === 0) return [0, 0];
  switch (calibrator) {
    case "minmax": return all;
    case "percentile": return withZero(histogram.quantile(CLIPPED_SHARE / 2), histogram.quantile(1 - CLIPPED_SHARE / 2), scheme);
    case "mse": return best(all, (clip) => squaredError(histogram, clip, scheme));
    case "entropy": return best(all, (clip) => divergence(histogram, clip, scheme));
  }
}

function withZero(low: number, high: number, scheme: Scheme): Clip {
  const [from, to] = [Math.min(low, 0), Math.max(high, 0)];
  if (scheme === "asymmetric" || from === 0) return [from, to];
  const largest = Math.max(-from, to);
  return [-largest, largest];
}

/** The scaled-down range with the least cost; of equal ones, the widest. */
function best([low, high]: Clip, cost: (clip: Clip) => number): Clip {
  let found: Clip = [low, high];
  let least = cost(found);
  for (let i = CANDIDATES - 1; i > 0; i--) {
    const clip: Clip = [(low * i) / CANDIDATES, (high * i) / CANDIDATES];
    const own = cost(clip);
    if (own < least) [found, least] = [clip, own];
  }
  return found;
}

/** Scale and zero point that span a range. */
export function activationPlan([low, high]: Clip, scheme: Scheme): ActivationPlan {
  if (scheme === "symmetric" && low < 0) return { type: "int8", scale: Math.fround(Math.max(-low, high) / 127) || 1, zeroPoint: 0 };
  const scale = Math.fround((high - low) / 255) || 1;
  return { type: "uint8", scale, zeroPoint: Math.min(255, Math.max(0, Math.round(-low / scale))) };
}

const levelsOf = (scheme: Scheme, low: number): number => (scheme === "symmetric" && low < 0 ? 254 : 255);

function squaredError(histogram: Histogram, [low, high]: Clip, scheme: Scheme): number {
  const step = (high - low) / levelsOf(scheme, low);
  let sum = 0;
  for (let i = 0; i < BINS; i++) {
    const items = histogram.bins[i]!;
    if (items === 0) continue;
    const value = histogram.centre(i);
    const clipped = Math.min(high, Math.max(low, value));
    const rounded = Math.round(clipped / step) * step;
    sum += items * (value - rounded) ** 2;
  }
  return sum;
}

/**
 * Divergence of the values, those outside counted at the range's ends, from what is known of them once they are levels:
 * each level's values spread evenly over its bins that have any.
 */
function divergence(histogram: Histogram, [low, high]: Clip, scheme: Scheme): number {
  const first = Math.max(0, binOf(histogram, low));
  const last = Math.min(BINS - 1, binOf(histogram, high));
  const levels = levelsOf(scheme, low);
  const levelOf = (bin: number): number => Math.min(levels, Math.max(0, Math.round(((histogram.centre(bin) - low) / (high - low)) * levels)));
  const sums = new Float64Array(levels + 1);
  const filled = new Float64Array(levels + 1);
  let total = 0;
  let [below, above] = [0, 0];
  for (let i = 0; i < BINS; i++) {
    const items = histogram.bins[i]!;
    total += items;
    if (i < first) below += items;
    else if (i > last) above += items;
    else if (items > 0) {
      sums[levelOf(i)]! += items;
      filled[levelOf(i)]!++;
    }
  }
  const inside = total - below - above;
  if (inside <= 0) return Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let i = first; i <= last; i++) {
    const items = histogram.bins[i]!;
    const p = (items + (i === first ? below : 0) + (i === last ? above : 0)) / total;
    if (p === 0) continue;
    const level = levelOf(i);
    // A bin that only outliers fill has nothing to stand for it.
    const q = items > 0 ? sums[level]! / filled[level]! / inside : Number.MIN_VALUE;
    sum += p * Math.log(p / q);
  }
  return sum;
}

const binOf = (histogram: Histogram, value: number): number => Math.floor((value / histogram.range) * (BINS / 2)) + BINS / 2;
