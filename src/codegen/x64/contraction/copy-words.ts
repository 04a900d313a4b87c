/**
 * Copies operands whose words hold several elements to scratch, in the form in which they are multiplied: rows of A
 * (widened to 16 bits and freed of their zero point for `pairs`), and B as vectors of words, two rows side by side.
 *
 * What fills the last word of a row up is zero for floating-point elements; for integers it is anything, since B has
 * zeros there.
 */
import type { DType } from "../../../base/index.ts";
import type { Buffer } from "../../../ir/index.ts";
import { type Mem, mem, type VReg } from "../function.ts";
import { Lanes } from "../loop/lanes.ts";
import type { BlockSource } from "./copy.ts";
import { bytesOf, type Product } from "./products.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";
import { loadByte, zeroLanes, zeroRegister } from "./zero-points.ts";

/** What is copied: elements of a type, multiplied in some way, and what is subtracted from them on the way. */
export interface Conversion {
  readonly dtype: DType;
  readonly product: Product;
  readonly zero: number | Buffer;
}

/** Bytes of an element after the copy. */
function copiedBytes({ dtype, product }: Conversion): number {
  return product.name === "pairs" ? 2 : bytesOf(dtype);
}

/** Copies `rows` rows of `elements` elements; rows at `to` are `pitch` bytes apart and may be written up to whole vectors. */
export function copyWordRows(w: KernelWriter, conversion: Conversion, source: BlockSource, rows: Size, elements: Size, to: VReg, pitch: number): void {
  const from = w.local(source.base);
  const target = w.local(to);
  const [rowBytes, columnBytes, width] = [w.keep(source.rowBytes), w.keep(source.columnBytes), w.keep(elements)];
  w.count(0, rows, 1, () => {
    if (columnBytes === bytesOf(conversion.dtype)) copyWordRow(w, conversion, w.get(from), w.get(target), w.value(width));
    else copyApart(w, conversion, w.get(from), w.value(columnBytes), w.get(target), w.value(width));
    w.f.emit("add", from.slot, w.value(rowBytes));
    w.f.emit("add", target.slot, pitch);
  });
}

/** Copies elements that lie side by side; writes whole vectors. Changes both registers. */
export function copyWordRow(w: KernelWriter, conversion: Conversion, from: VReg, to: VReg, elements: Size): void {
  if (conversion.product.name === "pairs") widenRow(w, conversion, from, to, elements);
  else copyBytes(w, from, to, w.mul(elements, bytesOf(conversion.dtype)));
}

function widenRow(w: KernelWriter, { dtype, zero }: Conversion, from: VReg, to: VReg, elements: Size): void {
  const { f } = w;
  const lanes = w.vectorBytes / 2;
  const extend = dtype === "int8" ? "vpmovsxbw" : "vpmovzxbw";
  const zeros = zero === 0 ? undefined : zeroLanes(w, zero, 16);
  const finish = (value: VReg): void => {
    if (zeros) f.emit("vpsubw", value, value, zeros);
    w.vectors.store(mem(to), value);
  };
  inVectors(w, elements, lanes, () => {
    const value = f.vec("wide");
    f.emit(extend, value, mem(from));
    finish(value);
    f.emit("add", from, lanes);
    f.emit("add", to, w.vectorBytes);
  }, (left) => {
    if (f.isa.name === "avx512") {
      const value = f.vec("wide");
      f.emitMasked(extend, lowBits(w, left), true, value, mem(from));
      finish(value);
      return;
    }
    const taken = zeroRegister(w, zero);
    each(w, left, () => {
      const byte = loadByte(w, dtype, mem(from));
      f.emit("sub", byte, taken);
      f.emit("mov.w", mem(to), byte);
      f.emit("add", from, 1);
      f.emit("add", to, 2);
    });
  });
}

/** Copies bytes as they are; bytes up to the end of the last word become zero. */
function copyBytes(w: KernelWriter, from: VReg, to: VReg, bytes: Size): void {
  const { f, vectors } = w;
  inVectors(w, bytes, w.vectorBytes, () => {
    vectors.store(mem(to), vectors.load(mem(from)));
    f.emit("add", from, w.vectorBytes);
    f.emit("add", to, w.vectorBytes);
  }, (left) => {
    if (f.isa.name === "avx512") {
      const value = f.vec("bytes");
      f.emitMasked("vmovdqu8", lowBits(w, left), true, value, mem(from));
      vectors.store(mem(to), value);
      return;
    }
    if (left !== 0) vectors.store(mem(to), vectors.zero());
    each(w, left, () => {
      const byte = f.gp("byte");
      f.emit("movzx.b", byte, mem(from));
      f.emit("mov.b", mem(to), byte);
      f.emit("add", from, 1);
      f.emit("add", to, 1);
    });
  });
}

/** Elements `step` bytes apart, one by one. */
function copyApart(w: KernelWriter, conversion: Conversion, from: VReg, step: Size, to: VReg, elements: Size): void {
  const { dtype, product, zero } = conversion;
  const size = copiedBytes(conversion);
  const count = w.keep(elements);
  const words = w.value(count);
  if (product.perWord > 1) {
    const last = w.address(to, w.mul(w.sub(roundUp(w, words, product.perWord), product.perWord), size));
    w.when("gt", w.value(count), 0, () => w.f.emit("mov.d", mem(last), 0));
  }
  const taken = product.name === "pairs" && zero !== 0 ? zeroRegister(w, zero) : undefined;
  each(w, w.value(count), () => {
    const element = loadByte(w, dtype, mem(from));
    if (taken) w.f.emit("sub", element, taken);
    w.f.emit(size === 1 ? "mov.b" : "mov.w", mem(to), element);
    w.f.emit("add", from, step);
    w.f.emit("add", to, size);
  });
}

function roundUp(w: KernelWriter, value: Size, multiple: number): Size {
  if (typeof value === "number") return Math.ceil(value / multiple) * multiple;
  const result = w.add(value, multiple - 1) as VReg;
  w.f.emit("and", result, -multiple);
  return result;
}

/** Calls `whole` while a vector of `lanes` elements is left, then `rest` with what is left, if anything. */
function inVectors(w: KernelWriter, count: Size, lanes: number, whole: () => void, rest: (left: Size) => void): void {
  const { f } = w;
  if (typeof count === "number") {
    f.loop(0, Math.floor(count / lanes), 1, whole);
    if (count % lanes > 0) rest(count % lanes);
    return;
  }
  const left = w.move(count);
  const [top, tail, done] = [f.label("copy"), f.label("copyTail"), f.label("copied")];
  f.emit("sub", left, lanes);
  f.jump("lt", tail);
  f.bind(top);
  whole();
  f.emit("sub", left, lanes);
  f.jump("ge", top);
  f.bind(tail);
  f.emit("add", left, lanes);
  f.jump("le", done);
  rest(left);
  f.bind(done);
}

function each(w: KernelWriter, count: Size, body: () => void): void {
  w.f.loop(0, count, 1, body);
}

/** AVX-512: a mask of the first `count` bits, up to 63. */
function lowBits(w: KernelWriter, count: Size): VReg {
  const { f } = w;
  const mask = f.mask("tail");
  const bits = f.gp("bits");
  f.emit("mov", bits, -1);
  f.emit("bzhi", bits, bits, typeof count === "number" ? w.move(count) : count);
  f.emit("kmovq", mask, bits);
  return mask;
}

/** A matrix whose rows are steps of the reduction. */
export interface MovingColumns extends BlockSource {
  /** Elements of the reduction, and columns; columns of a vector that do not exist are not read. */
  readonly elements: Size;
  readonly columns: Size;
}

/** Packs two rows at a time into vectors of words at `to`, `pitch` bytes apart. `perWord` is 2. */
export function packMovingColumns(w: KernelWriter, conversion: Conversion, source: MovingColumns, to: VReg, pitch: number): void {
  if (source.columnBytes === bytesOf(conversion.dtype)) interleaveRows(w, conversion, source, w.local(to), pitch);
  else packApart(w, conversion, source, w.local(to), pitch);
}

function interleaveRows(w: KernelWriter, conversion: Conversion, source: MovingColumns, to: Local, pitch: number): void {
  const [columns, elements, rowBytes] = [w.keep(source.columns), w.keep(source.elements), w.keep(source.rowBytes)];
  const from = w.local(source.base);
  const row = new PairRow(w, conversion);
  w.count(0, w.value(elements), 2, (k) => {
    const hasSecond = w.local(w.sub(w.value(elements), w.get(k)));
    const vectors = (count: 1 | 2): void => {
      w.count(0, w.value(columns), w.lanes, (column) => {
        const first = w.address(w.get(from), w.mul(w.get(column), bytesOf(conversion.dtype)));
        const second = count === 2 ? mem(w.address(first, w.value(rowBytes))) : undefined;
        const mask = w.vectors.tailMask(w.min(w.sub(w.value(columns), w.get(column)), w.lanes));
        w.vectors.store(mem(w.address(w.get(to), w.mul(w.get(column), 4))), row.words(mem(first), second, mask));
      });
    };
    w.when("ge", w.get(hasSecond), 2, () => vectors(2), () => vectors(1));
    w.f.emit("add", from.slot, w.mul(w.value(rowBytes), 2));
    w.f.emit("add", to.slot, pitch);
  });
}

/** Words of two rows: the first's elements in the low halves, the second's in the high ones. */
class PairRow {
  readonly #w: KernelWriter;
  readonly #conversion: Conversion;
  readonly #lanes: Lanes;

  constructor(w: KernelWriter, conversion: Conversion) {
    this.#w = w;
    this.#conversion = conversion;
    this.#lanes = new Lanes(w.f);
  }

  words(first: Mem, second: Mem | undefined, mask: VReg): VReg {
    const lanes = this.#lanes;
    const low = lanes.emit("vpsrld", this.#high(first, mask), 16);
    return second ? lanes.emit("vpor", low, this.#high(second, mask)) : low;
  }

  /** A row's elements in the high halves, zeros in the low ones; bfloat16 is loaded as float32, which is just that. */
  #high(place: Mem, mask: VReg): VReg {
    const lanes = this.#lanes;
    const { dtype, zero } = this.#conversion;
    const value = lanes.load(dtype, place, mask)[0]!;
    if (dtype === "bfloat16") return value;
    const centred = zero === 0 ? value : lanes.emit("vpsubd", value, zeroLanes(this.#w, zero, 32));
    return lanes.emit("vpslld", centred, 16);
  }
}

/** Columns whose elements are apart: one element at a time. */
function packApart(w: KernelWriter, conversion: Conversion, source: MovingColumns, to: Local, pitch: number): void {
  const [columns, elements, rowBytes, columnBytes] = [w.keep(source.columns), w.keep(source.elements), w.keep(source.rowBytes), w.keep(source.columnBytes)];
  const base = w.local(source.base);
  const { dtype, product, zero } = conversion;
  w.count(0, w.value(elements), 1, (k) => {
    const half = w.get(k);
    w.f.emit("and", half, 1);
    const word = w.get(k);
    w.f.emit("shr", word, 1);
    const target = w.address(w.get(to), w.mul(word, pitch), w.mul(half, 2));
    const from = w.address(w.get(base), w.mul(w.get(k), w.value(rowBytes)));
    const taken = product.name === "pairs" && zero !== 0 ? zeroRegister(w, zero) : undefined;
    // The first of a pair clears the second, which may not exist.
    w.f.emit("xor", half, 1);
    const shift = w.mul(half, 2);
    w.f.loop(0, w.value(columns), 1, () => {
      const element = loadByte(w, dtype, mem(from));
      if (taken) w.f.emit("sub", element, taken);
      const clear = w.f.label("second");
      w.f.emit("cmp", shift as VReg, 0);
      w.f.jump("eq", clear);
      w.f.emit("mov.d", mem(target), 0);
      w.f.bind(clear);
      w.f.emit("mov.w", mem(target), element);
      w.f.emit("add", from, w.value(columnBytes));
      w.f.emit("add", target, 4);
    });
  });
}
