/**
 * A convolution seen as two spatial dimensions (a one-dimensional one has height 1), with the strides of its buffers.
 */
import type { ConvKernel, Dim } from "../../../ir/index.ts";
import { stridesOf } from "./output.ts";
import { PANEL_COLUMNS } from "./panels.ts";

export interface ConvShape {
  readonly batch: Dim;
  readonly height: Dim;
  readonly width: Dim;
  readonly outHeight: Dim;
  readonly outWidth: Dim;
  readonly channels: number;
  readonly outChannels: number;
  readonly groups: number;
  /** Pairs are [vertical, horizontal]. */
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly pad: readonly [number, number];
  /** Elements between neighbours in [batch, row, column, channel]. */
  readonly inputStrides: readonly [Dim, Dim, Dim, Dim];
  readonly outputStrides: readonly [Dim, Dim, Dim, Dim];
  readonly spatialDims: 1 | 2;
  readonly channelsFirst: boolean;
}

/** Undefined when the convolution is not one that is generated: other ranks, unknown channels. */
export function convShape(kernel: ConvKernel): ConvShape | undefined {
  const spatial = kernel.kernel.length;
  if (spatial !== 1 && spatial !== 2) return undefined;
  const first = kernel.inputChannelsFirst ?? false;
  const inputDims = channelsLast(kernel.input.dims, first);
  const outputDims = kernel.output.dims;
  const channels = inputDims.at(-1);
  const outChannels = outputDims.at(-1);
  if (typeof channels !== "number" || typeof outChannels !== "number") return undefined;
  const inputStrides = channelsLast(stridesOf(kernel.input), first);
  const outputStrides = stridesOf(kernel.output);
  const pair = (values: readonly number[], missing: number): [number, number] => (spatial === 1 ? [missing, values[0]!] : [values[0]!, values[1]!]);
  const four = (values: readonly Dim[]): [Dim, Dim, Dim, Dim] => (spatial === 1 ? [values[0]!, 0, values[1]!, values[2]!] : [values[0]!, values[1]!, values[2]!, values[3]!]);
  const [batch, height, width] = spatial === 1 ? [inputDims[0]!, 1, inputDims[1]!] : [inputDims[0]!, inputDims[1]!, inputDims[2]!];
  const [outHeight, outWidth] = spatial === 1 ? [1, outputDims[1]!] : [outputDims[1]!, outputDims[2]!];
  return {
    batch, height, width, outHeight, outWidth, channels, outChannels,
    groups: kernel.groups,
    kernel: pair(kernel.kernel, 1),
    stride: pair(kernel.strides, 1),
    dilation: pair(kernel.dilations, 1),
    pad: pair(kernel.pads, 0),
    inputStrides: four(inputStrides),
    outputStrides: four(outputStrides),
    spatialDims: spatial,
    channelsFirst: first,
  };
}

function channelsLast<T>(values: readonly T[], channelsFirst: boolean): readonly T[] {
  return channelsFirst ? [values[0]!, ...values.slice(2), values[1]!] : values;
}

/**
 * Small groups side by side as one: a vector of output channels then belongs to several groups, and weights between
 * channels of different groups are zeros. That multiplies no more vectors than groups of few channels do one by one.
 */
export function mergeGroups(shape: ConvShape): ConvShape {
  const outputs = shape.outChannels / shape.groups;
  let merged = 1;
  for (let count = 2; count * outputs <= PANEL_COLUMNS && count <= shape.groups; count++) if (shape.groups % count === 0) merged = count;
  return { ...shape, groups: shape.groups / merged };
}
