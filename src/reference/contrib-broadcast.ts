/** Shapes that numpy's rule brings together, as tables of flat positions. */
import { assert, elementCount } from "../base/index.ts";

export function broadcastDims(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    assert(x === y || x === 1 || y === 1, `shapes [${a}] and [${b}] broadcast`);
    return x === 1 ? y : x;
  });
}

/** For each shape, the flat position that each element of the common shape reads. */
export function broadcastReaders(shapes: readonly (readonly number[])[], dims: readonly number[]): Int32Array[] {
  return shapes.map((shape) => {
    let table = Int32Array.of(0);
    for (let axis = 0; axis < dims.length; axis++) {
      const size = shape[axis - dims.length + shape.length] ?? 1;
      const count = dims[axis]!;
      const next = new Int32Array(table.length * count);
      for (let i = 0; i < table.length; i++) for (let j = 0; j < count; j++) next[i * count + j] = table[i]! * size + (size === 1 ? 0 : j);
      table = next;
    }
    assert(table.length === elementCount(dims), "one position per element");
    return table;
  });
}
