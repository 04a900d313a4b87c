/**
 * A Transpose passes a Reshape where each run of dimensions that the Reshape joins or splits lies together in the
 * Transpose's source: then the runs move as wholes. Where a run lies together but in another order (a channel
 * shuffle), the Transpose is split: the part inside runs stays before the Reshape, the part that moves runs passes.
 */
import { type Dim, dimEqual, product } from "../ir/index.ts";
import { isDataDependent } from "../ops/index.ts";
import { isIdentity, permOf } from "./attributes.ts";
import type { Rule } from "./editor.ts";
import { isTransposed, reshaped, transposed } from "./permute.ts";

/** Dimensions `from` of one shape hold the same elements as dimensions `to` of the other, in order. */
export interface Run {
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** The shortest runs of equal products; dimensions of size 1 belong to none. Undefined where sizes cannot be matched. */
export function matchRuns(from: readonly Dim[], to: readonly Dim[]): Run[] | undefined {
  const [left, right] = [from, to].map((dims) => dims.flatMap((dim, i) => (dim === 1 ? [] : [i]))) as [number[], number[]];
  const runs: Run[] = [];
  let [i, j] = [0, 0];
  while (i < left.length && j < right.length) {
    const run = shortestRun(from, to, left.slice(i), right.slice(j));
    if (!run) return undefined;
    runs.push(run);
    i += run.from.length;
    j += run.to.length;
  }
  return i === left.length && j === right.length ? runs : undefined;
}

function shortestRun(from: readonly Dim[], to: readonly Dim[], left: readonly number[], right: readonly number[]): Run | undefined {
  for (let length = 2; length <= left.length + right.length; length++) {
    for (let count = Math.max(1, length - right.length); count < length && count <= left.length; count++) {
      const [a, b] = [left.slice(0, count), right.slice(0, length - count)];
      if (dimEqual(product(a.map((axis) => from[axis]!)), product(b.map((axis) => to[axis]!)))) return { from: a, to: b };
    }
  }
  return undefined;
}

export const sinkThroughReshape: Rule = (node, editor) => {
  const [input] = node.inputs;
  const out = node.outputs[0]?.dims;
  if (!isTransposed(input) || !out || [...input.dims!, ...out].includes(0) || out.some(isDataDependent)) return false;
  const runs = matchRuns(input.dims!, out);
  const perm = permOf(input.producer!);
  const source = input.producer!.inputs[0]!;
  if (!runs) return false;
  const moved = orderRuns(runs, perm, source.dims!);
  if (!moved || (!isIdentity(moved.inner) && isIdentity(moved.order))) return false;
  const places = placesOf(runs, out.length);
  // Axes of the result in the order in which their runs lie in the source.
  const sequence = runs.length === 0 ? out.map((_, i) => i) : moved.order.flatMap((run) => places[run]!);
  const made = reshaped(editor, transposed(editor, source, moved.inner), sequence.map((axis) => out[axis]!));
  return editor.replaceNode(node, transposed(editor, made, out.map((_, axis) => sequence.indexOf(axis))));
};

/**
 * The runs in the order in which they lie in the source, and the reordering of the source's axes that puts each run's
 * own dimensions in order; undefined where a run is scattered.
 */
function orderRuns(runs: readonly Run[], perm: readonly number[], dims: readonly Dim[]): { order: number[]; inner: number[] } | undefined {
  const large = dims.flatMap((dim, axis) => (dim === 1 ? [] : [axis]));
  const spots = runs.map((run) => run.from.map((axis) => large.indexOf(perm[axis]!)));
  const together = spots.every((list) => Math.max(...list) - Math.min(...list) === list.length - 1);
  if (!together) return undefined;
  const order = runs.map((_, i) => i).sort((a, b) => Math.min(...spots[a]!) - Math.min(...spots[b]!));
  const wanted = order.flatMap((run) => runs[run]!.from.map((axis) => perm[axis]!));
  let next = 0;
  const inner = dims.map((dim, axis) => (dim === 1 ? axis : wanted[next++]!));
  return { order, inner };
}

/** Axes of the result per run, those of size 1 going with the run before them. */
function placesOf(runs: readonly Run[], rank: number): number[][] {
  const places: number[][] = runs.map(() => []);
  let run = 0;
  for (let axis = 0; axis < rank; axis++) {
    while (run + 1 < runs.length && axis >= runs[run + 1]!.to[0]!) run++;
    places[run]?.push(axis);
  }
  return places;
}
