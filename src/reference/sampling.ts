/**
 * Operators that read an image between its pixels: GridSample, AffineGrid, RoiAlign, DeformConv.
 * Sources: ONNX GridSample-22, AffineGrid-20, RoiAlign-22, DeformConv-22.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, intsAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";
import { roundHalfEven } from "./rounding.ts";
import { forEachIndex, windowOf } from "./window.ts";

/** A point on one axis: the pixels it takes and their weights. Index -1 is outside and counts as zero. */
type AxisPoint = readonly (readonly [index: number, weight: number])[];

/** Sum over the corners that the axes' points span. */
function gather(plane: Float64Array, dims: readonly number[], points: readonly AxisPoint[], axis = 0, at = 0): number {
  if (axis === dims.length) return plane[at]!;
  let sum = 0;
  for (const [index, weight] of points[axis]!) if (index >= 0 && weight !== 0) sum += weight * gather(plane, dims, points, axis + 1, at * dims[axis]! + index);
  return sum;
}

const inside = (index: number, size: number): number => (index >= 0 && index < size ? index : -1);

function linearPoint(x: number, place: (index: number) => number): AxisPoint {
  const low = Math.floor(x);
  return [[place(low), 1 - (x - low)], [place(low + 1), x - low]];
}

/** Cubic convolution with A = -0.75. */
function cubicPoint(x: number, place: (index: number) => number): AxisPoint {
  const a = -0.75;
  const low = Math.floor(x);
  const near = (d: number): number => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number): number => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const t = x - low;
  return [[place(low - 1), far(t + 1)], [place(low), near(t)], [place(low + 1), near(1 - t)], [place(low + 2), far(2 - t)]];
}

/** Reflects x between two borders. */
function reflect(x: number, low: number, high: number): number {
  const span = high - low;
  if (span <= 0) return low;
  const offset = Math.abs(x - low) % (2 * span);
  return low + (offset > span ? 2 * span - offset : offset);
}

const gridSample: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const grid = tensorInput(inputs, 1);
  const numbers = toNumbers(x);
  const places = toNumbers(grid);
  const mode = stringAttribute(attributes, "mode", "linear").replace("bilinear", "linear").replace("bicubic", "cubic");
  const padding = stringAttribute(attributes, "padding_mode", "zeros");
  const align = intAttribute(attributes, "align_corners", 0) === 1;
  const image = x.dims.slice(2);
  const output = grid.dims.slice(1, -1);
  const [batch, channels] = x.dims as readonly [number, number];
  const size = elementCount(image);
  const count = elementCount(output);
  const result = new Float64Array(batch * channels * count);
  const bounds = image.map((length): [number, number] => (align ? [0, length - 1] : [-0.5, length - 0.5]));
  const settle = (position: number, axis: number): number => {
    const length = image[axis]!;
    const [low, high] = bounds[axis]!;
    if (padding === "border") return Math.min(Math.max(position, 0), length - 1);
    if (padding === "reflection" && (position < low || position > high)) return reflect(position, low, high);
    return position;
  };
  const placer = (axis: number) => (index: number): number => {
    const length = image[axis]!;
    if (padding === "border") return Math.min(Math.max(index, 0), length - 1);
    if (padding === "reflection") return Math.min(Math.max(Math.round(settle(index, axis)), 0), length - 1);
    return inside(index, length);
  };
  const pointAt = (position: number, axis: number): AxisPoint => {
    if (mode === "cubic") return cubicPoint(position, placer(axis));
    const settled = settle(position, axis);
    return mode === "nearest" ? [[placer(axis)(roundHalfEven(settled)), 1]] : linearPoint(settled, placer(axis));
  };
  for (let n = 0; n < batch; n++) {
    for (let at = 0; at < count; at++) {
      const points = image.map((length, axis) => {
        const value = places[(n * count + at) * image.length + image.length - 1 - axis]!;
        return pointAt(align ? ((value + 1) / 2) * (length - 1) : ((value + 1) * length - 1) / 2, axis);
      });
      for (let c = 0; c < channels; c++) {
        const plane = numbers.subarray((n * channels + c) * size, (n * channels + c + 1) * size);
        result[(n * channels + c) * count + at] = gather(plane, image, points);
      }
    }
  }
  return [fromNumbers(x.type, result, [batch, channels, ...output])];
};

/** theta [N, r, r + 1] times the homogeneous coordinates of an image of the given size. */
const affineGrid: ReferenceOperator = (inputs, attributes) => {
  const theta = tensorInput(inputs, 0);
  const matrix = toNumbers(theta);
  const [batch, , ...image] = [...toNumbers(tensorInput(inputs, 1))] as [number, number, ...number[]];
  const align = intAttribute(attributes, "align_corners", 0) === 1;
  const rank = image.length;
  const result = new Float64Array(batch * elementCount(image) * rank);
  const coordinate = (i: number, size: number): number => (align ? (size === 1 ? 0 : (2 * i) / (size - 1) - 1) : (2 * i + 1) / size - 1);
  forEachIndex([batch, ...image], ([n, ...index], flat) => {
    const point = [...index.map((i, axis) => coordinate(i, image[axis]!)).reverse(), 1];
    for (let r = 0; r < rank; r++) {
      result[flat * rank + r] = point.reduce((sum, value, c) => sum + value * matrix[(n! * rank + r) * (rank + 1) + c]!, 0);
    }
  });
  return [fromNumbers(theta.type, result, [batch, ...image, rank])];
};

/** x [N, C, H, W], rois [R, 4] of (x1, y1, x2, y2), batch_indices [R]. */
const roiAlign: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const numbers = toNumbers(x);
  const rois = toNumbers(tensorInput(inputs, 1));
  const batches = toNumbers(tensorInput(inputs, 2));
  const [, channels, height, width] = x.dims as readonly [number, number, number, number];
  const rows = intAttribute(attributes, "output_height", 1);
  const columns = intAttribute(attributes, "output_width", 1);
  const ratio = intAttribute(attributes, "sampling_ratio", 0);
  const scale = floatAttribute(attributes, "spatial_scale", 1);
  const max = stringAttribute(attributes, "mode", "avg") === "max";
  const halfPixel = stringAttribute(attributes, "coordinate_transformation_mode", "half_pixel") === "half_pixel";
  const offset = halfPixel ? 0.5 : 0;
  const result = new Float64Array(batches.length * channels * rows * columns);
  for (let r = 0; r < batches.length; r++) {
    const [x1, y1, x2, y2] = [0, 1, 2, 3].map((i) => rois[r * 4 + i]! * scale - offset) as [number, number, number, number];
    const roiWidth = halfPixel ? x2 - x1 : Math.max(x2 - x1, 1);
    const roiHeight = halfPixel ? y2 - y1 : Math.max(y2 - y1, 1);
    const down = ratio > 0 ? ratio : Math.ceil(roiHeight / rows);
    const across = ratio > 0 ? ratio : Math.ceil(roiWidth / columns);
    forEachIndex([channels, rows, columns], ([c, row, column], flat) => {
      const plane = numbers.subarray((batches[r]! * channels + c!) * height * width);
      let sum = max ? Number.NEGATIVE_INFINITY : 0;
      for (let i = 0; i < down; i++) {
        const y = clampPoint(y1 + (roiHeight / rows) * (row! + (i + 0.5) / down), height);
        for (let j = 0; j < across; j++) {
          const corners = corner(plane, width, y, clampPoint(x1 + (roiWidth / columns) * (column! + (j + 0.5) / across), width));
          sum = max ? Math.max(sum, ...corners) : sum + corners.reduce((a, b) => a + b, 0);
        }
      }
      result[r * channels * rows * columns + flat] = max ? (down * across > 0 ? sum : 0) : sum / Math.max(down * across, 1);
    });
  }
  return [fromNumbers(x.type, result, [batches.length, channels, rows, columns])];
};

/** The pixels around a sample; empty when it lies more than a pixel outside. */
function clampPoint(position: number, size: number): AxisPoint {
  if (position < -1 || position > size) return [];
  const at = Math.max(position, 0);
  const low = Math.floor(at);
  if (low >= size - 1) return [[size - 1, 1], [size - 1, 0]];
  return [[low, 1 - (at - low)], [low + 1, at - low]];
}

/** The four weighted corner values of a sample: their sum is the interpolated one. A sample outside is one zero. */
function corner(plane: Float64Array, width: number, y: AxisPoint, x: AxisPoint): number[] {
  if (y.length === 0 || x.length === 0) return [0];
  return y.flatMap(([i, wy]) => x.map(([j, wx]) => wy * wx * plane[i * width + j]!));
}

/** x, w, offset [N, groups * kernel * rank, out...], bias, mask [N, groups * kernel, out...]. */
const deformConv: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const w = tensorInput(inputs, 1);
  const [numbers, weights, offsets] = [x, w, tensorInput(inputs, 2)].map((tensor: Tensor) => toNumbers(tensor)) as [Float64Array, Float64Array, Float64Array];
  const biasTensor = optionalTensor(inputs, 3);
  const bias = biasTensor && toNumbers(biasTensor);
  const maskTensor = optionalTensor(inputs, 4);
  const mask = maskTensor && toNumbers(maskTensor);
  const group = intAttribute(attributes, "group", 1);
  const offsetGroups = intAttribute(attributes, "offset_group", 1);
  const image = x.dims.slice(2);
  const kernel = intsAttribute(attributes, "kernel_shape") ?? w.dims.slice(2);
  const window = windowOf(attributes, image, kernel);
  const [batch, channels] = x.dims as readonly [number, number];
  const [outputs, perGroup] = w.dims as readonly [number, number];
  const size = elementCount(image);
  const taps = elementCount(kernel);
  const count = elementCount(window.output);
  const rank = image.length;
  const result = new Float64Array(batch * outputs * count);
  for (let n = 0; n < batch; n++) {
    forEachIndex(window.output, (place, at) => {
      forEachIndex(kernel, (tap, k) => {
        const samples = new Float64Array(channels);
        for (let c = 0; c < channels; c++) {
          const og = Math.floor((c * offsetGroups) / channels);
          const points = image.map((length, axis) => {
            const shift = offsets[((n * offsetGroups + og) * taps * rank + k * rank + axis) * count + at]!;
            const position = place[axis]! * window.strides[axis]! - window.padsBegin[axis]! + tap[axis]! * window.dilations[axis]! + shift;
            return linearPoint(position, (index) => inside(index, length));
          });
          const plane = numbers.subarray((n * channels + c) * size, (n * channels + c + 1) * size);
          samples[c] = gather(plane, image, points) * (mask ? mask[((n * offsetGroups + og) * taps + k) * count + at]! : 1);
        }
        for (let m = 0; m < outputs; m++) {
          const first = Math.floor((m * group) / outputs) * perGroup;
          let sum = 0;
          for (let c = 0; c < perGroup; c++) sum += samples[first + c]! * weights[(m * perGroup + c) * taps + k]!;
          result[(n * outputs + m) * count + at]! += sum;
        }
      });
    });
  }
  if (bias) for (let i = 0; i < result.length; i++) result[i]! += bias[Math.floor(i / count) % outputs]!;
  return [fromNumbers(x.type, result, [batch, outputs, ...window.output])];
};

export const samplingOperators: ReferenceTable = { GridSample: gridSample, AffineGrid: affineGrid, RoiAlign: roiAlign, DeformConv: deformConv };
