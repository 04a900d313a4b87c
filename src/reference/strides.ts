/**
 * Index arithmetic: strides, axes, broadcasting, and tables of flat positions, by which operators that move elements
 * say where each output element comes from.
 */
import { assert, elementCount, UserError } from "../base/index.ts";

export function stridesOf(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length).fill(1);
  for (let axis = dims.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * dims[axis + 1]!;
  return strides;
}

/** @throws UserError when the axis is outside -rank to rank - 1 */
export function normalizeAxis(axis: number, rank: number): number {
  if (axis < -rank || axis >= rank) throw new UserError("input-invalid", `Axis ${axis} is outside a tensor of rank ${rank}; expected ${-rank} to ${rank - 1}.`);
  return axis < 0 ? axis + rank : axis;
}

/** A negative index counts from the end. @throws UserError when it is out of bounds */
export function normalizeIndex(index: number, size: number): number {
  if (!(index >= -size && index < size)) throw new UserError("input-invalid", `Index ${index} is out of bounds for an axis of size ${size}; expected ${-size} to ${size - 1}.`);
  return index < 0 ? index + size : index;
}

/** The shape that numpy's rule gives. @throws UserError when there is none */
export function broadcastShapes(shapes: readonly (readonly number[])[]): number[] {
  const rank = shapes.reduce((most, { length }) => Math.max(most, length), 0);
  return Array.from({ length: rank }, (_, axis) => {
    let size = 1;
    for (const shape of shapes) {
      const own = shape[axis - rank + shape.length] ?? 1;
      if (own === 1 || own === size) continue;
      if (size !== 1) throw new UserError("input-invalid", `Shapes ${shapes.map((dims) => `[${dims}]`).join(" and ")} do not broadcast: sizes ${size} and ${own} on axis ${axis}.`);
      size = own;
    }
    return size;
  });
}

/** Row-major over `dims`: the position that strides lead to. */
export function stridedTable(dims: readonly number[], strides: readonly number[], offset = 0): Int32Array {
  const count = elementCount(dims);
  const table = new Int32Array(count);
  if (count === 0) return table;
  table[0] = offset;
  // Doubles what is filled, innermost axis first: each axis repeats the block inside it at its stride.
  let block = 1;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    const stride = strides[axis]!;
    const size = dims[axis]!;
    for (let i = 1; i < size; i++) {
      const shift = i * stride;
      for (let j = 0; j < block; j++) table[i * block + j] = table[j]! + shift;
    }
    block *= size;
  }
  return table;
}

/** Strides by which a tensor of shape `from` reads as one of shape `to`: 0 along broadcast axes. */
export function broadcastStrides(from: readonly number[], to: readonly number[]): number[] {
  const own = stridesOf(from);
  const lead = to.length - from.length;
  assert(lead >= 0, `shape [${from}] broadcasts to [${to}]`);
  return to.map((_, axis) => (axis < lead || from[axis - lead] === 1 ? 0 : own[axis - lead]!));
}

/** The flat position each element of `to` reads in a tensor of shape `from`; undefined when it is the same one. */
export function broadcastTable(from: readonly number[], to: readonly number[]): Int32Array | undefined {
  return elementCount(from) === elementCount(to) ? undefined : stridedTable(to, broadcastStrides(from, to));
}

/** A tensor seen as lines along some axes. */
export interface Lines {
  /** Element `i` of line `n` is at table[n * length + i]. */
  readonly table: Int32Array;
  readonly count: number;
  readonly length: number;
}

/** Lines along `axes`; their order is that of the kept axes, row-major. */
export function linesAlong(dims: readonly number[], axes: readonly number[]): Lines {
  const strides = stridesOf(dims);
  const kept = dims.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const order = [...kept, ...axes];
  const table = stridedTable(order.map((axis) => dims[axis]!), order.map((axis) => strides[axis]!));
  return { table, count: elementCount(kept.map((axis) => dims[axis]!)), length: elementCount(axes.map((axis) => dims[axis]!)) };
}
