/**
 * What is known of an activation before it is computed, to spend a row's 256 steps better than on equal terms:
 *
 * - behind LayerNormalization, channel j is about |scale_j| and |bias_j| large. Divided by the root of that, outlying
 *   channels no longer set the scale of the whole row; the weights are multiplied by it instead (Xiao et al.,
 *   "SmoothQuant", 2023, with the normalisation's own parameters in place of calibration);
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

export function rowFormOf(value: Value): RowForm {
  const node = value.producer;
  if (isReshape(node) && node.inputs[0]?.dims?.at(-1) === value.dims?.at(-1)) return rowFormOf(node.inputs[0]!);
  if (!node || node.domain !== "") return {};
  if (node.op === "LayerNormalization" || node.op === "RMSNormalization") return smoothed(node.inputs[1], node.inputs[2], Number(value.dims?.at(-1)));
  const least = LEAST[node.op];
  return least === undefined || (node.op === "Swish" && node.attributes["alpha"] !== undefined && node.attributes["alpha"] !== 1) ? {} : { least };
}

function smoothed(scale: Value | undefined, bias: Value | undefined, channels: number): RowForm {
  const scales = constantNumbers(scale);
  const biases = bias ? constantNumbers(bias) : undefined;
  if (scales?.length !== channels || (bias && biases?.length !== channels)) return {};
  const sizes = Float64Array.from({ length: channels }, (_, i) => Math.abs(scales[i]!) + Math.abs(biases?.[i] ?? 0));
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0);
  if (!(largest > 0)) return {};
  // A channel of nothing keeps a share: what is in it may still matter to the weights.
  return { smoothing: Float32Array.from(sizes, (size) => Math.sqrt(Math.max(size / largest, 1e-3))) };
}
