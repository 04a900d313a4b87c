/**
 * Brings a loop kernel to the form that code generation works on.
 *
 * - Every load and every output has one index: its position in the buffer, in elements, as an affine sum.
 * - Axes that occur as axis / d and axis mod d are split in two, so that those become axes too.
 * - Axes that always occur together as outer * extent + inner are merged into one.
 * - Loads whose indices provably lie in range are noted: they may be done early, whatever guards them.
 */
import {
  addAffine, type Affine, affineOf, type Axis, axisIndex, type Buffer, childrenOf, type Dim, dimEqual, dimMul, dimValue, dimFloorDiv, type Expr, fromAffine, indexBounds, isNonNegative, type LoopKernel, op, rewrite, dimSub, visitExpr, i64,
} from "./loop-ir.ts";

export interface FlatOutput {
  readonly buffer: Buffer;
  readonly offset: Expr;
  readonly value: Expr;
}

export interface FlatKernel {
  readonly axes: readonly Axis[];
  readonly outputs: readonly FlatOutput[];
  /** Flat loads that may be performed whether or not their guard holds. */
  readonly safe: ReadonlySet<Expr>;
}

export function stridesOf(buffer: Buffer): readonly Dim[] {
  if (buffer.strides) return buffer.strides;
  const strides: Dim[] = [];
  let stride: Dim = 1;
  for (let i = buffer.dims.length - 1; i >= 0; i--) {
    strides.unshift(stride);
    stride = dimMul(stride, buffer.dims[i]!);
  }
  return strides;
}

function positionOf(buffer: Buffer, index: readonly Expr[]): Expr {
  const strides = stridesOf(buffer);
  return fromAffine(index.reduce<Affine>((sum, at, i) => addAffine(sum, affineOf(op("mul", at, dimValue(strides[i]!)))), { terms: [], constant: 0 }));
}

function isInRange(buffer: Buffer, index: readonly Expr[]): boolean {
  return index.every((at, i) => {
    const { low, high } = indexBounds(at);
    return low !== undefined && high !== undefined && isNonNegative(low) && isNonNegative(dimSub(dimSub(buffer.dims[i]!, 1), high));
  });
}

/** Notes safe loads while they still have one index per dimension, then joins the indices. */
function flattenLoads(expr: Expr, safe: Set<Expr>): Expr {
  const visit = (e: Expr): Expr => rewrite(e, (node) => {
    if (node.kind !== "load") return undefined;
    const index = node.index.map(visit);
    const flat: Expr = { ...node, index: [positionOf(node.buffer, index)] };
    if (isInRange(node.buffer, index)) safe.add(flat);
    return flat;
  });
  return visit(expr);
}

/** An expression on its own, with loads flat. */
export function flattenExpr(expr: Expr): { readonly expr: Expr; readonly safe: ReadonlySet<Expr> } {
  const safe = new Set<Expr>();
  return { expr: flattenLoads(expr, safe), safe };
}

type Substitution = (expr: Expr) => Expr;

/** Applies index substitutions to all expressions; safe loads stay safe. */
function mapKernel(kernel: FlatKernel, axes: readonly Axis[], substitute: (expr: Expr, remember: (from: Expr, to: Expr) => void) => Expr): FlatKernel {
  const safe = new Set<Expr>();
  const remember = (from: Expr, to: Expr): void => { if (kernel.safe.has(from)) safe.add(to); };
  const apply: Substitution = (expr) => substitute(expr, remember);
  return { axes, outputs: kernel.outputs.map((output) => ({ buffer: output.buffer, offset: apply(output.offset), value: apply(output.value) })), safe };
}

/** Rewrites keeping track of loads, so that what was known about them carries over. */
function rewriteLoads(expr: Expr, replace: (e: Expr, visit: Substitution) => Expr | undefined, remember: (from: Expr, to: Expr) => void): Expr {
  const visit: Substitution = (e) => rewrite(e, (node) => {
    const made = replace(node, visit);
    if (made) { if (node.kind === "load") remember(node, made); return made; }
    if (node.kind !== "load") return undefined;
    const same: Expr = { ...node, index: node.index.map(visit) };
    remember(node, same);
    return same;
  });
  return visit(expr);
}

/** A divisor d of some axis / d or axis mod d, with d dividing the extent. */
function splitCandidate(kernel: FlatKernel): { axis: Axis; inner: Dim } | undefined {
  let found: { axis: Axis; inner: Dim } | undefined;
  const check = (e: Expr): void => {
    if (found || e.kind !== "op" || e.type !== "i64" || (e.op !== "div" && e.op !== "mod" && e.op !== "rem")) return;
    const [a, b] = e.args as [Expr, Expr];
    const divisor = b.kind === "dim" ? b.value : b.kind === "const" ? Number(b.value) : undefined;
    if (a.kind !== "axis" || divisor === undefined || typeof divisor === "number" && divisor < 2) return;
    const outer = dimFloorDiv(a.axis.extent, divisor);
    if (dimEqual(dimMul(outer, divisor), a.axis.extent) && outer !== 1) found = { axis: a.axis, inner: divisor };
  };
  for (const { offset, value } of kernel.outputs) {
    visitExpr(offset, check);
    visitExpr(value, check);
  }
  return found;
}

function splitAxes(kernel: FlatKernel): FlatKernel {
  let current = kernel;
  for (let round = 0; round < 12; round++) {
    const found = splitCandidate(current);
    if (!found) return current;
    const { axis, inner } = found;
    const high: Axis = { name: `${axis.name}.o`, extent: dimFloorDiv(axis.extent, inner) };
    const low: Axis = { name: `${axis.name}.i`, extent: inner };
    const joined = op("add", op("mul", axisIndex(high), dimValue(inner)), axisIndex(low));
    const expand = (axes: readonly Axis[]): readonly Axis[] => axes.flatMap((a) => (a === axis ? [high, low].filter((part) => part.extent !== 1) : [a]));
    current = mapKernel(current, expand(current.axes), (expr, remember) => rewriteLoads(expr, (e, visit) => {
      if (e.kind === "axis" && e.axis === axis) return joined;
      if (e.kind === "reduce" && e.axes.includes(axis)) return { ...e, axes: expand(e.axes), body: visit(e.body) };
      return undefined;
    }, remember));
  }
  return current;
}

/** How each axis is used: its coefficient in every position, or "pinned" where its own value is needed. */
interface AxisUses {
  readonly positions: readonly ReadonlyMap<Axis, Dim>[];
  readonly pinned: ReadonlySet<Axis>;
  readonly groups: readonly (readonly Axis[])[];
}

function usesOf(kernel: FlatKernel): AxisUses {
  const positions: Map<Axis, Dim>[] = [];
  const pinned = new Set<Axis>();
  const groups: (readonly Axis[])[] = [kernel.axes];
  const seen = new Set<Expr>();
  const notePosition = (expr: Expr): void => {
    const coefficients = new Map<Axis, Dim>();
    for (const { atom, coefficient } of affineOf(expr).terms) {
      if (atom.kind === "axis") coefficients.set(atom.axis, coefficient);
      else walk(atom);
    }
    positions.push(coefficients);
  };
  const walk = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    if (expr.kind === "axis") pinned.add(expr.axis);
    if (expr.kind === "reduce") groups.push(expr.axes);
    if (expr.kind === "load") notePosition(expr.index[0]!);
    else childrenOf(expr).forEach(walk);
  };
  for (const { offset, value } of kernel.outputs) {
    notePosition(offset);
    walk(value);
  }
  return { positions, pinned, groups };
}

function mergeablePair({ positions, pinned, groups }: AxisUses): readonly [Axis, Axis] | undefined {
  for (const group of groups) {
    for (const outer of group) {
      for (const inner of group) {
        if (outer === inner || pinned.has(outer) || pinned.has(inner)) continue;
        if (groups.some((other) => other.includes(outer) !== other.includes(inner))) continue;
        if (positions.every((at) => dimEqual(at.get(outer) ?? 0, dimMul(at.get(inner) ?? 0, inner.extent)))) return [outer, inner];
      }
    }
  }
  return undefined;
}

function mergeAxes(kernel: FlatKernel): FlatKernel {
  let current = kernel;
  for (;;) {
    const pair = mergeablePair(usesOf(current));
    if (!pair) return current;
    const [outer, inner] = pair;
    const merged: Axis = { name: `${outer.name}${inner.name}`, extent: dimMul(outer.extent, inner.extent) };
    const join = (axes: readonly Axis[]): readonly Axis[] => axes.flatMap((axis) => (axis === outer ? [] : axis === inner ? [merged] : [axis]));
    current = mapKernel(current, join(current.axes), (expr, remember) => rewriteLoads(expr, (e, visit) => {
      if (e.kind === "axis" && e.axis === outer) return i64(0);
      if (e.kind === "axis" && e.axis === inner) return axisIndex(merged);
      if (e.kind === "reduce" && e.axes.includes(inner)) return { ...e, axes: join(e.axes), body: visit(e.body) };
      return undefined;
    }, remember));
  }
}

export function flattenKernel(kernel: LoopKernel): FlatKernel {
  const safe = new Set<Expr>();
  const axes = kernel.axes.filter((axis) => axis.extent !== 1);
  const ones = new Set(kernel.axes.filter((axis) => axis.extent === 1));
  const clean = (expr: Expr): Expr => rewrite(expr, (e) => {
    if (e.kind === "axis" && ones.has(e.axis)) return i64(0);
    return undefined;
  });
  const outputs = kernel.outputs.map(({ buffer, index, value }): FlatOutput => ({
    buffer,
    offset: flattenLoads(positionOf(buffer, (index ?? kernel.axes.map(axisIndex)).map(clean)), safe),
    value: flattenLoads(clean(value), safe),
  }));
  return mergeAxes(splitAxes({ axes, outputs, safe }));
}

