/**
 * Building and simplifying loop expressions.
 *
 * Index arithmetic (i64) is kept in affine normal form: a sum of terms, each a symbolic coefficient times an atom
 * (axis, load, division, …), and a constant. Because all indices are at least 0 and axes are below their extents,
 * division and remainder of a linearized index split into the original indices, comparisons that always hold fold
 * away, and a chain of reshapes becomes plain strides.
 */
import { type DType, isFloat, unreachable } from "../base/index.ts";
import { add as dimAdd, type Dim, dimEqual, floorDiv as dimFloorDiv, isNonNegative, max as dimMax, min as dimMin, mod as dimMod, mul as dimMul, sub as dimSub } from "./dim.ts";
import type { Axis, Buffer, Expr, ReduceOp, ScalarOp, ScalarType } from "./loop.ts";

/** The type in which elements of a storage type are computed. */
export function scalarTypeOf(dtype: DType): ScalarType {
  switch (dtype) {
    case "float32": case "float16": case "bfloat16": return "f32";
    case "float64": return "f64";
    case "int8": case "int16": case "int32": case "uint8": case "uint16": return "i32";
    case "uint32": return "u32";
    case "int64": return "i64";
    case "uint64": return "u64";
    case "bool": return "bool";
    default: return "f32";
  }
}

export const isFloatType = (type: ScalarType): boolean => type === "f32" || type === "f64";

export function constant(type: ScalarType, value: number | bigint): Expr {
  if (type === "i64" || type === "u64") return { kind: "const", type, value: typeof value === "bigint" && !Number.isSafeInteger(Number(value)) ? value : Number(value) };
  return { kind: "const", type, value: type === "f32" ? Math.fround(Number(value)) : Number(value) };
}

export const i64 = (value: number): Expr => constant("i64", value);
export const f32 = (value: number): Expr => constant("f32", value);
export const boolean = (value: boolean): Expr => constant("bool", value ? 1 : 0);

/** A dimension as an index value. */
export function dimValue(value: Dim): Expr {
  return typeof value === "number" ? i64(value) : { kind: "dim", type: "i64", value };
}

export function axisIndex(axis: Axis): Expr {
  return axis.extent === 1 ? i64(0) : { kind: "axis", type: "i64", axis };
}

export function loadElement(buffer: Buffer, index: readonly Expr[]): Expr {
  return { kind: "load", type: scalarTypeOf(buffer.dtype), buffer, index };
}

export function reduceOver(op: ReduceOp, axes: readonly Axis[], body: Expr): Expr {
  const kept = axes.filter((axis) => axis.extent !== 1);
  return kept.length === 0 ? body : { kind: "reduce", type: body.type, op, axes: kept, body };
}

export function castTo(type: ScalarType, arg: Expr): Expr {
  if (arg.type === type) return arg;
  if (arg.kind === "const") return constant(type, convertConstant(type, arg.value));
  return { kind: "cast", type, arg };
}

function convertConstant(type: ScalarType, value: number | bigint): number | bigint {
  switch (type) {
    case "f32": case "f64": return Number(value);
    case "bool": return Number(value) !== 0 ? 1 : 0;
    case "i32": return Number(BigInt.asIntN(32, toBigInt(value)));
    case "u32": return Number(BigInt.asUintN(32, toBigInt(value)));
    case "i64": return BigInt.asIntN(64, toBigInt(value));
    case "u64": return BigInt.asUintN(64, toBigInt(value));
    default: return unreachable(type);
  }
}

function toBigInt(value: number | bigint): bigint {
  if (typeof value === "bigint") return value;
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

/** The value of an index expression that is a size: a number or a symbolic dimension. */
export function asDim(expr: Expr): Dim | undefined {
  if (expr.kind === "dim") return expr.value;
  return expr.kind === "const" && expr.type === "i64" && typeof expr.value === "number" ? expr.value : undefined;
}

/** sum(coefficient * atom) + constant. Atoms are compared by structure. */
export interface Affine {
  readonly terms: readonly { readonly atom: Expr; readonly coefficient: Dim }[];
  readonly constant: Dim;
}

export function affineOf(expr: Expr): Affine {
  const dim = asDim(expr);
  if (dim !== undefined) return { terms: [], constant: dim };
  if (expr.kind === "op" && expr.type === "i64") {
    const [a, b] = expr.args;
    if (expr.op === "add") return addAffine(affineOf(a!), affineOf(b!));
    if (expr.op === "sub") return addAffine(affineOf(a!), scaleAffine(affineOf(b!), -1));
    if (expr.op === "mul") {
      const factor = asDim(b!);
      if (factor !== undefined) return scaleAffine(affineOf(a!), factor);
    }
  }
  return { terms: [{ atom: expr, coefficient: 1 }], constant: 0 };
}

function scaleAffine(affine: Affine, by: Dim): Affine {
  if (by === 0) return { terms: [], constant: 0 };
  return { terms: affine.terms.map(({ atom, coefficient }) => ({ atom, coefficient: dimMul(coefficient, by) })), constant: dimMul(affine.constant, by) };
}

export function addAffine(a: Affine, b: Affine): Affine {
  const terms = [...a.terms];
  for (const term of b.terms) {
    const at = terms.findIndex((other) => sameExpr(other.atom, term.atom));
    if (at < 0) terms.push(term);
    else terms[at] = { atom: term.atom, coefficient: dimAdd(terms[at]!.coefficient, term.coefficient) };
  }
  return { terms: terms.filter((term) => term.coefficient !== 0), constant: dimAdd(a.constant, b.constant) };
}

export function fromAffine(affine: Affine): Expr {
  let sum: Expr | undefined;
  for (const { atom, coefficient } of affine.terms) {
    const term: Expr = coefficient === 1 ? atom : { kind: "op", type: "i64", op: "mul", args: [atom, dimValue(coefficient)] };
    sum = sum ? { kind: "op", type: "i64", op: "add", args: [sum, term] } : term;
  }
  if (!sum) return dimValue(affine.constant);
  return affine.constant === 0 ? sum : { kind: "op", type: "i64", op: "add", args: [sum, dimValue(affine.constant)] };
}

/** Structural equality; axes and buffers by identity. */
export function sameExpr(a: Expr, b: Expr): boolean {
  if (a === b) return true;
  if (a.kind !== b.kind || a.type !== b.type) return false;
  switch (a.kind) {
    case "const": return a.value === (b as typeof a).value && Object.is(a.value, (b as typeof a).value);
    case "dim": return dimEqual(a.value, (b as typeof a).value);
    case "axis": return a.axis === (b as typeof a).axis;
    case "load": return a.buffer === (b as typeof a).buffer && sameAll(a.index, (b as typeof a).index);
    case "op": return a.op === (b as typeof a).op && sameAll(a.args, (b as typeof a).args);
    case "cast": return sameExpr(a.arg, (b as typeof a).arg);
    case "select": return sameAll([a.condition, a.then, a.else], [(b as typeof a).condition, (b as typeof a).then, (b as typeof a).else]);
    case "reduce": return a.op === (b as typeof a).op && a.axes.length === (b as typeof a).axes.length && a.axes.every((axis, i) => axis === (b as typeof a).axes[i]) && sameExpr(a.body, (b as typeof a).body);
    case "accumulator": return true;
  }
}

function sameAll(a: readonly Expr[], b: readonly Expr[]): boolean {
  return a.length === b.length && a.every((expr, i) => sameExpr(expr, b[i]!));
}

/** Inclusive bounds of an index expression as dimensions; a side is undefined where nothing is known. */
export interface IndexBounds { readonly low: Dim | undefined; readonly high: Dim | undefined }

export function indexBounds(expr: Expr): IndexBounds {
  const dim = asDim(expr);
  if (dim !== undefined) return { low: dim, high: dim };
  if (expr.kind === "axis") return { low: 0, high: dimSub(expr.axis.extent, 1) };
  if (expr.kind === "select") {
    const a = indexBounds(expr.then);
    const b = indexBounds(expr.else);
    return { low: both(a.low, b.low, dimMin), high: both(a.high, b.high, dimMax) };
  }
  if (expr.kind !== "op") return { low: undefined, high: undefined };
  return operatorBounds(expr.op, expr.args, expr);
}

function both(a: Dim | undefined, b: Dim | undefined, join: (a: Dim, b: Dim) => Dim): Dim | undefined {
  return a === undefined || b === undefined ? undefined : join(a, b);
}

function operatorBounds(op: ScalarOp, args: readonly Expr[], expr: Expr): IndexBounds {
  const unknown: IndexBounds = { low: undefined, high: undefined };
  if (op === "add" || op === "sub" || op === "mul") {
    const affine = affineOf(expr);
    if (affine.terms.length === 1 && sameExpr(affine.terms[0]!.atom, expr)) return unknown;
    return affineBounds(affine);
  }
  if (args.length < 2) return unknown;
  const a = indexBounds(args[0]!);
  const b = indexBounds(args[1]!);
  if (op === "min") return { low: both(a.low, b.low, dimMin), high: a.high === undefined ? b.high : b.high === undefined ? a.high : dimMin(a.high, b.high) };
  if (op === "max") return { high: both(a.high, b.high, dimMax), low: a.low === undefined ? b.low : b.low === undefined ? a.low : dimMax(a.low, b.low) };
  const divisor = asDim(args[1]!);
  if (divisor === undefined || !isPositive(divisor) || a.low === undefined || !isNonNegative(a.low)) return unknown;
  if (op === "div") return { low: 0, high: a.high === undefined ? undefined : dimFloorDiv(a.high, divisor) };
  if (op === "mod" || op === "rem") return { low: 0, high: dimSub(divisor, 1) };
  return unknown;
}

/** Sizes are at least 0; where one is 0 nothing runs, so a divisor that is a product of sizes counts as positive. */
function isPositive(dim: Dim): boolean {
  return typeof dim === "number" ? dim > 0 : isNonNegative(dim);
}

function affineBounds(affine: Affine): IndexBounds {
  let low: Dim | undefined = affine.constant;
  let high: Dim | undefined = affine.constant;
  for (const { atom, coefficient } of affine.terms) {
    const bounds = indexBounds(atom);
    const up = isNonNegative(coefficient);
    const down = isNonNegative(dimMul(coefficient, -1));
    const forLow = up ? bounds.low : down ? bounds.high : undefined;
    const forHigh = up ? bounds.high : down ? bounds.low : undefined;
    low = low === undefined || forLow === undefined ? undefined : dimAdd(low, dimMul(coefficient, forLow));
    high = high === undefined || forHigh === undefined ? undefined : dimAdd(high, dimMul(coefficient, forHigh));
  }
  return { low, high };
}

const COMPARISONS: ReadonlySet<ScalarOp> = new Set(["eq", "ne", "lt", "le", "gt", "ge"]);
const PREDICATES: ReadonlySet<ScalarOp> = new Set([...COMPARISONS, "isNan", "isInf"]);

/** An operation, simplified. Its type is that of its first argument; comparisons give bool. */
export function op(name: ScalarOp, ...args: readonly Expr[]): Expr {
  const type: ScalarType = PREDICATES.has(name) ? "bool" : args[0]!.type;
  if (args[0]!.type === "i64") {
    const index = simplifyIndex(name, args);
    if (index) return index;
  }
  if (type === "bool") {
    const logic = simplifyLogic(name, args);
    if (logic) return logic;
  }
  if (isFloatType(type)) {
    const float = simplifyFloat(name, args);
    if (float) return float;
  }
  return { kind: "op", type, op: name, args };
}

function simplifyIndex(name: ScalarOp, args: readonly Expr[]): Expr | undefined {
  const [a, b] = args as [Expr, Expr];
  const raw: Expr = { kind: "op", type: "i64", op: name, args };
  switch (name) {
    case "add": case "sub": return fromAffine(affineOf(raw));
    case "mul": return fromAffine(affineOf(asDim(a) !== undefined && asDim(b) === undefined ? { ...raw, args: [b, a] } as Expr : raw));
    case "div": return divideIndex(a, b);
    case "mod": case "rem": return remainderIndex(a, b);
    case "min": case "max": return extremeIndex(name, a, b);
    case "neg": return fromAffine(scaleAffine(affineOf(a), -1));
    default: return COMPARISONS.has(name) ? compareIndex(name, a, b) : undefined;
  }
}

/** Terms that the divisor divides, and the rest, when both are at least 0. */
function splitByDivisor(a: Expr, divisor: Dim): { readonly quotient: Affine; readonly rest: Affine } | undefined {
  const affine = affineOf(a);
  const divides = (dim: Dim): boolean => dimEqual(dimMul(dimFloorDiv(dim, divisor), divisor), dim);
  const whole = affine.terms.filter((term) => divides(term.coefficient));
  const quotient: Affine = {
    terms: whole.map(({ atom, coefficient }) => ({ atom, coefficient: dimFloorDiv(coefficient, divisor) })),
    constant: divides(affine.constant) ? dimFloorDiv(affine.constant, divisor) : 0,
  };
  const rest: Affine = { terms: affine.terms.filter((term) => !whole.includes(term)), constant: divides(affine.constant) ? 0 : affine.constant };
  const lows = [affineBounds(quotient).low, affineBounds(rest).low];
  return lows.every((low) => low !== undefined && isNonNegative(low)) ? { quotient, rest } : undefined;
}

const isBelow = (affine: Affine, limit: Dim): boolean => {
  const { high } = affineBounds(affine);
  return high !== undefined && isNonNegative(dimSub(dimSub(limit, 1), high));
};

function divideIndex(a: Expr, b: Expr): Expr | undefined {
  const divisor = asDim(b);
  const value = asDim(a);
  if (divisor === undefined || divisor === 0) return undefined;
  if (divisor === 1) return a;
  if (typeof value === "number" && typeof divisor === "number") return i64(Math.trunc(value / divisor));
  if (value !== undefined && isNonNegative(value) && isPositive(divisor)) return dimValue(dimFloorDiv(value, divisor));
  if (!isPositive(divisor)) return undefined;
  const split = splitByDivisor(a, divisor);
  if (!split) return undefined;
  if (isBelow(split.rest, divisor)) return fromAffine(split.quotient);
  const rest = fromAffine(split.rest);
  if (split.quotient.terms.length > 0 || split.quotient.constant !== 0) return op("add", fromAffine(split.quotient), op("div", rest, b));
  if (rest.kind === "op" && rest.op === "div") {
    const inner = asDim(rest.args[1]!);
    if (inner !== undefined && isPositive(inner)) return op("div", rest.args[0]!, dimValue(dimMul(inner, divisor)));
  }
  return { kind: "op", type: "i64", op: "div", args: [rest, b] };
}

function remainderIndex(a: Expr, b: Expr): Expr | undefined {
  const divisor = asDim(b);
  const value = asDim(a);
  if (divisor === undefined || divisor === 0 || !isPositive(divisor)) return undefined;
  if (divisor === 1) return i64(0);
  if (value !== undefined && isNonNegative(value)) return dimValue(dimMod(value, divisor));
  const split = splitByDivisor(a, divisor);
  if (!split) return undefined;
  if (isBelow(split.rest, divisor)) return fromAffine(split.rest);
  return { kind: "op", type: "i64", op: "mod", args: [fromAffine(split.rest), b] };
}

function extremeIndex(name: "min" | "max", a: Expr, b: Expr): Expr | undefined {
  const order = knownOrder(a, b);
  if (order === undefined) return undefined;
  return (name === "min") === (order === "le") ? a : b;
}

/** "le" when a <= b always, "ge" when a >= b always. */
function knownOrder(a: Expr, b: Expr): "le" | "ge" | undefined {
  const { low, high } = affineBounds(affineOf(op("sub", a, b)));
  if (high !== undefined && isNonNegative(dimMul(high, -1))) return "le";
  if (low !== undefined && isNonNegative(low)) return "ge";
  return undefined;
}

function compareIndex(name: ScalarOp, a: Expr, b: Expr): Expr | undefined {
  const { low, high } = affineBounds(affineOf(op("sub", a, b)));
  const atLeast = (limit: number): boolean => low !== undefined && isNonNegative(dimSub(low, limit));
  const atMost = (limit: number): boolean => high !== undefined && isNonNegative(dimSub(limit, high));
  const decide = (yes: boolean, no: boolean): Expr | undefined => (yes ? boolean(true) : no ? boolean(false) : undefined);
  switch (name) {
    case "lt": return decide(atMost(-1), atLeast(0));
    case "le": return decide(atMost(0), atLeast(1));
    case "gt": return decide(atLeast(1), atMost(0));
    case "ge": return decide(atLeast(0), atMost(-1));
    case "eq": return decide(atLeast(0) && atMost(0), atLeast(1) || atMost(-1));
    case "ne": return decide(atLeast(1) || atMost(-1), atLeast(0) && atMost(0));
    default: return undefined;
  }
}

function simplifyLogic(name: ScalarOp, args: readonly Expr[]): Expr | undefined {
  const known = args.map((arg) => (arg.kind === "const" && arg.type === "bool" ? arg.value !== 0 : undefined));
  if (name === "not" && known[0] !== undefined) return boolean(!known[0]);
  if (name === "and" || name === "or") {
    const absorbing = name === "or";
    if (known.includes(absorbing)) return boolean(absorbing);
    if (known[0] !== undefined) return args[1]!;
    if (known[1] !== undefined) return args[0]!;
  }
  return undefined;
}

function simplifyFloat(name: ScalarOp, args: readonly Expr[]): Expr | undefined {
  const [a, b] = args;
  const is = (expr: Expr | undefined, value: number): boolean => expr?.kind === "const" && expr.value === value;
  if ((name === "mul" || name === "div") && is(b, 1)) return a;
  if (name === "mul" && is(a, 1)) return b;
  if (name === "sub" && is(b, 0)) return a;
  return undefined;
}

export function select(condition: Expr, then: Expr, otherwise: Expr): Expr {
  if (condition.kind === "const") return condition.value ? then : otherwise;
  if (sameExpr(then, otherwise)) return then;
  return { kind: "select", type: then.type, condition, then, else: otherwise };
}

export const allOf = (conditions: readonly Expr[]): Expr => conditions.reduce((a, b) => op("and", a, b), boolean(true));

/** Row-major position of `index` in a tensor of `dims`. */
export function linearize(index: readonly Expr[], dims: readonly Dim[]): Expr {
  return index.reduce((sum, at, i) => op("add", op("mul", sum, dimValue(dims[i]!)), at), i64(0));
}

/** Indices of the element at row-major `position`. */
export function delinearize(position: Expr, dims: readonly Dim[]): Expr[] {
  const index: Expr[] = [];
  let stride: Dim = 1;
  for (let i = dims.length - 1; i >= 0; i--) {
    const quotient = op("div", position, dimValue(stride));
    index.unshift(dims[i] === 1 ? i64(0) : i === 0 ? quotient : op("mod", quotient, dimValue(dims[i]!)));
    stride = dimMul(stride, dims[i]!);
  }
  return index;
}

/** Rebuilds bottom-up through the simplifying builders; `replace` may answer a substitute for any node before its children are visited. */
export function rewrite(expr: Expr, replace: (expr: Expr) => Expr | undefined): Expr {
  const done = new Map<Expr, Expr>();
  const visit = (e: Expr): Expr => {
    const known = done.get(e);
    if (known) return known;
    const made = replace(e) ?? rebuild(e, visit);
    done.set(e, made);
    return made;
  };
  return visit(expr);
}

function rebuild(expr: Expr, visit: (expr: Expr) => Expr): Expr {
  switch (expr.kind) {
    case "const": case "dim": case "axis": case "accumulator": return expr;
    case "load": return { ...expr, index: expr.index.map(visit) };
    case "op": return op(expr.op, ...expr.args.map(visit));
    case "cast": return castTo(expr.type, visit(expr.arg));
    case "select": return select(visit(expr.condition), visit(expr.then), visit(expr.else));
    case "reduce": return { ...expr, body: visit(expr.body) };
  }
}

/** Replaces free axes; one that a reduction inside binds again is another axis there. */
export function substituteAxes(expr: Expr, replacements: ReadonlyMap<Axis, Expr>): Expr {
  return rewrite(expr, (e) => {
    if (e.kind === "axis") return replacements.get(e.axis);
    if (e.kind !== "reduce" || !e.axes.some((axis) => replacements.has(axis))) return undefined;
    const outer = new Map([...replacements].filter(([axis]) => !e.axes.includes(axis)));
    return { ...e, body: substituteAxes(e.body, outer) };
  });
}

export function childrenOf(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case "const": case "dim": case "axis": case "accumulator": return [];
    case "load": return expr.index;
    case "op": return expr.args;
    case "cast": return [expr.arg];
    case "select": return [expr.condition, expr.then, expr.else];
    case "reduce": return [expr.body];
  }
}

/** Visits every node once, parents first. */
export function visitExpr(expr: Expr, visit: (expr: Expr) => void): void {
  const seen = new Set<Expr>();
  const go = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    visit(e);
    childrenOf(e).forEach(go);
  };
  go(expr);
}

const freeAxesCache = new WeakMap<Expr, ReadonlySet<Axis>>();

/** Axes the value depends on, those bound by its own reductions excluded. */
export function freeAxes(expr: Expr): ReadonlySet<Axis> {
  const known = freeAxesCache.get(expr);
  if (known) return known;
  const free = new Set<Axis>();
  if (expr.kind === "axis") free.add(expr.axis);
  for (const child of childrenOf(expr)) for (const axis of freeAxes(child)) free.add(axis);
  if (expr.kind === "reduce") for (const axis of expr.axes) free.delete(axis);
  freeAxesCache.set(expr, free);
  return free;
}

/** Identity element of a reduction. */
export function reduceIdentity(reduce: ReduceOp, type: ScalarType): number | bigint {
  if (reduce === "sum") return 0;
  if (reduce === "prod") return 1;
  const lowest = reduce === "max";
  switch (type) {
    case "f32": case "f64": return lowest ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    case "i32": return lowest ? -0x80000000 : 0x7fffffff;
    case "u32": return lowest ? 0 : 0xffffffff;
    case "i64": return lowest ? -(1n << 63n) : (1n << 63n) - 1n;
    case "u64": return lowest ? 0n : (1n << 64n) - 1n;
    case "bool": return lowest ? 0 : 1;
  }
}

/** True for storage types whose elements loop kernels can read and write. */
export function isLoopType(dtype: DType): boolean {
  return (isFloat(dtype) && !dtype.startsWith("float8") && dtype !== "float4e2m1") || dtype === "bool"
    || ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"].includes(dtype);
}
