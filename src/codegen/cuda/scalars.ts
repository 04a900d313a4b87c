/** Scalar types, element types and operations of the loop IR as CUDA C++. */
import { type DType, unreachable } from "../../base/index.ts";
import type { ReduceOp, ScalarOp, ScalarType } from "../../ir/index.ts";

export const C_TYPE: Readonly<Record<ScalarType, string>> = {
  f32: "float", f64: "double", i32: "int", u32: "u32", i64: "long long", u64: "u64", bool: "bool",
};

const ELEMENT_TYPE: Readonly<Partial<Record<DType, string>>> = {
  float32: "float", float64: "double", float16: "f16", bfloat16: "bf16",
  int8: "signed char", int16: "short", int32: "int", int64: "long long",
  uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64", bool: "bool",
};

/** The C++ type of an element in memory; bytes for what loop code does not look into. */
export function elementType(dtype: DType): string {
  return ELEMENT_TYPE[dtype] ?? "u8";
}

/** A computed value as an element: `element(...)` of the prelude is the way back. */
export function storedAs(dtype: DType, value: string): string {
  switch (dtype) {
    case "float16": return `f16_of(${value})`;
    case "bfloat16": return `bf16_of(${value})`;
    default: return `(${elementType(dtype)})(${value})`;
  }
}

export const REDUCER: Readonly<Record<ReduceOp, string>> = { sum: "Sum", prod: "Product", min: "Least", max: "Most" };

export function literal(type: ScalarType, value: number | bigint): string {
  switch (type) {
    case "bool": return Number(value) !== 0 ? "true" : "false";
    case "f32": case "f64": return floatLiteral(type, Number(value));
    case "i32": return Number(value) === -0x80000000 ? "(-2147483647 - 1)" : String(value);
    case "u32": return `${value}u`;
    case "i64": return BigInt(value) === -(1n << 63n) ? "(-9223372036854775807ll - 1)" : `${value}ll`;
    case "u64": return `${value}ull`;
    default: return unreachable(type);
  }
}

function floatLiteral(type: "f32" | "f64", value: number): string {
  const suffix = type === "f32" ? "f" : "";
  if (Number.isNaN(value)) return type === "f32" ? "__int_as_float(0x7fc00000)" : "__longlong_as_double(0x7ff8000000000000ll)";
  if (!Number.isFinite(value)) {
    const sign = value < 0 ? "-" : "";
    return type === "f32" ? `(${sign}__int_as_float(0x7f800000))` : `(${sign}__longlong_as_double(0x7ff0000000000000ll))`;
  }
  const text = Object.is(value, -0) ? "-0" : String(value);
  const whole = /[.e]/.test(text) ? text : `${text}.0`;
  return value < 0 || Object.is(value, -0) ? `(${whole}${suffix})` : `${whole}${suffix}`;
}

const INFIX: Readonly<Partial<Record<ScalarOp, string>>> = {
  add: "+", sub: "-", mul: "*", eq: "==", ne: "!=", lt: "<", le: "<=", gt: ">", ge: ">=", bitAnd: "&", bitOr: "|", bitXor: "^", and: "&&", or: "||", xor: "!=",
};

/** Functions of the C library; single precision ends in f. */
const LIBRARY: Readonly<Partial<Record<ScalarOp, string>>> = {
  sqrt: "sqrt", rsqrt: "rsqrt", exp: "exp", log: "log", sin: "sin", cos: "cos", tan: "tan", asin: "asin", acos: "acos", atan: "atan", sinh: "sinh", cosh: "cosh",
  asinh: "asinh", acosh: "acosh", atanh: "atanh", tanh: "tanh", erf: "erf", floor: "floor", ceil: "ceil", round: "rint", trunc: "trunc", pow: "pow", abs: "fabs",
};

const OWN: Readonly<Partial<Record<ScalarOp, string>>> = {
  div: "div_of", rem: "rem_of", mod: "mod_of", min: "min_of", max: "max_of", pow: "pow_of", sign: "sign_of", abs: "abs_of", shiftLeft: "left_of", shiftRight: "right_of",
};

/** An operation on values of `type` (that of its arguments). Integers wrap, as unsigned arithmetic does. */
export function operation(name: ScalarOp, type: ScalarType, args: readonly string[]): string {
  const [a, b] = args as [string, string];
  if (type === "bool") return logic(name, args);
  const isFloat = type === "f32" || type === "f64";
  const infix = INFIX[name];
  if (infix) return infix.length === 1 && "+-*".includes(infix) && (type === "i32" || type === "i64") ? wrapping(type, infix, a, b) : `(${a} ${infix} ${b})`;
  if (name === "neg") return isFloat ? `(-${a})` : wrapping(type, "-", "0", a);
  if (name === "not" || name === "bitNot") return `(~${a})`;
  if (!isFloat) return integer(name, args);
  const suffix = type === "f32" ? "f" : "";
  switch (name) {
    case "div": return `(${a} / ${b})`;
    case "reciprocal": return `(1.0${suffix} / ${a})`;
    case "sigmoid": return `(1.0${suffix} / (1.0${suffix} + exp${suffix}(-${a})))`;
    case "isNan": return `(${a} != ${a})`;
    case "isInf": return `(fabs${suffix}(${a}) == ${floatLiteral(type, Number.POSITIVE_INFINITY)})`;
    default: return LIBRARY[name] ? `${LIBRARY[name]}${suffix}(${args.join(", ")})` : `${OWN[name]}(${args.join(", ")})`;
  }
}

function wrapping(type: ScalarType, infix: string, a: string, b: string): string {
  if (type !== "i32" && type !== "i64") return `(${a} ${infix} ${b})`;
  const unsigned = type === "i32" ? "u32" : "u64";
  return `(${C_TYPE[type]})((${unsigned})${a} ${infix} (${unsigned})${b})`;
}

function integer(name: ScalarOp, args: readonly string[]): string {
  if (name === "floor" || name === "ceil" || name === "round" || name === "trunc") return args[0]!;
  return `${OWN[name]}(${args.join(", ")})`;
}

function logic(name: ScalarOp, args: readonly string[]): string {
  const [a, b] = args as [string, string];
  switch (name) {
    case "and": case "bitAnd": case "mul": case "min": return `(${a} & ${b})`;
    case "or": case "bitOr": case "max": case "add": return `(${a} | ${b})`;
    case "xor": case "bitXor": case "ne": return `(${a} != ${b})`;
    case "not": case "bitNot": return `(!${a})`;
    default: return `(${a} ${INFIX[name]} ${b})`;
  }
}

/** A conversion; out of range, integers get what the interpreter gives. */
export function conversion(from: ScalarType, to: ScalarType, value: string): string {
  if (from === to) return value;
  if (to === "bool") return `(${value} != 0)`;
  const fromFloat = from === "f32" || from === "f64";
  if (!fromFloat || to === "f32" || to === "f64") return `(${C_TYPE[to]})${value}`;
  return `${({ i32: "int_of", i64: "long_of", u32: "unsigned_of", u64: "unsigned_long_of" } as const)[to]}(${value})`;
}
