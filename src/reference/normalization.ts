/**
 * Normalisations: statistics in double precision, one rounding per element.
 * Sources: ONNX BatchNormalization-15, InstanceNormalization-22, GroupNormalization-21, LayerNormalization-17,
 * RMSNormalization-23, LpNormalization-22, LRN-13, MeanVarianceNormalization-13.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import type { HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, intsAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";
import { imageOf, tensorOfImage } from "./layout.ts";

interface Moments { readonly mean: number; readonly variance: number }

/** Mean and population variance of count elements, in two passes. */
export function momentsOf(numbers: ArrayLike<number>, from = 0, count = numbers.length): Moments {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += numbers[i]!;
  const mean = sum / count;
  let squares = 0;
  for (let i = from; i < from + count; i++) squares += (numbers[i]! - mean) ** 2;
  return { mean, variance: squares / count };
}

/** x, scale, bias, mean, variance [C]. With training_mode, the batch's own statistics and the running ones. */
const batchNormalization: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => toNumbers(tensorInput(inputs, i))) as [Float64Array, Float64Array, Float64Array, Float64Array];
  const epsilon = floatAttribute(attributes, "epsilon", 1e-5);
  const momentum = floatAttribute(attributes, "momentum", 0.9);
  const training = intAttribute(attributes, "training_mode", 0) === 1;
  const channels = x.dims.length > 1 ? x.dims[1]! : 1;
  const size = elementCount(x.dims.slice(2));
  const channelOf = (i: number): number => Math.floor(i / size) % channels;
  const statistics = training ? batchMoments(x.numbers, channels, channelOf) : Array.from(mean, (m, c) => ({ mean: m, variance: variance[c]! }));
  const numbers = x.numbers.map((value, i) => {
    const c = channelOf(i);
    return ((value - statistics[c]!.mean) / Math.sqrt(statistics[c]!.variance + epsilon)) * scale[c]! + bias[c]!;
  });
  const y = tensorOfImage(source.type, numbers, x.dims, attributes);
  if (!training) return [y];
  const running = (before: Float64Array, now: (m: Moments) => number): Float64Array => before.map((value, c) => value * momentum + now(statistics[c]!) * (1 - momentum));
  const type = tensorInput(inputs, 3).type;
  return [y, fromNumbers(type, running(mean, (m) => m.mean), [channels]), fromNumbers(type, running(variance, (m) => m.variance), [channels])];
};

function batchMoments(numbers: Float64Array, channels: number, channelOf: (i: number) => number): Moments[] {
  const lists = Array.from({ length: channels }, (): number[] => []);
  numbers.forEach((value, i) => { lists[channelOf(i)]!.push(value); });
  return lists.map((list) => momentsOf(list));
}

/** Normalises each of `blocks` equal runs of elements, then scales by channel. */
function normalizeBlocks(tensor: Tensor, blocks: number, epsilon: number, affine: (i: number) => readonly [number, number], attributes: ReferenceAttributes): Tensor {
  const x = imageOf(tensor, attributes);
  const size = x.numbers.length / blocks;
  const result = new Float64Array(x.numbers.length);
  for (let block = 0; block < blocks; block++) {
    const { mean, variance } = momentsOf(x.numbers, block * size, size);
    const factor = 1 / Math.sqrt(variance + epsilon);
    for (let i = block * size; i < (block + 1) * size; i++) {
      const [scale, bias] = affine(i);
      result[i] = (x.numbers[i]! - mean) * factor * scale + bias;
    }
  }
  return tensorOfImage(tensor.type, result, x.dims, attributes);
}

function channelsOf(tensor: Tensor, attributes: ReferenceAttributes): { channels: number; size: number } {
  const { dims } = tensor;
  const channels = attributes["layout"] === "NHWC" ? dims[dims.length - 1]! : dims[1]!;
  return { channels, size: elementCount(dims) / (dims[0]! * channels) };
}

const instanceNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const scale = toNumbers(tensorInput(inputs, 1));
  const bias = toNumbers(tensorInput(inputs, 2));
  const { channels, size } = channelsOf(x, attributes);
  const affine = (i: number): readonly [number, number] => {
    const c = Math.floor(i / size) % channels;
    return [scale[c]!, bias[c]!];
  };
  return [normalizeBlocks(x, x.dims[0]! * channels, floatAttribute(attributes, "epsilon", 1e-5), affine, attributes)];
};

/** Scale and bias have one value per channel (opset 21), or one per group (before). */
const groupNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const scale = toNumbers(tensorInput(inputs, 1));
  const bias = toNumbers(tensorInput(inputs, 2));
  const groups = intAttribute(attributes, "num_groups", 1);
  const { channels, size } = channelsOf(x, attributes);
  const affine = (i: number): readonly [number, number] => {
    const at = Math.floor(((Math.floor(i / size) % channels) * scale.length) / channels);
    return [scale[at]!, bias[at]!];
  };
  return [normalizeBlocks(x, x.dims[0]! * groups, floatAttribute(attributes, "epsilon", 1e-5), affine, attributes)];
};

/** Rows of the last axes from `axis` on. */
function rowsFrom(tensor: Tensor, axis: number): { outer: number[]; count: number; size: number } {
  const at = axis < 0 ? axis + tensor.dims.length : axis;
  const outer = tensor.dims.slice(0, at);
  return { outer, count: elementCount(outer), size: elementCount(tensor.dims.slice(at)) };
}

/** Index into a scale whose dims broadcast to the normalised axes (or to the whole of x). */
export function broadcastReader(tensor: Tensor | undefined, dims: readonly number[], absent: number): (i: number) => number {
  if (!tensor) return () => absent;
  const numbers = toNumbers(tensor);
  const own = tensor.dims;
  if (own.every((size, axis) => size === dims[dims.length - own.length + axis])) return (i) => numbers[i % numbers.length]!;
  return (i) => {
    let rest = i;
    let at = 0;
    let stride = 1;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      const position = rest % dims[axis]!;
      rest = Math.floor(rest / dims[axis]!);
      const size = own[own.length - (dims.length - axis)] ?? 1;
      if (size > 1) at += position * stride;
      stride *= size;
    }
    return numbers[at]!;
  };
}

/** Y, and on demand Mean and InvStdDev of stash_type (float32). */
const layerNormalization: ReferenceOperator = (inputs, attributes, context) => {
  const x = tensorInput(inputs, 0);
  const scale = broadcastReader(optionalTensor(inputs, 1), x.dims, 1);
  const bias = broadcastReader(optionalTensor(inputs, 2), x.dims, 0);
  const epsilon = floatAttribute(attributes, "epsilon", 1e-5);
  const { outer, count, size } = rowsFrom(x, intAttribute(attributes, "axis", -1));
  const numbers = toNumbers(x);
  const result = new Float64Array(numbers.length);
  const means = new Float64Array(count);
  const inverses = new Float64Array(count);
  for (let row = 0; row < count; row++) {
    const { mean, variance } = momentsOf(numbers, row * size, size);
    const inverse = 1 / Math.sqrt(variance + epsilon);
    means[row] = mean;
    inverses[row] = inverse;
    for (let i = row * size; i < (row + 1) * size; i++) result[i] = (numbers[i]! - mean) * inverse * scale(i) + bias(i);
  }
  const dims = [...outer, ...x.dims.slice(outer.length).map(() => 1)];
  const stash = x.type === "float64" ? "float64" : "float32";
  const results: HostValue[] = [fromNumbers(x.type, result, x.dims)];
  if (context.outputCount > 1) results.push(fromNumbers(stash, means, dims));
  if (context.outputCount > 2) results.push(fromNumbers(stash, inverses, dims));
  return results;
};

const rmsNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const scaleTensor = optionalTensor(inputs, 1);
  const scale = broadcastReader(scaleTensor, x.dims, 1);
  const epsilon = floatAttribute(attributes, "epsilon", 1e-5);
  const { count, size } = rowsFrom(x, intAttribute(attributes, "axis", -1));
  const numbers = toNumbers(x);
  const result = new Float64Array(numbers.length);
  for (let row = 0; row < count; row++) {
    let squares = 0;
    for (let i = row * size; i < (row + 1) * size; i++) squares += numbers[i]! ** 2;
    const inverse = 1 / Math.sqrt(squares / size + epsilon);
    for (let i = row * size; i < (row + 1) * size; i++) result[i] = numbers[i]! * inverse * scale(i);
  }
  return [fromNumbers(scaleTensor?.type ?? x.type, result, x.dims)];
};

/** Divides by the p-norm along one axis; a norm of zero gives zeros. */
const lpNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const p = intAttribute(attributes, "p", 2);
  const axis = intAttribute(attributes, "axis", -1);
  const at = axis < 0 ? axis + x.dims.length : axis;
  const length = x.dims[at]!;
  const inner = elementCount(x.dims.slice(at + 1));
  const numbers = toNumbers(x);
  const result = new Float64Array(numbers.length);
  const lines = length === 0 ? 0 : numbers.length / length;
  for (let line = 0; line < lines; line++) {
    const from = Math.floor(line / inner) * inner * length + (line % inner);
    let sum = 0;
    for (let i = 0; i < length; i++) sum += p === 1 ? Math.abs(numbers[from + i * inner]!) : numbers[from + i * inner]! ** 2;
    const norm = p === 1 ? sum : Math.sqrt(sum);
    for (let i = 0; i < length; i++) result[from + i * inner] = norm === 0 ? 0 : numbers[from + i * inner]! / norm;
  }
  return [fromNumbers(x.type, result, x.dims)];
};

/** Local response: squares summed over neighbouring channels. */
const lrn: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const alpha = floatAttribute(attributes, "alpha", 1e-4);
  const beta = floatAttribute(attributes, "beta", 0.75);
  const bias = floatAttribute(attributes, "bias", 1);
  const window = intAttribute(attributes, "size", 1);
  const channels = x.dims[1]!;
  const size = elementCount(x.dims.slice(2));
  const numbers = x.numbers.map((value, i) => {
    const c = Math.floor(i / size) % channels;
    const low = Math.max(0, c - Math.floor((window - 1) / 2));
    const high = Math.min(channels - 1, c + Math.ceil((window - 1) / 2));
    let sum = 0;
    for (let other = low; other <= high; other++) sum += x.numbers[i + (other - c) * size]! ** 2;
    return value / (bias + (alpha / window) * sum) ** beta;
  });
  return [tensorOfImage(source.type, numbers, x.dims, attributes)];
};

/** (x - mean) / (deviation + 1e-9) over the given axes. */
const meanVarianceNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const axes = (intsAttribute(attributes, "axes") ?? [0, 2, 3]).map((axis) => (axis < 0 ? axis + x.dims.length : axis));
  const numbers = toNumbers(x);
  const keep = x.dims.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const groupOf = (i: number): number => {
    let rest = i;
    let group = 0;
    let stride = 1;
    for (let axis = x.dims.length - 1; axis >= 0; axis--) {
      if (keep[axis]! > 1) group += (rest % x.dims[axis]!) * stride;
      rest = Math.floor(rest / x.dims[axis]!);
      stride *= keep[axis]!;
    }
    return group;
  };
  const statistics = batchMoments(numbers, elementCount(keep), groupOf);
  const result = numbers.map((value, i) => {
    const { mean, variance } = statistics[groupOf(i)]!;
    return (value - mean) / (Math.sqrt(variance) + 1e-9);
  });
  return [fromNumbers(x.type, result, x.dims)];
};

export const normalizationOperators: ReferenceTable = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  GroupNormalization: groupNormalization,
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization,
  LpNormalization: lpNormalization,
  LRN: lrn,
  MeanVarianceNormalization: meanVarianceNormalization,
};
