/** The sums of a grid of tiles, stored in scratch memory, on their way to the output: row by row, several rows per turn. */
import { mem, type VReg } from "../function.ts";
import type { OutputWriter, Tail } from "./output.ts";
import { GRID_PITCH } from "./tiles.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

export interface GridRows {
  /** Address of the first row's sums. */
  readonly from: VReg;
  /** How many rows there are, and the index of the first one along the output's axis that rows follow. */
  readonly rows: Local;
  readonly first: Local;
  /** Indices of the output's axes but the last, given the row's own. */
  outer(index: Size): Size[];
  readonly column: Local;
  /** Address of the first row's first element, and bytes from one row to the next. */
  readonly to: VReg;
  rowBytes(): Size;
  readonly vectors: number;
  tail(): Tail | undefined;
}

/** Rows written per turn, where the epilogue is few enough instructions. */
const UNROLL = 4;

export function writeGrid(w: KernelWriter, output: OutputWriter, grid: GridRows): void {
  const { f } = w;
  const [from, to, index, left] = [w.local(grid.from), w.local(grid.to), w.local(w.get(grid.first)), w.local(w.get(grid.rows))];
  output.begin();
  const shared = output.shared(grid.outer(0));
  const some = (count: number): void => {
    const rowBytes = grid.rowBytes();
    const [sums, first, column, tail] = [w.get(from), w.get(index), w.get(grid.column), grid.tail()];
    let place = w.get(to);
    for (let i = 0; i < count; i++) {
      const row = Array.from({ length: grid.vectors }, (_, v) => w.vectors.load(mem(sums, { disp: i * GRID_PITCH + v * w.vectorBytes })));
      const at = typeof rowBytes === "number" ? { to: place, toOffset: i * rowBytes } : { to: place };
      output.row({ from: row, outer: shared ? [] : grid.outer(w.move(w.add(first, i))), column, ...at, vectors: grid.vectors, ...(tail && { tail }) }, shared);
      if (typeof rowBytes !== "number") place = w.address(place, rowBytes);
    }
    f.emit("add", from.slot, count * GRID_PITCH);
    f.emit("add", index.slot, count);
    w.set(to, typeof rowBytes === "number" ? w.address(place, count * rowBytes) : place);
    f.emit("sub", left.slot, count);
  };
  if (output.isLight) repeat(w, left, UNROLL, () => some(UNROLL));
  repeat(w, left, 1, () => some(1));
}

/** Runs the body, which counts down, while at least `least` is left. */
function repeat(w: KernelWriter, left: Local, least: number, body: () => void): void {
  const { f } = w;
  const [top, done] = [f.label("rows"), f.label("rowsDone")];
  f.bind(top);
  f.emit("cmp", left.slot, least);
  f.jump("lt", done);
  body();
  f.jump("always", top);
  f.bind(done);
}
