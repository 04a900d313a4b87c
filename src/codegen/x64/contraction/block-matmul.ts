/**
 * Products of float32 rows and weights of four or eight bits with a scale per block of the reduction. The integers are read
 * as they are stored and become floats in registers, so that a product of few rows takes as long as its bytes take to come.
 *
 * The unit of work is a group of 64 columns over a block of rows. Up to eight rows (two in the registers of AVX2) are multiplied at once: few rows with
 * several panels side by side, so that there are enough independent sums, many rows with one. Per block of the reduction
 * sums are made of plain integers and scaled once.
 * With AVX-512 a word of eight four-bit integers is an index into a table of sixteen floats: VPERMPS looks at its low four bits
 * alone, and a shift brings up the next.
 * Source: Intel SDM vol. 2, VPERMPS.
 */
import { assert } from "../../../base/index.ts";
import { type BlockWeights, ceilDiv, type CompiledKernel, type ConstantLookup, type Dim, type MatmulKernel, max, mul, product, type Tactic } from "../../../ir/index.ts";
import { type Isa, mem, type VReg } from "../function.ts";
import { type BlockPanels, blockPanels, integerBytes, NIBBLES, SCALE_BYTES } from "./block-panels.ts";
import { copyBlock, paddedPitch } from "./copy.ts";
import { evenHeight, matmulBytes } from "./matmul.ts";
import { type MatmulBlock, placeBlock, writeSums } from "./matmul-block.ts";
import { OutputWriter, stridesOf, type Tail } from "./output.ts";
import { PANEL_COLUMNS } from "./panels.ts";
import { KernelWriter, type Local } from "./writer.ts";

/** Most rows that are multiplied at once, as registers allow. */
const mostRows = ({ name }: Isa): number => (name === "avx512" ? 8 : 2);
/** Panels of a column group. */
const PANELS = 4;
/** How often a block of work goes over its columns, each time for as many rows as are multiplied at once. */
const BLOCK_TILES = 8;
const GROUP_COLUMNS = PANELS * PANEL_COLUMNS;
/** Bytes from one row of sums to the next. */
const SUMS_PITCH = 4 * GROUP_COLUMNS;

export function blockMatmulTactics(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup): Tactic[] {
  const weights = kernel.b.blocks!;
  const panels = blockPanels(kernel, weights, constants, PANELS);
  if (!panels) return [];
  const name = `matmul blocks${weights.bits} ${mostRows(isa)}x${GROUP_COLUMNS}`;
  return [{ name, estimate: 1, compile: () => new BlockMatmulGenerator(kernel, isa, weights, panels, name).compile() }];
}

class BlockMatmulGenerator {
  readonly #kernel: MatmulKernel;
  readonly #w: KernelWriter;
  readonly #weights: BlockWeights;
  readonly #panels: BlockPanels;
  readonly #name: string;
  readonly #k: number;
  readonly #mostRows: number;
  /** Rows that are multiplied at once: as even as their number allows. */
  readonly #height: Dim;
  /** Bytes from one row of A to the next where rows are read in place, or as they are copied. */
  readonly #aPitch: number;
  readonly #copies: boolean;
  /** Vectors of a panel. */
  readonly #vectors: number;
  #table: VReg | undefined;

  constructor(kernel: MatmulKernel, isa: Isa, weights: BlockWeights, panels: BlockPanels, name: string) {
    this.#kernel = kernel;
    this.#w = new KernelWriter(isa, kernel.name);
    this.#weights = weights;
    this.#panels = panels;
    this.#name = name;
    this.#k = kernel.k as number;
    this.#mostRows = mostRows(isa);
    this.#height = evenHeight(kernel.m, this.#mostRows);
    const { rowStride, columnStride } = kernel.a;
    this.#copies = columnStride !== 1 || typeof rowStride !== "number";
    this.#aPitch = this.#copies ? paddedPitch(this.#k) : 4 * (rowStride as number);
    this.#vectors = PANEL_COLUMNS / this.#w.lanes;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const kernel = this.#kernel;
    const blockRows = mul(this.#height, BLOCK_TILES);
    const [rowBlocks, columnBlocks] = [ceilDiv(kernel.m, max(1, blockRows)), ceilDiv(kernel.n, GROUP_COLUMNS)];
    const output = new OutputWriter(w, kernel, stridesOf(kernel.output).at(-1) ?? 1, "f32");
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [rowBlock, columnBlock, ...outer] = w.split(tile, [rowBlocks, columnBlocks, ...[...kernel.batch].reverse()]);
      this.#block(placeBlock(w, kernel, this.#panels.packed, { outer: outer.reverse(), rowBlock: rowBlock!, columnBlock: columnBlock!, rows: w.size(blockRows), columns: GROUP_COLUMNS }), output);
    });
    const { code } = w.f.finish();
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed,
      tiles: product([...kernel.batch, rowBlocks, columnBlocks]),
      scratchBytes: this.#mostRows * SUMS_PITCH + (this.#copies ? this.#mostRows * this.#aPitch : 0),
      flops: mul(2, product([...kernel.batch, kernel.m, kernel.n, kernel.k])),
      bytes: matmulBytes(kernel),
      tactic: this.#name,
    };
  }

  #block(block: MatmulBlock, output: OutputWriter): void {
    const w = this.#w;
    const rows = w.local();
    w.count(w.get(block.rowBegin), w.get(block.rowEnd), w.size(this.#height), (row) => {
      w.set(rows, w.min(w.sub(w.get(block.rowEnd), w.get(row)), w.size(this.#height)));
      const a = this.#rowsOfA(block, row, rows);
      w.choose(rows, Array.from({ length: this.#heights() }, (_, i) => i + 1), (height) => this.#group(block, a, height));
      this.#finish(block, output, row, rows);
    });
  }

  /** Rows that a group can have, up to this many. */
  #heights(): number {
    const { m } = this.#kernel;
    return typeof m === "number" ? Math.max(1, Math.min(m, this.#mostRows)) : this.#mostRows;
  }

  /** Address of the first of the rows, copied where they do not lie side by side. */
  #rowsOfA(block: MatmulBlock, row: Local, rows: Local): Local {
    const w = this.#w;
    const { a } = this.#kernel;
    const rowBytes = w.size(mul(4, a.rowStride));
    const base = w.address(w.get(block.a), w.mul(w.sub(w.get(row), w.get(block.rowBegin)), rowBytes));
    if (!this.#copies) return w.local(base);
    const to = w.local(w.address(w.scratch, this.#mostRows * SUMS_PITCH));
    copyBlock(w, { base, rowBytes, columnBytes: w.size(mul(4, a.columnStride)) }, w.get(rows), this.#k, w.get(to), this.#aPitch);
    return to;
  }

  /** All columns of the group for so many rows, sums into scratch. */
  #group(block: MatmulBlock, a: Local, height: number): void {
    const w = this.#w;
    const together = panelsTogether(height, w.f.isa);
    const zeros = this.#panels.zeros && w.local(w.packedPointer(this.#panels.zeros));
    w.count(0, PANELS, together, (first) => {
      const panel = w.local(w.add(this.#panelOf(w.get(block.columnBegin)), w.get(first)));
      const b = w.address(w.get(block.b), w.mul(w.get(panel), this.#panels.panelBytes));
      const z = zeros && w.address(w.get(zeros), w.mul(w.get(panel), this.#panels.blocks * PANEL_COLUMNS));
      const totals = this.#multiply(w.get(a), b, z, height, together);
      const to = w.address(w.scratch, w.mul(w.get(first), 4 * PANEL_COLUMNS));
      totals.forEach((row, r) => row.forEach((register, v) => w.vectors.store(mem(to, { disp: r * SUMS_PITCH + v * w.vectorBytes }), register)));
    });
  }

  #panelOf(column: VReg): VReg {
    const panel = this.#w.move(column);
    this.#w.f.emit("shr", panel, Math.log2(PANEL_COLUMNS));
    return panel;
  }

  /** Sums of `height` rows by `together` panels; moves the pointers. */
  #multiply(a: VReg, b: VReg, zeros: VReg | undefined, height: number, together: number): VReg[][] {
    const w = this.#w;
    const { bits, size } = this.#weights;
    this.#table = bits === 4 && w.f.isa.name === "avx512" ? this.#nibbleTable() : undefined;
    const totals = Array.from({ length: height }, () => Array.from({ length: together * this.#vectors }, () => w.vectors.zero("total")));
    const blockBytes = SCALE_BYTES + integerBytes(bits, size);
    const whole = Math.floor(this.#k / size);
    const one = (steps: number): void => {
      this.#reductionBlock(a, b, zeros, totals, steps);
      w.f.emit("add", b, blockBytes);
      w.f.emit("add", a, 4 * size);
      if (zeros) w.f.emit("add", zeros, PANEL_COLUMNS);
    };
    if (whole > 0) w.f.loop(0, whole, 1, () => one(size));
    if (this.#k % size > 0) one(this.#k % size);
    return totals;
  }

  /** totals += scale * sum of a * (q - zero) over one block. */
  #reductionBlock(a: VReg, b: VReg, zeros: VReg | undefined, totals: readonly (readonly VReg[])[], steps: number): void {
    const w = this.#w;
    const { f } = w;
    const sums = totals.map((row) => row.map(() => w.vectors.zero("sum")));
    const points = zeros && this.#zeroPoints(zeros, totals[0]!.length);
    const unit = this.#weights.bits === 4 ? NIBBLES : UNROLLED;
    const [integers, row] = [w.address(b, SCALE_BYTES), w.move(a)];
    const whole = Math.floor(steps / unit);
    const some = (count: number): void => {
      this.#steps(row, integers, sums, points, count);
      f.emit("add", integers, integerBytes(this.#weights.bits, unit));
      f.emit("add", row, 4 * unit);
    };
    if (whole > 1) f.loop(0, whole, 1, () => some(unit));
    else if (whole === 1) some(unit);
    if (steps % unit > 0) some(steps % unit);
    for (let v = 0; v < totals[0]!.length; v++) {
      const scale = w.vectors.load(mem(b, { disp: this.#vectorAt(v, 4) }));
      totals.forEach((own, r) => f.emit("vfmadd231ps", own[v]!, sums[r]![v]!, scale));
    }
  }

  /** Displacement of vector `v`, the first panel's first, of elements of `size` bytes. */
  #vectorAt(v: number, size: number, panelBytes = this.#panels.panelBytes): number {
    return Math.floor(v / this.#vectors) * panelBytes + (v % this.#vectors) * this.#w.lanes * size;
  }

  #zeroPoints(zeros: VReg, vectors: number): VReg[] {
    const { f } = this.#w;
    return Array.from({ length: vectors }, (_, v) => {
      const point = f.vec("zero");
      f.emit("vpmovsxbd", point, mem(zeros, { disp: this.#vectorAt(v, 1, this.#panels.blocks * PANEL_COLUMNS) }));
      f.emit("vcvtdq2ps", point, point);
      return point;
    });
  }

  /** Up to a unit's steps of the reduction. */
  #steps(a: VReg, b: VReg, sums: readonly (readonly VReg[])[], points: readonly VReg[] | undefined, count: number): void {
    const { f, vectors, vectorBytes } = this.#w;
    const words = this.#weights.bits === 4 ? sums[0]!.map((_, v) => vectors.load(mem(b, { disp: this.#vectorAt(v, 4) }))) : [];
    assert(vectorBytes * this.#vectors === SCALE_BYTES, "a panel is whole vectors");
    for (let step = 0; step < count; step++) {
      const columns = sums[0]!.map((_, v) => {
        const weight = this.#weights.bits === 4 ? this.#nibble(words[v]!, step, step === count - 1) : this.#byte(b, v, step);
        if (points) f.emit("vsubps", weight, weight, points[v]!);
        return weight;
      });
      sums.forEach((row, r) => {
        const place = mem(a, { disp: r * this.#aPitch + 4 * step });
        if (row.length === 1 && f.isa.name === "avx512") f.emit("vfmadd231ps", row[0]!, columns[0]!, { ...place, broadcast: true });
        else {
          const word = f.vec("a");
          f.emit("vbroadcastss", word, place);
          row.forEach((register, v) => f.emit("vfmadd231ps", register, columns[v]!, word));
        }
      });
    }
  }

  /** The next integer of each lane's word as a float. */
  #nibble(word: VReg, step: number, isLast: boolean): VReg {
    const { f } = this.#w;
    const weight = f.vec("weight");
    if (this.#table) {
      f.emit("vpermps", weight, word, this.#table);
      if (!isLast) f.emit("vpsrld", word, word, 4);
      return weight;
    }
    f.emit("vpslld", weight, word, 28 - 4 * step);
    f.emit("vpsrad", weight, weight, 28);
    f.emit("vcvtdq2ps", weight, weight);
    return weight;
  }

  #byte(b: VReg, v: number, step: number): VReg {
    const { f } = this.#w;
    const weight = f.vec("weight");
    f.emit("vpmovsxbd", weight, mem(b, { disp: this.#vectorAt(v, 1) + step * PANEL_COLUMNS }));
    f.emit("vcvtdq2ps", weight, weight);
    return weight;
  }

  /** What four bits stand for, as two's complement. */
  #nibbleTable(): VReg {
    const values = Float32Array.from({ length: 16 }, (_, bits) => (bits ^ 8) - 8);
    return this.#w.vectors.load(this.#w.f.constant(new Uint8Array(values.buffer), 64));
  }

  /** The epilogue and the stores of the rows whose sums are in scratch. */
  #finish(block: MatmulBlock, output: OutputWriter, row: Local, rows: Local): void {
    const w = this.#w;
    const n = this.#kernel.n as number;
    const last = n % GROUP_COLUMNS;
    const whole = (): void => this.#rows(block, output, row, rows, GROUP_COLUMNS);
    if (last === 0) whole();
    else if (n < GROUP_COLUMNS) this.#rows(block, output, row, rows, last);
    else w.when("le", w.add(w.get(block.columnBegin), GROUP_COLUMNS), n, whole, () => this.#rows(block, output, row, rows, last));
  }

  #rows(block: MatmulBlock, output: OutputWriter, row: Local, rows: Local, columns: number): void {
    const w = this.#w;
    const rest = columns % w.lanes;
    const tail = (): Tail | undefined => (rest > 0 ? { mask: w.vectors.tailMask(rest), columns } : undefined);
    writeSums(w, this.#kernel, block, output, { from: w.move(w.scratch), pitch: SUMS_PITCH, row, rows, column: block.columnBegin, vectors: Math.ceil(columns / w.lanes), tail });
  }
}

/** Steps of eight-bit integers that are written out. */
const UNROLLED = 4;

/** Panels side by side: enough sums that no multiplication waits for the one before, in the registers there are. */
function panelsTogether(height: number, { name }: Isa): number {
  if (name === "avx512") return height <= 2 ? 4 : height <= 6 ? 2 : 1;
  return 1;
}
