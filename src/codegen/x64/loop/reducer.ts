/**
 * Reductions inside loop code, in one of three forms.
 *
 * - The body varies with the lanes of the scope: each lane reduces for itself, in plain loops over the reduced axes.
 * - It does not, and some reduced axis has unit stride: that axis runs along lanes, with several accumulators so that
 *   latency does not bound it, and the lanes are combined at the end. The result is the same in all lanes.
 * - Few known steps in the first form are written out one after the other, with constant indices.
 */
import type { VReg } from "../function.ts";
import type { ExprEmitter } from "./emitter.ts";
import { affineOf, type Axis, type Expr, freeAxes, i64, reduceIdentity, substituteAxes, visitExpr } from "../../loop-ir.ts";
import type { Vector } from "./lanes.ts";
import { childScope, type Gp, isUniform, type Scope } from "./scope.ts";

type ReduceExpr = Extract<Expr, { kind: "reduce" }>;

/** Steps written out instead of looped over. */
const UNROLLED_STEPS = 9;
const ACCUMULATORS = 4;
/**
 * Steps whose sum is made apart and then added to the total: rounding errors grow with the length of a chain of
 * additions, so two levels of them, of ACCUMULATORS chains, err a fraction of what one long chain does, and do not wait for each other.
 */
const BLOCK_STEPS = 64;
/** Larger bodies are written once. */
const MOST_BLOCK_NODES = 40;

export class Reducer {
  private readonly emitter: ExprEmitter;

  constructor(emitter: ExprEmitter) {
    this.emitter = emitter;
  }

  reduce(expr: ReduceExpr, scope: Scope): Vector {
    if (isUniform(expr, scope)) return this.alongLanes(expr, childScope(scope, { vector: undefined }));
    return this.perLane(expr, scope);
  }

  private perLane(expr: ReduceExpr, scope: Scope): Vector {
    const { emitter } = this;
    const steps = expr.axes.reduce((count, axis) => count * (typeof axis.extent === "number" ? axis.extent : Number.POSITIVE_INFINITY), 1);
    const total = emitter.identity(reduceIdentity(expr.op, expr.type), expr.type);
    if (steps <= UNROLLED_STEPS) {
      for (const point of pointsOf(expr.axes)) {
        const body = substituteAxes(expr.body, point);
        emitter.markSafeLike(expr.body, body);
        emitter.combine(expr.op, expr.type, total, emitter.value(body, childScope(scope)));
      }
      return total;
    }
    const axes = orderedFor(expr.body, expr.axes);
    const innermost = axes.at(-1)!;
    if (this.sumsInBlocks(expr, innermost)) this.loops(axes.slice(0, -1), expr.body, scope, (inner) => this.blocks(expr, innermost, inner, total));
    else this.loops(axes, expr.body, scope, (inner) => emitter.combine(expr.op, expr.type, total, emitter.value(expr.body, inner)));
    return total;
  }

  private sumsInBlocks({ op, type, body }: ReduceExpr, axis: Axis): boolean {
    return op === "sum" && type === "f32" && isSmall(body) && !(typeof axis.extent === "number" && axis.extent < 2 * ACCUMULATORS);
  }

  /** The sum along one axis: blocks of several chains, each added to the total when it is whole, and what is left. */
  private blocks(expr: ReduceExpr, axis: Axis, scope: Scope, total: Vector): void {
    const { emitter } = this;
    const { f, gp } = emitter;
    emitter.hoist(expr.body, scope);
    const fresh = (): Vector => emitter.identity(0, expr.type);
    const step = (index: Gp, offset: number, sum: Vector): void => emitter.combine("sum", expr.type, sum, emitter.value(expr.body, emitter.axisScope(scope, axis, index, offset)));
    const chains = (from: Gp, to: Gp, rest: Gp): void => {
      const sums = Array.from({ length: ACCUMULATORS }, fresh);
      f.loop(from, to, ACCUMULATORS, (index) => sums.forEach((sum, u) => step(index, u, sum)));
      f.loop(to, rest, 1, (index) => step(index, 0, sums[0]!));
      const [a, b, c, d] = sums as [Vector, Vector, Vector, Vector];
      for (const [into, value] of [[a, b], [c, d], [a, c], [total, a]] as const) emitter.combine("sum", expr.type, into, value);
    };
    const end = emitter.dim(axis.extent, scope);
    if (typeof end === "number" && end < 2 * BLOCK_STEPS) {
      chains(0, end - (end % ACCUMULATORS), end);
      return;
    }
    const whole = typeof end === "number" ? end - (end % BLOCK_STEPS) : gp.copy(gp.operate("and", "i64", [end, -BLOCK_STEPS]));
    f.loop(0, whole, BLOCK_STEPS, (from) => {
      const to = gp.copy(gp.add(from, BLOCK_STEPS));
      chains(from, to, to);
    });
    if (whole !== end) chains(whole, gp.copy(gp.sub(end, gp.operate("and", "i64", [gp.sub(end, whole), ACCUMULATORS - 1]))), end);
  }

  /** Plain loops over `axes`, outer to inner. */
  private loops(axes: readonly Axis[], body: Expr, scope: Scope, innermost: (scope: Scope) => void): void {
    const [axis, ...rest] = axes;
    if (!axis) return innermost(scope);
    const { emitter } = this;
    emitter.hoist(body, scope);
    const end = emitter.dim(axis.extent, scope);
    emitter.f.loop(0, end, 1, (index) => this.loops(rest, body, emitter.axisScope(scope, axis, index), innermost));
  }

  private alongLanes(expr: ReduceExpr, scope: Scope): Vector {
    const { emitter } = this;
    const lane = laneAxis(expr.body, expr.axes);
    const outer = orderedFor(expr.body, expr.axes.filter((axis) => axis !== lane));
    const identity = reduceIdentity(expr.op, expr.type);
    const step = emitter.lanes.count;
    const isLong = typeof lane.extent !== "number" || lane.extent >= 2 * ACCUMULATORS * step;
    const totals = Array.from({ length: isLong ? ACCUMULATORS : 1 }, () => emitter.identity(identity, expr.type));
    emitter.hoist(expr.body, scope, lane);
    this.loops(outer, expr.body, scope, (inner) => this.row(expr, lane, inner, totals));
    for (const other of totals.slice(1)) emitter.combine(expr.op, expr.type, totals[0]!, other);
    return emitter.lanes.reduceLanes(expr.op, expr.type, totals[0]!);
  }

  /** One pass along the lane axis: blocks of several vectors, single vectors, then the masked rest. */
  private row(expr: ReduceExpr, lane: Axis, scope: Scope, totals: readonly Vector[]): void {
    const { emitter } = this;
    const step = emitter.lanes.count;
    const add = (total: Vector, index: Gp, offset: number, mask?: VReg): void => {
      const inner = emitter.vectorScope(scope, { axis: lane, index, offset, mask });
      const value = emitter.value(expr.body, inner);
      const kept = mask ? emitter.lanes.blend(expr.type, mask, value, emitter.lanes.splat(expr.type, reduceIdentity(expr.op, expr.type))) : value;
      emitter.combine(expr.op, expr.type, total, kept);
    };
    emitter.hoist(expr.body, scope, lane);
    emitter.vectorLoop(emitter.dim(lane.extent, scope), totals.length, (index, unroll, mask) => {
      for (let u = 0; u < unroll; u++) add(totals[u]!, index, u * step, mask);
    });
  }
}

/** Worth writing out several times. */
function isSmall(body: Expr): boolean {
  let nodes = 0;
  visitExpr(body, () => { nodes++; });
  return nodes <= MOST_BLOCK_NODES;
}

/** All points of a small domain, as substitutions. */
function pointsOf(axes: readonly Axis[]): Map<Axis, Expr>[] {
  let points: Map<Axis, Expr>[] = [new Map()];
  for (const axis of axes) {
    points = points.flatMap((point) => Array.from({ length: axis.extent as number }, (_, i) => new Map(point).set(axis, i64(i))));
  }
  return points;
}

/** The axis along which most loads have stride 1. */
export function laneAxis(body: Expr, axes: readonly Axis[]): Axis {
  const scores = axes.map((axis) => ({ axis, score: laneScore(body, axis) }));
  return scores.reduce((best, other) => (other.score >= best.score ? other : best)).axis;
}

/** How well the expression runs with this axis along lanes: unit strides count for it, gathers against. */
export function laneScore(expr: Expr, axis: Axis): number {
  let score = 0;
  visitExpr(expr, (e) => {
    if (e.kind !== "load" || !freeAxes(e).has(axis)) return;
    const affine = affineOf(e.index[0]!);
    const term = affine.terms.find(({ atom }) => atom.kind === "axis" && atom.axis === axis);
    const isGathered = affine.terms.some(({ atom }) => atom.kind !== "axis" && freeAxes(atom).has(axis));
    score += !isGathered && term?.coefficient === 1 ? 1 : -3;
  });
  return score;
}

/** Larger strides outside. */
function orderedFor(body: Expr, axes: readonly Axis[]): readonly Axis[] {
  return [...axes].sort((a, b) => laneScore(body, a) - laneScore(body, b));
}
