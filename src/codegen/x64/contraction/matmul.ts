/**
 * Matrix multiplication as machine code, from parameters.
 *
 * The output is cut into blocks, the units of work for threads: some row tiles high, some column groups wide. Within a
 * block the reduction runs in blocks of `depth` (or at once); per column group all row tiles are done, so that the
 * group's part of B stays in the near caches. Row tiles are of equal height: 128 rows with tiles of at most 14 are
 * nine of 13 and one of 11.
 * A is read in place when its rows are contiguous at a pitch known now, else from a copied block. B is a packed
 * constant, read in place, or packed one group at a time. The reduction is counted in words (see `products.ts`).
 */
import { assert } from "../../../base/index.ts";
import { add, type Buffer, ceilDiv, type CompiledKernel, type ConstantLookup, type Dim, type MatmulKernel, max, mul, type PackedData, product } from "../../../ir/index.ts";
import type { Isa, VReg } from "../function.ts";
import { copyBlock, paddedPitch } from "./copy.ts";
import { type ColumnLayout, RegisterTile } from "./microkernel.ts";
import { type Conversion, copyWordRows, packMovingColumns } from "./copy-words.ts";
import { type MatmulBlock, placeBlock, writeSums } from "./matmul-block.ts";
import { type MatmulOperands, matmulOperands } from "./matmul-operands.ts";
import { OutputWriter, stridesOf, type Tail } from "./output.ts";
import { PANEL_ROW_BYTES, panelCount } from "./panels.ts";
import { bytesOf, type Product } from "./products.ts";
import { startSums } from "./start.ts";
import { WeightsAhead } from "./weights-ahead.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface MatmulParameters {
  /** Most rows and vectors of the register tile. */
  readonly rows: number;
  readonly vectors: number;
  /** Length of a reduction block; absent when the reduction is done at once. */
  readonly depth?: number;
  readonly copyA: boolean;
  readonly b: "constant" | "direct" | "packed";
  /** Row tiles and column groups of a block. */
  readonly blockTiles: number;
  readonly blockGroups: number;
  /** Blocks of the same rows follow each other, not those of the same columns. */
  readonly byRows?: boolean;
  readonly unroll: number;
}

export function matmulTacticName(p: MatmulParameters, lanes: number, product: Product["name"]): string {
  const parts = [`matmul ${product === "float" ? "" : `${product} `}${p.rows}x${p.vectors * lanes}`, `block ${p.blockTiles}x${p.blockGroups}`];
  if (p.depth !== undefined) parts.push(`k${p.depth}`);
  if (p.copyA) parts.push("copyA");
  if (p.b !== "constant") parts.push(`b-${p.b}`);
  if (p.unroll !== 4) parts.push(`u${p.unroll}`);
  return parts.join(" ");
}

export function compileMatmul(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup, p: MatmulParameters): CompiledKernel {
  return new MatmulGenerator(kernel, isa, constants, p).compile();
}

/** Height of the row tiles: as even as the number of tiles allows. */
export function evenHeight(m: Dim, most: number): Dim {
  return ceilDiv(m, max(1, ceilDiv(m, most)));
}

/** One block of the reduction, in words. */
interface Pass {
  readonly begin: Local | 0;
  readonly steps: Local | number;
}

/** One column group: its first column, its vectors, and how many columns there are when not all. */
interface Group {
  readonly column: Local;
  readonly vectors: number;
  readonly columns?: Local | number;
}

/** Of a kernel of its own, or of a part of one whose writer is given. */
export class MatmulGenerator {
  readonly #kernel: MatmulKernel;
  readonly #p: MatmulParameters;
  readonly #w: KernelWriter;
  readonly #operands: MatmulOperands;
  /** Length of the reduction in words. */
  readonly #words: Dim;
  readonly #groupColumns: number;
  readonly #height: Dim;
  readonly #blockRows: Dim;
  readonly #depth: number | undefined;
  readonly #aPitch: number;
  readonly #cPitch: number;
  /** Where the parts of the scratch memory begin: A's block is first. */
  readonly #bScratch: number;
  readonly #cScratch: number;
  readonly scratchBytes: number;

  constructor(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup, p: MatmulParameters, writer = new KernelWriter(isa, kernel.name)) {
    this.#kernel = kernel;
    this.#p = p;
    this.#w = writer;
    const operands = matmulOperands(kernel, isa, constants);
    assert(operands, `matrix product "${kernel.name}" cannot be generated`);
    this.#operands = operands;
    this.#words = ceilDiv(kernel.k, operands.product.perWord);
    this.#groupColumns = p.vectors * this.#w.lanes;
    this.#height = evenHeight(kernel.m, p.rows);
    this.#blockRows = mul(this.#height, p.blockTiles);
    const whole = typeof this.#words === "number" && (p.depth === undefined || p.depth >= this.#words);
    this.#depth = whole ? undefined : p.depth;
    const depth = whole ? (this.#words as number) : (p.depth ?? 0);
    const mostRows = p.rows * p.blockTiles;
    this.#aPitch = p.copyA ? paddedPitch(depth) : 0;
    this.#cPitch = this.#groupColumns * 4;
    this.#bScratch = this.#aPitch * mostRows;
    this.#cScratch = this.#bScratch + (p.b === "packed" ? depth * this.#cPitch : 0);
    this.scratchBytes = this.#cScratch + (this.#depth === undefined ? p.rows : mostRows * p.blockGroups) * this.#cPitch;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const kernel = this.#kernel;
    const rowBlocks = ceilDiv(kernel.m, max(1, this.#blockRows));
    const columnBlocks = ceilDiv(kernel.n, this.#groupColumns * this.#p.blockGroups);
    const output = this.output();
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const inner = this.#p.byRows ? [columnBlocks, rowBlocks] : [rowBlocks, columnBlocks];
      const [first, second, ...outer] = w.split(tile, [...inner, ...[...kernel.batch].reverse()]);
      const [rowBlock, columnBlock] = this.#p.byRows ? [second, first] : [first, second];
      const [rows, columns] = [w.size(this.#blockRows), this.#groupColumns * this.#p.blockGroups];
      this.#block(placeBlock(w, kernel, this.#packed(), { outer: outer.reverse(), rowBlock: rowBlock!, columnBlock: columnBlock!, rows, columns }), output);
    });
    const { code } = w.f.finish();
    return {
      name: kernel.name,
      code,
      params: w.table.list,
      packed: w.packed,
      tiles: product([...kernel.batch, rowBlocks, columnBlocks]),
      scratchBytes: this.scratchBytes,
      flops: mul(2, product([...kernel.batch, kernel.m, kernel.n, kernel.k])),
      bytes: matmulBytes(kernel),
      tactic: matmulTacticName(this.#p, w.lanes, this.#operands.product.name),
    };
  }

  output(): OutputWriter {
    return new OutputWriter(this.#w, this.#kernel, stridesOf(this.#kernel.output).at(-1) ?? 1, this.#operands.product.accumulator);
  }

  /** Rows from `begin` on, as many as the kernel has, and all columns, where B is a packed constant and there are no batches. */
  rows(begin: Local, output: OutputWriter): void {
    const w = this.#w;
    const { a, m, n } = this.#kernel;
    const packed = this.#packed();
    assert(packed, `the columns of "${this.#kernel.name}" are no packed constant`);
    this.#block({
      outer: [], rowBegin: begin, rowEnd: w.local(w.add(w.get(begin), w.size(m))), columnBegin: w.local(0), columnEnd: w.local(w.size(n)),
      a: w.local(w.address(w.pointer(a.buffer), w.mul(w.get(begin), w.size(mul(bytesOf(a.buffer.dtype), a.rowStride))))),
      b: w.local(w.packedPointer(packed)), output: w.local(w.pointer(this.#kernel.output)),
    }, output);
  }

  /** B as a packed constant, when it is read as one. */
  #packed(): PackedData | undefined {
    return this.#p.b === "constant" ? this.#operands.packed : undefined;
  }

  #block(block: MatmulBlock, output: OutputWriter): void {
    const w = this.#w;
    const words = this.#words;
    const depth = this.#depth;
    if (depth === undefined) {
      this.#pass(block, output, { begin: 0, steps: words as number });
      return;
    }
    const begin = w.local(0);
    const top = w.f.label("depth");
    w.f.bind(top);
    const steps = typeof words === "number" && words % depth === 0 ? depth : w.local(w.min(w.sub(w.size(words), w.get(begin)), depth));
    this.#pass(block, output, { begin, steps });
    w.f.emit("add", begin.slot, depth);
    w.f.emit("cmp", w.get(begin), w.size(words));
    w.f.jump("lt", top);
  }

  #pass(block: MatmulBlock, output: OutputWriter, pass: Pass): void {
    const w = this.#w;
    if (this.#p.copyA) this.#copyA(block, pass);
    const column = w.local(w.get(block.columnBegin));
    this.#wholeGroups(block, column, () => this.#group(block, output, pass, { column, vectors: this.#p.vectors }));
    this.#lastGroup(block, column, (vectors, columns) => this.#group(block, output, pass, { column, vectors, columns }));
  }

  #copyA(block: MatmulBlock, pass: Pass): void {
    const w = this.#w;
    const { a } = this.#kernel;
    const columnBytes = w.size(mul(bytesOf(a.buffer.dtype), a.columnStride));
    const base = w.address(w.get(block.a), w.mul(this.#firstElement(pass), columnBytes));
    const source = { base, rowBytes: w.size(mul(bytesOf(a.buffer.dtype), a.rowStride)), columnBytes };
    const rows = w.sub(w.get(block.rowEnd), w.get(block.rowBegin));
    const elements = this.#elements(pass);
    if (this.#operands.product.name === "float") copyBlock(w, source, rows, elements, w.scratch, this.#aPitch);
    else copyWordRows(w, this.#conversion(a.buffer, this.#operands.zeroA), source, rows, elements, w.scratch, this.#aPitch);
  }

  #conversion(buffer: Buffer, zero: number | Buffer): Conversion {
    return { dtype: buffer.dtype, product: this.#operands.product, zero };
  }

  #firstElement(pass: Pass): Size {
    return this.#w.mul(this.#w.value(pass.begin), this.#operands.product.perWord);
  }

  /** Elements of the reduction in a pass: the last word may not be full. */
  #elements(pass: Pass): Size {
    const w = this.#w;
    const { perWord } = this.#operands.product;
    if (perWord === 1) return w.value(pass.steps);
    const { k } = this.#kernel;
    if (pass.begin === 0) return w.size(k);
    return w.min(w.sub(w.size(k), this.#firstElement(pass)), w.mul(w.value(pass.steps), perWord));
  }

  #wholeGroups(block: MatmulBlock, column: Local, body: () => void): void {
    const w = this.#w;
    const n = this.#kernel.n;
    if (typeof n === "number" && n < this.#groupColumns) return;
    const top = w.f.label("groups");
    const done = w.f.label("groupsDone");
    w.f.bind(top);
    w.f.emit("cmp", w.add(w.get(column), this.#groupColumns) as VReg, block.columnEnd.slot);
    w.f.jump("gt", done);
    body();
    w.f.emit("add", column.slot, this.#groupColumns);
    w.f.jump("always", top);
    w.f.bind(done);
  }

  /** The columns that do not fill a group: one piece of code per possible number of vectors. */
  #lastGroup(block: MatmulBlock, column: Local, body: (vectors: number, columns: Local | number) => void): void {
    const w = this.#w;
    const { n } = this.#kernel;
    const { lanes } = w;
    if (typeof n === "number") {
      const columns = n % this.#groupColumns;
      if (columns > 0) w.when("lt", w.get(column), w.get(block.columnEnd), () => body(Math.ceil(columns / lanes), columns));
      return;
    }
    const done = w.f.label("lastDone");
    const columns = w.local(w.sub(w.get(block.columnEnd), w.get(column)));
    w.f.emit("cmp", columns.slot, 0);
    w.f.jump("le", done);
    w.choose(columns, Array.from({ length: this.#p.vectors }, (_, v) => (v + 1) * lanes), (most) => body(most / lanes, columns));
    w.f.bind(done);
  }

  #group(block: MatmulBlock, output: OutputWriter, pass: Pass, group: Group): void {
    const w = this.#w;
    const { m } = this.#kernel;
    const b = this.#columns(block, pass, group);
    const row = w.local(w.get(block.rowBegin));
    const rows = w.local();
    const target = w.local();
    const heights = rowHeights(m, this.#p.rows);
    const ahead = this.#ahead(group);
    const top = w.f.label("rows");
    const done = w.f.label("rowsDone");
    w.f.bind(top);
    w.f.emit("cmp", w.get(row), block.rowEnd.slot);
    w.f.jump("ge", done);
    w.set(rows, w.min(w.sub(w.get(block.rowEnd), w.get(row)), w.size(this.#height)));
    w.set(target, this.#target(block, row, group));
    const next = w.f.label("nextRows");
    w.choose(rows, heights, (height) => {
      if (this.#isUsual(height)) this.#afterLast(pass, () => output.fetch([...block.outer.map((outer) => w.value(outer)), w.get(row)], height, w.get(group.column), group.vectors));
      const tile = this.#multiply(block, pass, group, b, row, target, height, ahead);
      ahead?.next();
      if (!this.#writesAtOnce(output, height)) {
        tile.store(w.get(target), this.#cPitch);
        return;
      }
      this.#writeTile(tile, block, output, group, row);
      w.f.jump("always", next);
    });
    this.#afterLast(pass, () => this.#finish(block, output, group, row, rows, target));
    w.f.bind(next);
    w.f.emit("add", row.slot, w.size(this.#height));
    w.f.jump("always", top);
    w.f.bind(done);
  }

  /** Address of the tile's sums in scratch. With one pass every tile uses the same place. */
  #target(block: MatmulBlock, row: Local, group: Group): Size {
    const w = this.#w;
    if (this.#depth === undefined) return w.address(w.scratch, this.#cScratch);
    const rowBytes = w.mul(w.sub(w.get(row), w.get(block.rowBegin)), this.#cPitch);
    const groupBytes = w.mul(w.sub(w.get(group.column), w.get(block.columnBegin)), 4 * this.#p.rows * this.#p.blockTiles);
    return w.address(w.scratch, this.#cScratch, rowBytes, groupBytes);
  }

  /** Address of B's columns at the pass's first step, packed first where asked for. */
  #columns(block: MatmulBlock, pass: Pass, group: Group): Local {
    const w = this.#w;
    const { b } = this.#kernel;
    const column = w.get(group.column);
    if (this.#packed()) return w.local(w.address(w.get(block.b), w.mul(column, w.mul(w.size(this.#words), 4)), w.mul(w.value(pass.begin), PANEL_ROW_BYTES)));
    const rowBytes = w.size(mul(bytesOf(b.buffer.dtype), b.rowStride));
    const columnBytes = w.size(mul(bytesOf(b.buffer.dtype), b.columnStride));
    const base = w.address(w.get(block.b), w.mul(this.#firstElement(pass), rowBytes), w.mul(column, columnBytes));
    if (this.#p.b === "direct") return w.local(base);
    const to = w.address(w.scratch, this.#bScratch);
    const columns = group.columns === undefined ? this.#groupColumns : w.value(group.columns);
    const elements = this.#elements(pass);
    if (this.#operands.product.name === "float") copyBlock(w, { base, rowBytes, columnBytes }, elements, columns, to, this.#cPitch);
    else packMovingColumns(w, this.#conversion(b.buffer, this.#operands.zeroB), { base, rowBytes, columnBytes, elements, columns }, to, this.#cPitch);
    return w.local(w.address(w.scratch, this.#bScratch));
  }

  #layout(group: Group): ColumnLayout {
    const w = this.#w;
    const { b } = this.#kernel;
    const vectorOffsets = Array.from({ length: group.vectors }, (_, v) => v * w.vectorBytes);
    if (this.#p.b === "packed") return { stepBytes: this.#cPitch, vectorOffsets };
    if (this.#p.b === "direct") {
      const tail = this.#tail(group);
      return { stepBytes: w.size(mul(4, b.rowStride)), vectorOffsets, ...(tail && { lastMask: tail.mask }) };
    }
    const panelBytes = (this.#words as number) * PANEL_ROW_BYTES;
    return { stepBytes: PANEL_ROW_BYTES, vectorOffsets: vectorOffsets.map((bytes) => Math.floor(bytes / PANEL_ROW_BYTES) * panelBytes + (bytes % PANEL_ROW_BYTES)) };
  }

  #ahead(group: Group): WeightsAhead | undefined {
    const w = this.#w;
    const words = this.#words;
    if (this.#p.b !== "constant" || typeof words !== "number") return undefined;
    return new WeightsAhead(w, panelCount(group.vectors * w.lanes), words * PANEL_ROW_BYTES, (this.#depth ?? words) * PANEL_ROW_BYTES, this.#p.blockTiles);
  }

  #tail(group: Group): Tail | undefined {
    if (group.columns === undefined) return undefined;
    const w = this.#w;
    const columns = w.value(group.columns);
    return { mask: w.vectors.tailMask(w.sub(columns, (group.vectors - 1) * w.lanes)), columns };
  }

  #multiply(block: MatmulBlock, pass: Pass, group: Group, b: Local, row: Local, target: Local, height: number, ahead: WeightsAhead | undefined): RegisterTile {
    const w = this.#w;
    const { a } = this.#kernel;
    const tile = new RegisterTile(w, height, group.vectors, typeof group.columns === "number" ? group.columns - (group.vectors - 1) * w.lanes : w.lanes, this.#operands.product);
    const start = (): void => startSums(w, tile, this.#operands.start, this.#operands.product, w.get(group.column));
    if (pass.begin === 0) start();
    else w.when("eq", w.value(pass.begin), 0, start, () => tile.load(w.get(target), this.#cPitch));
    const pitch = this.#p.copyA ? this.#aPitch : bytesOf(a.buffer.dtype) * (a.rowStride as number);
    const rowBytes = w.mul(w.sub(w.get(row), w.get(block.rowBegin)), pitch);
    const from = this.#p.copyA ? w.address(w.scratch, rowBytes) : w.address(w.get(block.a), rowBytes, w.mul(w.value(pass.begin), 4));
    const offsets = Array.from({ length: height }, (_, r) => r * pitch);
    tile.multiply(from, { offsets }, w.get(b), ahead ? ahead.beside(this.#layout(group), height) : this.#layout(group), w.value(pass.steps), this.#p.unroll);
    return tile;
  }

  /** Whether tiles of this height go to the output from their registers: when sums are whole at once, and the code stays small. */
  #writesAtOnce(output: OutputWriter, height: number): boolean {
    return this.#depth === undefined && output.isLight && this.#isUsual(height);
  }

  /** Whether code for tiles of this height may be large: there are few such heights, and most tiles have them. */
  #isUsual(height: number): boolean {
    return typeof this.#kernel.m === "number" || height > this.#p.rows / 2;
  }

  #writeTile(tile: RegisterTile, block: MatmulBlock, output: OutputWriter, group: Group, row: Local): void {
    const w = this.#w;
    const [rowStride, columnStride] = stridesOf(this.#kernel.output).slice(-2).map((stride) => mul(bytesOf(this.#kernel.output.dtype), stride)) as [Dim, Dim];
    const outer = block.outer.map((index) => w.value(index));
    const column = w.get(group.column);
    const tail = this.#tail(group);
    const place = (index: VReg): VReg => w.address(w.get(block.output), w.mul(index, w.size(rowStride)), w.mul(column, w.size(columnStride)));
    output.begin();
    const shared = output.shared([...outer, 0]);
    const first = typeof rowStride === "number" ? place(w.get(row)) : undefined;
    tile.accumulators.forEach((from, r) => {
      const index = w.move(w.add(w.get(row), r));
      const to = first ? { to: first, toOffset: r * (rowStride as number) } : { to: place(index) };
      output.row({ from, outer: shared ? [] : [...outer, index], column, ...to, vectors: group.vectors, ...(tail && { tail }) }, shared);
    });
  }

  #afterLast(pass: Pass, body: () => void): void {
    const w = this.#w;
    if (pass.begin === 0) body();
    else w.when("ge", w.add(w.value(pass.begin), this.#depth!), w.size(this.#words), body);
  }

  /** The epilogue and the stores of one register tile. */
  #finish(block: MatmulBlock, output: OutputWriter, group: Group, row: Local, rows: Local, target: Local): void {
    const { column, vectors } = group;
    writeSums(this.#w, this.#kernel, block, output, { from: this.#w.get(target), pitch: this.#cPitch, row, rows, column, vectors, tail: () => this.#tail(group) });
  }
}

/** The heights that row tiles can have, greatest first. */
export function rowHeights(m: Dim, most: number): number[] {
  if (typeof m !== "number") return Array.from({ length: most }, (_, i) => most - i);
  const height = evenHeight(m, most) as number;
  if (height === 0) return [1];
  return m % height > 0 ? [height, m % height] : [height];
}

export function matmulBytes(kernel: MatmulKernel): Dim {
  const { batch, m, n, k, a, b, output } = kernel;
  const repeated = (strides: readonly Dim[]): Dim => product(batch.filter((_, i) => strides[i] !== 0));
  const [aBytes, bBytes, outBytes] = [a.buffer, b.buffer, output].map((buffer) => bytesOf(buffer.dtype)) as [number, number, number];
  return add(mul(aBytes, repeated(a.batchStrides), m, k), mul(bBytes, repeated(b.batchStrides), k, n), mul(outBytes, product(batch), m, n));
}
