/**
 * Convolutions as products: rows are output pixels, the reduction runs over taps and channels of a group. The copy
 * engine walks pixels under a tap itself (im2col mode) where channels come in whole steps; elsewhere threads gather.
 */
import { add, type ConvKernel, mul, sub } from "../../../ir/index.ts";
import type { ConvShape } from "./conv-shape.ts";
import { describeConv, isPointwise } from "./conv-shape.ts";
import { ELEMENTS } from "./elements.ts";
import type { KernelText } from "./kernel-text.ts";
import { mapElement, mappedLoad } from "./mapped-load.ts";
import type { AmpereOperands, GatheredOperand } from "./matmul-ampere.ts";
import type { HopperLoads } from "./matmul-hopper.ts";
import type { PackedMatrix } from "./packing.ts";
import { type Problem, STEP_BYTES, type StepBytes } from "./problem.ts";
import { isAligned } from "./tensor-map.ts";
import { withoutZeroPoint } from "./zero-points.ts";

/** Groups are the product's batch. */
export function convProblem(conv: ConvKernel, shape: ConvShape, text: KernelText, packed: PackedMatrix, stepBytes: StepBytes = STEP_BYTES): Problem {
  const { outHeight, outWidth, groups, outputs } = shape;
  const [height, width] = [text.size(outHeight), text.size(outWidth)];
  const rows = [
    { name: "image", value: `row / (${height} * ${width})` },
    ...(shape.spatialDims === 2 ? [{ name: "y", value: `row / ${width} % ${height}` }] : []),
    { name: "x", value: `row % ${width}` },
  ];
  return {
    description: describeConv(conv, shape),
    operands: [shape.element, packed.dtype],
    batch: groups === 1 ? [] : [groups],
    rows: mul(shape.batch, outHeight, outWidth),
    columns: outputs,
    steps: Math.ceil((shape.kernel[0] * shape.kernel[1] * shape.inputs * ELEMENTS[shape.element].bytes) / stepBytes),
    output: {
      buffer: conv.output, epilogue: withoutZeroPoint(text, conv.epilogue, conv.output, conv.inputZero, packed), rowStride: shape.outputStrides[2], batchStrides: groups === 1 ? [] : [outputs],
      rows, columnBase: groups === 1 ? "0" : `b0 * ${outputs}`,
    },
  };
}

/** Whether the copy engine can read pixels: channels in whole steps, corners and taps in the range of its fields. */
export function isPixelMappable(conv: ConvKernel, shape: ConvShape, stepBytes: StepBytes = STEP_BYTES): boolean {
  const { bytes } = ELEMENTS[shape.element];
  const { inputStrides: [image, row, column, channel], kernel, dilation, pad, spatialDims } = shape;
  const reach = [0, 1].every((i) => pad[i]! < 128 && (kernel[i]! - 1) * dilation[i]! < 128);
  return shape.groups === 1 && (shape.inputs * bytes) % stepBytes === 0 && channel === 1 && reach && spatialDims === 2 && isAligned(conv.input, [image, row, column], bytes);
}

export function convLoads(text: KernelText, conv: ConvKernel, shape: ConvShape, packed: PackedMatrix, tile: readonly [number, number], multicast: number, stepBytes: StepBytes = STEP_BYTES): HopperLoads {
  const { bytes } = ELEMENTS[shape.element];
  const depth = stepBytes / bytes;
  const constant = text.packedPointer(packed.data, "u8");
  const weights = mappedLoad(text, {
    source: constant, element: packed.dtype, inner: shape.kernel[0] * shape.kernel[1] * shape.inputs, outer: shape.outputs, outerStride: packed.pitch,
    batch: [], batchStrides: [], offset: 0, box: [depth, tile[1] / multicast], rowBytes: stepBytes,
  });
  const b: HopperLoads["b"] = (place) => weights(place, `${place.step} * ${depth}`, place.first);
  if (isPointwise(shape)) {
    const pixels = mappedLoad(text, {
      source: text.pointer(conv.input), element: shape.element, inner: shape.inputs, outer: mul(shape.batch, shape.height, shape.width), outerStride: shape.inputStrides[2],
      batch: [], batchStrides: [], offset: 0, box: [depth, tile[0]],
    });
    return { a: (place) => pixels(place, `${place.step} * ${depth}`, place.first), b, bColumnsContiguous: false };
  }
  return { ...pixelLoads(text, conv, shape, tile[0], stepBytes), b, bColumnsContiguous: false, stepBytes };
}

/** A tile's pixels under the tap of each step. */
function pixelLoads(text: KernelText, conv: ConvKernel, shape: ConvShape, rows: number, stepBytes: StepBytes): Pick<HopperLoads, "a" | "begin"> {
  const { bytes } = ELEMENTS[shape.element];
  const { stride, pad, dilation, inputStrides: [image, row, column] } = shape;
  const channels = stepBytes / bytes;
  const perTap = shape.inputs / channels;
  const end = (i: 0 | 1): ReturnType<typeof add> => add(mul(stride[i], sub(i === 0 ? shape.outHeight : shape.outWidth, 1)), 1 - pad[i], mul(-1, i === 0 ? shape.height : shape.width));
  const map = text.tensorMap(text.pointer(conv.input), {
    element: mapElement(shape.element),
    dims: [shape.inputs, shape.width, shape.height, shape.batch],
    strideBytes: [column, row, image].map((value) => mul(value, bytes)),
    box: [1, stride[1], stride[0], 1],
    swizzle: stepBytes === 64 ? "64B" : "128B",
    promotion: "256B",
    pixels: { channels, count: rows, lower: [-pad[1], -pad[0]], upper: [end(1), end(0)] },
  });
  const [height, width] = [text.size(shape.outHeight), text.size(shape.outWidth)];
  return {
    begin: (first) => `const int image = ${first} / (${height} * ${width}), y = ${first} / ${width} % ${height} * ${stride[0]} - ${pad[0]}, x = ${first} % ${width} * ${stride[1]} - ${pad[1]};`,
    a: ({ to, barrier, step }) => `{ const int tap = ${step} / ${perTap}; loadPixels(${to}, &${map}, ${barrier}, ${step} % ${perTap} * ${channels}, x, y, image, tap % ${shape.kernel[1]} * ${dilation[1]}, tap / ${shape.kernel[1]} * ${dilation[0]}); }`,
  };
}

export function convOperands(text: KernelText, conv: ConvKernel, shape: ConvShape, packed: PackedMatrix): AmpereOperands {
  const { bytes, type } = ELEMENTS[shape.element];
  const depth = shape.kernel[0] * shape.kernel[1] * shape.inputs;
  const perChunk = 16 / bytes;
  const constant = text.packedPointer(packed.data, type);
  return {
    a: pixelOperand(text, conv, shape),
    b: {
      pointer: constant,
      wide: true,
      declare: (count) => `i64 bAt[${count}]; bool bIn[${count}];`,
      prepare: (i, row) => `bIn[${i}] = firstColumn + ${row} < columns; bAt[${i}] = (i64)(${shape.groups === 1 ? "" : `b0 * ${shape.outputs} + `}firstColumn + ${row}) * ${packed.pitch};`,
      at: (i, k) => ({ inside: `bIn[${i}] && ${k} < depth`, offset: `bAt[${i}] + ${k}` }),
    },
    depth: String(depth),
    wholeChunks: depth % perChunk === 0,
  };
}

function pixelOperand(text: KernelText, conv: ConvKernel, shape: ConvShape): GatheredOperand {
  const { bytes, type } = ELEMENTS[shape.element];
  const { inputs, kernel, stride, pad, dilation, inputStrides: [image, row, column, channel] } = shape;
  const [height, width] = [text.size(shape.outHeight), text.size(shape.outWidth)];
  const [inHeight, inWidth] = [text.size(shape.height), text.size(shape.width)];
  const wide = channel === 1 && (inputs * bytes) % 16 === 0 && isAligned(conv.input, [image, row, column], bytes);
  const group = shape.groups === 1 ? "" : ` + b0 * ${text.size64(mul(inputs, channel))}`;
  return {
    pointer: `((const ${type}*)${text.pointer(conv.input)}${group})`,
    wide,
    words: channel === 1 && (inputs * bytes) % 4 === 0 && isAligned(conv.input, [image, row, column], bytes, 4),
    rowsTouch: !wide,
    declare: (count) => `i64 aAt[${count}]; int aY[${count}], aX[${count}]; bool aIn[${count}];`,
    prepare: (i, r) => `const int p = firstRow + ${r}; aIn[${i}] = p < rows; aAt[${i}] = p / (${height} * ${width}) * ${text.size64(image)}; aY[${i}] = p / ${width} % ${height} * ${stride[0]} - ${pad[0]}; aX[${i}] = p % ${width} * ${stride[1]} - ${pad[1]};`,
    at: (i, k) => ({
      before: `const int tap = ${k} / ${inputs}, y = aY[${i}] + tap / ${kernel[1]} * ${dilation[0]}, x = aX[${i}] + tap % ${kernel[1]} * ${dilation[1]};`,
      inside: `aIn[${i}] && ${k} < depth && (u32)y < (u32)${inHeight} && (u32)x < (u32)${inWidth}`,
      offset: `aAt[${i}] + y * ${text.size64(row)} + x * ${text.size64(column)} + ${k} % ${inputs}${channel === 1 ? "" : ` * ${text.size64(channel)}`}`,
    }),
  };
}
