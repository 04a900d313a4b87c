/**
 * Scopes of generated code: which axes have an index here, which one runs along vector lanes, and which values are
 * already in registers. A value emitted in a scope may be used in the scopes inside it, which its code dominates.
 */
import type { VReg } from "../function.ts";
import type { Axis, Expr } from "../../loop-ir.ts";
import { freeAxes } from "../../loop-ir.ts";

/** A general register or a number known when code is generated. */
export type Gp = VReg | number;

export interface VectorContext {
  readonly axis: Axis;
  /** Index that lane `-offset` has. */
  readonly index: Gp;
  readonly offset: number;
  /** Lanes that exist and may be read; all of them when absent. */
  readonly mask?: VReg | undefined;
  /** The mask also stands for a condition: where it is empty, not even a uniform load may be done. */
  readonly isGuarded?: boolean;
}

export interface Scope {
  readonly parent?: Scope | undefined;
  readonly axis?: Axis;
  readonly index?: Gp;
  /** Added to `index`; known when code is generated, so that addresses put it into their displacement. */
  readonly offset?: number;
  readonly vector?: VectorContext | undefined;
  readonly accumulator?: VReg;
  readonly scalars: Map<string, Gp>;
  readonly vectors: Map<string, readonly VReg[]>;
}

export function childScope(parent: Scope | undefined, parts: Partial<Scope> = {}): Scope {
  const inherited = parent ? { vector: parent.vector, ...(parent.accumulator ? { accumulator: parent.accumulator } : {}) } : {};
  return { parent, ...inherited, ...parts, scalars: new Map(), vectors: new Map() };
}

export interface AxisIndex { readonly index: Gp; readonly offset: number }

/** The index of an axis here, as a register and a number to add. */
export function indexOf(scope: Scope, axis: Axis): AxisIndex | undefined {
  for (let s: Scope | undefined = scope; s; s = s.parent) if (s.axis === axis) return { index: s.index!, offset: s.offset ?? 0 };
  return undefined;
}

/** The scopes from the outermost to `scope`. */
export function chainOf(scope: Scope): Scope[] {
  const chain: Scope[] = [];
  for (let s: Scope | undefined = scope; s; s = s.parent) chain.unshift(s);
  return chain;
}

export function isBound(scope: Scope, axis: Axis): boolean {
  return indexOf(scope, axis) !== undefined;
}

export function findScalar(scope: Scope, key: string): Gp | undefined {
  for (let s: Scope | undefined = scope; s; s = s.parent) {
    const found = s.scalars.get(key);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A value made under another vector context is not the same, unless it varies with no lane; the caller's key tells them apart. */
export function findVector(scope: Scope, key: string): readonly VReg[] | undefined {
  for (let s: Scope | undefined = scope; s; s = s.parent) {
    const found = s.vectors.get(key);
    if (found) return found;
  }
  return undefined;
}

/** True when the value is the same in all lanes. */
export function isUniform(expr: Expr, scope: Scope): boolean {
  return !hasAccumulator(expr) && (!scope.vector || !freeAxes(expr).has(scope.vector.axis));
}

const accumulators = new WeakMap<Expr, boolean>();

export function hasAccumulator(expr: Expr): boolean {
  const known = accumulators.get(expr);
  if (known !== undefined) return known;
  const found = expr.kind === "accumulator" || partsOf(expr).some(hasAccumulator);
  accumulators.set(expr, found);
  return found;
}

const reductions = new WeakMap<Expr, boolean>();

export function containsReduce(expr: Expr): boolean {
  const known = reductions.get(expr);
  if (known !== undefined) return known;
  const found = expr.kind === "reduce" || partsOf(expr).some(containsReduce);
  reductions.set(expr, found);
  return found;
}

function partsOf(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case "op": return expr.args;
    case "cast": return [expr.arg];
    case "select": return [expr.condition, expr.then, expr.else];
    case "reduce": return [expr.body];
    case "load": return expr.index;
    case "const": case "dim": case "axis": case "accumulator": return [];
  }
}

/** Gives structurally equal expressions equal numbers. */
export class ExprKeys {
  private readonly numbers = new Map<string, number>();
  private readonly known = new WeakMap<Expr, string>();
  private readonly objects = new Map<object, number>();

  keyOf(expr: Expr): string {
    const cached = this.known.get(expr);
    if (cached) return cached;
    const text = this.textOf(expr);
    let number = this.numbers.get(text);
    if (number === undefined) this.numbers.set(text, (number = this.numbers.size));
    const key = `e${number}`;
    this.known.set(expr, key);
    return key;
  }

  objectKey(object: object): number {
    let number = this.objects.get(object);
    if (number === undefined) this.objects.set(object, (number = this.objects.size));
    return number;
  }

  private textOf(expr: Expr): string {
    const all = (exprs: readonly Expr[]): string => exprs.map((e) => this.keyOf(e)).join(",");
    switch (expr.kind) {
      case "const": return `${expr.type} ${Object.is(expr.value, -0) ? "-0" : expr.value}`;
      case "dim": return `dim ${expr.value}`;
      case "axis": return `axis ${this.objectKey(expr.axis)}`;
      case "load": return `load ${this.objectKey(expr.buffer)} ${all(expr.index)}`;
      case "op": return `${expr.op} ${expr.type} ${all(expr.args)}`;
      case "cast": return `cast ${expr.type} ${all([expr.arg])}`;
      case "select": return `select ${all([expr.condition, expr.then, expr.else])}`;
      case "reduce": return `${expr.op} over ${expr.axes.map((axis) => this.objectKey(axis))} ${all([expr.body])}`;
      case "accumulator": return "accumulator";
    }
  }
}
