/**
 * QuantizeLinear and its inverse: one scale for all, one per index of an axis, or one per block along it.
 * The quotient is rounded to float32 before it is rounded to an integer, as every kernel does.
 * Source: ONNX QuantizeLinear-25, DequantizeLinear-25, DynamicQuantizeLinear-11.
 */
import { type DType, fromBfloat16Bits, fromFloat16Bits, Tensor, toBfloat16Bits, toFloat16Bits } from "../base/index.ts";
import { intAttribute } from "./arguments.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { cast } from "./cast.ts";
import { typeAttribute } from "./data-type.ts";
import { newNumbers, numbersOf, tensorAt, tensorOf } from "./elements.ts";
import { isNarrowFloat } from "./narrow-float.ts";
import { quantizeNumber } from "./rounding.ts";
import { normalizeAxis, stridesOf } from "./strides.ts";

/** The scale's position for each element; undefined for one scale. */
function scaleTable(x: Tensor, scale: Tensor, attributes: ReferenceAttributes): Int32Array | undefined {
  if (scale.size === 1 && scale.dims.length <= 1) return undefined;
  const axis = normalizeAxis(intAttribute(attributes, "axis", 1), x.dims.length);
  const block = intAttribute(attributes, "block_size", 0);
  const inner = stridesOf(x.dims)[axis]!;
  const size = x.dims[axis]!;
  const whole = scale.dims.length === 1 && block === 0;
  const blocks = whole ? size : scale.dims[axis]!;
  const table = new Int32Array(x.size);
  for (let i = 0; i < table.length; i++) {
    const at = Math.floor(i / inner) % size;
    if (whole) table[i] = at;
    else table[i] = (Math.floor(i / (inner * size)) * blocks + (block > 0 ? Math.floor(at / block) : at)) * inner + (i % inner);
  }
  return table;
}

/** A number rounded to the type the division is done in. */
function roundingTo(type: DType): (value: number) => number {
  if (type === "float16") return (value) => fromFloat16Bits(toFloat16Bits(value));
  if (type === "bfloat16") return (value) => fromBfloat16Bits(toBfloat16Bits(value));
  return type === "float64" ? (value) => value : Math.fround;
}

const quantize: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const scale = tensorAt(inputs, 1);
  const zeroPoint = inputs[2] instanceof Tensor ? inputs[2] : undefined;
  const type = zeroPoint?.type ?? typeAttribute(attributes, "output_dtype", "uint8");
  const table = scaleTable(x, scale, attributes);
  const round = roundingTo(typeAttribute(attributes, "precision", scale.type === "float16" || scale.type === "bfloat16" ? scale.type : "float32"));
  const [from, scales, zeros] = [numbersOf(x), numbersOf(scale), zeroPoint && numbersOf(zeroPoint)];
  const narrow = isNarrowFloat(type);
  const to = narrow ? new Float32Array(from.length) : newNumbers(type, from.length);
  for (let i = 0; i < from.length; i++) {
    const at = table ? table[i]! : 0;
    const quotient = round(from[i]! / scales[at]!);
    to[i] = narrow ? quotient + (zeros ? zeros[at]! : 0) : quantizeNumber(quotient, zeros ? zeros[at]! : 0, type);
  }
  if (!narrow) return [tensorOf(type, to, x.dims)];
  return [cast(new Tensor("float32", to, x.dims), type, { saturate: intAttribute(attributes, "saturate", 1) !== 0, rounding: "nearest" })];
};

const dequantize: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const scale = tensorAt(inputs, 1);
  const type = typeAttribute(attributes, "output_dtype", scale.type === "float8e8m0" ? "float32" : scale.type);
  const table = scaleTable(x, scale, attributes);
  const [from, scales, zeros] = [numbersOf(x), numbersOf(scale), inputs[2] instanceof Tensor ? numbersOf(inputs[2]) : undefined];
  const to = newNumbers(type, from.length);
  for (let i = 0; i < from.length; i++) {
    const at = table ? table[i]! : 0;
    to[i] = (from[i]! - (zeros ? zeros[at]! : 0)) * scales[at]!;
  }
  return [tensorOf(type, to, x.dims)];
};

/** To uint8, with a range that has zero in it. */
const dynamicQuantize: ReferenceOperator = (inputs) => {
  const x = tensorAt(inputs, 0);
  const from = numbersOf(x);
  let low = 0;
  let high = 0;
  for (let i = 0; i < from.length; i++) {
    low = Math.min(low, from[i]!);
    high = Math.max(high, from[i]!);
  }
  const scale = Math.fround(Math.fround(high - low) / 255);
  const divisor = scale === 0 ? 1 : scale;
  const zero = quantizeNumber(Math.fround(-low / divisor), 0, "uint8");
  const to = new Uint8Array(from.length);
  for (let i = 0; i < to.length; i++) to[i] = quantizeNumber(Math.fround(from[i]! / divisor), zero, "uint8");
  return [new Tensor("uint8", to, x.dims), new Tensor("float32", Float32Array.of(scale), []), new Tensor("uint8", Uint8Array.of(zero), [])];
};

/** Two integers of four bits per byte, low ones first. */
const unpack4: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const isSigned = intAttribute(attributes, "signed", 0) !== 0;
  const type = isSigned ? "int8" : "uint8";
  const from = numbersOf(x);
  const to = newNumbers(type, 2 * from.length);
  for (let i = 0; i < to.length; i++) {
    const half = (from[i >> 1]! >> (4 * (i % 2))) & 15;
    to[i] = isSigned ? (half ^ 8) - 8 : half;
  }
  return [tensorOf(type, to, [...x.dims.slice(0, -1), 2 * x.dims.at(-1)!])];
};

/** x [..., k] times integers of four or eight bits with a scale per block along k, [n, bytes of a row]. */
const blockMatmul: ReferenceOperator = (inputs, attributes) => {
  const [x, weights, scales, zeros] = [tensorAt(inputs, 0), tensorAt(inputs, 1), tensorAt(inputs, 2), inputs[3] as Tensor | undefined];
  const [bits, size, k] = [intAttribute(attributes, "bits", 4), intAttribute(attributes, "block_size", 32), intAttribute(attributes, "k", 0)];
  const [from, stored, factors, points] = [numbersOf(x), numbersOf(weights), numbersOf(scales), zeros && numbersOf(zeros)];
  const [n, rowBytes] = weights.dims as [number, number];
  const blocks = scales.dims[1]!;
  const weight = (column: number, i: number): number => {
    const half = bits === 4 ? (stored[column * rowBytes + (i >> 1)]! >> (4 * (i % 2))) & 15 : 0;
    const at = column * blocks + Math.floor(i / size);
    return ((bits === 4 ? (half ^ 8) - 8 : stored[column * rowBytes + i]!) - (points ? points[at]! : 0)) * factors[at]!;
  };
  const rows = from.length / k;
  const to = new Float32Array(rows * n);
  for (let column = 0; column < n; column++) {
    const own = Float64Array.from({ length: k }, (_, i) => weight(column, i));
    for (let row = 0; row < rows; row++) to[row * n + column] = own.reduce((sum, item, i) => sum + item * from[row * k + i]!, 0);
  }
  return [new Tensor("float32", to, [...x.dims.slice(0, -1), n])];
};

export const quantizeOperators: ReferenceTable = {
  "sinter.BlockMatMul": blockMatmul,
  "sinter.Unpack4": unpack4,
  DequantizeLinear: dequantize,
  DynamicQuantizeLinear: dynamicQuantize,
  QuantizeLinear: quantize,
};
