/**
 * Quantized operators of com.microsoft: real arithmetic between dequantize and quantize.
 * Source: onnxruntime, ContribOperators.md.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import { activation } from "./activations.ts";
import type { HostValue, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";
import { quantizeNumber } from "./rounding.ts";
import { broadcastShapes, broadcastTable } from "./strides.ts";

type Inputs = readonly HostValue[];

const scalarAt = (inputs: Inputs, index: number, absent: number): number => {
  const tensor = optionalTensor(inputs, index);
  return tensor && tensor.size > 0 ? toNumbers(tensor)[0]! : absent;
};

/** Real numbers of the tensor at `index`, whose scale and zero point follow it. */
function realNumbers(inputs: Inputs, index: number): Float64Array {
  const scale = scalarAt(inputs, index + 1, 1);
  const zero = scalarAt(inputs, index + 2, 0);
  return toNumbers(tensorInput(inputs, index)).map((value) => (value - zero) * scale);
}

/** Real numbers quantized with the scale and zero point at `index`. */
function quantized(inputs: Inputs, index: number, type: Tensor["type"], numbers: Float64Array, dims: readonly number[]): Tensor {
  const scale = scalarAt(inputs, index, 1);
  const zero = scalarAt(inputs, index + 1, 0);
  return fromNumbers(type, numbers.map((value) => quantizeNumber(Math.fround(value / scale), zero, type)), dims);
}

const qLinearBinary = (operation: (a: number, b: number) => number): ReferenceOperator => (inputs) => {
  const [a, b] = [tensorInput(inputs, 0), tensorInput(inputs, 3)];
  const [x, y] = [realNumbers(inputs, 0), realNumbers(inputs, 3)];
  const dims = broadcastShapes([a.dims, b.dims]);
  const atA = broadcastTable(a.dims, dims);
  const atB = broadcastTable(b.dims, dims);
  const numbers = Float64Array.from({ length: elementCount(dims) }, (_, i) => operation(x[atA ? atA[i]! : i]!, y[atB ? atB[i]! : i]!));
  return [quantized(inputs, 6, a.type, numbers, dims)];
};

const qLinearUnary = (make: (attributes: Parameters<ReferenceOperator>[1]) => (x: number) => number): ReferenceOperator => (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  return [quantized(inputs, 3, x.type, realNumbers(inputs, 0).map(make(attributes)), x.dims)];
};

/** y_scale, y_zero, then (tensor, scale, zero) for each part. */
const qLinearConcat: ReferenceOperator = (inputs, attributes) => {
  const parts = Array.from({ length: Math.floor((inputs.length - 2) / 3) }, (_, i) => ({ tensor: tensorInput(inputs, 2 + 3 * i), numbers: realNumbers(inputs, 2 + 3 * i) }));
  const first = parts[0]!.tensor;
  const given = intAttribute(attributes, "axis", 0);
  const axis = given < 0 ? given + first.dims.length : given;
  const outer = elementCount(first.dims.slice(0, axis));
  const total = parts.reduce((sum, { tensor }) => sum + tensor.dims[axis]!, 0);
  const dims = first.dims.map((size, i) => (i === axis ? total : size));
  const result = new Float64Array(elementCount(dims));
  const width = result.length / outer;
  let at = 0;
  for (const { numbers } of parts) {
    const own = numbers.length / outer;
    for (let o = 0; o < outer; o++) result.set(numbers.subarray(o * own, (o + 1) * own), o * width + at);
    at += own;
  }
  return [quantized(inputs, 0, first.type, result, dims)];
};

const qLinearSoftmax: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const numbers = realNumbers(inputs, 0);
  const given = intAttribute(attributes, "axis", -1);
  const axis = given < 0 ? given + x.dims.length : given;
  const flat = intAttribute(attributes, "opset", 13) < 13;
  const count = flat ? elementCount(x.dims.slice(axis)) : x.dims[axis]!;
  const inner = flat ? 1 : elementCount(x.dims.slice(axis + 1));
  const result = new Float64Array(numbers.length);
  for (let line = 0; line < numbers.length / count; line++) {
    const from = Math.floor(line / inner) * inner * count + (line % inner);
    const values = Float64Array.from({ length: count }, (_, i) => numbers[from + i * inner]!);
    const best = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const exponentials = values.map((value) => Math.exp(value - best));
    const sum = exponentials.reduce((a, b) => a + b, 0);
    exponentials.forEach((value, i) => { result[from + i * inner] = value / sum; });
  }
  return [quantized(inputs, 3, x.type, result, x.dims)];
};

export const contribQuantizedOperators: ReferenceTable = {
  "com.microsoft.QLinearAdd": qLinearBinary((a, b) => a + b),
  "com.microsoft.QLinearMul": qLinearBinary((a, b) => a * b),
  "com.microsoft.QLinearSigmoid": qLinearUnary(() => activation("Sigmoid")),
  "com.microsoft.QLinearLeakyRelu": qLinearUnary((attributes) => activation("LeakyRelu", floatAttribute(attributes, "alpha", 0.01))),
  "com.microsoft.QLinearConcat": qLinearConcat,
  "com.microsoft.QLinearSoftmax": qLinearSoftmax,
};
