/**
 * Evaluates loop kernels element by element: the oracle for code generation. Slow and plain. float32 results are
 * rounded after each operation; 64-bit integers are exact.
 */
import { assert, fromBfloat16Bits, fromFloat16Bits, isArrayOf, type NumericArray, toBfloat16Bits, toFloat16Bits, unreachable } from "../base/index.ts";
import { type Bindings, evaluate } from "./dim.ts";
import { freeAxes, reduceIdentity } from "./expr.ts";
import type { Axis, Buffer, Expr, LoopKernel, ReduceOp, ScalarOp, ScalarType } from "./loop.ts";

type Scalar = number | bigint;

export interface LoopMemory {
  readonly bindings: Bindings;
  /** Elements of each buffer; float16 and bfloat16 as their bits. Outputs are written in place. */
  readonly arrays: ReadonlyMap<Buffer, NumericArray>;
  /** What the epilogue's accumulator holds at the current point. */
  readonly accumulator?: () => number;
}

/** Results of reductions by the indices they depend on, so that a row's maximum is found once per row. */
type ReduceCache = Map<Expr, Map<string, Scalar>>;

/** Runs the kernel over its whole domain. */
export function interpretLoop(kernel: LoopKernel, given: LoopMemory): void {
  const memory: LoopMemory & { readonly reduced: ReduceCache } = { ...given, reduced: new Map() };
  const point = new Map<Axis, number>();
  forEachPoint(kernel.axes, memory.bindings, point, () => {
    for (const { buffer, index, value } of kernel.outputs) {
      const at = index ? index.map((expr) => Number(evaluateExpr(expr, memory, point))) : kernel.axes.map((axis) => point.get(axis)!);
      store(buffer, at, evaluateExpr(value, memory, point), memory);
    }
  });
}

function forEachPoint(axes: readonly Axis[], bindings: Bindings, point: Map<Axis, number>, body: () => void): void {
  const [axis, ...inner] = axes;
  if (!axis) return body();
  const extent = evaluate(axis.extent, bindings);
  for (let i = 0; i < extent; i++) {
    point.set(axis, i);
    forEachPoint(inner, bindings, point, body);
  }
}

function position(buffer: Buffer, index: readonly number[], bindings: Bindings): number {
  let offset = 0;
  buffer.dims.forEach((dim, i) => {
    const extent = evaluate(dim, bindings);
    const at = index[i]!;
    assert(at >= 0 && at < extent, `index ${at} of dimension ${i} of ${buffer.name} is outside ${extent}`);
    offset = buffer.strides ? offset + at * evaluate(buffer.strides[i]!, bindings) : offset * extent + at;
  });
  return offset;
}

function arrayOf(buffer: Buffer, memory: LoopMemory): NumericArray {
  const array = memory.arrays.get(buffer);
  assert(array && isArrayOf(buffer.dtype, array), `no ${buffer.dtype} array for buffer ${buffer.name}`);
  return array;
}

function load(buffer: Buffer, index: readonly number[], memory: LoopMemory): Scalar {
  const raw = arrayOf(buffer, memory)[position(buffer, index, memory.bindings)]!;
  if (buffer.dtype === "float16") return fromFloat16Bits(Number(raw));
  if (buffer.dtype === "bfloat16") return fromBfloat16Bits(Number(raw));
  return raw;
}

function store(buffer: Buffer, index: readonly number[], value: Scalar, memory: LoopMemory): void {
  const array = arrayOf(buffer, memory);
  const at = position(buffer, index, memory.bindings);
  if (buffer.dtype === "float16") array[at] = toFloat16Bits(Number(value));
  else if (buffer.dtype === "bfloat16") array[at] = toBfloat16Bits(Number(value));
  else array[at] = value as never;
}

/** The expression's value at a point; i64 and u64 values are bigint, the others numbers (bool: 0 or 1). */
export function evaluateExpr(expr: Expr, memory: LoopMemory, point: Map<Axis, number>): Scalar {
  const at = (e: Expr): Scalar => evaluateExpr(e, memory, point);
  switch (expr.kind) {
    case "const": return expr.type === "i64" || expr.type === "u64" ? BigInt(expr.value) : Number(expr.value);
    case "dim": return BigInt(evaluate(expr.value, memory.bindings));
    case "axis": {
      const index = point.get(expr.axis);
      assert(index !== undefined, `axis ${expr.axis.name} is not bound`);
      return BigInt(index);
    }
    case "load": return load(expr.buffer, expr.index.map((e) => Number(at(e))), memory);
    case "op": return operate(expr.op, expr.args[0]!.type, expr.args.map(at));
    case "cast": return convert(expr.arg.type, expr.type, at(expr.arg));
    case "select": return at(expr.condition) ? at(expr.then) : at(expr.else);
    case "reduce": return reduceOnce(expr, memory, point);
    case "accumulator": {
      assert(memory.accumulator, "accumulator outside an epilogue");
      return memory.accumulator();
    }
  }
}

function reduceOnce(expr: Extract<Expr, { kind: "reduce" }>, memory: LoopMemory & { readonly reduced?: ReduceCache }, point: Map<Axis, number>): Scalar {
  let known = memory.reduced?.get(expr);
  if (memory.reduced && !known) memory.reduced.set(expr, (known = new Map()));
  const key = [...freeAxes(expr)].map((axis) => point.get(axis)).join();
  const cached = known?.get(key);
  if (cached !== undefined) return cached;
  const result = reduceAll(expr, memory, point);
  known?.set(key, result);
  return result;
}

function reduceAll(expr: Extract<Expr, { kind: "reduce" }>, memory: LoopMemory, point: Map<Axis, number>): Scalar {
  let sum = reduceIdentity(expr.op, expr.type);
  if (expr.type === "i64" || expr.type === "u64") sum = BigInt(sum);
  const inner = new Map(point);
  forEachPoint(expr.axes, memory.bindings, inner, () => {
    sum = combine(expr.op, expr.type, sum, evaluateExpr(expr.body, memory, inner));
  });
  return expr.type === "f32" ? Math.fround(Number(sum)) : sum;
}

/** Sums of float32 run in double precision and are rounded once. */
function combine(reduce: ReduceOp, type: ScalarType, a: Scalar, b: Scalar): Scalar {
  const wide = type === "f32" ? "f64" : type;
  switch (reduce) {
    case "sum": return operate("add", wide, [a, b]);
    case "prod": return operate("mul", wide, [a, b]);
    case "min": return operate("min", type, [a, b]);
    case "max": return operate("max", type, [a, b]);
  }
}

function wrap(type: ScalarType, value: Scalar): Scalar {
  switch (type) {
    case "f32": return Math.fround(Number(value));
    case "f64": return Number(value);
    case "i32": return typeof value === "bigint" ? Number(BigInt.asIntN(32, value)) : value | 0;
    case "u32": return typeof value === "bigint" ? Number(BigInt.asUintN(32, value)) : value >>> 0;
    case "i64": return BigInt.asIntN(64, BigInt(value));
    case "u64": return BigInt.asUintN(64, BigInt(value));
    case "bool": return value ? 1 : 0;
  }
}

function convert(from: ScalarType, to: ScalarType, value: Scalar): Scalar {
  if (to === "bool") return value ? 1 : 0;
  if (to === "f32" || to === "f64") return wrap(to, Number(value));
  if (typeof value === "bigint") return wrap(to, value);
  if (Number.isNaN(value)) return wrap(to, to === "i64" ? -(1n << 63n) : to === "i32" ? -0x80000000 : 0n);
  if (from === "f32" || from === "f64") return truncate(to, value);
  return wrap(to, BigInt(value));
}

/** Outside the target's range the result is what the processor gives: the most negative number. */
function truncate(to: ScalarType, value: number): Scalar {
  const whole = Math.trunc(value);
  if (to === "i32") return whole >= -0x80000000 && whole <= 0x7fffffff ? whole : -0x80000000;
  if (to === "i64") return whole >= -(2 ** 63) && whole < 2 ** 63 ? BigInt(whole) : -(1n << 63n);
  return Number.isFinite(whole) ? wrap(to, BigInt(whole)) : wrap(to, 0n);
}

export function operate(name: ScalarOp, type: ScalarType, args: readonly Scalar[]): Scalar {
  if (COMPARE[name]) return COMPARE[name](args[0]!, args[1]!) ? 1 : 0;
  if (type === "i64" || type === "u64" || type === "i32" || type === "u32") return wrap(type, integerOp(name, args.map((arg) => BigInt(arg)), type));
  if (type === "bool") return logicOp(name, args as number[]);
  return wrap(type, floatOp(name, args as number[]));
}

const COMPARE: Readonly<Partial<Record<ScalarOp, (a: Scalar, b: Scalar) => boolean>>> = {
  eq: (a, b) => a === b, ne: (a, b) => a !== b, lt: (a, b) => a < b, le: (a, b) => a <= b, gt: (a, b) => a > b, ge: (a, b) => a >= b,
};

function integerOp(name: ScalarOp, args: readonly bigint[], type: ScalarType): bigint {
  const [a, b] = args as [bigint, bigint];
  const bits = type === "i64" || type === "u64" ? 64n : 32n;
  switch (name) {
    case "add": return a + b;
    case "sub": return a - b;
    case "mul": return a * b;
    case "div": return b === 0n ? 0n : a / b;
    case "rem": return b === 0n ? 0n : a % b;
    case "mod": return b === 0n ? 0n : ((a % b) + b) % b;
    case "min": return a < b ? a : b;
    case "max": return a > b ? a : b;
    case "pow": return b < 0n ? (a === 1n ? 1n : a === -1n ? (b % 2n ? -1n : 1n) : 0n) : a ** b;
    case "neg": return -a;
    case "abs": return a < 0n ? -a : a;
    case "sign": return a < 0n ? -1n : a > 0n ? 1n : 0n;
    case "bitAnd": return a & b;
    case "bitOr": return a | b;
    case "bitXor": return a ^ b;
    case "bitNot": return ~a;
    case "shiftLeft": return b < 0n || b >= bits ? 0n : a << b;
    case "shiftRight": return b < 0n || b >= bits ? 0n : a >> b;
    case "floor": case "ceil": case "round": case "trunc": return a;
    default: throw new Error(`Bug in sinter: ${name} of integers`);
  }
}

function logicOp(name: ScalarOp, args: readonly number[]): number {
  const [a, b] = args as [number, number];
  switch (name) {
    case "and": case "bitAnd": case "mul": case "min": return a & b;
    case "or": case "bitOr": case "max": case "add": return a | b;
    case "xor": case "bitXor": return a ^ b;
    case "not": case "bitNot": return a ^ 1;
    default: throw new Error(`Bug in sinter: ${name} of booleans`);
  }
}

function floatOp(name: ScalarOp, args: readonly number[]): number {
  const [a, b] = args as [number, number];
  switch (name) {
    case "add": return a + b;
    case "sub": return a - b;
    case "mul": return a * b;
    case "div": return a / b;
    case "rem": return a % b;
    case "mod": { const r = a % b; return r !== 0 && (r < 0) !== (b < 0) ? r + b : r; }
    case "min": return Math.min(a, b);
    case "max": return Math.max(a, b);
    case "pow": return a === 1 || b === 0 ? 1 : Math.abs(a) === 1 && Math.abs(b) === Infinity ? 1 : a ** b;
    case "neg": return -a;
    case "abs": return Math.abs(a);
    case "sign": return Math.sign(a);
    case "sqrt": return Math.sqrt(a);
    case "rsqrt": return 1 / Math.sqrt(a);
    case "reciprocal": return 1 / a;
    case "erf": return erf(a);
    case "sigmoid": return 1 / (1 + Math.exp(-a));
    case "round": return roundHalfEven(a);
    case "isNan": return Number.isNaN(a) ? 1 : 0;
    case "isInf": return Math.abs(a) === Infinity ? 1 : 0;
    case "exp": case "log": case "sin": case "cos": case "tan": case "asin": case "acos": case "atan": case "sinh": case "cosh":
    case "asinh": case "acosh": case "atanh": case "tanh": case "floor": case "ceil": case "trunc": return Math[name](a);
    case "eq": case "ne": case "lt": case "le": case "gt": case "ge": case "and": case "or": case "xor": case "not":
    case "bitAnd": case "bitOr": case "bitXor": case "bitNot": case "shiftLeft": case "shiftRight": throw new Error(`Bug in sinter: ${name} of floats`);
    default: return unreachable(name);
  }
}

export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5) return floor === 0 && x < 0 ? -0 : floor;
  if (rest > 0.5 || floor % 2 !== 0) return x < 0 && floor + 1 === 0 ? -0 : floor + 1;
  return floor;
}

/** The error function in double precision: its Taylor series near 0, a continued fraction (Abramowitz and Stegun 7.1.14) further out. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (!(a > 0)) return x;
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (2 * a * a) / (2 * n + 1);
      sum += term;
    }
    return Math.sign(x) * sum * (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a);
  }
  if (a > 6) return Math.sign(x);
  let fraction = 0;
  for (let k = 60; k >= 1; k--) fraction = (k / 2) / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}
