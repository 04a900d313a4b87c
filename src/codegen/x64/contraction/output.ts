/**
 * The way of a contraction's results from the scratch tile to the output: row by row through the epilogue's expression,
 * then stored. The tile is in the first-level cache, so that this is no pass over memory.
 */
import type { DType } from "../../../base/index.ts";
import { type Axis, type Buffer, type Dim, type Epilogue, type Expr, mul } from "../../../ir/index.ts";
import { mem, type VReg } from "../function.ts";
import { EpilogueEmitter, type EpilogueResult, type EpilogueRow } from "../loop/epilogue.ts";
import { Lanes } from "../loop/lanes.ts";
import { bytesOf } from "./products.ts";
import { VectorMath } from "../math.ts";
import type { KernelWriter, Size } from "./writer.ts";

const LINE_BYTES = 64;

/** A segment of one output row: `vectors` vectors, the last perhaps masked. */
export interface RowSegment {
  /** Address of the segment's results in scratch, or the results themselves. */
  readonly from: VReg | readonly VReg[];
  /** Indices of the output's axes but the last. */
  readonly outer: readonly Size[];
  /** Index along the last axis of the segment's first lane. */
  readonly column: Size;
  /** Address of the output's element at that place, `toOffset` bytes before it when that is given. */
  readonly to: VReg;
  readonly toOffset?: number;
  readonly vectors: number;
  /** Lanes of the last vector that exist, and how many columns the segment has; both absent when it is whole. */
  readonly tail?: Tail;
}

export interface Tail {
  readonly mask: VReg;
  readonly columns: Size;
}

/** What a kernel says about its results. */
export interface Results {
  readonly epilogue?: Epilogue;
  readonly output: Buffer;
  readonly copy?: Buffer;
}

export class OutputWriter {
  readonly #w: KernelWriter;
  readonly #epilogue: EpilogueEmitter | undefined;
  readonly #columnStride: Dim;
  readonly #isUniform: boolean;
  readonly #dtype: DType;
  readonly #copy: { readonly from: Buffer; readonly to: Buffer } | undefined;
  readonly #lanes: Lanes;
  readonly #sums: "f32" | "i32";
  /** Whether the epilogue is few enough instructions to be written out for every row of a register tile. */
  readonly isLight: boolean;

  /** @param sums the type of the contraction's results before the epilogue */
  constructor(w: KernelWriter, { epilogue, output, copy }: Results, columnStride: Dim, sums: "f32" | "i32") {
    this.#w = w;
    this.#dtype = output.dtype;
    this.#copy = copy && { from: output, to: copy };
    this.#sums = sums;
    this.#lanes = new Lanes(w.f);
    this.#columnStride = columnStride;
    this.#isUniform = epilogue !== undefined && dependsOnlyOn(epilogue.value, epilogue.axes.at(-1)!);
    this.isLight = columnStride === 1 && (epilogue === undefined || operations(epilogue.value) <= LIGHT_OPERATIONS);
    this.#epilogue = epilogue && new EpilogueEmitter(w.f, epilogue, w.table, w.paramBlock);
  }

  /** Emits what the rows of one register tile share; before them, so that no register is held while sums are made. */
  begin(): void {
    this.#epilogue?.begin();
  }

  /** Rows whose epilogue does not depend on where they lie: emits once what they share. */
  shared(outer: readonly Size[]): EpilogueRow | undefined {
    return this.#isUniform ? this.#epilogue?.row(outer) : undefined;
  }

  /** Fetches what the epilogue will read for `rows` rows, neighbours along the last of the outer axes: before their sums are made. */
  fetch(outer: readonly Size[], rows: number, column: Size, vectors: number): void {
    this.#epilogue?.fetch(outer, rows, column, vectors);
  }

  /**
   * Asks for the lines that `rows` output rows will be stored to, from `to` on, `rowBytes` apart: before their sums are made. Stores
   * leave the core in order, so that one whose line is far away holds up all that follow.
   */
  fetchTarget(to: VReg, rowBytes: number, rows: number, vectors: number): void {
    if (this.#columnStride !== 1) return;
    const bytes = vectors * this.#w.lanes * bytesOf(this.#dtype);
    for (let row = 0; row < rows; row++) {
      for (let line = 0; line < bytes; line += LINE_BYTES) this.#w.f.emit("prefetchw", mem(to, { disp: row * rowBytes + line }));
    }
  }

  row(segment: RowSegment, shared?: EpilogueRow): void {
    const w = this.#w;
    const row = shared ?? this.#epilogue?.row(segment.outer);
    const copy = this.#copyAddress(segment.to);
    for (let v = 0; v < segment.vectors; v++) {
      const tail = v === segment.vectors - 1 ? segment.tail : undefined;
      const sum = isRegisters(segment.from) ? segment.from[v]! : w.vectors.load(mem(segment.from, { disp: v * w.vectorBytes }));
      const result = row ? row.apply(sum, segment.column, v * w.lanes, tail?.mask) : { type: this.#sums, value: [sum] };
      this.#store(result, segment, v, tail);
      if (copy) this.#lanes.store("bfloat16", mem(copy, { disp: (segment.toOffset ?? 0) / 2 + v * 2 * w.lanes }), result.type, result.value, tail?.mask);
    }
  }

  /** Elements of the copy are half as large as the output's and lie in the same order. */
  #copyAddress(to: VReg): VReg | undefined {
    if (!this.#copy) return undefined;
    const w = this.#w;
    const distance = w.sub(to, w.pointer(this.#copy.from)) as VReg;
    w.f.emit("shr", distance, 1);
    return w.address(distance, w.pointer(this.#copy.to));
  }

  #store({ type, value }: EpilogueResult, segment: RowSegment, v: number, tail: Tail | undefined): void {
    if (this.#columnStride !== 1) {
      this.#scatter({ type, value }, segment, v, tail);
      return;
    }
    const place = mem(segment.to, { disp: (segment.toOffset ?? 0) + v * this.#w.lanes * bytesOf(this.#dtype) });
    this.#lanes.store(this.#dtype, place, type, value, tail?.mask);
  }

  /** Output columns that are apart: through the frame, one element at a time. */
  #scatter({ type, value }: EpilogueResult, segment: RowSegment, v: number, tail: Tail | undefined): void {
    const w = this.#w;
    const to = w.address(segment.to, segment.toOffset ?? 0);
    const lane = v * w.lanes;
    const slot = w.f.stackSlot(w.vectorBytes, w.vectorBytes);
    this.#lanes.store(this.#dtype, slot, type, value);
    const size = bytesOf(this.#dtype);
    const stepBytes = w.mul(w.size(this.#columnStride), size);
    const count = tail ? w.sub(tail.columns, lane) : w.lanes;
    const source = w.f.gp();
    w.f.emit("lea", source, slot);
    w.copyElements(source, size, w.address(to, w.mul(stepBytes, lane)), stepBytes, count, size);
  }
}

const LIGHT_OPERATIONS = 8;

/** Operations on vectors in an expression; what is no single instruction counts as very many. */
function operations(expr: Expr): number {
  const all = (parts: readonly Expr[]): number => parts.reduce((sum, part) => sum + operations(part), 0);
  switch (expr.kind) {
    case "load": return 1;
    case "op": return (VectorMath.has(expr.op) ? Number.POSITIVE_INFINITY : 1) + all(expr.args);
    case "cast": return 1 + operations(expr.arg);
    case "select": return 1 + all([expr.condition, expr.then, expr.else]);
    case "reduce": return Number.POSITIVE_INFINITY;
    default: return 0;
  }
}

/** Whether the expression names no axis but this one. */
function dependsOnlyOn(expr: Expr, axis: Axis): boolean {
  const all = (parts: readonly Expr[]): boolean => parts.every((part) => dependsOnlyOn(part, axis));
  switch (expr.kind) {
    case "axis": return expr.axis === axis;
    case "load": return all(expr.index);
    case "op": return all(expr.args);
    case "cast": return dependsOnlyOn(expr.arg, axis);
    case "select": return all([expr.condition, expr.then, expr.else]);
    case "reduce": return false;
    default: return true;
  }
}

function isRegisters(from: VReg | readonly VReg[]): from is readonly VReg[] {
  return Array.isArray(from);
}

/** Strides of a buffer in elements, row-major where it names none. */
export function stridesOf(buffer: Buffer): readonly Dim[] {
  if (buffer.strides) return buffer.strides;
  const strides: Dim[] = new Array(buffer.dims.length);
  let stride: Dim = 1;
  for (let i = buffer.dims.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride = mul(stride, buffer.dims[i]!);
  }
  return strides;
}
