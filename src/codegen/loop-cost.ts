/** What a loop kernel costs, on any target: operations and bytes, for schedules and profiles. */
import { DTYPE_BITS } from "../base/index.ts";
import type { FlatKernel } from "./flatten.ts";
import { type Axis, type Buffer, childrenOf, type Dim, dimAdd, dimCeilDiv, dimMin, dimMul, type Expr, freeAxes, type LoopKernel, type ScalarOp, visitExpr } from "./loop-ir.ts";

export type ReduceExpr = Extract<Expr, { kind: "reduce" }>;

export function reducesOf(kernel: FlatKernel): ReduceExpr[] {
  const found: ReduceExpr[] = [];
  for (const { value } of kernel.outputs) visitExpr(value, (e) => { if (e.kind === "reduce") found.push(e); });
  return found;
}

const COSTS: Readonly<Partial<Record<ScalarOp, number>>> = {
  exp: 8, sigmoid: 10, tanh: 16, erf: 20, log: 12, pow: 60, sin: 40, cos: 40, tan: 50, div: 3, sqrt: 3, rsqrt: 5, mod: 12, rem: 12,
};

/** Rough operations for one value, reductions inside it apart. */
function localWork(expr: Expr): number {
  let work = 1;
  const seen = new Set<Expr>();
  const count = (e: Expr): void => {
    if (seen.has(e) || e.kind === "reduce") return;
    seen.add(e);
    if (e.kind === "op") work += COSTS[e.op] ?? 1;
    childrenOf(e).forEach(count);
  };
  count(expr);
  return work;
}

/** Operations of all elements that the axes `inner` hold; reductions that depend on none of them run once. */
export function workWithin(kernel: FlatKernel, inner: readonly Axis[]): Dim {
  const parts: Dim[] = [dimMul(...inner.map((axis) => axis.extent), kernel.outputs.reduce((sum, { value }) => sum + localWork(value), 0))];
  for (const reduce of reducesOf(kernel)) {
    const free = freeAxes(reduce);
    const outer = inner.filter((axis) => free.has(axis)).map((axis) => axis.extent);
    parts.push(dimMul(...reduce.axes.map((axis) => axis.extent), ...outer, localWork(reduce.body)));
  }
  return dimAdd(...parts);
}

/** Operations of the whole kernel. */
export const totalWork = (kernel: FlatKernel): Dim => workWithin(kernel, kernel.axes);

/** Each buffer counted once; of a table that is read by given positions, no more than there are reads. */
export function bytesMoved(kernel: LoopKernel): Dim {
  const points = dimMul(...kernel.axes.map((axis) => axis.extent));
  const buffers = new Map<Buffer, Dim>();
  for (const { buffer, value } of kernel.outputs) {
    buffers.set(buffer, sizeOf(buffer));
    visitExpr(value, (e) => { if (e.kind === "load" && !buffers.has(e.buffer)) buffers.set(e.buffer, isLookup(e) ? dimMin(sizeOf(e.buffer), dimMul(points, DTYPE_BITS[e.buffer.dtype] / 8)) : sizeOf(e.buffer)); });
  }
  return dimAdd(...buffers.values());
}

const sizeOf = (buffer: Buffer): Dim => dimCeilDiv(dimMul(...buffer.dims, DTYPE_BITS[buffer.dtype]), 8);

/** Whether a position in the buffer is itself a loaded number. */
function isLookup(load: Extract<Expr, { kind: "load" }>): boolean {
  let found = false;
  for (const index of load.index) visitExpr(index, (e) => { found ||= e.kind === "load"; });
  return found;
}

