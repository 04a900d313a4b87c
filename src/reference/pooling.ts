/**
 * Pools, global pools and the ways back (MaxUnpool, Col2Im).
 * Sources: ONNX MaxPool-22, AveragePool-22, LpPool-22, GlobalAveragePool-22, GlobalLpPool-22, MaxUnpool-22, Col2Im-18;
 * com.microsoft QLinearAveragePool, QLinearGlobalAveragePool.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, intsAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";
import { type Image, imageOf, tensorOfImage } from "./layout.ts";
import { quantizeNumber } from "./rounding.ts";
import { coverage, forEachIndex, tapsOf, type Window, windowOf } from "./window.ts";

function poolWindow(attributes: ReferenceAttributes, x: Image): Window {
  const spatial = x.dims.slice(2);
  return windowOf(attributes, spatial, intsAttribute(attributes, "kernel_shape") ?? spatial);
}

/** Folds each window of each plane with `step`; `start` is the accumulator before the first element. */
function foldWindows(x: Image, window: Window, start: number, step: (sum: number, value: number) => number): Float64Array {
  const planes = x.dims[0]! * x.dims[1]!;
  const inSize = elementCount(window.input);
  const outSize = elementCount(window.output);
  const taps = tapsOf(window);
  const result = new Float64Array(planes * outSize).fill(start);
  for (let plane = 0; plane < planes; plane++) {
    const from = plane * inSize;
    const to = plane * outSize;
    for (const { input, output } of taps) {
      for (let i = 0; i < input.length; i++) result[to + output[i]!] = step(result[to + output[i]!]!, x.numbers[from + input[i]!]!);
    }
  }
  return result;
}

const pooledDims = (x: Image, window: Window): number[] => [x.dims[0]!, x.dims[1]!, ...window.output];

/** For each window the flat input position of its largest element, -1 when it holds none. */
function largest(x: Image, window: Window): Int32Array {
  const planes = x.dims[0]! * x.dims[1]!;
  const inSize = elementCount(window.input);
  const outSize = elementCount(window.output);
  const taps = tapsOf(window);
  const best = new Int32Array(planes * outSize).fill(-1);
  for (let plane = 0; plane < planes; plane++) {
    for (const { input, output } of taps) {
      for (let i = 0; i < input.length; i++) {
        const at = plane * inSize + input[i]!;
        const to = plane * outSize + output[i]!;
        if (best[to]! < 0 || x.numbers[at]! > x.numbers[best[to]!]! || (Number.isNaN(x.numbers[at]) && !Number.isNaN(x.numbers[best[to]!]))) best[to] = at;
      }
    }
  }
  return best;
}

/** Row-major positions of one plane, renumbered with the first spatial axis fastest. */
function columnMajor(position: number, spatial: readonly number[]): number {
  const size = elementCount(spatial);
  let rest = position % size;
  let result = 0;
  for (let axis = spatial.length - 1; axis >= 0; axis--) {
    result = result + (rest % spatial[axis]!) * elementCount(spatial.slice(0, axis));
    rest = Math.floor(rest / spatial[axis]!);
  }
  return position - (position % size) + result;
}

const maxPool: ReferenceOperator = (inputs, attributes, context) => {
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const window = poolWindow(attributes, x);
  const best = largest(x, window);
  const lowest = source.type === "int8" ? -128 : source.type === "uint8" ? 0 : Number.NEGATIVE_INFINITY;
  const values = Float64Array.from(best, (at) => (at < 0 ? lowest : x.numbers[at]!));
  const dims = pooledDims(x, window);
  const result = [tensorOfImage(source.type, values, dims, attributes)];
  if (context.outputCount > 1) {
    const columns = intAttribute(attributes, "storage_order", 0) === 1;
    const positions = Float64Array.from(best, (at) => (columns && at >= 0 ? columnMajor(at, window.input) : at));
    result.push(tensorOfImage("int64", positions, dims, attributes));
  }
  return result;
};

function averages(x: Image, attributes: ReferenceAttributes): Image {
  const window = poolWindow(attributes, x);
  const counts = coverage(window, intAttribute(attributes, "count_include_pad", 0) === 1);
  const sums = foldWindows(x, window, 0, (sum, value) => sum + value);
  return { numbers: sums.map((sum, i) => sum / counts[i % counts.length]!), dims: pooledDims(x, window) };
}

const averagePool: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const result = averages(imageOf(source, attributes), attributes);
  return [tensorOfImage(source.type, result.numbers, result.dims, attributes)];
};

/** The attributes that make a pool cover the whole image. */
const globally = (attributes: ReferenceAttributes): ReferenceAttributes => ({ layout: attributes["layout"], p: attributes["p"] });

function lpNumbers(x: Image, attributes: ReferenceAttributes): Image {
  const window = poolWindow(attributes, x);
  const p = floatAttribute(attributes, "p", 2);
  const sums = foldWindows(x, window, 0, (sum, value) => sum + Math.abs(value) ** p);
  return { numbers: sums.map((sum) => sum ** (1 / p)), dims: pooledDims(x, window) };
}

const lpPool: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const result = lpNumbers(imageOf(source, attributes), attributes);
  return [tensorOfImage(source.type, result.numbers, result.dims, attributes)];
};

/** x, x_scale, x_zero, y_scale, y_zero: averages in real numbers, quantized again. */
const qLinearAverage = (global: boolean): ReferenceOperator => (inputs, given) => {
  const attributes = global ? { layout: intAttribute(given, "channels_last", 0) ? "NHWC" : given["layout"] } : { ...given, layout: intAttribute(given, "channels_last", 0) ? "NHWC" : given["layout"] };
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const scale = toNumbers(tensorInput(inputs, 1))[0]!;
  const zero = optionalTensor(inputs, 2);
  const from = zero ? toNumbers(zero)[0]! : 0;
  const outScale = toNumbers(tensorInput(inputs, 3))[0]!;
  const outZero = optionalTensor(inputs, 4);
  const to = outZero ? toNumbers(outZero)[0]! : 0;
  const real = { dims: x.dims, numbers: x.numbers.map((value) => (value - from) * scale) };
  const result = averages(real, attributes);
  return [tensorOfImage(source.type, result.numbers.map((value) => quantizeNumber(Math.fround(value / outScale), to, source.type)), result.dims, attributes)];
};

/** x, indices into the flat output, output_shape (optional). */
const maxUnpool: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const values = toNumbers(x);
  const indices = toNumbers(tensorInput(inputs, 1));
  const kernel = intsAttribute(attributes, "kernel_shape") ?? [];
  const strides = intsAttribute(attributes, "strides") ?? kernel.map(() => 1);
  const pads = intsAttribute(attributes, "pads") ?? [...kernel, ...kernel].map(() => 0);
  const shape = optionalTensor(inputs, 2);
  const natural = [...x.dims.slice(0, 2), ...kernel.map((k, axis) => (x.dims[axis + 2]! - 1) * strides[axis]! - pads[axis]! - pads[axis + kernel.length]! + k)];
  const dims = shape ? [...toNumbers(shape)] : natural;
  const result = new Float64Array(elementCount(dims));
  const move = positionMover(natural, dims);
  for (let i = 0; i < values.length; i++) result[move(indices[i]!)] = values[i]!;
  return [fromNumbers(x.type, result, dims)];
};

/** Indices count in the pooled tensor's own shape; a larger output_shape moves them. */
function positionMover(from: readonly number[], to: readonly number[]): (position: number) => number {
  if (from.every((size, axis) => size === to[axis])) return (position) => position;
  return (position) => {
    let rest = position;
    let result = 0;
    let stride = 1;
    for (let axis = to.length - 1; axis >= 0; axis--) {
      result += (rest % from[axis]!) * stride;
      rest = Math.floor(rest / from[axis]!);
      stride *= to[axis]!;
    }
    return result;
  };
}

/** Adds columns of blocks back into an image: [N, C * block, L] to [N, C, image...]. */
const col2Im: ReferenceOperator = (inputs, attributes) => {
  const x: Tensor = tensorInput(inputs, 0);
  const columns = toNumbers(x);
  const image = [...toNumbers(tensorInput(inputs, 1))];
  const block = [...toNumbers(tensorInput(inputs, 2))];
  const window = windowOf(attributes, image, block);
  const taps = tapsOf(window);
  const outSize = elementCount(image);
  const channels = x.dims[1]! / elementCount(block);
  const length = x.dims[2]!;
  const result = new Float64Array(x.dims[0]! * channels * outSize);
  for (let plane = 0; plane < x.dims[0]! * channels; plane++) {
    taps.forEach(({ input, output }, k) => {
      for (let i = 0; i < input.length; i++) result[plane * outSize + input[i]!]! += columns[(plane * taps.length + k) * length + output[i]!]!;
    });
  }
  return [fromNumbers(x.type, result, [x.dims[0]!, channels, ...image])];
};

/** Max over regions of interest: x [N, C, H, W], rois [R, 5] of (batch, x1, y1, x2, y2). ONNX MaxRoiPool-22. */
const maxRoiPool: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const values = toNumbers(x);
  const rois = toNumbers(tensorInput(inputs, 1));
  const [height, width] = x.dims.slice(2) as [number, number];
  const channels = x.dims[1]!;
  const [rows, columns] = (intsAttribute(attributes, "pooled_shape") ?? [1, 1]) as [number, number];
  const scale = floatAttribute(attributes, "spatial_scale", 1);
  const count = rois.length / 5;
  const result = new Float64Array(count * channels * rows * columns);
  const edge = (at: number, parts: number, start: number, size: number, limit: number): [number, number] => [
    Math.min(Math.max(Math.floor((at * size) / parts) + start, 0), limit),
    Math.min(Math.max(Math.ceil(((at + 1) * size) / parts) + start, 0), limit),
  ];
  forEachIndex([count, channels, rows, columns], (index, flat) => {
    const [r, c, row, column] = index as [number, number, number, number];
    const [batch, x1, y1, x2, y2] = [...rois.subarray(r * 5, r * 5 + 5)].map((value, i) => (i === 0 ? value : Math.round(value * scale))) as [number, number, number, number, number];
    const [top, bottom] = edge(row, rows, y1, Math.max(y2 - y1 + 1, 1), height);
    const [left, right] = edge(column, columns, x1, Math.max(x2 - x1 + 1, 1), width);
    let best = bottom <= top || right <= left ? 0 : Number.NEGATIVE_INFINITY;
    for (let i = top; i < bottom; i++) for (let j = left; j < right; j++) best = Math.max(best, values[((batch * channels + c) * height + i) * width + j]!);
    result[flat] = best;
  });
  return [fromNumbers(x.type, result, [count, channels, rows, columns])];
};

export const poolingOperators: ReferenceTable = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  LpPool: lpPool,
  GlobalMaxPool: (inputs, attributes, context) => maxPool(inputs, globally(attributes), context),
  GlobalAveragePool: (inputs, attributes, context) => averagePool(inputs, globally(attributes), context),
  GlobalLpPool: (inputs, attributes, context) => lpPool(inputs, globally(attributes), context),
  MaxUnpool: maxUnpool,
  MaxRoiPool: maxRoiPool,
  Col2Im: col2Im,
  "com.microsoft.QLinearAveragePool": qLinearAverage(false),
  "com.microsoft.QLinearGlobalAveragePool": qLinearAverage(true),
};
