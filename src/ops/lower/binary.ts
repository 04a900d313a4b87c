/**
 * Elementwise operators of two or more inputs with broadcasting: arithmetic, comparison, logic, bits, Where, and the
 * variadic Min, Max, Sum, Mean.
 * Source: ONNX operators, opset 25.
 */
import { castTo, constant, type Expr, isFloatType, type Node, op, select, type ScalarOp } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { inputDtype, loadBroadcast, numberAttribute, outputDims, outputDtype, outputType, stringAttribute, wrapTo } from "./operand.ts";

type Formula = (a: Expr, b: Expr, node: Node) => Expr;

const simple = (name: ScalarOp): Formula => (a, b) => op(name, a, b);

function modulo(a: Expr, b: Expr, node: Node): Expr {
  return op(numberAttribute(node, "fmod", 0) !== 0 ? "rem" : "mod", a, b);
}

/** Computes in the base's type unless the exponent is a float and the base is not. */
function power(a: Expr, b: Expr): Expr {
  if (isFloatType(a.type) && b.kind === "const" && [1, 2, 3].includes(Number(b.value))) return new Array<Expr>(Number(b.value)).fill(a).reduce((x, y) => op("mul", x, y));
  if (isFloatType(a.type) || !isFloatType(b.type)) return op("pow", a, castTo(a.type, b));
  return castTo(a.type, op("pow", castTo("f64", a), castTo("f64", b)));
}

function bitShift(a: Expr, b: Expr, node: Node): Expr {
  return op(stringAttribute(node, "direction", "LEFT") === "LEFT" ? "shiftLeft" : "shiftRight", a, b);
}

const FORMULAS: Readonly<Record<OpKey, Formula>> = {
  Add: simple("add"), Sub: simple("sub"), Mul: simple("mul"), Div: simple("div"), Mod: modulo, Pow: power,
  Equal: simple("eq"), Less: simple("lt"), LessOrEqual: simple("le"), Greater: simple("gt"), GreaterOrEqual: simple("ge"),
  And: simple("and"), Or: simple("or"), Xor: simple("xor"),
  BitwiseAnd: simple("bitAnd"), BitwiseOr: simple("bitOr"), BitwiseXor: simple("bitXor"), BitShift: bitShift,
};

function binaryLowering(key: OpKey, formula: Formula): Lowering {
  return {
    kind: "pointwise",
    supports: (node) => inputDtype(node, 0) !== "string" && !(key === "Equal" && inputDtype(node, 1) === "string"),
    element(node, _output, index, load) {
      const dims = outputDims(node);
      const value = formula(loadBroadcast(node, 0, dims, index, load), loadBroadcast(node, 1, dims, index, load), node);
      return wrapTo(outputDtype(node), value);
    },
  };
}

function variadic(name: ScalarOp, isMean: boolean): Lowering {
  return {
    kind: "pointwise",
    supports: (node) => node.inputs.length <= 8,
    element(node, _output, index, load) {
      const items = node.inputs.map((_, i) => loadBroadcast(node, i, outputDims(node), index, load));
      const total = items.reduce((a, b) => op(name, a, b));
      return isMean ? op("mul", total, constant(total.type, 1 / items.length)) : total;
    },
  };
}

const where: Lowering = {
  kind: "pointwise",
  supports: (node) => inputDtype(node, 1) !== "string",
  element(node, _output, index, load) {
    const dims = outputDims(node);
    return select(loadBroadcast(node, 0, dims, index, load), loadBroadcast(node, 1, dims, index, load), loadBroadcast(node, 2, dims, index, load));
  },
};

const LOOP_CASTS = new Set(["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]);

function castable(node: Node): boolean {
  return LOOP_CASTS.has(inputDtype(node)) && LOOP_CASTS.has(outputDtype(node));
}

/** Conversion by the C rules that ONNX follows: floats truncate, integers wrap, everything but zero is true. */
function convert(value: Expr, node: Node): Expr {
  const to = outputDtype(node);
  const type = outputType(node);
  const small = to.endsWith("int8") || to.endsWith("int16");
  return small ? wrapTo(to, castTo("i32", value)) : castTo(type, value);
}

const cast: Lowering = {
  kind: "pointwise",
  supports: castable,
  element: (node, _output, index, load) => convert(load(0, index), node),
};

export const BINARY: readonly (readonly [OpKey, Lowering])[] = [
  ...Object.entries(FORMULAS).map(([key, formula]): [OpKey, Lowering] => [key, binaryLowering(key, formula)]),
  ["Min", variadic("min", false)],
  ["Max", variadic("max", false)],
  ["Sum", variadic("add", false)],
  ["Mean", variadic("add", true)],
  ["Where", where],
  ["Cast", cast],
  ["CastLike", cast],
];
