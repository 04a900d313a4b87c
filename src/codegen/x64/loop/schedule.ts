/**
 * How a flat loop kernel runs: which axis lies along vector lanes, the order of the others, and the tiles.
 *
 * Axes on which a reduction depends come first, so that it is computed once outside the rest. A prefix of the axes, as
 * one linear row number, is divided into tiles; a kernel with little outside its lane axis divides that axis into chunks.
 */
import { type Axis, affineOf, childrenOf, type Dim, dimCeilDiv, dimFloorDiv, dimMax, dimMul, type Expr, freeAxes, } from "../../loop-ir.ts";
import type { FlatKernel } from "../../flatten.ts";
import { reducesOf, workWithin } from "../../loop-cost.ts";
import { laneScore } from "./reducer.ts";

export interface LoopSchedule {
  /** Runs along lanes; undefined when single elements are stored. */
  readonly lane: Axis | undefined;
  /**
   * A load whose unit stride lies along another axis, which then is the last of `middle`: square tiles of it are read
   * along that axis and transposed in registers.
   */
  readonly transposed: { readonly load: Expr; readonly axis: Axis } | undefined;
  /** Axes of the row number, outer to inner. */
  readonly rows: readonly Axis[];
  /** Axes between rows and lanes, as plain loops. */
  readonly middle: readonly Axis[];
  /** Axes inside one vector of lanes: reductions that each lane does for itself depend on none of them. */
  readonly inside: readonly Axis[];
  readonly rowCount: Dim;
  readonly rowsPerTile: Dim;
  /** Elements of the lane axis that one tile does; undefined when it does all. */
  readonly chunk: number | undefined;
  readonly tiles: Dim;
}

/** Simple element operations that make a tile worth its overhead. */
const TILE_WORK = 65536;

const staticExtent = (dim: Dim, otherwise: number): number => (typeof dim === "number" ? dim : otherwise);

function chooseLane(kernel: FlatKernel): Axis | undefined {
  const reduces = reducesOf(kernel);
  let best: Axis | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const reduce of reduces) for (const axis of reduce.axes) {
    if (staticExtent(axis.extent, 64) >= 16) bestScore = Math.max(bestScore, 4 * laneScore(reduce.body, axis));
  }
  for (const axis of kernel.axes) {
    let score = 0;
    for (const { offset, value } of kernel.outputs) {
      const term = affineOf(offset).terms.find(({ atom }) => atom.kind === "axis" && atom.axis === axis);
      score += term?.coefficient === 1 ? 3 : -3;
      score += laneScore(value, axis);
    }
    for (const reduce of reduces) score += 4 * laneScore(reduce.body, axis);
    if (reduces.some((reduce) => !freeAxes(reduce).has(axis)) && reduces.length > 0) score += 8;
    if (staticExtent(axis.extent, 64) < 4) score -= 4;
    if (score >= bestScore) {
      best = axis;
      bestScore = score;
    }
  }
  return best;
}

/** Axes that reductions need before the others. */
function outerFirst(kernel: FlatKernel, axes: readonly Axis[], lane: Axis | undefined): { axes: readonly Axis[]; needed: number } {
  const wanted = new Set<Axis>();
  for (const reduce of reducesOf(kernel)) {
    const free = freeAxes(reduce);
    if (!lane || !free.has(lane)) for (const axis of free) if (axes.includes(axis)) wanted.add(axis);
  }
  if (wanted.size === 0) return { axes, needed: 0 };
  return { axes: [...axes.filter((axis) => wanted.has(axis)), ...axes.filter((axis) => !wanted.has(axis))], needed: wanted.size };
}

/** Axes of which no reduction in lanes knows; it is computed once for all of them. */
function axesInside(kernel: FlatKernel, lane: Axis | undefined): readonly Axis[] {
  const free = reducesOf(kernel).map(freeAxes);
  if (!lane || !free.some((axes) => axes.has(lane))) return [];
  return kernel.axes.filter((axis) => axis !== lane && !free.some((axes) => axes.has(axis)));
}

/** The first load of 32-bit elements, outside reductions, that is gathered along lanes but contiguous along another axis. */
function findTransposed(kernel: FlatKernel, lane: Axis | undefined): LoopSchedule["transposed"] {
  let found: LoopSchedule["transposed"];
  const inspect = (e: Expr): void => {
    if (found || e.kind === "reduce") return;
    if (e.kind === "load") {
      const { terms } = affineOf(e.index[0]!);
      const of = (axis: Axis): Dim => terms.find(({ atom }) => atom.kind === "axis" && atom.axis === axis)?.coefficient ?? 0;
      const isPlain = terms.every(({ atom }) => atom.kind === "axis" || !freeAxes(atom).has(lane!));
      const axis = kernel.axes.find((other) => other !== lane && of(other) === 1 && terms.every(({ atom }) => atom.kind === "axis" || !freeAxes(atom).has(other)));
      const isNarrow = e.buffer.dtype === "float32" || e.buffer.dtype === "int32" || e.buffer.dtype === "uint32";
      if (isPlain && axis && isNarrow && of(lane!) !== 0 && of(lane!) !== 1 && kernel.safe.has(e)) found = { load: e, axis };
      return;
    }
    childrenOf(e).forEach(inspect);
  };
  if (lane) for (const { value } of kernel.outputs) inspect(value);
  return found;
}

/** Elements of the lane axis per tile, when rows alone are too few to divide the work. */
function chunkOf(kernel: FlatKernel, lane: Axis, inner: readonly Axis[], rowCount: Dim, isPossible: boolean): number | undefined {
  if (!isPossible || typeof rowCount !== "number" || rowCount >= 16) return undefined;
  const perLane = workWithin(kernel, inner);
  const steps = 64;
  const chunk = Math.max(steps, Math.floor(TILE_WORK / staticExtent(perLane, 512) / steps) * steps);
  return staticExtent(lane.extent, Number.POSITIVE_INFINITY) >= 2 * chunk ? chunk : undefined;
}

export function scheduleLoop(kernel: FlatKernel): LoopSchedule {
  const lane = chooseLane(kernel);
  const inside = axesInside(kernel, lane);
  const ordered = outerFirst(kernel, kernel.axes.filter((axis) => axis !== lane && !inside.includes(axis)), lane);
  const { needed } = ordered;
  const candidate = needed === 0 && inside.length === 0 ? findTransposed(kernel, lane) : undefined;
  const axes = candidate ? [...ordered.axes.filter((axis) => axis !== candidate.axis), candidate.axis] : ordered.axes;
  const reduces = reducesOf(kernel);
  const transposed = candidate;
  const hasOuterReduce = reduces.some((reduce) => !lane || !freeAxes(reduce).has(lane));
  let rowAxes = needed;
  let known = axes.slice(0, needed).reduce((count, axis) => count * staticExtent(axis.extent, 1), 1);
  const most = candidate ? axes.length - 1 : axes.length;
  while (rowAxes < most && known < 16) known *= staticExtent(axes[rowAxes++]!.extent, 1);
  const rows = axes.slice(0, rowAxes);
  const middle = axes.slice(rowAxes);
  const rowCount = dimMul(...rows.map((axis) => axis.extent));
  const inner = [...middle, ...(lane ? [lane] : []), ...inside];
  const perRow = workWithin(kernel, inner);
  const chunk = hasOuterReduce || !lane ? undefined : chunkOf(kernel, lane, transposed ? middle : inside, rowCount, middle.length === 0 || transposed !== undefined);
  if (chunk !== undefined) return { lane, transposed, rows, middle, inside, rowCount, rowsPerTile: 1, chunk, tiles: dimMul(rowCount, dimCeilDiv(lane!.extent, chunk)) };
  const rowsPerTile = dimMax(1, dimFloorDiv(TILE_WORK, dimMax(1, perRow)));
  return { lane, transposed, rows, middle, inside, rowCount, rowsPerTile, chunk: undefined, tiles: dimCeilDiv(rowCount, rowsPerTile) };
}
