/**
 * Loop kernels with reductions that many threads make together: a warp or a block per row.
 *
 * Every thread of the group gets each reduction's result. Reductions follow each other in the order in which they need
 * each other (the mean, then the variance); those that need an axis of the columns stay loops of one thread.
 */
import type { FlatKernel } from "../../flatten.ts";
import { reducesOf, type ReduceExpr } from "../../loop-cost.ts";
import { type Axis, childrenOf, type Dim, dimCeilDiv, type Expr, freeAxes, sameExpr } from "../../loop-ir.ts";
import { type ExpressionEmitter, Point } from "../expression.ts";
import { C_TYPE, REDUCER } from "../scalars.ts";
import { splitIndex } from "./elements.ts";
import { coefficientOf, countOf, type LoopShape, vectorWidth } from "./shape.ts";
import { storeOthers, Vectors } from "./vectors.ts";

type RowShape = Extract<LoopShape, { kind: "rows" }>;

/** Emits the kernel's body. @returns thread blocks */
export function emitRows(kernel: FlatKernel, shape: RowShape, emitter: ExpressionEmitter): Dim {
  return new RowCode(kernel, shape, emitter).emit();
}

class RowCode {
  readonly #kernel: FlatKernel;
  readonly #shape: RowShape;
  readonly #emitter: ExpressionEmitter;

  constructor(kernel: FlatKernel, shape: RowShape, emitter: ExpressionEmitter) {
    this.#kernel = kernel;
    this.#shape = shape;
    this.#emitter = emitter;
  }

  emit(): Dim {
    const { code, params } = this.#emitter;
    const { rows, columns, threads, rowsPerBlock } = this.#shape;
    const count = countOf(rows);
    code.line(`const ${params.index} lane = threadIdx.x % ${threads};`);
    code.line(`const ${params.index} row = blockIdx.x * (${params.index})${rowsPerBlock} + threadIdx.x / ${threads};`);
    // Whole warps leave; a block of one row has no row too many.
    if (rowsPerBlock > 1) code.line(`if (row >= ${params.dim(count)}) return;`);
    const point = splitIndex(this.#emitter, "row", rows);
    for (const reduce of this.#order()) this.#reduce(reduce, point);
    this.#store(columns, point);
    return dimCeilDiv(count, rowsPerBlock);
  }

  /** Reductions of the whole row, each after those it needs, equal ones once. */
  #order(): ReduceExpr[] {
    const ordered: ReduceExpr[] = [];
    const isOfRow = (reduce: ReduceExpr): boolean => [...freeAxes(reduce)].every((axis) => this.#shape.rows.includes(axis));
    const visit = (e: Expr): void => {
      childrenOf(e).forEach(visit);
      if (e.kind === "reduce" && isOfRow(e) && !ordered.some((other) => sameExpr(other, e))) ordered.push(e);
    };
    const seen = reducesOf(this.#kernel);
    for (const reduce of [...seen].reverse()) visit(reduce);
    return ordered;
  }

  #reduce(expr: ReduceExpr, point: Point): void {
    const { code } = this.#emitter;
    const total = this.#emitter.startReduce(expr);
    this.#walk(expr.axes, [expr.body], point, (inner) => {
      this.#emitter.addTo(total, expr, this.#emitter.value(expr.body, inner));
      return new Map();
    });
    const warps = this.#shape.threads / 32;
    const type = C_TYPE[expr.type];
    const all = code.fresh("r");
    if (warps === 1) code.line(`const ${type} ${all} = warp_all<${REDUCER[expr.op]}>(${total});`);
    else {
      const parts = code.fresh("parts");
      code.line(`__shared__ ${type} ${parts}[${warps}];`);
      code.line(`const ${type} ${all} = block_all<${REDUCER[expr.op]}, ${warps}>(${total}, ${parts});`);
    }
    point.provide(expr, all);
  }

  #store(columns: readonly Axis[], point: Point): void {
    const { outputs } = this.#kernel;
    const store = (inner: Point, isVector: Parameters<typeof storeOthers>[3]): ReturnType<typeof storeOthers> => storeOthers(this.#emitter, outputs, inner, isVector);
    if (columns.length === 0) this.#emitter.code.block("if (lane == 0)", () => store(new Point(point), () => false));
    else this.#walk(columns, outputs.map(({ value }) => value), point, store, outputs);
  }

  /** The group's threads through all points of some axes, neighbours along the axis on which memory runs. */
  #walk(axes: readonly Axis[], values: readonly Expr[], point: Point, body: Parameters<Vectors["step"]>[2], stores: FlatKernel["outputs"] = []): void {
    const { code, params } = this.#emitter;
    const { threads } = this.#shape;
    const type = params.index;
    const inner = innermost(axes, values, stores);
    const ordered = [...axes.filter((axis) => axis !== inner), inner];
    const single = ordered.length === 1;
    const vectors = new Vectors(this.#emitter, inner, single ? vectorWidth(this.#kernel, inner) : 1, values, stores);
    const width = single ? vectorWidth(this.#kernel, inner) : 1;
    const aligned = vectors.isUseful ? vectors.aligned() : "false";
    const at = code.fresh("i");
    const scalar = (): void => {
      code.block(`for (${type} ${at} = lane; ${at} < ${params.dim(countOf(ordered))}; ${at} += ${threads})`, () => {
        const place = single ? new Point(point, new Map([[inner, at]])) : splitIndex(this.#emitter, at, ordered, point);
        body(place, () => false, "0");
      });
    };
    if (aligned === "false") return scalar();
    code.block(`if (${aligned})`, () => {
      code.block(`for (${type} ${at} = lane * ${width}; ${at} < ${params.dim(inner.extent)}; ${at} += ${threads * width})`, () => vectors.step(at, point, body));
    });
    code.block("else", scalar);
  }
}

/** The axis along which most tensors are contiguous. */
function innermost(axes: readonly Axis[], values: readonly Expr[], stores: FlatKernel["outputs"]): Axis {
  let best = axes[axes.length - 1]!;
  let bestScore = -1;
  for (const axis of axes) {
    let score = stores.filter(({ offset }) => coefficientOf(offset, axis) === 1).length;
    const seen = new Set<Expr>();
    const visit = (e: Expr): void => {
      if (seen.has(e)) return;
      seen.add(e);
      if (e.kind === "load" && coefficientOf(e.index[0]!, axis) === 1) score++;
      childrenOf(e).forEach(visit);
    };
    values.forEach(visit);
    if (score >= bestScore) [best, bestScore] = [axis, score];
  }
  return best;
}
