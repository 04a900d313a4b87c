/**
 * Elementwise operators of one input: arithmetic, rounding, trigonometry and all activations.
 * Source: ONNX operators, opset 25; com.microsoft contrib operators for QuickGelu, FastGelu and BiasGelu.
 */
import { constant, type Expr, isFloatType, type Node, op, select, type ScalarOp } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, inputDtype, inputType, loadBroadcast, loadScalar, numberAttribute, outputDims, outputDtype, stringAttribute, wrapTo } from "./operand.ts";

type Formula = (x: Expr, node: Node) => Expr;

const number = (like: Expr, value: number): Expr => constant(like.type, value);
const mul = (a: Expr, b: Expr): Expr => op("mul", a, b);
const add = (a: Expr, b: Expr): Expr => op("add", a, b);
const sub = (a: Expr, b: Expr): Expr => op("sub", a, b);
const isNegative = (x: Expr): Expr => op("lt", x, number(x, 0));
const expMinus1 = (x: Expr): Expr => sub(op("exp", x), number(x, 1));
const clamp = (x: Expr, low: number, high: number): Expr => op("max", op("min", x, number(x, high)), number(x, low));

const simple = (name: ScalarOp): Formula => (x) => op(name, x);

/** log(1 + exp(x)), written so that exp does not overflow. */
function softplus(x: Expr): Expr {
  return add(op("max", x, number(x, 0)), op("log", add(number(x, 1), op("exp", op("neg", op("abs", x))))));
}

export function geluExact(x: Expr): Expr {
  return mul(mul(number(x, 0.5), x), add(number(x, 1), op("erf", mul(x, number(x, Math.SQRT1_2)))));
}

/** x * sigmoid(2u) = x / 2 * (1 + tanh(u)), u = sqrt(2 / pi) * (x + 0.044715 x^3). */
export function geluTanh(x: Expr): Expr {
  const cubic = mul(x, add(number(x, 1), mul(number(x, 0.044715), mul(x, x))));
  return mul(x, op("sigmoid", mul(number(x, 2 * Math.sqrt(2 / Math.PI)), cubic)));
}

function hardSigmoid(x: Expr, alpha: number, beta: number): Expr {
  return clamp(add(mul(x, number(x, alpha)), number(x, beta)), 0, 1);
}

function isInfinite(x: Expr, node: Node): Expr {
  const positive = op("eq", x, number(x, Number.POSITIVE_INFINITY));
  const negative = op("eq", x, number(x, Number.NEGATIVE_INFINITY));
  const wantsPositive = numberAttribute(node, "detect_positive", 1) !== 0;
  const wantsNegative = numberAttribute(node, "detect_negative", 1) !== 0;
  if (wantsPositive && wantsNegative) return op("isInf", x);
  return wantsPositive ? positive : wantsNegative ? negative : constant("bool", 0);
}

function shrink(x: Expr, node: Node): Expr {
  const bias = numberAttribute(node, "bias", 0);
  const lambda = numberAttribute(node, "lambd", 0.5);
  const upper = select(op("gt", x, number(x, lambda)), sub(x, number(x, bias)), number(x, 0));
  return select(op("lt", x, number(x, -lambda)), add(x, number(x, bias)), upper);
}

function selu(x: Expr, node: Node): Expr {
  const alpha = numberAttribute(node, "alpha", 1.67326319217681884765625);
  const gamma = numberAttribute(node, "gamma", 1.05070102214813232421875);
  return select(isNegative(x), mul(number(x, gamma * alpha), expMinus1(x)), mul(number(x, gamma), x));
}

const FORMULAS: Readonly<Record<OpKey, Formula>> = {
  Abs: simple("abs"), Neg: simple("neg"), Sign: simple("sign"), Sqrt: simple("sqrt"), Reciprocal: simple("reciprocal"),
  Exp: simple("exp"), Log: simple("log"), Sin: simple("sin"), Cos: simple("cos"), Tan: simple("tan"),
  Asin: simple("asin"), Acos: simple("acos"), Atan: simple("atan"), Sinh: simple("sinh"), Cosh: simple("cosh"), Tanh: simple("tanh"),
  Asinh: simple("asinh"), Acosh: simple("acosh"), Atanh: simple("atanh"), Erf: simple("erf"), Sigmoid: simple("sigmoid"),
  Floor: simple("floor"), Ceil: simple("ceil"), Round: simple("round"), IsNaN: simple("isNan"), Not: simple("not"), BitwiseNot: simple("bitNot"),
  IsInf: isInfinite,
  Relu: (x) => op("max", x, number(x, 0)),
  LeakyRelu: (x, node) => select(isNegative(x), mul(x, number(x, numberAttribute(node, "alpha", 0.01))), x),
  ThresholdedRelu: (x, node) => select(op("gt", x, number(x, numberAttribute(node, "alpha", 1))), x, number(x, 0)),
  Elu: (x, node) => select(isNegative(x), mul(number(x, numberAttribute(node, "alpha", 1)), expMinus1(x)), x),
  Celu: (x, node) => {
    const alpha = numberAttribute(node, "alpha", 1);
    return add(op("max", x, number(x, 0)), op("min", number(x, 0), mul(number(x, alpha), expMinus1(mul(x, number(x, 1 / alpha))))));
  },
  Selu: selu,
  Softplus: softplus,
  Softsign: (x) => op("div", x, add(number(x, 1), op("abs", x))),
  HardSigmoid: (x, node) => hardSigmoid(x, numberAttribute(node, "alpha", 0.2), numberAttribute(node, "beta", 0.5)),
  HardSwish: (x) => mul(x, hardSigmoid(x, 1 / 6, 0.5)),
  Mish: (x) => mul(x, op("tanh", softplus(x))),
  Gelu: (x, node) => (stringAttribute(node, "approximate", "none") === "tanh" ? geluTanh(x) : geluExact(x)),
  "com.microsoft.Gelu": geluExact,
  "com.microsoft.QuickGelu": (x, node) => mul(x, op("sigmoid", mul(x, number(x, numberAttribute(node, "alpha", 1.702))))),
  Swish: (x, node) => mul(x, op("sigmoid", mul(x, number(x, numberAttribute(node, "alpha", 1))))),
  Shrink: shrink,
  Identity: (x) => x,
  Dropout: (x) => x,
};

const WRAPPING = new Set(["Neg", "BitwiseNot", "Abs"]);
/** Defined for integers too; the others need floats. */
const ON_INTEGERS = new Set(["Abs", "Neg", "Sign", "Relu", "Identity", "BitwiseNot", "Floor", "Ceil", "Round", "Shrink"]);

function unaryLowering(key: OpKey, formula: Formula): Lowering {
  return {
    kind: key === "Identity" || key === "Dropout" ? "view" : "pointwise",
    supports: (node) => !(key === "Dropout" && (node.outputs[1] !== undefined || hasInput(node, 2)))
      && (key === "Not" || key === "Identity" || key === "Dropout" || isFloatType(inputType(node)) || ON_INTEGERS.has(key)),
    element(node, _output, index, load) {
      const value = formula(load(0, index), node);
      return WRAPPING.has(key) ? wrapTo(inputDtype(node), value) : value;
    },
  };
}

const clip: Lowering = {
  kind: "pointwise",
  element(node, _output, index, load) {
    let value = load(0, index);
    if (hasInput(node, 1)) value = op("max", value, loadScalar(node, 1, load));
    if (hasInput(node, 2)) value = op("min", value, loadScalar(node, 2, load));
    return value;
  },
};

const prelu: Lowering = {
  kind: "pointwise",
  element(node, _output, index, load) {
    const x = load(0, index);
    return wrapTo(outputDtype(node), select(isNegative(x), mul(loadBroadcast(node, 1, outputDims(node), index, load), x), x));
  },
};

/** GELU after the addition of a bias along the last axis; the bias may be absent for FastGelu. */
function biasGelu(gelu: (x: Expr) => Expr): Lowering {
  return {
    kind: "pointwise",
    element(node, _output, index, load) {
      const x = load(0, index);
      return gelu(hasInput(node, 1) ? add(x, loadBroadcast(node, 1, inputDims(node, 0), index, load)) : x);
    },
  };
}

export const UNARY: readonly (readonly [OpKey, Lowering])[] = [
  ...Object.entries(FORMULAS).map(([key, formula]): [OpKey, Lowering] => [key, unaryLowering(key, formula)]),
  ["Clip", clip],
  ["PRelu", prelu],
  ["com.microsoft.BiasGelu", biasGelu(geluExact)],
  ["com.microsoft.FastGelu", biasGelu(geluTanh)],
];
