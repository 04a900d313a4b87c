/**
 * Transposition of float32 blocks, one vector of rows at a time: a vector's lanes come from as many rows.
 *
 * Four elements of each row are collected so that every 128-bit part holds one row of a 4x4 block, then the blocks are
 * transposed within those parts. Rows that do not fill a vector, and the last columns, go one element at a time.
 */
import { type Mem, mem, type VReg } from "../function.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

/** A matrix in memory whose elements in a row lie side by side. */
export interface Rows {
  /** Address of the first element, and bytes between rows. */
  readonly base: Local;
  readonly rowBytes: Local | number;
}

/** Writes element (row, column) of `from` to `to + column * pitch + 4 * row`. `rows` is at most the lanes of a vector. */
export function transposeIn(w: KernelWriter, from: Rows, rows: Local, columns: Local | number, to: Local, pitch: number): void {
  blocks(w, from, rows, columns, (source, column) => {
    const parts = w.vectorBytes / 16;
    const collected = [0, 1, 2, 3].map((r) => {
      const register = w.f.vec("rows");
      w.f.emit("vmovups.x", register, source(r, 0));
      for (let part = 1; part < parts; part++) w.f.emit(w.f.isa.name === "avx512" ? "vinsertf32x4" : "vinsertf128", register, register, source(r, part), part);
      return register;
    });
    const target = w.address(w.get(to), w.mul(w.get(column), pitch));
    transpose4(w, collected).forEach((register, i) => w.vectors.store(mem(target, { disp: i * pitch }), register));
  }, (row, column, count) => {
    const source = w.address(w.get(from.base), w.mul(w.get(row), w.value(from.rowBytes)), w.mul(w.get(column), 4));
    w.copyElements(source, 4, w.address(w.get(to), w.mul(w.get(column), pitch), w.mul(w.get(row), 4)), pitch, count);
  });
}

/** The way back: writes element `from + column * pitch + 4 * row` to (row, column) of `to`. */
export function transposeOut(w: KernelWriter, from: Local, pitch: number, to: Rows, rows: Local, columns: Local | number): void {
  blocks(w, to, rows, columns, (target, column) => {
    const parts = w.vectorBytes / 16;
    const source = w.address(w.get(from), w.mul(w.get(column), pitch));
    const loaded = [0, 1, 2, 3].map((i) => w.vectors.load(mem(source, { disp: i * pitch })));
    transpose4(w, loaded).forEach((register, r) => {
      w.f.emit("vmovups.x", target(r, 0), register);
      for (let part = 1; part < parts; part++) w.f.emit(w.f.isa.name === "avx512" ? "vextractf32x4" : "vextractf128", target(r, part), register, part);
    });
  }, (row, column, count) => {
    const target = w.address(w.get(to.base), w.mul(w.get(row), w.value(to.rowBytes)), w.mul(w.get(column), 4));
    w.copyElements(w.address(w.get(from), w.mul(w.get(column), pitch), w.mul(w.get(row), 4)), pitch, target, 4, count);
  });
}

/**
 * Walks over blocks of all rows by four columns, then over what is left, row by row.
 * @param block gets the place of four elements: of row `r + 4 * part`
 */
function blocks(
  w: KernelWriter, matrix: Rows, rows: Local, columns: Local | number,
  block: (place: (r: number, part: number) => Mem, column: Local) => void,
  single: (row: Local, column: Local, count: Size) => void,
): void {
  const column = w.local(0);
  w.f.emit("cmp", rows.slot, w.lanes);
  w.f.ifElse("eq", () => {
    const whole = typeof columns === "number" ? columns - (columns % 4) : w.sub(w.get(columns), 3);
    const end = typeof whole === "number" ? whole : w.local(whole);
    w.count(0, w.value(end), 4, (index) => {
      w.set(column, w.get(index));
      block(rowPlaces(w, matrix, index), index);
      w.set(column, w.add(w.get(index), 4));
    });
  });
  const left = w.local(w.sub(w.value(columns), w.get(column)));
  w.when("gt", w.get(left), 0, () => w.count(0, w.get(rows), 1, (row) => single(row, column, w.get(left))));
}

/** Four pointers, and multiples of four rows as index registers. */
function rowPlaces(w: KernelWriter, matrix: Rows, column: Local): (r: number, part: number) => Mem {
  const rowBytes = w.value(matrix.rowBytes);
  const pointers: VReg[] = [w.address(w.get(matrix.base), w.mul(w.get(column), 4))];
  for (let r = 1; r < 4; r++) pointers.push(w.address(pointers[r - 1]!, rowBytes));
  const four = w.move(w.mul(rowBytes, 4));
  const twelve = w.vectorBytes === 64 ? w.address(four, four, four) : four;
  return (r, part) => {
    if (part === 0) return mem(pointers[r]!);
    return part === 3 ? mem(pointers[r]!, { index: twelve }) : mem(pointers[r]!, { index: four, scale: part === 1 ? 1 : 2 });
  };
}

/** Transposes the 4x4 block in each 128-bit part of four registers. */
function transpose4(w: KernelWriter, [a, b, c, d]: readonly VReg[]): VReg[] {
  const make = (mnemonic: string, x: VReg, y: VReg): VReg => {
    const register = w.f.vec("transposed");
    w.f.emit(mnemonic, register, x, y);
    return register;
  };
  const [ab, AB, cd, CD] = [make("vunpcklps", a!, b!), make("vunpckhps", a!, b!), make("vunpcklps", c!, d!), make("vunpckhps", c!, d!)];
  return [make("vunpcklpd", ab, cd), make("vunpckhpd", ab, cd), make("vunpcklpd", AB, CD), make("vunpckhpd", AB, CD)];
}
