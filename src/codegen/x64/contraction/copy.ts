/**
 * Copies a block of a matrix into scratch rows of a fixed pitch, where the register tile wants it: rows that would
 * alias in the cache (a pitch of a multiple of 4 KB), rows whose pitch is known only at run time, transposed operands.
 */
import { mem, type VReg } from "../function.ts";
import { transposeIn } from "./transpose.ts";
import type { KernelWriter, Size } from "./writer.ts";

/** Bytes from one row to the next for `elements` floats: an odd number of cache lines, so that rows spread over all sets. */
export function paddedPitch(elements: number): number {
  const lines = Math.max(1, Math.ceil(elements / 16));
  return 64 * (lines % 2 === 0 ? lines + 1 : lines);
}

export interface BlockSource {
  /** Address of the block's first element. Not changed. */
  readonly base: VReg;
  readonly rowBytes: Size;
  readonly columnBytes: Size;
}

/** Copies `rows` x `columns` floats to `to`; rows there are `pitch` bytes apart and may be written up to whole vectors. */
export function copyBlock(w: KernelWriter, source: BlockSource, rows: Size, columns: Size, to: VReg, pitch: number): void {
  if (source.rowBytes === 4 && source.columnBytes !== 4) {
    copyTransposed(w, source, rows, columns, to, pitch);
    return;
  }
  const from = w.local(source.base);
  const target = w.local(to);
  const [rowBytes, columnBytes, width] = [w.keep(source.rowBytes), w.keep(source.columnBytes), w.keep(columns)];
  w.count(0, rows, 1, () => {
    if (columnBytes === 4) copyRow(w, w.get(from), w.get(target), w.value(width));
    else w.copyElements(w.get(from), w.value(columnBytes), w.get(target), 4, w.value(width));
    w.f.emit("add", from.slot, w.value(rowBytes));
    w.f.emit("add", target.slot, pitch);
  });
}

/** Columns of the source lie side by side in memory. */
function copyTransposed(w: KernelWriter, source: BlockSource, rows: Size, columns: Size, to: VReg, pitch: number): void {
  const columnBytes = w.keep(source.columnBytes);
  const [height, width, target, base] = [w.keep(rows), w.keep(columns), w.local(to), w.local(source.base)];
  w.count(0, w.value(width), w.lanes, (column) => {
    const present = w.local(w.min(w.sub(w.value(width), w.get(column)), w.lanes));
    const from = w.local(w.address(w.get(base), w.mul(w.get(column), w.value(columnBytes))));
    const place = w.local(w.address(w.get(target), w.mul(w.get(column), 4)));
    transposeIn(w, { base: from, rowBytes: columnBytes }, present, height, place, pitch);
  });
}

/** Copies floats that lie side by side; writes whole vectors. Changes both registers. */
export function copyRow(w: KernelWriter, from: VReg, to: VReg, count: Size): void {
  const { f, vectors, lanes, vectorBytes } = w;
  const advance = (): void => {
    f.emit("add", from, vectorBytes);
    f.emit("add", to, vectorBytes);
  };
  const one = (): void => {
    const value = vectors.load(mem(from));
    vectors.store(mem(to), value);
    advance();
  };
  if (typeof count === "number") {
    f.loop(0, Math.floor(count / lanes), 1, one);
    if (count % lanes > 0) vectors.store(mem(to), vectors.loadMasked(mem(from), vectors.tailMask(count % lanes)));
    return;
  }
  const left = w.move(count);
  const top = f.label("copy");
  const tail = f.label("copyTail");
  const done = f.label("copied");
  f.emit("sub", left, lanes);
  f.jump("lt", tail);
  f.bind(top);
  one();
  f.emit("sub", left, lanes);
  f.jump("ge", top);
  f.bind(tail);
  f.emit("add", left, lanes);
  f.jump("le", done);
  vectors.store(mem(to), vectors.loadMasked(mem(from), vectors.tailMask(left)));
  f.bind(done);
}
