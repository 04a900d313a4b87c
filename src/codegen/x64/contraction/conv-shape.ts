/**
 * A convolution seen as two spatial dimensions (a one-dimensional one has height 1), with the strides of its buffers.
 */
import type { ConstantLookup, ConvKernel, Dim, PackedData } from "../../../ir/index.ts";
import { stridesOf } from "./output.ts";
import { type MatrixView, packPanels, PANEL_COLUMNS } from "./panels.ts";

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

/** Undefined when the convolution is not one that is generated: other ranks, unknown channels, other types. */
export function convShape(kernel: ConvKernel): ConvShape | undefined {
  const spatial = kernel.kernel.length;
  if (spatial !== 1 && spatial !== 2) return undefined;
  if ([kernel.input, kernel.weights, kernel.output].some((buffer) => buffer.dtype !== "float32")) return undefined;
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

/** Rows (vertical tap, horizontal tap, channel) by columns (output channels), one matrix per group. */
export function packWeights(kernel: ConvKernel, shape: ConvShape, constants: ConstantLookup): PackedData | undefined {
  const source = constants(kernel.weights);
  if (!source) return undefined;
  const taps = shape.kernel[0] * shape.kernel[1];
  const inputs = shape.channels / shape.groups;
  const outputs = shape.outChannels / shape.groups;
  const rowStride = Array.from({ length: taps * inputs }, (_, row) => (row % inputs) * taps + Math.floor(row / inputs));
  const views = Array.from({ length: shape.groups }, (_, group): MatrixView => ({
    rows: taps * inputs, columns: outputs, offset: group * outputs * inputs * taps, rowStride, columnStride: inputs * taps,
  }));
  const key = `panel16conv:${kernel.weights.name}:${shape.groups}x${taps}x${inputs}x${outputs}`;
  if (shape.groups === kernel.groups) return packPanels(key, source, views);
  const { sizeBytes } = packPanels(key, source, views);
  return { key, sizeBytes, write: (into) => packPanels(key, withZeros(source, kernel, shape), views).write(into) };
}

/** The weights with every merged group's inputs: zeros for those of its neighbours. */
function withZeros(source: Uint8Array, kernel: ConvKernel, shape: ConvShape): Uint8Array {
  const taps = shape.kernel[0] * shape.kernel[1];
  const [own, all] = [(shape.channels / kernel.groups) * taps, (shape.channels / shape.groups) * taps];
  const outputs = shape.outChannels / kernel.groups;
  const merged = kernel.groups / shape.groups;
  const from = new Float32Array(new Uint8Array(source).buffer, 0, shape.outChannels * own);
  const to = new Float32Array(shape.outChannels * all);
  for (let output = 0; output < shape.outChannels; output++) {
    const group = Math.floor(output / outputs) % merged;
    to.set(from.subarray(output * own, (output + 1) * own), output * all + group * own);
  }
  return new Uint8Array(to.buffer);
}
