/**
 * Operators that make tensors: constants, ranges, random numbers, windows, and indices of what is not zero.
 * Random numbers come from the context, so that a run can be repeated. Sources: ONNX Range-11, Bernoulli-22,
 * MelWeightMatrix-17, HannWindow-17.
 */
import { elementCount, Tensor } from "../base/index.ts";
import { floatAttribute, intAttribute, intsAttribute } from "./arguments.ts";
import type { HostValue, ReferenceAttributes, ReferenceContext, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { typeAttribute } from "./data-type.ts";
import { bigsOf, int64Tensor, integersOf, newNumbers, numbersOf, pick, scalarAt, tensorAt, tensorOf } from "./elements.ts";
import { normalizeAxis, normalizeIndex, stridesOf } from "./strides.ts";

const constant: ReferenceOperator = (_, attributes) => {
  const { value, value_float, value_floats, value_int, value_ints, value_string, value_strings } = attributes;
  if (value instanceof Tensor) return [value];
  if (value_float !== undefined) return [new Tensor("float32", Float32Array.of(Number(value_float)), [])];
  if (value_floats !== undefined) return [new Tensor("float32", Float32Array.from(value_floats as readonly number[]))];
  if (value_int !== undefined) return [new Tensor("int64", BigInt64Array.of(BigInt(value_int as number | bigint)), [])];
  if (value_ints !== undefined) return [int64Tensor(value_ints as readonly number[])];
  if (value_string !== undefined) return [new Tensor("string", [value_string as string], [])];
  return [new Tensor("string", [...(value_strings as readonly string[])])];
};

const constantOfShape: ReferenceOperator = (inputs, attributes) => {
  const dims = integersOf(tensorAt(inputs, 0));
  const { value } = attributes;
  const fill = value instanceof Tensor ? value : Tensor.zeros("float32", [1]);
  return [pick(fill, new Int32Array(elementCount(dims)), dims)];
};

const range: ReferenceOperator = (inputs) => {
  const start = tensorAt(inputs, 0);
  const [from, limit, step] = [0, 1, 2].map((i) => scalarAt(inputs, i, 0)) as [number, number, number];
  const count = Math.max(0, Math.ceil((limit - from) / step));
  if (start.type === "int64") {
    const [first, by] = [bigsOf(start)[0]!, bigsOf(tensorAt(inputs, 2))[0]!];
    return [new Tensor("int64", BigInt64Array.from({ length: count }, (_, i) => first + BigInt(i) * by), [count])];
  }
  const to = newNumbers(start.type, count);
  for (let i = 0; i < count; i++) to[i] = from + i * step;
  return [tensorOf(start.type, to, [count])];
};

/** indices, depth, [off, on]. Indices outside -depth to depth - 1 give a row of off. */
const oneHot: ReferenceOperator = (inputs, attributes) => {
  const where = tensorAt(inputs, 0);
  const depth = Math.trunc(scalarAt(inputs, 1, 0));
  const indices = numbersOf(where);
  const axis = normalizeAxis(intAttribute(attributes, "axis", -1), where.dims.length + 1);
  const dims = [...where.dims.slice(0, axis), depth, ...where.dims.slice(axis)];
  const inner = elementCount(where.dims.slice(axis));
  const table = new Int32Array(elementCount(dims));
  for (let i = 0; i < indices.length; i++) {
    const index = Math.trunc(indices[i]!);
    if (index < -depth || index >= depth) continue;
    table[(Math.floor(i / inner) * depth + normalizeIndex(index, depth)) * inner + (i % inner)] = 1;
  }
  return [pick(tensorAt(inputs, 2), table, dims)];
};

/** [rank, count]: the coordinates of each element that is not zero, row-major. */
const nonZero: ReferenceOperator = (inputs) => {
  const x = tensorAt(inputs, 0);
  const numbers = numbersOf(x);
  const found: number[] = [];
  for (let i = 0; i < numbers.length; i++) if (numbers[i] !== 0) found.push(i);
  const strides = stridesOf(x.dims);
  const to = new BigInt64Array(x.dims.length * found.length);
  x.dims.forEach((size, axis) => found.forEach((at, i) => { to[axis * found.length + i] = BigInt(Math.floor(at / strides[axis]!) % size); }));
  return [new Tensor("int64", to, [x.dims.length, found.length])];
};

const eyeLike: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const [rows, columns] = x.dims as readonly [number, number];
  const shift = intAttribute(attributes, "k", 0);
  const type = typeAttribute(attributes, "dtype", x.type);
  const to = newNumbers(type, rows * columns);
  for (let row = 0; row < rows; row++) if (row + shift >= 0 && row + shift < columns) to[row * columns + row + shift] = 1;
  return [tensorOf(type, to, x.dims)];
};

/** Box-Muller. */
function normal(context: ReferenceContext): number {
  return Math.sqrt(-2 * Math.log(1 - context.random())) * Math.cos(2 * Math.PI * context.random());
}

type Sampler = (attributes: ReferenceAttributes, context: ReferenceContext) => () => number;

const uniformSampler: Sampler = (attributes, context) => {
  const low = floatAttribute(attributes, "low", 0);
  const high = floatAttribute(attributes, "high", 1);
  return () => low + (high - low) * context.random();
};

const normalSampler: Sampler = (attributes, context) => {
  const mean = floatAttribute(attributes, "mean", 0);
  const scale = floatAttribute(attributes, "scale", 1);
  return () => mean + scale * normal(context);
};

function sampled(type: Tensor["type"], dims: readonly number[], sample: () => number): Tensor {
  const to = newNumbers(type, elementCount(dims));
  for (let i = 0; i < to.length; i++) to[i] = sample();
  return tensorOf(type, to, dims);
}

const random = (sampler: Sampler): ReferenceOperator => (_, attributes, context) => [sampled(typeAttribute(attributes, "dtype", "float32"), intsAttribute(attributes, "shape") ?? [], sampler(attributes, context))];

const randomLike = (sampler: Sampler): ReferenceOperator => (inputs, attributes, context) => {
  const x = tensorAt(inputs, 0);
  return [sampled(typeAttribute(attributes, "dtype", x.type), x.dims, sampler(attributes, context))];
};

const bernoulli: ReferenceOperator = (inputs, attributes, context) => {
  const x = tensorAt(inputs, 0);
  const chances = numbersOf(x);
  let at = 0;
  return [sampled(typeAttribute(attributes, "dtype", x.type), x.dims, () => (context.random() < chances[at++]! ? 1 : 0))];
};

/** Classes drawn by unnormalised log-probabilities, [batch, classes] to [batch, sample_size]. */
const multinomial: ReferenceOperator = (inputs, attributes, context) => {
  const x = tensorAt(inputs, 0);
  const [batch, classes] = x.dims as readonly [number, number];
  const count = intAttribute(attributes, "sample_size", 1);
  const logs = numbersOf(x);
  let at = 0;
  return [sampled(typeAttribute(attributes, "dtype", "int32"), [batch, count], () => {
    const from = Math.floor(at++ / count) * classes;
    const weights = Float64Array.from({ length: classes }, (_, i) => Math.exp(logs[from + i]!));
    let left = context.random() * weights.reduce((a, b) => a + b, 0);
    const drawn = weights.findIndex((weight) => (left -= weight) < 0);
    return drawn < 0 ? classes - 1 : drawn;
  })];
};

/** Drops nothing unless `training_mode` is true. */
const dropout: ReferenceOperator = (inputs, _, context) => {
  const x = tensorAt(inputs, 0);
  const ratio = scalarAt(inputs, 1, 0.5);
  const training = scalarAt(inputs, 2, 0) !== 0 && ratio > 0;
  const mask = new Uint8Array(x.size).fill(1);
  if (training) for (let i = 0; i < mask.length; i++) mask[i] = context.random() < ratio ? 0 : 1;
  const results: HostValue[] = [training ? masked(x, mask, 1 / (1 - ratio)) : x, new Tensor("bool", mask, x.dims)];
  return results.slice(0, context.outputCount);
};

function masked(x: Tensor, mask: Uint8Array, scale: number): Tensor {
  const from = numbersOf(x);
  const to = newNumbers(x.type, from.length);
  for (let i = 0; i < to.length; i++) to[i] = mask[i] ? from[i]! * scale : 0;
  return tensorOf(x.type, to, x.dims);
}

/** A sum of cosines over one period; `periodic` leaves the last point out. */
const windowOf = (a0: number, a1: number, a2: number): ReferenceOperator => (inputs, attributes) => {
  const size = scalarAt(inputs, 0, 0);
  const period = intAttribute(attributes, "periodic", 1) !== 0 ? size : size - 1;
  const type = typeAttribute(attributes, "output_datatype", "float32");
  let n = 0;
  return [sampled(type, [size], () => {
    const angle = (2 * Math.PI * n++) / period;
    return a0 - a1 * Math.cos(angle) + a2 * Math.cos(2 * angle);
  })];
};

/** Triangles between neighbouring points of the mel scale, [dft_length / 2 + 1, bins]. */
const melWeightMatrix: ReferenceOperator = (inputs, attributes) => {
  const [bins, length, rate, lower, upper] = [0, 1, 2, 3, 4].map((i) => scalarAt(inputs, i, 0)) as [number, number, number, number, number];
  const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const step = (mel(upper) - mel(lower)) / (bins + 2);
  const points = Array.from({ length: bins + 2 }, (_, i) => {
    const hertz = 700 * (10 ** ((mel(lower) + i * step) / 2595) - 1);
    return Math.floor(((length + 1) * hertz) / rate);
  });
  const rows = Math.floor(length / 2) + 1;
  const type = typeAttribute(attributes, "output_datatype", "float32");
  const to = newNumbers(type, rows * bins);
  for (let bin = 0; bin < bins; bin++) {
    const [low, centre, high] = [points[bin]!, points[bin + 1]!, points[bin + 2]!];
    if (low === centre) to[centre * bins + bin] = 1;
    else for (let row = low; row <= centre; row++) to[row * bins + bin] = (row - low) / (centre - low);
    for (let row = centre; high > centre && row < high; row++) to[row * bins + bin] = (high - row) / (high - centre);
  }
  return [tensorOf(type, to, [rows, bins])];
};

export const generateOperators: ReferenceTable = {
  Bernoulli: bernoulli,
  BlackmanWindow: windowOf(0.42, 0.5, 0.08),
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Dropout: dropout,
  EyeLike: eyeLike,
  HammingWindow: windowOf(25 / 46, 21 / 46, 0),
  HannWindow: windowOf(0.5, 0.5, 0),
  MelWeightMatrix: melWeightMatrix,
  Multinomial: multinomial,
  NonZero: nonZero,
  OneHot: oneHot,
  RandomNormal: random(normalSampler),
  RandomNormalLike: randomLike(normalSampler),
  RandomUniform: random(uniformSampler),
  RandomUniformLike: randomLike(uniformSampler),
  Range: range,
};
