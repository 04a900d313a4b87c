/**
 * The register tile at the heart of every contraction: `rows` x `vectors` accumulators, one column vector of B and one
 * broadcast word of A at a time; what a word holds is the product's choice.
 *
 * Per step of the reduction: B's vectors are loaded once, each row's word of A is broadcast once, and all pairs are
 * multiplied. Rows of A lie at displacements known now (a static row pitch, or pixels of a padded block), so one pointer
 * serves all rows. What there is less of, rows or vectors, is held while the other passes by; with one vector, or
 * when no register is left, A is an embedded broadcast; with one row, B is read by the multiplication.
 */
import { type Mem, mem, type VReg } from "../function.ts";
import { broadcastWord, FLOAT, flipMask, multiplyWords, type Product } from "./products.ts";
import type { KernelWriter, Size } from "./writer.ts";

/** Where the tile's rows of A lie. */
export interface RowLayout {
  /** Byte displacement of each row from the pointer. */
  readonly offsets: readonly number[];
  /** Bytes from one step of the reduction to the next; 4 when absent. */
  readonly stepBytes?: Size;
}

/** How B's vectors of one reduction step lie in memory. */
export interface ColumnLayout {
  /** Bytes from one step of the reduction to the next. */
  readonly stepBytes: Size;
  /** Byte displacement of each vector. */
  readonly vectorOffsets: readonly number[];
  /** The last vector may only be read under this mask. */
  readonly lastMask?: VReg;
  /** What comes after this tile: each step fetches its lines at these displacements, from `distance` bytes on, into the second-level cache. */
  readonly ahead?: { readonly distance: VReg; readonly offsets: readonly number[] };
}

export class RegisterTile {
  readonly rows: number;
  readonly vectors: number;
  readonly accumulators: readonly (readonly VReg[])[];
  readonly #w: KernelWriter;
  readonly #lastIsHalf: boolean;
  readonly #product: Product;

  /** @param lastLanes how many lanes of the last vector matter; up to half of them are multiplied in half vectors, at half the price */
  constructor(w: KernelWriter, rows: number, vectors: number, lastLanes: number = w.lanes, product: Product = FLOAT) {
    this.#w = w;
    this.#product = product;
    this.#lastIsHalf = w.vectorBytes === 64 && lastLanes <= w.lanes / 2;
    this.rows = rows;
    this.vectors = vectors;
    this.accumulators = Array.from({ length: rows }, (_, r) => Array.from({ length: vectors }, (_, v) => w.f.vec(`c${r}_${v}`)));
  }

  zero(): void {
    for (const row of this.accumulators) for (const register of row) this.#w.f.emit("vxorps", register, register, register);
  }

  /** Sums that begin at a value per column; register `v` holds it for the columns of vector `v`. */
  start(columns: readonly VReg[]): void {
    for (const row of this.accumulators) row.forEach((register, v) => this.#w.f.emit("vmovaps", register, columns[v]!));
  }

  /** Reads partial sums of an earlier block of the reduction. */
  load(c: VReg, pitchBytes: number): void {
    this.#each((register, displacement) => this.#w.f.emit("vmovups", register, mem(c, { disp: displacement })), pitchBytes);
  }

  store(c: VReg, pitchBytes: number): void {
    this.#each((register, displacement) => this.#w.f.emit("vmovups", mem(c, { disp: displacement }), register), pitchBytes);
  }

  /** Adds partial sums of an earlier block of the reduction. */
  add(c: VReg, pitchBytes: number): void {
    const add = this.#product.accumulator === "f32" ? "vaddps" : "vpaddd";
    this.#each((register, displacement) => this.#w.f.emit(add, register, register, mem(c, { disp: displacement })), pitchBytes);
  }

  #each(action: (register: VReg, displacement: number) => void, pitchBytes: number): void {
    this.accumulators.forEach((row, r) => row.forEach((register, v) => action(register, r * pitchBytes + v * this.#w.vectorBytes)));
  }

  /** Adds `steps` products per accumulator. Moves `a` and `b` past them. */
  multiply(a: VReg, rows: RowLayout, b: VReg, columns: ColumnLayout, steps: Size, unroll: number): void {
    const w = this.#w;
    const aStep = rows.stepBytes ?? 4;
    const bStep = columns.stepBytes;
    const flip = flipMask(w.f, this.#product);
    if (typeof aStep !== "number" || typeof bStep !== "number") {
      this.#loop(steps, () => {
        this.#step(a, rows.offsets, b, columns, 0, 0, flip);
        w.f.emit("add", a, aStep);
        w.f.emit("add", b, bStep);
      });
      return;
    }
    const group = (count: number): void => {
      for (let u = 0; u < count; u++) this.#step(a, rows.offsets, b, columns, aStep * u, bStep * u, flip);
      w.f.emit("add", a, aStep * count);
      w.f.emit("add", b, bStep * count);
    };
    if (typeof steps === "number") {
      this.#loop(Math.floor(steps / unroll), () => group(unroll));
      if (steps % unroll > 0) group(steps % unroll);
      return;
    }
    const left = w.move(steps);
    const top = w.f.label("steps");
    const tail = w.f.label("tail");
    const done = w.f.label("multiplied");
    w.f.emit("sub", left, unroll);
    w.f.jump("lt", tail);
    w.f.bind(top);
    group(unroll);
    w.f.emit("sub", left, unroll);
    w.f.jump("ge", top);
    w.f.bind(tail);
    w.f.emit("add", left, unroll);
    w.f.jump("eq", done);
    const single = w.f.label("single");
    w.f.bind(single);
    group(1);
    w.f.emit("sub", left, 1);
    w.f.jump("ne", single);
    w.f.bind(done);
  }

  #loop(times: Size, body: () => void): void {
    if (times === 0) return;
    if (times === 1) { body(); return; }
    const { f } = this.#w;
    const left = this.#w.move(times);
    const top = f.label("loop");
    const done = f.label("looped");
    if (typeof times !== "number") {
      f.emit("test", left, left);
      f.jump("le", done);
    }
    f.bind(top);
    body();
    f.emit("sub", left, 1);
    f.jump("gt", top);
    f.bind(done);
  }

  #step(a: VReg, rowOffsets: readonly number[], b: VReg, layout: ColumnLayout, aOffset: number, bOffset: number, flip: VReg | undefined): void {
    const { f, vectors } = this.#w;
    const product = this.#product;
    const at = (v: number) => mem(b, { disp: bOffset + layout.vectorOffsets[v]! });
    const multiply = (v: number, sums: VReg, word: VReg, column: VReg | Mem): void => multiplyWords(f, product, sums, word, column, this.#lastIsHalf && v === this.vectors - 1 ? ".y" : "");
    const masked = (v: number): boolean => layout.lastMask !== undefined && v === this.vectors - 1;
    for (const offset of layout.ahead?.offsets ?? []) f.emit("prefetcht1", mem(b, { index: layout.ahead!.distance, disp: bOffset + offset }));
    const word = (r: number, broadcast = false) => mem(a, { disp: aOffset + rowOffsets[r]!, ...(broadcast && { broadcast }) });
    const column = (v: number): VReg => (masked(v) ? vectors.loadMasked(at(v), layout.lastMask!) : vectors.load(at(v)));
    const isFull = this.rows * this.vectors + this.vectors >= 32;
    if (f.isa.name === "avx512" && product.embeds && (this.vectors === 1 || isFull)) {
      const columns = Array.from({ length: this.vectors }, (_, v) => column(v));
      this.accumulators.forEach((row, r) => row.forEach((register, v) => multiply(v, register, columns[v]!, word(r, true))));
    } else if (this.rows <= this.vectors) {
      const broadcasts = this.accumulators.map((_, r) => broadcastWord(f, word(r), flip));
      for (let v = 0; v < this.vectors; v++) {
        const operand = this.rows === 1 && !masked(v) ? at(v) : column(v);
        this.accumulators.forEach((row, r) => multiply(v, row[v]!, broadcasts[r]!, operand));
      }
    } else {
      const columns = Array.from({ length: this.vectors }, (_, v) => column(v));
      this.accumulators.forEach((row, r) => {
        const broadcast = broadcastWord(f, word(r), flip);
        row.forEach((register, v) => multiply(v, register, broadcast, columns[v]!));
      });
    }
  }
}
