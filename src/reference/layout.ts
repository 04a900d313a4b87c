/**
 * Channels-last data brought to channels-first and back, so that each image operator is written once.
 * The attribute `layout` ("NHWC") is set by the channels-last pass: input and output are [N, spatial..., C], weights
 * stay in ONNX's order. `inputLayout` ("NCHW") says that only the output is channels-last.
 */
import type { Tensor } from "../base/index.ts";
import type { ReferenceAttributes } from "./contract.ts";
import { fromNumbers, stringAttribute, toNumbers } from "./arguments.ts";

export interface Image {
  readonly numbers: Float64Array;
  /** [N, C, spatial...] */
  readonly dims: readonly number[];
}

function isChannelsLast(attributes: ReferenceAttributes): boolean {
  return stringAttribute(attributes, "layout", "NCHW") === "NHWC";
}

/** The tensor's numbers in channels-first order. */
export function imageOf(tensor: Tensor, attributes: ReferenceAttributes): Image {
  const numbers = toNumbers(tensor);
  const { dims } = tensor;
  const last = isChannelsLast(attributes) && stringAttribute(attributes, "inputLayout", "NHWC") === "NHWC";
  if (!last || dims.length < 3) return { numbers, dims };
  const channels = dims[dims.length - 1]!;
  const spatial = dims.slice(1, -1);
  const turned = swapInner(numbers, dims[0]!, spatial.reduce((a, b) => a * b, 1), channels);
  return { numbers: turned, dims: [dims[0]!, channels, ...spatial] };
}

/** A tensor of the layout the node wants, from numbers in channels-first order. */
export function tensorOfImage(type: Tensor["type"], numbers: Float64Array, dims: readonly number[], attributes: ReferenceAttributes): Tensor {
  if (!isChannelsLast(attributes) || dims.length < 3) return fromNumbers(type, numbers, dims);
  const [batch, channels, ...spatial] = dims;
  const turned = swapInner(numbers, batch!, channels!, spatial.reduce((a, b) => a * b, 1));
  return fromNumbers(type, turned, [batch!, ...spatial, channels!]);
}

/** [outer, a, b] to [outer, b, a]. */
function swapInner(numbers: Float64Array, outer: number, a: number, b: number): Float64Array {
  const result = new Float64Array(numbers.length);
  for (let n = 0; n < outer; n++) {
    const base = n * a * b;
    for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) result[base + j * a + i] = numbers[base + i * b + j]!;
  }
  return result;
}
