/** Operators that work element by element, with broadcasting. */
import type { InferRule } from "../contract.ts";
import { allInputs, broadcast, commonType, dimsOf, forAll, type Rules, sameAsInput, setOutput, typeAttribute, typeOf } from "./rule.ts";

const binary: InferRule = (node) => setOutput(node, 0, commonType(node, [0, 1]), broadcast(node, [dimsOf(node, 0), dimsOf(node, 1)]));

const comparison: InferRule = (node) => {
  commonType(node, [0, 1]);
  setOutput(node, 0, "bool", broadcast(node, [dimsOf(node, 0), dimsOf(node, 1)]));
};

/** The second input may have a type of its own. */
const power: InferRule = (node) => setOutput(node, 0, typeOf(node, 0), broadcast(node, [dimsOf(node, 0), dimsOf(node, 1)]));

const variadic: InferRule = (node) => setOutput(node, 0, commonType(node, allInputs(node)), broadcast(node, node.inputs.map((input) => input?.dims)));

const predicate: InferRule = (node) => setOutput(node, 0, "bool", dimsOf(node, 0));

const where: InferRule = (node) => setOutput(node, 0, commonType(node, [1, 2]), broadcast(node, [0, 1, 2].map((input) => dimsOf(node, input))));

const cast: InferRule = (node) => setOutput(node, 0, typeAttribute(node, "to", undefined), dimsOf(node, 0));

const dropout: InferRule = (node) => {
  sameAsInput(node, { dataSymbol: () => 0 });
  setOutput(node, 1, "bool", dimsOf(node, 0));
};

/** Reinterprets bits of one type as another of the same width. */
const bitCast = cast;

export const ELEMENTWISE: Rules = {
  ...forAll(`Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish Hardmax Identity LRN LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Reciprocal Relu Round Selu
    Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu ReverseSequence SwiGLU`, sameAsInput),
  ...forAll("Add Sub Mul Div Mod And Or Xor BitShift BitwiseAnd BitwiseOr BitwiseXor", binary),
  ...forAll("Equal Greater GreaterOrEqual Less LessOrEqual", comparison),
  ...forAll("Max Min Mean Sum", variadic),
  ...forAll("Not IsNaN IsInf", predicate),
  Pow: power,
  PRelu: power,
  Where: where,
  Cast: cast,
  BitCast: bitCast,
  CastLike: (node) => setOutput(node, 0, typeOf(node, 1), dimsOf(node, 0)),
  Dropout: dropout,
  StringConcat: binary,
  RegexFullMatch: predicate,
};
