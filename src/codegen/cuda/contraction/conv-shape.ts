/** A convolution seen as two spatial dimensions (one of them 1 when there is one), with the strides of its buffers. */
import { DTYPE_BITS } from "../../../base/index.ts";
import { add, type ConstantLookup, type ConvKernel, type Dim, dimEqual, isNonNegative, type KernelDescription, mul, product, sub } from "../../../ir/index.ts";
import { isMultiplied, type Multiplied } from "./elements.ts";
import { packColumns, type PackedMatrix } from "./packing.ts";
import { stridesOf } from "./strides.ts";
import { isZero, shiftedBytes } from "./zero-points.ts";

/** Pairs are [vertical, horizontal]; strides those of [image, row, column, channel]. */
export interface ConvShape {
  readonly element: Multiplied;
  readonly batch: Dim;
  readonly height: Dim;
  readonly width: Dim;
  readonly outHeight: Dim;
  readonly outWidth: Dim;
  /** Of one group. */
  readonly inputs: number;
  readonly outputs: number;
  readonly groups: number;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly pad: readonly [number, number];
  readonly inputStrides: readonly [Dim, Dim, Dim, Dim];
  readonly outputStrides: readonly [Dim, Dim, Dim, Dim];
  readonly spatialDims: 1 | 2;
}

/** Undefined when it is not one that is generated: other ranks, unknown channels, element types that are not multiplied. */
export function convShape(conv: ConvKernel): ConvShape | undefined {
  const spatial = conv.kernel.length;
  const element = conv.input.dtype;
  if ((spatial !== 1 && spatial !== 2) || !isMultiplied(element) || conv.copy) return undefined;
  const last = <T>(values: readonly T[]): readonly T[] => (conv.inputChannelsFirst ? [values[0]!, ...values.slice(2), values[1]!] : values);
  const four = <T>(values: readonly T[], missing: T): readonly [T, T, T, T] => (spatial === 1 ? [values[0]!, missing, values[1]!, values[2]!] : [values[0]!, values[1]!, values[2]!, values[3]!]);
  const pair = (values: readonly number[], missing: number): readonly [number, number] => (spatial === 1 ? [missing, values[0]!] : [values[0]!, values[1]!]);
  const [batch, height, width, channels] = four<Dim>(last(conv.input.dims), 1);
  const [, outHeight, outWidth, outChannels] = four<Dim>(conv.output.dims, 1);
  if (typeof channels !== "number" || typeof outChannels !== "number") return undefined;
  return {
    element, batch, height, width, outHeight, outWidth, groups: conv.groups, inputs: channels / conv.groups, outputs: outChannels / conv.groups,
    kernel: pair(conv.kernel, 1), stride: pair(conv.strides, 1), dilation: pair(conv.dilations, 1), pad: pair(conv.pads, 0),
    inputStrides: four<Dim>(last(stridesOf(conv.input)), 0), outputStrides: four<Dim>(stridesOf(conv.output), 0), spatialDims: spatial,
  };
}

/** Whether every output pixel reads the input pixel of the same index, and pixels follow each other at one stride. */
export function isPointwise(shape: ConvShape): boolean {
  const { kernel, stride, pad, inputStrides: [image, row, column] } = shape;
  const dense = dimEqual(image, mul(shape.height, shape.width, column)) && (shape.spatialDims === 1 || dimEqual(row, mul(shape.width, column)));
  return kernel[0] * kernel[1] === 1 && stride[0] === 1 && stride[1] === 1 && pad[0] === 0 && pad[1] === 0 && dense;
}

/** Whether output pixels follow each other at one stride, so that they are the rows of a matrix. */
export function hasDenseOutput({ outHeight, outWidth, spatialDims, outputStrides: [image, row, column, channel] }: ConvShape): boolean {
  return channel === 1 && dimEqual(image, mul(outHeight, outWidth, column)) && (spatialDims === 1 || dimEqual(row, mul(outWidth, column)));
}

/** Weights as `[output channel][tap][input channel]`, which is what the products want of B. */
export function packConvWeights(conv: ConvKernel, shape: ConvShape, constants: ConstantLookup): PackedMatrix | undefined {
  const source = constants(conv.weights);
  if (!source) return undefined;
  const taps = shape.kernel[0] * shape.kernel[1];
  const perColumn = taps * shape.inputs;
  const depth = Int32Array.from({ length: perColumn }, (_, k) => (k % shape.inputs) * taps + Math.floor(k / shape.inputs));
  const key = `conv:${conv.weights.name}:${taps}x${shape.inputs}x${shape.outputs}x${shape.groups}`;
  const view = { columns: shape.outputs * shape.groups, depth, columnStart: (column: number) => column * perColumn };
  const { weightsZero: zero, weights: { dtype } } = conv;
  if (!isMultiplied(dtype)) return undefined;
  if (isZero(zero)) return packColumns(key, source, dtype, view);
  const shifted = shiftedBytes(conv.weights, zero, constants, (element) => Math.floor(element / perColumn));
  return shifted && packColumns(`${key} less ${typeof zero === "number" ? zero : zero!.name}`, shifted, "int8", view);
}

export function describeConv(conv: ConvKernel, shape: ConvShape): Pick<KernelDescription, "name" | "flops" | "bytes"> {
  const weights = shape.kernel[0] * shape.kernel[1] * shape.inputs * shape.outputs * shape.groups;
  const bytesOf = ({ dtype, dims }: ConvKernel["input"]): Dim => mul(DTYPE_BITS[dtype] / 8, product(dims));
  return {
    name: conv.name,
    flops: mul(2 * weights, shape.batch, shape.outHeight, shape.outWidth),
    bytes: add(bytesOf(conv.input), bytesOf(conv.output), bytesOf(conv.weights)),
  };
}

/** Whether no tap of any output pixel lies outside the input. */
export function staysInside({ pad, kernel, dilation, stride, height, width, outHeight, outWidth }: ConvShape): boolean {
  const last = (i: 0 | 1): Dim => add(mul(stride[i], sub(i === 0 ? outHeight : outWidth, 1)), (kernel[i] - 1) * dilation[i] - pad[i], 1);
  return pad[0] === 0 && pad[1] === 0 && isNonNegative(sub(height, last(0))) && isNonNegative(sub(width, last(1)));
}
