/**
 * Loop expressions as CUDA C++: statements that leave a value in a variable, or in a few characters of text.
 *
 * Positions are computed in the kernel's index type from plain sums of axes; values of type i64 that are data are
 * `long long`. What was computed in a block that is still open is not computed again. A guarded load is emitted under
 * its guard. Reductions are plain loops here; who runs them on many threads gives their values beforehand (`provide`).
 *
 * For a contraction's epilogue see `epilogue.ts`; the caller's side of both is `Point`: how axes and the accumulator
 * are written where the value is wanted.
 */
import { assert } from "../../base/index.ts";
import { affineOf, type Axis, castTo, childrenOf, type Dim, type Expr, freeAxes, indexBounds, isNonNegative, reduceIdentity, sameExpr, visitExpr } from "../../ir/index.ts";
import type { CodeWriter } from "./code-writer.ts";
import type { KernelParams } from "./kernel-params.ts";
import { type SmallQuotient, smallQuotient } from "./rounding.ts";
import { C_TYPE, conversion, literal, operation, REDUCER, storedAs } from "./scalars.ts";

export type LoadExpr = Extract<Expr, { kind: "load" }>;
export type ReduceExpr = Extract<Expr, { kind: "reduce" }>;

/** Where a value is wanted: C++ text for what stands there. Opened with a block, and good until it ends. */
export class Point {
  /** C++ of the contraction's result, in an epilogue. */
  readonly accumulator: string | undefined;
  readonly #outer: Point | undefined;
  readonly #isResult: boolean;
  readonly #axes: ReadonlyMap<Axis, string>;
  readonly #known = new Map<Expr, string>();
  readonly #reduced: { readonly expr: ReduceExpr; readonly text: string }[] = [];

  constructor(outer: Point | undefined, axes: ReadonlyMap<Axis, string> = new Map(), accumulator?: string) {
    this.#outer = outer;
    this.#axes = axes;
    this.#isResult = accumulator !== undefined;
    this.accumulator = accumulator ?? outer?.accumulator;
  }

  axis(axis: Axis): string | undefined {
    return this.#axes.get(axis) ?? this.#outer?.axis(axis);
  }

  /** The axis has a value here, so what depends on it must not come from further out. */
  binds(axes: ReadonlySet<Axis>): boolean {
    for (const axis of axes) if (this.#axes.has(axis)) return true;
    return false;
  }

  find(expr: Expr): string | undefined {
    const own = this.#known.get(expr) ?? (expr.kind === "reduce" ? this.#reduced.find((item) => sameExpr(item.expr, expr))?.text : undefined);
    if (own !== undefined || this.binds(freeAxes(expr))) return own;
    return this.#outer?.find(expr);
  }

  /** What does not depend on an accumulator given here holds for the whole block around it. */
  provide(expr: Expr, text: string): void {
    if (this.#isResult && this.#outer && !usesAccumulator(expr)) return this.#outer.provide(expr, text);
    this.#known.set(expr, text);
    if (expr.kind === "reduce") this.#reduced.push({ expr, text });
  }
}

const accumulatorUse = new WeakMap<Expr, boolean>();

function usesAccumulator(expr: Expr): boolean {
  let uses = accumulatorUse.get(expr);
  if (uses === undefined) accumulatorUse.set(expr, (uses = expr.kind === "accumulator" || childrenOf(expr).some(usesAccumulator)));
  return uses;
}

export class ExpressionEmitter {
  readonly code: CodeWriter;
  readonly params: KernelParams;
  /** Loads that may be done whether or not their guard holds; see `flattenExpr`. */
  readonly #safe: ReadonlySet<Expr>;

  constructor(code: CodeWriter, params: KernelParams, safe: ReadonlySet<Expr>) {
    this.code = code;
    this.params = params;
    this.#safe = safe;
  }

  isSafe(load: Expr): boolean {
    return this.#safe.has(load);
  }

  /** Emits what is needed and answers the value, a variable or a literal. Loads have one index, a position (`flattenExpr`). */
  value(expr: Expr, point: Point): string {
    switch (expr.kind) {
      case "const": return literal(expr.type, expr.value);
      case "dim": return `(long long)${this.params.dim(expr.value)}`;
      case "axis": return `(long long)${this.#axis(expr.axis, point)}`;
      case "accumulator": {
        assert(point.accumulator !== undefined, "an accumulator outside an epilogue");
        return point.accumulator;
      }
      default: break;
    }
    const known = point.find(expr);
    if (known !== undefined) return known;
    const text = this.#compute(expr, point);
    point.provide(expr, text);
    return text;
  }

  /** A position as text, in the index type. */
  index(expr: Expr, point: Point): string {
    const { terms, constant } = affineOf(expr);
    const parts = terms.map(({ atom, coefficient }) => {
      const text = this.#atom(atom, point);
      return coefficient === 1 ? text : `${text} * ${this.params.dim(coefficient)}`;
    });
    if (constant !== 0 || parts.length === 0) parts.push(this.params.dim(constant));
    return parts.length === 1 ? parts[0]! : `(${parts.join(" + ")})`;
  }

  /** `position` of the element that a load reads. */
  address(load: LoadExpr, point: Point): string {
    assert(load.index.length === 1 || load.buffer.dims.length === 1, `a load of ${load.buffer.name} that was not flattened`);
    return this.index(load.index[0]!, point);
  }

  /** Stores one element. */
  store(target: string, dtype: LoadExpr["buffer"]["dtype"], value: string): void {
    this.code.line(`${target} = ${storedAs(dtype, value)};`);
  }

  /** A reduction as loops on one thread. */
  serialReduce(expr: ReduceExpr, point: Point): string {
    const total = this.startReduce(expr);
    this.loops(expr.axes, point, (inner) => this.addTo(total, expr, this.value(expr.body, inner)));
    return total;
  }

  startReduce(expr: ReduceExpr): string {
    const total = this.code.fresh("r");
    this.code.line(`${C_TYPE[expr.type]} ${total} = ${literal(expr.type, reduceIdentity(expr.op, expr.type))};`);
    return total;
  }

  addTo(total: string, expr: ReduceExpr, value: string): void {
    this.code.line(`${total} = ${REDUCER[expr.op]}::join(${total}, ${value});`);
  }

  /** Nested loops over axes, outer to inner. */
  loops(axes: readonly Axis[], point: Point, innermost: (point: Point) => void): void {
    const [axis, ...rest] = axes;
    if (!axis) return innermost(point);
    const name = this.code.fresh("i");
    this.code.block(`for (${this.params.index} ${name} = 0; ${name} < ${this.params.dim(axis.extent)}; ${name}++)`, () => this.loops(rest, new Point(point, new Map([[axis, name]])), innermost));
  }

  #axis(axis: Axis, point: Point): string {
    const text = point.axis(axis);
    assert(text !== undefined, `axis ${axis.name} has no value here`);
    return text;
  }

  #compute(expr: Exclude<Expr, { kind: "const" | "dim" | "axis" | "accumulator" }>, point: Point): string {
    switch (expr.kind) {
      case "load": return this.#name(expr.type, `element(${this.params.pointer(expr.buffer)}[${this.address(expr, point)}])`);
      case "op": {
        const small = expr.op === "round" ? smallQuotient(expr) : undefined;
        return this.#name(expr.type, small ? `small_round_of(${this.#quotient(small, point)})` : operation(expr.op, expr.args[0]!.type, expr.args.map((arg) => this.value(arg, point))));
      }
      case "cast": {
        const small = expr.type === "i32" ? smallQuotient(expr.arg) : undefined;
        if (small) return this.#name(expr.type, `small_int_of(${this.#quotient(small, point)})${small.added === 0 ? "" : ` + ${literal("i32", small.added)}`}`);
        return this.#name(expr.type, conversion(expr.arg.type, expr.type, this.value(expr.arg, point)));
      }
      case "select": return this.#select(expr, point);
      case "reduce": return this.serialReduce(expr, point);
    }
  }

  #quotient({ dividend, divisor }: SmallQuotient, point: Point): string {
    return `quotient_of(${this.value(dividend, point)}, ${literal("f32", divisor)}, ${literal("f32", Math.fround(1 / divisor))})`;
  }

  #name(type: keyof typeof C_TYPE, text: string): string {
    const name = this.code.fresh("v");
    this.code.line(`const ${C_TYPE[type]} ${name} = ${text};`);
    return name;
  }

  #select(expr: Extract<Expr, { kind: "select" }>, point: Point): string {
    const condition = this.value(expr.condition, point);
    if (this.#isPlain(expr.then) && this.#isPlain(expr.else)) return this.#name(expr.type, `${condition} ? ${this.value(expr.then, point)} : ${this.value(expr.else, point)}`);
    const name = this.code.fresh("v");
    this.code.line(`${C_TYPE[expr.type]} ${name};`);
    this.code.block(`if (${condition})`, () => this.code.line(`${name} = ${this.value(expr.then, new Point(point))};`));
    this.code.block("else", () => this.code.line(`${name} = ${this.value(expr.else, new Point(point))};`));
    return name;
  }

  /** Whether both branches may be computed whatever the condition is: nothing in it can fault, and it is little work. */
  #isPlain(expr: Expr): boolean {
    let isPlain = true;
    visitExpr(expr, (e) => { if (e.kind === "reduce" || (e.kind === "load" && !this.#safe.has(e))) isPlain = false; });
    return isPlain;
  }

  #atom(atom: Expr, point: Point): string {
    if (atom.kind === "axis") return this.#axis(atom.axis, point);
    if (atom.kind === "op" && isPureIndex(atom)) {
      const [a, b] = atom.args as [Expr, Expr];
      if (atom.op === "div" && isKnownPositive(a)) return `(${this.index(a, point)} / ${this.index(b, point)})`;
      if ((atom.op === "mod" || atom.op === "rem") && isKnownPositive(a)) return `(${this.index(a, point)} % ${this.index(b, point)})`;
      if (atom.op === "min" || atom.op === "max") return `${atom.op}_of<${this.params.index}>(${this.index(a, point)}, ${this.index(b, point)})`;
    }
    const value = this.value(castTo("i64", atom), point);
    return this.params.index === "int" ? `(int)${value}` : value;
  }
}

/** Whether it is made of axes and sizes alone. */
function isPureIndex(expr: Expr): boolean {
  let isPure = true;
  visitExpr(expr, (e) => { if (e.kind !== "axis" && e.kind !== "dim" && e.kind !== "const" && e.kind !== "op") isPure = false; });
  return isPure;
}

function isKnownPositive(expr: Expr): boolean {
  const low: Dim | undefined = indexBounds(expr).low;
  return low !== undefined && isNonNegative(low);
}
