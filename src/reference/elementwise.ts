/**
 * Operators of one element each: arithmetic, rounding, transcendental functions, activations, tests.
 * Computed in double precision and rounded once; 64-bit integers exactly.
 */
import { Tensor } from "../base/index.ts";
import { floatAttribute, intAttribute, stringAttribute } from "./arguments.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { type BigArray, bigsOf, isBig, newNumbers, numbersOf, scalarAt, tensorAt, tensorOf } from "./elements.ts";
import { erf } from "./error-function.ts";
import { roundHalfEven } from "./rounding.ts";

type Real = (x: number) => number;
type Exact = (x: bigint) => bigint;

/** The function on each element; `big` on 64-bit integers. */
export function mapTensor(x: Tensor, f: Real, big?: Exact): Tensor {
  if (big && isBig(x.type)) {
    const result = bigsOf(x).slice() as BigArray;
    for (let i = 0; i < result.length; i++) result[i] = big(result[i]!);
    return new Tensor(x.type, result, x.dims);
  }
  const from = numbersOf(x);
  const to = newNumbers(x.type, from.length);
  for (let i = 0; i < from.length; i++) to[i] = f(from[i]!);
  return tensorOf(x.type, to, x.dims);
}

const unary = (f: Real, big?: Exact): ReferenceOperator => (inputs) => [mapTensor(tensorAt(inputs, 0), f, big)];

const unaryWith = (make: (attributes: ReferenceAttributes) => Real): ReferenceOperator => (inputs, attributes) => [mapTensor(tensorAt(inputs, 0), make(attributes))];

function test(x: Tensor, holds: (x: number) => boolean): Tensor {
  const from = numbersOf(x);
  const to = new Uint8Array(from.length);
  for (let i = 0; i < from.length; i++) to[i] = holds(from[i]!) ? 1 : 0;
  return new Tensor("bool", to, x.dims);
}

/** A zero keeps the sign of what it came from. */
const roundSigned: Real = (x) => {
  const rounded = roundHalfEven(x);
  return rounded === 0 ? x * 0 : rounded;
};
const sigmoid: Real = (x) => 1 / (1 + Math.exp(-x));
const softplus: Real = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const tanhGelu: Real = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const clamp = (x: number, low: number, high: number): number => (x < low ? low : x > high ? high : x);
const alphaOf = (attributes: ReferenceAttributes, absent: number): number => floatAttribute(attributes, "alpha", absent);

/** Where the bounds cross, the upper one wins. */
const clip: ReferenceOperator = (inputs) => {
  const x = tensorAt(inputs, 0);
  if (isBig(x.type)) {
    const bound = (index: number): bigint | undefined => (inputs[index] instanceof Tensor ? bigsOf(tensorAt(inputs, index))[0] : undefined);
    const [low, high] = [bound(1), bound(2)];
    return [mapTensor(x, (v) => v, (v) => {
      const raised = low !== undefined && v < low ? low : v;
      return high !== undefined && raised > high ? high : raised;
    })];
  }
  const low = scalarAt(inputs, 1, Number.NEGATIVE_INFINITY);
  const high = scalarAt(inputs, 2, Number.POSITIVE_INFINITY);
  return [mapTensor(x, (v) => (v > high || low > high ? high : v < low ? low : v))];
};

const selu = (attributes: ReferenceAttributes): Real => {
  const alpha = alphaOf(attributes, 1.6732632423543772);
  const gamma = floatAttribute(attributes, "gamma", 1.0507009873554805);
  return (x) => (x > 0 ? gamma * x : gamma * alpha * Math.expm1(x));
};

const shrink = (attributes: ReferenceAttributes): Real => {
  const lambda = floatAttribute(attributes, "lambd", 0.5);
  const bias = floatAttribute(attributes, "bias", 0);
  return (x) => (x < -lambda ? x + bias : x > lambda ? x - bias : 0);
};

const hardSigmoid = (attributes: ReferenceAttributes): Real => {
  const alpha = alphaOf(attributes, 0.2);
  const beta = floatAttribute(attributes, "beta", 0.5);
  return (x) => clamp(alpha * x + beta, 0, 1);
};

const infinite = (attributes: ReferenceAttributes): ((x: number) => boolean) => {
  const negative = intAttribute(attributes, "detect_negative", 1) !== 0;
  const positive = intAttribute(attributes, "detect_positive", 1) !== 0;
  return (x) => (positive && x === Number.POSITIVE_INFINITY) || (negative && x === Number.NEGATIVE_INFINITY);
};

/** Unsigned types keep their width: bits beyond it are cut when stored. */
const bitwiseNot: ReferenceOperator = unary((x) => ~x, (x) => ~x);

const swiGlu: ReferenceOperator = (inputs, attributes) => {
  const gate = tensorAt(inputs, 0);
  const up = numbersOf(tensorAt(inputs, 1));
  const alpha = alphaOf(attributes, 1);
  const from = numbersOf(gate);
  const to = newNumbers(gate.type, from.length);
  for (let i = 0; i < from.length; i++) to[i] = from[i]! * sigmoid(alpha * from[i]!) * up[i]!;
  return [tensorOf(gate.type, to, gate.dims)];
};


const testWith = (make: (attributes: ReferenceAttributes) => (x: number) => boolean): ReferenceOperator => (inputs, attributes) => [test(tensorAt(inputs, 0), make(attributes))];

export const elementwiseOperators: ReferenceTable = {
  Abs: unary(Math.abs, (x) => (x < 0n ? -x : x)),
  Acos: unary(Math.acos),
  Acosh: unary(Math.acosh),
  Asin: unary(Math.asin),
  Asinh: unary(Math.asinh),
  Atan: unary(Math.atan),
  Atanh: unary(Math.atanh),
  BitwiseNot: bitwiseNot,
  Ceil: unary(Math.ceil),
  Celu: unaryWith((attributes) => {
    const alpha = alphaOf(attributes, 1);
    return (x) => Math.max(0, x) + Math.min(0, alpha * Math.expm1(x / alpha));
  }),
  Clip: clip,
  Cos: unary(Math.cos),
  Cosh: unary(Math.cosh),
  Elu: unaryWith((attributes) => {
    const alpha = alphaOf(attributes, 1);
    return (x) => (x < 0 ? alpha * Math.expm1(x) : x);
  }),
  Erf: unary(erf),
  Exp: unary(Math.exp),
  Floor: unary(Math.floor),
  Gelu: unaryWith((attributes) => (stringAttribute(attributes, "approximate", "none") === "tanh" ? tanhGelu : (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)))),
  HardSigmoid: unaryWith(hardSigmoid),
  HardSwish: unary((x) => x * clamp(x / 6 + 0.5, 0, 1)),
  IsInf: testWith(infinite),
  IsNaN: testWith(() => Number.isNaN),
  LeakyRelu: unaryWith((attributes) => {
    const alpha = alphaOf(attributes, 0.01);
    return (x) => (x < 0 ? alpha * x : x);
  }),
  Log: unary(Math.log),
  Mish: unary((x) => x * Math.tanh(softplus(x))),
  Neg: unary((x) => -x, (x) => -x),
  Not: unary((x) => (x === 0 ? 1 : 0)),
  Reciprocal: unary((x) => 1 / x),
  Relu: unary((x) => (x < 0 ? 0 : x), (x) => (x < 0n ? 0n : x)),
  Round: unary(roundSigned),
  Selu: unaryWith(selu),
  Shrink: unaryWith(shrink),
  Sigmoid: unary(sigmoid),
  Sign: unary(Math.sign, (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n)),
  Sin: unary(Math.sin),
  Sinh: unary(Math.sinh),
  Softplus: unary(softplus),
  Softsign: unary((x) => x / (1 + Math.abs(x))),
  Sqrt: unary(Math.sqrt),
  SwiGLU: swiGlu,
  Swish: unaryWith((attributes) => {
    const alpha = alphaOf(attributes, 1);
    return (x) => x * sigmoid(alpha * x);
  }),
  Tan: unary(Math.tan),
  Tanh: unary(Math.tanh),
  ThresholdedRelu: unaryWith((attributes) => {
    const alpha = alphaOf(attributes, 1);
    return (x) => (x > alpha ? x : 0);
  }),
};
