/**
 * Matrix multiplication on AMX tiles. The output is cut into blocks, the units of work for threads, and a block into
 * grids of 32 rows by 32 columns, whose sums are in tiles while a part of the reduction is multiplied.
 *
 * Where the reduction is cut, a column group's part of B stays in the first-level cache for all rows of the block, and
 * sums wait in scratch memory between the parts. Words that do not fill a step are a part of their own, with narrower
 * tiles. The last part's sums go through scratch memory to the vector registers, and from there to the output.
 * A is read where it lies when its words are whole and side by side, else from a copied block; B is a packed constant,
 * in the panels that all tactics share, or packed one group at a time.
 */
import { assert } from "../../../base/index.ts";
import { ceilDiv, type CompiledKernel, type ConstantLookup, type Dim, type MatmulKernel, mul, product } from "../../../ir/index.ts";
import { type Isa, mem, type VReg } from "../function.ts";
import { paddedPitch } from "./copy.ts";
import { copyWordRows, packMovingColumns } from "./copy-words.ts";
import { writeGrid } from "./grid-output.ts";
import { matmulBytes } from "./matmul.ts";
import { type MatmulBlock, placeBlock } from "./matmul-block.ts";
import { type MatmulOperands, tileOperands } from "./matmul-operands.ts";
import { OutputWriter, stridesOf, type Tail } from "./output.ts";
import { PANEL_ROW_BYTES } from "./panels.ts";
import { bytesOf, type Product } from "./products.ts";
import { reductionParts, type ReductionPart } from "./reduction-parts.ts";
import { startValues } from "./start.ts";
import { TileColumnsAhead } from "./tile-columns-ahead.ts";
import { configureTiles, GRID_COLUMNS, GRID_PITCH, GRID_ROWS, releaseTiles, TILE_COLUMNS, TILE_ROWS, type TileColumns, tileFeatures, TileGrid } from "./tiles.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface TileMatmulParameters {
  /** Words of the reduction multiplied at once, in whole steps; absent when all are. */
  readonly depth?: number;
  readonly copyA: boolean;
  /** Grids of a block, down and across. */
  readonly blockRows: number;
  readonly blockGroups: number;
}

export function tileMatmulTacticName(p: TileMatmulParameters, { name }: Product): string {
  return `matmul ${name} tiles block ${p.blockRows}x${p.blockGroups}${p.depth === undefined ? "" : ` k${p.depth}`}${p.copyA ? " copyA" : ""}`;
}

export function compileTileMatmul(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup, p: TileMatmulParameters): CompiledKernel {
  const operands = tileOperands(kernel, isa, constants);
  assert(operands && typeof kernel.k === "number", `matrix product "${kernel.name}" cannot be made of tiles`);
  return new TileMatmulGenerator(kernel, kernel.k, operands, isa, p).compile();
}

const LINE_BYTES = 64;

interface Block extends MatmulBlock {
  /** Rows that the tiles' shapes are set for; 0 at the start of each part of the reduction. */
  readonly configured: Local;
}

/** A part of the reduction, and the word where it begins when that is not known. */
interface Pass extends ReductionPart {
  readonly at: Local | number;
}

/** One or two tiles of columns, and how many columns there are when they are not full. */
interface Group {
  readonly column: Local;
  readonly tiles: 1 | 2;
  readonly columns?: Local | number;
}

class TileMatmulGenerator {
  readonly #kernel: MatmulKernel;
  readonly #k: number;
  readonly #words: number;
  readonly #p: TileMatmulParameters;
  readonly #w: KernelWriter;
  readonly #operands: MatmulOperands;
  readonly #parts: readonly ReductionPart[];
  readonly #output: OutputWriter;
  readonly #aPitch: number;
  /** Fetches packed columns ahead of their use. */
  readonly #ahead: TileColumnsAhead | undefined;
  /** Where the parts of the scratch memory begin: A's block is first. */
  readonly #bScratch: number;
  readonly #sums: number;
  readonly #scratchBytes: number;

  constructor(kernel: MatmulKernel, k: number, operands: MatmulOperands, isa: Isa, p: TileMatmulParameters) {
    this.#kernel = kernel;
    this.#k = k;
    this.#words = Math.ceil(k / operands.product.perWord);
    this.#p = p;
    this.#operands = operands;
    this.#w = new KernelWriter(isa, kernel.name);
    this.#parts = reductionParts(this.#words, p.depth);
    this.#output = new OutputWriter(this.#w, kernel, stridesOf(kernel.output).at(-1) ?? 1, operands.product.accumulator);
    const longest = Math.max(...this.#parts.map(({ steps, stepWords }) => steps * stepWords));
    this.#aPitch = p.copyA ? paddedPitch(longest) : 0;
    this.#bScratch = this.#aPitch * p.blockRows * GRID_ROWS;
    this.#sums = this.#bScratch + (operands.packed ? 0 : longest * GRID_PITCH);
    if (operands.packed) this.#ahead = new TileColumnsAhead(this.#w, this.#layout(), p.blockRows);
    const grids = this.#parts.length === 1 ? 1 : p.blockRows * p.blockGroups;
    this.#scratchBytes = this.#sums + grids * GRID_ROWS * GRID_PITCH;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const kernel = this.#kernel;
    const rowBlocks = ceilDiv(kernel.m, GRID_ROWS * this.#p.blockRows);
    const columnBlocks = ceilDiv(kernel.n, GRID_COLUMNS * this.#p.blockGroups);
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [rowBlock, columnBlock, ...outer] = w.split(tile, [rowBlocks, columnBlocks, ...[...kernel.batch].reverse()]);
      const [rows, columns] = [GRID_ROWS * this.#p.blockRows, GRID_COLUMNS * this.#p.blockGroups];
      const block = placeBlock(w, kernel, this.#operands.packed, { outer: outer.reverse(), rowBlock: rowBlock!, columnBlock: columnBlock!, rows, columns });
      this.#block({ ...block, configured: w.local() });
    });
    releaseTiles(w);
    const { code } = w.f.finish();
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed,
      tiles: product([...kernel.batch, rowBlocks, columnBlocks]),
      scratchBytes: this.#scratchBytes,
      flops: mul(2, product([...kernel.batch, kernel.m, kernel.n, kernel.k])),
      bytes: matmulBytes(kernel),
      tactic: tileMatmulTacticName(this.#p, this.#operands.product),
      features: tileFeatures(this.#operands.product),
    };
  }

  #block(block: Block): void {
    const w = this.#w;
    for (const part of this.#parts) {
      const { begin, times, steps, stepWords } = part;
      if (times === 1) this.#pass(block, { ...part, at: begin });
      else w.count(begin, begin + times * steps * stepWords, steps * stepWords, (at) => this.#pass(block, { ...part, at }));
    }
  }

  #pass(block: Block, pass: Pass): void {
    const w = this.#w;
    if (this.#p.copyA) this.#copyA(block, pass);
    w.set(block.configured, 0);
    const column = w.local(w.get(block.columnBegin));
    const whole = w.f.label("groups");
    const last = w.f.label("lastGroup");
    w.f.bind(whole);
    w.f.emit("cmp", w.move(w.add(w.get(column), GRID_COLUMNS)), block.columnEnd.slot);
    w.f.jump("gt", last);
    this.#group(block, pass, { column, tiles: 2 });
    w.f.emit("add", column.slot, GRID_COLUMNS);
    w.f.jump("always", whole);
    w.f.bind(last);
    this.#lastGroup(block, pass, column);
  }

  #lastGroup(block: Block, pass: Pass, column: Local): void {
    const w = this.#w;
    const { n } = this.#kernel;
    if (typeof n === "number") {
      const columns = n % GRID_COLUMNS;
      if (columns > 0) w.when("lt", w.get(column), w.get(block.columnEnd), () => this.#group(block, pass, { column, tiles: columns > TILE_COLUMNS ? 2 : 1, columns }));
      return;
    }
    const columns = w.local(w.sub(w.get(block.columnEnd), w.get(column)));
    w.when("gt", w.get(columns), 0, () => {
      w.choose(columns, [TILE_COLUMNS, GRID_COLUMNS], (most) => this.#group(block, pass, { column, tiles: most === TILE_COLUMNS ? 1 : 2, columns }));
    });
  }

  /** Elements of the reduction in a pass: the last word may not be full. */
  #elements(pass: Pass): Size {
    const { perWord } = this.#operands.product;
    const end = pass.begin + pass.times * pass.steps * pass.stepWords;
    return pass.steps * pass.stepWords * perWord - (end === this.#words ? this.#words * perWord - this.#k : 0);
  }

  #firstElement(pass: Pass): Size {
    return this.#w.mul(this.#w.value(pass.at), this.#operands.product.perWord);
  }

  #copyA(block: Block, pass: Pass): void {
    const w = this.#w;
    const { a } = this.#kernel;
    const size = bytesOf(a.buffer.dtype);
    const columnBytes = w.size(mul(size, a.columnStride));
    const base = w.address(w.get(block.a), w.mul(this.#firstElement(pass), columnBytes));
    const rows = w.sub(w.get(block.rowEnd), w.get(block.rowBegin));
    copyWordRows(w, { dtype: a.buffer.dtype, product: this.#operands.product, zero: 0 }, { base, rowBytes: w.size(mul(size, a.rowStride)), columnBytes }, rows, this.#elements(pass), w.scratch, this.#aPitch);
  }

  #group(block: Block, pass: Pass, group: Group): void {
    const w = this.#w;
    const { m } = this.#kernel;
    const b = this.#columns(block, pass, group);
    const [rows, target] = [w.local(), w.local()];
    this.#ahead?.begin(this.#nextColumns(block, pass, group));
    w.count(w.get(block.rowBegin), w.get(block.rowEnd), GRID_ROWS, (row) => {
      w.set(rows, w.min(w.sub(w.get(block.rowEnd), w.get(row)), GRID_ROWS));
      w.set(target, this.#target(block, row, group));
      w.when("ne", w.get(rows), w.get(block.configured), () => {
        configureTiles(w, typeof m === "number" && m % GRID_ROWS === 0 ? GRID_ROWS : w.get(rows), pass.stepWords);
        w.set(block.configured, w.get(rows));
      });
      if (pass.isLast) this.#fetchOutput(block, group, row, rows);
      w.choose(rows, gridHeights(m), (most) => this.#multiply(block, pass, group, b, row, target, most === TILE_ROWS ? 1 : 2));
      this.#ahead?.next();
      if (pass.isLast) this.#finish(block, group, row, rows, target);
    });
  }

  /** Bytes from a group's columns to those that are multiplied after them: the next part of the block's first group after its last one. */
  #nextColumns(block: Block, pass: Pass, group: Group): Size {
    const w = this.#w;
    const next = w.move(4 * this.#words * GRID_COLUMNS);
    if (pass.isLast) return next;
    w.when("ge", w.move(w.add(w.get(group.column), GRID_COLUMNS)), w.get(block.columnEnd), () => {
      w.f.emit("mov", next, pass.steps * pass.stepWords * PANEL_ROW_BYTES);
      w.f.emit("sub", next, w.mul(w.sub(w.get(group.column), w.get(block.columnBegin)), 4 * this.#words));
    });
    return next;
  }

  /** Address of the grid's sums in scratch. With one part every grid uses the same place. */
  #target(block: Block, row: Local, group: Group): Size {
    const w = this.#w;
    if (this.#parts.length === 1) return w.address(w.scratch, this.#sums);
    const above = w.mul(w.sub(w.get(row), w.get(block.rowBegin)), GRID_PITCH);
    const before = w.mul(w.sub(w.get(group.column), w.get(block.columnBegin)), 4 * GRID_ROWS * this.#p.blockRows);
    return w.address(w.scratch, this.#sums, above, before);
  }

  /** Address of B's columns at the pass's first word, packed first where they move. */
  #columns(block: Block, pass: Pass, group: Group): Local {
    const w = this.#w;
    const { b } = this.#kernel;
    const column = w.get(group.column);
    if (this.#operands.packed) return w.local(w.address(w.get(block.b), w.mul(column, 4 * this.#words), w.mul(w.value(pass.at), PANEL_ROW_BYTES)));
    const size = bytesOf(b.buffer.dtype);
    const [rowBytes, columnBytes] = [w.size(mul(size, b.rowStride)), w.size(mul(size, b.columnStride))];
    const base = w.address(w.get(block.b), w.mul(this.#firstElement(pass), rowBytes), w.mul(column, columnBytes));
    const columns = group.columns === undefined ? GRID_COLUMNS : w.value(group.columns);
    packMovingColumns(w, { dtype: b.buffer.dtype, product: this.#operands.product, zero: 0 }, { base, rowBytes, columnBytes, elements: this.#elements(pass), columns }, w.address(w.scratch, this.#bScratch), GRID_PITCH);
    return w.local(w.address(w.scratch, this.#bScratch));
  }

  #layout(): TileColumns {
    if (!this.#operands.packed) return { pitch: GRID_PITCH, secondBytes: GRID_PITCH / 2 };
    return { pitch: PANEL_ROW_BYTES, secondBytes: this.#words * PANEL_ROW_BYTES };
  }

  #multiply(block: Block, pass: Pass, group: Group, b: Local, row: Local, target: Local, rowTiles: 1 | 2): void {
    const w = this.#w;
    const { a } = this.#kernel;
    const { product: words, start } = this.#operands;
    const grid = new TileGrid(w, words, rowTiles, group.tiles);
    const begin = (): void => (start ? grid.start(startValues(w, start, words, w.get(group.column), group.tiles)) : grid.zero());
    w.when("eq", w.value(pass.at), 0, begin, () => grid.load(w.get(target)));
    const pitch = this.#p.copyA ? this.#aPitch : w.size(mul(bytesOf(a.buffer.dtype), a.rowStride));
    const above = w.mul(w.sub(w.get(row), w.get(block.rowBegin)), pitch);
    const from = this.#p.copyA ? w.address(w.scratch, above) : w.address(w.get(block.a), above, w.mul(w.value(pass.at), 4));
    grid.multiply(from, pitch, w.get(b), this.#layout(), pass.steps, this.#ahead?.beside);
    grid.store(w.get(target));
  }

  /**
   * Asks for the output's lines before the products are made. Sums are read back only once their stores, and all stores
   * before them, are in the cache: without this, every grid would wait for the lines of the one before it.
   */
  #fetchOutput(block: Block, group: Group, row: Local, rows: Local): void {
    const w = this.#w;
    const { output } = this.#kernel;
    const columnStride = stridesOf(output).at(-1);
    if (columnStride !== 1) return;
    const bytes = bytesOf(output.dtype) * TILE_COLUMNS * group.tiles;
    const [place, rowBytes] = [this.#outputAddress(block, group, row), this.#rowBytes()];
    w.f.loop(0, w.get(rows), 1, () => {
      for (let line = 0; line < bytes; line += LINE_BYTES) w.f.emit("prefetchw", mem(place, { disp: line }));
      w.f.emit("add", place, rowBytes);
    });
  }

  #outputAddress(block: Block, group: Group, row: Local): VReg {
    const w = this.#w;
    const { output } = this.#kernel;
    const columnBytes = mul(bytesOf(output.dtype), stridesOf(output).at(-1)!);
    return w.address(w.get(block.output), w.mul(w.get(row), this.#rowBytes()), w.mul(w.get(group.column), w.size(columnBytes)));
  }

  #rowBytes(): Size {
    const { output } = this.#kernel;
    return this.#w.size(mul(bytesOf(output.dtype), stridesOf(output).at(-2)!));
  }

  /** The epilogue and the stores of one grid. */
  #finish(block: Block, group: Group, row: Local, rows: Local, target: Local): void {
    const w = this.#w;
    writeGrid(w, this.#output, {
      from: w.get(target), rows, first: row, column: group.column, vectors: group.tiles,
      outer: (index) => [...block.outer.map((outer) => w.value(outer)), index],
      to: this.#outputAddress(block, group, row),
      rowBytes: () => this.#rowBytes(),
      tail: () => this.#tail(group),
    });
  }

  #tail(group: Group): Tail | undefined {
    if (group.columns === undefined) return undefined;
    const w = this.#w;
    const columns = w.value(group.columns);
    return { mask: w.vectors.tailMask(w.sub(columns, (group.tiles - 1) * TILE_COLUMNS)), columns };
  }
}

/** Rows up to which a grid is one tile high, or two: those that grids of an output of `m` rows can have. */
function gridHeights(m: Dim): number[] {
  if (typeof m !== "number") return [TILE_ROWS, GRID_ROWS];
  const rest = m % GRID_ROWS;
  const isLow = rest > 0 && rest <= TILE_ROWS;
  return m < GRID_ROWS && isLow ? [TILE_ROWS] : isLow ? [TILE_ROWS, GRID_ROWS] : [GRID_ROWS];
}
