/**
 * AMX: products of tiles, 16 rows of 64 bytes each. A step multiplies up to 32 rows of A by 32 columns of B over 16 words
 * of the reduction, as four products of two tiles of A and two of B; sums stay in the four tiles between them.
 *
 * A's tiles are rows as they lie, at any pitch. B's are 16 rows of a packed panel (`word-panels.ts`) as they lie: a
 * panel's row is one word per column, just what the instructions want. What words hold is the product's choice, as
 * in register tiles; signed bytes need no flipped sign bits here.
 * Shapes are state of the thread, set by `configureTiles`, which clears all tiles, and given up at the kernel's end.
 *
 * Source: Intel SDM vol. 1, chapter 18 (Programming with Intel AMX), vol. 2, LDTILECFG, TILELOADD, TDPBF16PS, TDPBUSD.
 */
import { assert } from "../../../base/index.ts";
import { mem, type VReg } from "../function.ts";
import { TMM } from "../registers.ts";
import type { Product } from "./products.ts";
import type { KernelWriter, Size } from "./writer.ts";

export const TILE_ROWS = 16;
/** Columns of a tile of B, and words of the reduction in a tile. */
export const TILE_COLUMNS = 16;
export const TILE_WORDS = 16;
export const TILE_ROW_BYTES = 64;
/** Rows and columns of sums that the tiles hold at once. */
export const GRID_ROWS = 2 * TILE_ROWS;
export const GRID_COLUMNS = 2 * TILE_COLUMNS;
/** Bytes from one row of stored sums to the next. */
export const GRID_PITCH = 4 * GRID_COLUMNS;
/** Steps written out per turn of the loop. */
const UNROLL = 2;

const SUMS = [[TMM[0]!, TMM[1]!], [TMM[2]!, TMM[3]!]] as const;
const LEFT = [TMM[4]!, TMM[5]!] as const;
const RIGHT = [TMM[6]!, TMM[7]!] as const;
/** Which tiles have as many rows as the upper and the lower tile of A. */
const UPPER = [0, 1, 4];
const LOWER = [2, 3, 5];

/** What LDTILECFG reads: palette, bytes per row of every tile, rows of every tile. */
const CONFIG_BYTES = 64;
const ROW_BYTES_AT = 16;
const ROWS_AT = 48;

function configuration(rows: number, words: number): Uint8Array {
  const bytes = new Uint8Array(CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 1);
  const shape = (tile: number, tileRows: number, rowBytes: number): void => {
    view.setUint16(ROW_BYTES_AT + 2 * tile, rowBytes, true);
    view.setUint8(ROWS_AT + tile, tileRows);
  };
  const lower = Math.max(1, rows - TILE_ROWS);
  for (const tile of UPPER) shape(tile, Math.min(rows, TILE_ROWS), tile === 4 ? 4 * words : TILE_ROW_BYTES);
  for (const tile of LOWER) shape(tile, lower, tile === 5 ? 4 * words : TILE_ROW_BYTES);
  for (const tile of [6, 7]) shape(tile, words, TILE_ROW_BYTES);
  return bytes;
}

/** Shapes for `rows` rows of A, 1 to 32, and `words` words in a step, 1 to 16. Sums in tiles are lost. */
export function configureTiles(w: KernelWriter, rows: Size, words: number): void {
  const { f } = w;
  if (typeof rows === "number") {
    f.emit("ldtilecfg", f.constant(configuration(rows, words)));
    return;
  }
  const slot = f.stackSlot(CONFIG_BYTES);
  const at = (tile: number) => ({ ...slot, disp: ROWS_AT + tile });
  w.vectors.store(slot, w.vectors.load(f.constant(configuration(GRID_ROWS, words))));
  const upper = w.min(rows, TILE_ROWS) as VReg;
  const lower = w.max(w.sub(rows, TILE_ROWS), 1) as VReg;
  for (const tile of UPPER) f.emit("mov.b", at(tile), upper);
  for (const tile of LOWER) f.emit("mov.b", at(tile), lower);
  f.emit("ldtilecfg", slot);
}

export function releaseTiles(w: KernelWriter): void {
  w.f.emit("tilerelease");
}

/** How B lies: bytes from one word of the reduction to the next, and from the first tile's columns to the second's. */
export interface TileColumns {
  readonly pitch: number;
  readonly secondBytes: number;
}

/** Lines to fetch beside each step, from `distance` bytes past the step's columns on. */
export interface LinesAhead {
  readonly distance: VReg;
  readonly lines: number;
}

/** Sums of one or two tiles of rows by one or two of columns. */
export class TileGrid {
  readonly #w: KernelWriter;
  readonly #product: Product;
  readonly #sums: readonly (readonly VReg[])[];

  constructor(w: KernelWriter, product: Product, rows: 1 | 2, columns: 1 | 2) {
    this.#w = w;
    this.#product = product;
    this.#sums = SUMS.slice(0, rows).map((row) => row.slice(0, columns));
  }

  zero(): void {
    for (const row of this.#sums) for (const tile of row) this.#w.f.emit("tilezero", tile);
  }

  /** Sums that begin at a value per column: all rows are read from the same place. */
  start(values: VReg): void {
    const none = this.#w.move(0);
    for (const row of this.#sums) row.forEach((tile, c) => this.#w.f.emit("tileloadd", tile, mem(values, { index: none, disp: c * TILE_ROW_BYTES })));
  }

  load(from: VReg): void {
    this.#each(from, (tile, place) => this.#w.f.emit("tileloadd", tile, place));
  }

  store(to: VReg): void {
    this.#each(to, (tile, place) => this.#w.f.emit("tilestored", place, tile));
  }

  #each(base: VReg, action: (tile: VReg, place: ReturnType<typeof mem>) => void): void {
    const pitch = this.#w.move(GRID_PITCH);
    this.#sums.forEach((row, r) => row.forEach((tile, c) => action(tile, mem(base, { index: pitch, disp: r * TILE_ROWS * GRID_PITCH + c * TILE_ROW_BYTES }))));
  }

  /** Adds the products of `steps` steps. Changes `a` and `b`. @param pitch bytes from one row of A to the next */
  multiply(a: VReg, pitch: Size, b: VReg, columns: TileColumns, steps: number, ahead?: LinesAhead): void {
    const w = this.#w;
    const rows = [a, ...(this.#sums.length > 1 ? [w.address(a, w.mul(pitch, TILE_ROWS))] : [])];
    const pitches = { a: w.move(pitch), b: w.move(columns.pitch) };
    const stepBytes = TILE_WORDS * columns.pitch;
    const far = ahead && { from: w.address(b, ahead.distance), lines: ahead.lines };
    const group = (count: number): void => {
      for (let u = 0; u < count; u++) {
        this.#step(rows, b, pitches, u * TILE_ROW_BYTES, u * stepBytes, columns.secondBytes);
        for (let line = 0; far && line < far.lines; line++) w.f.emit("prefetcht1", mem(far.from, { disp: u * stepBytes + line * TILE_ROW_BYTES }));
      }
      for (const row of rows) w.f.emit("add", row, count * TILE_ROW_BYTES);
      for (const place of far ? [b, far.from] : [b]) w.f.emit("add", place, count * stepBytes);
    };
    w.f.loop(0, Math.floor(steps / UNROLL), 1, () => group(UNROLL));
    if (steps % UNROLL > 0) group(steps % UNROLL);
  }

  #step(rows: readonly VReg[], b: VReg, pitches: { readonly a: VReg; readonly b: VReg }, aOffset: number, bOffset: number, secondBytes: number): void {
    const { f } = this.#w;
    const columns = this.#sums[0]!.length;
    for (let c = 0; c < columns; c++) f.emit("tileloadd", RIGHT[c]!, mem(b, { index: pitches.b, disp: bOffset + c * secondBytes }));
    rows.forEach((row, r) => {
      f.emit("tileloadd", LEFT[r]!, mem(row, { index: pitches.a, disp: aOffset }));
      for (let c = 0; c < columns; c++) f.emit(tileProduct(this.#product), this.#sums[r]![c]!, LEFT[r]!, RIGHT[c]!);
    });
  }
}

/** What a kernel needs besides its instruction set. */
export function tileFeatures(product: Product): readonly string[] {
  return ["amxtile", product.name === "bfloat" ? "amxbf16" : "amxint8"];
}

/** The instruction: B's bytes are signed, A's as they are stored. */
function tileProduct(product: Product): string {
  if (product.name === "bfloat") return "tdpbf16ps";
  assert(product.name === "bytes", `no tiles of ${product.name}`);
  return product.a === "int8" ? "tdpbssd" : "tdpbusd";
}
