/**
 * How a loop kernel runs on a GPU: one thread for a few neighbouring elements of the output, with what is reduced for each
 * of them (see columns.ts), or a group of threads for each row, on which reductions are made together.
 *
 * Rows are the points of the axes that the shared reductions depend on (a softmax's rows); the other axes of the domain
 * are its columns, and the group's threads divide them.
 */
import { DTYPE_BITS } from "../../../base/index.ts";
import type { FlatKernel } from "../../flatten.ts";
import { reducesOf, type ReduceExpr } from "../../loop-cost.ts";
import { affineOf, type Axis, type Buffer, type Dim, dimMul, type Expr, freeAxes, visitExpr } from "../../loop-ir.ts";

export type LoopShape =
  | { readonly kind: "elements"; readonly lane: Axis | undefined; readonly others: readonly Axis[]; readonly width: number }
  | { readonly kind: "columns"; readonly lane: Axis; readonly others: readonly Axis[]; readonly width: number; /** Threads that share a reduction. */ readonly splits: number }
  | { readonly kind: "rows"; readonly rows: readonly Axis[]; readonly columns: readonly Axis[]; readonly threads: number; readonly rowsPerBlock: number };

/** Threads of a block whose size nothing else decides. */
export const BLOCK_THREADS = 256;
/** A reduction of fewer elements than this is done by one thread, unless others share its result. */
const SERIAL_STEPS = 32;
/** What a thread does of a row: a few vectors, where there are rows enough; less where there are few rows. */
export const ELEMENTS_PER_THREAD = [32, 4] as const;
/** A reduction that no output axis makes contiguous is done by many threads from this length on. */
const LONG_STEPS = 1024;

export function coefficientOf(position: Expr, axis: Axis): Dim | undefined {
  const { terms } = affineOf(position);
  const term = terms.find(({ atom }) => atom.kind === "axis" && atom.axis === axis);
  const isPlain = terms.every(({ atom }) => atom.kind === "axis" || !freeAxes(atom).has(axis));
  return isPlain ? (term?.coefficient ?? 0) : undefined;
}

const known = (dim: Dim, otherwise: number): number => (typeof dim === "number" ? dim : otherwise);

/** How well neighbouring threads along this axis share cache lines. */
function laneScore(kernel: FlatKernel, axis: Axis): number {
  let score = 0;
  const judge = (position: Expr, weight: number): void => {
    const coefficient = coefficientOf(position, axis);
    score += coefficient === 0 ? 0 : coefficient === 1 ? weight : -weight;
  };
  for (const { offset, value } of kernel.outputs) {
    judge(offset, 2);
    visitExpr(value, (e) => { if (e.kind === "load" && freeAxes(e).has(axis)) judge(e.index[0]!, 1); });
  }
  if (known(axis.extent, 64) < 8) score -= 2;
  return score;
}

function bestLane(kernel: FlatKernel): Axis | undefined {
  let best: Axis | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const axis of kernel.axes) {
    const score = laneScore(kernel, axis);
    if (score >= bestScore) [best, bestScore] = [axis, score];
  }
  return best;
}

/** Elements that one access of 16 bytes moves of the narrowest tensor that runs along the axis. */
export function vectorWidth(kernel: FlatKernel, axis: Axis): number {
  let bits = 64;
  const note = (buffer: Buffer, position: Expr): void => { if (coefficientOf(position, axis) === 1) bits = Math.min(bits, DTYPE_BITS[buffer.dtype]); };
  for (const { buffer, offset, value } of kernel.outputs) {
    note(buffer, offset);
    visitExpr(value, (e) => { if (e.kind === "load") note(e.buffer, e.index[0]!); });
  }
  const width = Math.min(8, 128 / bits);
  return typeof axis.extent === "number" && axis.extent < width ? wholeParts(axis.extent, width) : width;
}

/** The largest vector that divides a short axis. */
const wholeParts = (extent: number, width: number): number => (extent % width === 0 ? width : wholeParts(extent, width / 2));

/** @param perThread elements of a row */
export function shapeOf(kernel: FlatKernel, perThread: number = ELEMENTS_PER_THREAD[0]): LoopShape {
  const lane = bestLane(kernel);
  const reduces = reducesOf(kernel);
  if (reduces.length === 0) return elements(kernel, lane, lane ? vectorWidth(kernel, lane) : 1);
  const shared = reduces.filter((reduce) => isOuter(reduce, reduces) && kernel.axes.some((axis) => axis.extent !== 1 && !freeAxes(reduce).has(axis)));
  const rows = kernel.axes.filter((axis) => shared.some((reduce) => freeAxes(reduce).has(axis)));
  if (shared.length > 0 && rows.length < kernel.axes.length) return grouped(kernel, rows, reduces, perThread);
  if (reduces.some((reduce) => isLong(reduce) || (isContiguous(reduce) && stepsOf(reduce) >= SERIAL_STEPS))) return grouped(kernel, kernel.axes, reduces, perThread);
  return elements(kernel, lane, 1);
}

/** Not inside another reduction on whose axes it depends. */
function isOuter(reduce: ReduceExpr, all: readonly ReduceExpr[]): boolean {
  return !all.some((other) => other.axes.some((axis) => freeAxes(reduce).has(axis)));
}

const stepsOf = (reduce: ReduceExpr): number => reduce.axes.reduce((steps, axis) => steps * known(axis.extent, 128), 1);
const isLong = (reduce: ReduceExpr): boolean => stepsOf(reduce) >= LONG_STEPS;

/** Whether neighbours along an axis of the reduction are neighbours in memory. */
function isContiguous(reduce: ReduceExpr): boolean {
  let found = false;
  visitExpr(reduce.body, (e) => { if (e.kind === "load") found ||= reduce.axes.some((axis) => coefficientOf(e.index[0]!, axis) === 1); });
  return found;
}

function elements(kernel: FlatKernel, lane: Axis | undefined, width: number): LoopShape {
  return { kind: "elements", lane, others: kernel.axes.filter((axis) => axis !== lane), width };
}

/** Threads per row: between a warp, which meets without a barrier, and half the largest block. */
function grouped(kernel: FlatKernel, rows: readonly Axis[], reduces: readonly ReduceExpr[], perThread: number): LoopShape {
  const columns = kernel.axes.filter((axis) => !rows.includes(axis));
  const width = columns.reduce((count, axis) => count * known(axis.extent, 512), 1);
  const longest = Math.max(width, ...reduces.filter((reduce) => isOuter(reduce, reduces)).map(stepsOf));
  let threads = 32;
  while (threads < 512 && threads * perThread < longest) threads *= 2;
  return { kind: "rows", rows, columns, threads, rowsPerBlock: threads === 32 ? 4 : 1 };
}

export const countOf = (axes: readonly Axis[]): Dim => dimMul(...axes.map((axis) => axis.extent));
