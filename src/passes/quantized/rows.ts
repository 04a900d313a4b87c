/**
 * What is known of an activation before it is computed, to spend a row's 256 steps better than on equal terms:
 *
 * - behind a normalisation channels are unlike, always the same way: their sizes are those seen when the model was run,
 *   or else about |scale_j| + |bias_j|. A channel matters as much as its weights are large. Channels are divided by
 *   size^0.5 / (root mean square of the weights)^0.25 and the weights multiplied by it, so that channels outlying and
 *   of little matter do not set the scale of the whole row (Xiao et al., "SmoothQuant", 2023);
 * - behind Gelu and its like nothing is below a known bound, which need not be looked for in each row.
 */
import type { Value } from "../../ir/index.ts";
import { isReshape } from "../simplify.ts";
import { constantNumbers } from "./operands.ts";

export interface RowForm {
  /** Divides each channel. */
  readonly smoothing?: Float32Array;
  /** The least value there can be, where that is known. */
  readonly least?: number;
}

/** Least values of activations, a little below where rounding could put them. */
const LEAST: Readonly<Record<string, number>> = { Relu: 0, Sigmoid: 0, HardSigmoid: 0, Softmax: 0, Softplus: 0, Gelu: -0.17, Swish: -0.2785, HardSwish: -0.375, Mish: -0.309 };

/**
 * @param sizes root mean square of the weights that each channel meets
 * @param seen largest absolute value of each channel, where it is known
 */
export function rowFormOf(value: Value, sizes: () => Float64Array, seen?: readonly number[]): RowForm {
  const node = value.producer;
  if (isReshape(node) && node.inputs[0]?.dims?.at(-1) === value.dims?.at(-1)) return rowFormOf(node.inputs[0]!, sizes, seen);
  if (!node || node.domain !== "") return {};
  if (node.op === "LayerNormalization" || node.op === "RMSNormalization") return smoothing(seen ?? sizesBehind(node.inputs[1], node.inputs[2]), sizes());
  const least = LEAST[node.op];
  return least === undefined || (node.op === "Swish" && node.attributes["alpha"] !== undefined && node.attributes["alpha"] !== 1) ? {} : { least };
}

/** How large a normalisation's channels are. */
function sizesBehind(scale: Value | undefined, bias: Value | undefined): readonly number[] {
  const scales = constantNumbers(scale);
  const biases = bias ? constantNumbers(bias) : undefined;
  return scales && !(bias && !biases) ? Array.from(scales, (item, i) => Math.abs(item) + Math.abs(biases?.[i] ?? 0)) : [];
}

function smoothing(channels: readonly number[], weights: Float64Array): RowForm {
  if (channels.length !== weights.length) return {};
  const [sizes, counts] = [relative(Float64Array.from(channels)), relative(weights)];
  return sizes && counts ? { smoothing: Float32Array.from(sizes, (size, i) => size ** 0.5 / counts[i]! ** 0.25) } : {};
}

/** Over the largest; none is less than a thousandth of it, since a channel of nothing must not be divided by nothing. */
function relative(sizes: Float64Array): Float64Array | undefined {
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0);
  return largest > 0 && Number.isFinite(largest) ? sizes.map((size) => Math.max(size / largest, 1e-3)) : undefined;
}
