/**
 * Convolution over channels-last images as a matrix product that is never written out: rows are output pixels, the
 * reduction runs over taps and input channels, columns are output channels.
 *
 * A register tile is a patch of output pixels; its pixels lie at displacements known now from the patch's first one, so
 * that each tap is one pointer. Taps that lie side by side in memory (a kernel row without dilation) are one
 * reduction. Where there is padding, or where pitches are not known, the block's input is first copied with zeros
 * around it; otherwise the image is read in place. The reduction is counted in words (see `products.ts`).
 */
import { add, ceilDiv, type CompiledKernel, type ConstantLookup, type ConvKernel, type Dim, dimEqual, max, mul, product } from "../../../ir/index.ts";
import { assert } from "../../../base/index.ts";
import type { Isa } from "../function.ts";
import { type ConvOperands, convOperands } from "./conv-operands.ts";
import { type ConvShape, convShape, mergeGroups } from "./conv-shape.ts";
import { evenHeight, rowHeights } from "./matmul.ts";
import { type ColumnLayout, RegisterTile } from "./microkernel.ts";
import { OutputWriter, type Tail } from "./output.ts";
import { copyPadded } from "./padded-copy.ts";
import { PANEL_COLUMNS, PANEL_ROW_BYTES, panelCount } from "./panels.ts";
import { bytesOf, type Product } from "./products.ts";
import { startSums } from "./start.ts";
import { WeightsAhead } from "./weights-ahead.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface ConvParameters {
  /** Most rows and columns of pixels of a register tile, and its vectors of output channels. */
  readonly patch: readonly [number, number];
  readonly vectors: number;
  /** Patches per block, vertically and horizontally; column groups per block. */
  readonly block: readonly [number, number];
  readonly blockGroups: number;
  readonly copy: boolean;
  /** The reduction takes a pass over the block's patches for each row of taps, so that a pass's weights stay near; sums wait in scratch. */
  readonly byRow?: boolean;
  readonly unroll: number;
}

export function convTacticName(p: ConvParameters, lanes: number, product: Product["name"]): string {
  return `conv ${product === "float" ? "" : `${product} `}${p.patch.join("x")}x${p.vectors * lanes} block ${p.block.join("x")}x${p.blockGroups}${p.copy ? " copy" : ""}${p.byRow ? " by row" : ""}`;
}

export function compileConv(kernel: ConvKernel, isa: Isa, constants: ConstantLookup, p: ConvParameters): CompiledKernel {
  const given = convShape(kernel);
  const shape = given && mergeGroups(given);
  const operands = shape && convOperands(kernel, shape, isa, constants);
  assert(shape && operands, `convolution "${kernel.name}" cannot be generated`);
  return new ConvGenerator(kernel, shape, operands, isa, p).compile();
}

/** Whether all taps of all output pixels lie inside the image, at displacements known now, as whole words. */
export function readsInPlace(shape: ConvShape, product: Product): boolean {
  const [, rowStride, pixelStride, channelStride] = shape.inputStrides;
  if (product.name === "pairs" || (shape.channels / shape.groups) % product.perWord > 0) return false;
  return !shape.channelsFirst && channelStride === 1 && typeof pixelStride === "number" && typeof rowStride === "number"
    && [0, 1].every((d) => {
      const [size, out] = d === 0 ? [shape.height, shape.outHeight] : [shape.width, shape.outWidth];
      if (shape.pad[d] !== 0) return false;
      if (shape.kernel[d] === 1 && shape.stride[d] === 1 && dimEqual(size!, out!)) return true;
      return typeof size === "number" && typeof out === "number" && (out - 1) * shape.stride[d]! + (shape.kernel[d]! - 1) * shape.dilation[d]! < size;
    });
}

/** Words of a row of taps from which on a part of the sums of its own costs nothing to speak of. */
const PART_WORDS = 96;

interface Range { readonly begin: Local; readonly end: Local }

interface Block {
  readonly batch: Local | number;
  readonly group: Local | number;
  readonly y: Range;
  readonly x: Range;
  readonly columns: Range;
  /** Address of the block's first tap of its first pixel, and of the group's panels. */
  readonly input: Local;
  readonly weights: Local;
  readonly output: Local;
}

interface ColumnGroup {
  readonly column: Local;
  readonly vectors: number;
  readonly columns?: number;
}

/** One register tile: where it is, how large, and where its sums lie when they are not in registers. */
interface Patch {
  readonly sums: Local;
  readonly y: Local;
  readonly x: Local;
  readonly rows: Local;
  readonly columns: Local;
}

class ConvGenerator {
  readonly #kernel: ConvKernel;
  readonly #shape: ConvShape;
  readonly #operands: ConvOperands;
  readonly #p: ConvParameters;
  readonly #w: KernelWriter;
  readonly #groupColumns: number;
  readonly #inputs: number;
  readonly #outputs: number;
  /** Rows and columns of pixels in a patch, evened out; in a block. */
  readonly #patch: readonly [Dim, Dim];
  readonly #block: readonly [Dim, Dim];
  readonly #pixelPitch: number;
  readonly #rowPitch: number;
  readonly #imageBytes: number;
  /** Bytes of a patch's sums. */
  readonly #sumBytes: number;

  constructor(kernel: ConvKernel, shape: ConvShape, operands: ConvOperands, isa: Isa, p: ConvParameters) {
    this.#kernel = kernel;
    this.#shape = shape;
    this.#operands = operands;
    this.#p = p;
    this.#w = new KernelWriter(isa, kernel.name);
    this.#groupColumns = p.vectors * this.#w.lanes;
    this.#inputs = shape.channels / shape.groups;
    this.#outputs = shape.outChannels / shape.groups;
    this.#patch = [evenHeight(shape.outHeight, p.patch[0]), evenHeight(shape.outWidth, p.patch[1])];
    this.#block = [mul(this.#patch[0], p.block[0]), mul(this.#patch[1], p.block[1])];
    const size = bytesOf(kernel.input.dtype);
    this.#pixelPitch = p.copy ? copiedPixelPitch(operands.words) : size * (shape.inputStrides[2] as number);
    const [rows, columns] = [0, 1].map((d) => (p.patch[d]! * p.block[d]! - 1) * shape.stride[d]! + (shape.kernel[d]! - 1) * shape.dilation[d]! + 1);
    this.#rowPitch = p.copy ? columns! * this.#pixelPitch : size * (shape.inputStrides[1] as number);
    this.#sumBytes = p.patch[0] * p.patch[1] * this.#groupColumns * 4;
    this.#imageBytes = p.copy ? Math.ceil((rows! * this.#rowPitch + this.#w.vectorBytes) / 64) * 64 : 0;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const shape = this.#shape;
    const kernel = this.#kernel;
    const down = ceilDiv(shape.outHeight, max(1, this.#block[0]));
    const across = ceilDiv(shape.outWidth, max(1, this.#block[1]));
    const columnBlocks = Math.ceil(this.#outputs / (this.#groupColumns * this.#p.blockGroups));
    const radices = [across, down, columnBlocks, shape.groups, shape.batch];
    const output = new OutputWriter(w, kernel, shape.outputStrides[3], this.#operands.product.accumulator);
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [x, y, columnBlock, group, batch] = w.split(tile, radices);
      const block = this.#place(x!, y!, columnBlock!, group!, batch!);
      this.#columnGroups(block, output);
    });
    const { code } = w.f.finish();
    const outputs = product(kernel.output.dims);
    const taps = (shape.kernel[0] * shape.kernel[1] * shape.channels) / kernel.groups;
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed,
      tiles: product(radices),
      scratchBytes: this.#imageBytes + this.#sumBytes * (this.#p.byRow ? this.#p.block[0] * this.#p.block[1] : 1),
      flops: mul(2 * taps, outputs),
      bytes: add(mul(bytesOf(kernel.input.dtype), product(kernel.input.dims)), mul(bytesOf(kernel.output.dtype), outputs), bytesOf(kernel.weights.dtype) * taps * shape.outChannels),
      tactic: convTacticName(this.#p, w.lanes, this.#operands.product.name),
    };
  }

  #range(index: Local | number, size: Dim | number, end: Dim): Range {
    const w = this.#w;
    const begin = w.local(w.mul(w.value(index), w.size(size)));
    return { begin, end: w.local(w.min(w.add(w.get(begin), w.size(size)), w.size(end))) };
  }

  #place(x: Local | number, y: Local | number, columnBlock: Local | number, group: Local | number, batch: Local | number): Block {
    const w = this.#w;
    const shape = this.#shape;
    const [batchStride, rowStride, pixelStride, channelStride] = shape.inputStrides;
    const rangeY = this.#range(y, this.#block[0], shape.outHeight);
    const rangeX = this.#range(x, this.#block[1], shape.outWidth);
    const scaled = (index: Local | number, stride: Dim, buffer = this.#kernel.input) => w.mul(w.value(index), w.size(mul(bytesOf(buffer.dtype), stride)));
    const image = w.local(w.address(w.pointer(this.#kernel.input), scaled(batch, batchStride), scaled(group, mul(channelStride, this.#inputs))));
    const panels = panelCount(this.#outputs) * this.#depth() * PANEL_ROW_BYTES;
    const place = {
      batch, group, y: rangeY, x: rangeX,
      columns: this.#range(columnBlock, this.#groupColumns * this.#p.blockGroups, this.#outputs),
      weights: w.local(w.address(w.packedPointer(this.#operands.packed), w.mul(w.value(group), panels))),
      output: w.local(w.address(w.pointer(this.#kernel.output), scaled(batch, shape.outputStrides[0], this.#kernel.output))),
    };
    if (!this.#p.copy) {
      const first = w.address(w.get(image), scaled(rangeY.begin, mul(rowStride, shape.stride[0])), scaled(rangeX.begin, mul(pixelStride, shape.stride[1])));
      return { ...place, input: w.local(first) };
    }
    this.#copy(image, rangeY, rangeX);
    return { ...place, input: w.local(w.scratch) };
  }

  #copy(image: Local, y: Range, x: Range): void {
    const w = this.#w;
    const shape = this.#shape;
    const extent = (range: Range, d: 0 | 1): Local => {
      const last = w.mul(w.add(w.sub(w.get(range.end), w.get(range.begin)), -1), shape.stride[d]);
      return w.local(w.add(last, (shape.kernel[d] - 1) * shape.dilation[d] + 1));
    };
    const origin = (range: Range, d: 0 | 1): Local => w.local(w.add(w.mul(w.get(range.begin), shape.stride[d]), -shape.pad[d]));
    copyPadded(w, shape, {
      image, top: origin(y, 0), left: origin(x, 1), rows: extent(y, 0), columns: extent(x, 1),
      channels: this.#inputs, to: w.local(w.scratch), rowPitch: this.#rowPitch, pixelPitch: this.#pixelPitch,
      conversion: { dtype: this.#kernel.input.dtype, product: this.#operands.product, zero: this.#operands.zero },
    });
  }

  #depth(): number {
    return this.#shape.kernel[0] * this.#shape.kernel[1] * this.#operands.words;
  }

  #columnGroups(block: Block, output: OutputWriter): void {
    const w = this.#w;
    const column = w.local(w.get(block.columns.begin));
    const rest = this.#outputs % this.#groupColumns;
    if (this.#outputs >= this.#groupColumns) {
      const top = w.f.label("groups");
      const done = w.f.label("groupsDone");
      w.f.bind(top);
      w.f.emit("cmp", w.move(w.add(w.get(column), this.#groupColumns)), block.columns.end.slot);
      w.f.jump("gt", done);
      this.#patches(block, output, { column, vectors: this.#p.vectors });
      w.f.emit("add", column.slot, this.#groupColumns);
      w.f.jump("always", top);
      w.f.bind(done);
    }
    if (rest > 0) {
      w.when("lt", w.get(column), w.get(block.columns.end), () => this.#patches(block, output, { column, vectors: Math.ceil(rest / w.lanes), columns: rest }));
    }
  }

  #patches(block: Block, output: OutputWriter, group: ColumnGroup): void {
    const w = this.#w;
    const b = w.local(w.address(w.get(block.weights), w.mul(w.get(group.column), this.#depth() * 4)));
    const panels = panelCount(group.vectors * w.lanes);
    const panelBytes = this.#depth() * PANEL_ROW_BYTES;
    const passes = this.#p.byRow ? this.#shape.kernel[0] : 1;
    const passBytes = panelBytes / passes;
    const ahead = new WeightsAhead(w, panels, panelBytes, passBytes, this.#p.block[0] * this.#p.block[1]);
    if (passes === 1) {
      this.#pass(block, output, group, b, ahead);
      return;
    }
    w.count(0, passes, 1, (pass) => {
      w.when("lt", w.get(pass), passes - 1, () => ahead.begin(passBytes), () => ahead.begin(panels * panelBytes - (passes - 1) * passBytes));
      this.#pass(block, output, group, b, ahead, pass);
      w.f.emit("add", b.slot, passBytes);
    });
  }

  /** All patches of a block, over the whole reduction or over one row of taps. */
  #pass(block: Block, output: OutputWriter, group: ColumnGroup, b: Local, ahead: WeightsAhead, pass?: Local): void {
    const w = this.#w;
    const rows = w.local();
    const columns = w.local();
    const sums = w.local(w.address(w.scratch, this.#imageBytes));
    const heights = rowHeights(this.#shape.outHeight, this.#p.patch[0]);
    const widths = rowHeights(this.#shape.outWidth, this.#p.patch[1]);
    w.count(w.get(block.y.begin), w.get(block.y.end), w.size(this.#patch[0]), (y) => {
      w.set(rows, w.min(w.sub(w.get(block.y.end), w.get(y)), w.size(this.#patch[0])));
      w.count(w.get(block.x.begin), w.get(block.x.end), w.size(this.#patch[1]), (x) => {
        w.set(columns, w.min(w.sub(w.get(block.x.end), w.get(x)), w.size(this.#patch[1])));
        const patch = { y, x, rows, columns, sums };
        const next = w.f.label("nextPatch");
        w.choose(rows, heights, (height) => w.choose(columns, widths, (width) => {
          if (this.#isUsual(height, width)) this.#onlyLast(pass, () => this.#fetch(block, output, group, patch, height, width));
          const tile = this.#multiply(block, group, b, patch, height, width, ahead, pass);
          ahead.next();
          const keep = (): void => tile.store(w.get(sums), this.#groupColumns * 4);
          if (!this.#writesAtOnce(output, height, width)) {
            keep();
            return;
          }
          this.#onlyLast(pass, () => this.#writeTile(tile, block, output, group, patch, width), keep);
          w.f.jump("always", next);
        }));
        this.#onlyLast(pass, () => this.#finish(block, output, group, patch));
        w.f.bind(next);
        if (pass) w.f.emit("add", sums.slot, this.#sumBytes);
      });
    });
  }

  #onlyLast(pass: Local | undefined, then: () => void, otherwise?: () => void): void {
    if (pass) this.#w.when("eq", this.#w.get(pass), this.#shape.kernel[0] - 1, then, otherwise);
    else then();
  }

  #multiply(block: Block, group: ColumnGroup, b: Local, patch: Patch, height: number, width: number, ahead: WeightsAhead, pass: Local | undefined): RegisterTile {
    const w = this.#w;
    const { stride, kernel, dilation } = this.#shape;
    const tile = new RegisterTile(w, height * width, group.vectors, (group.columns ?? this.#groupColumns) - (group.vectors - 1) * w.lanes, this.#operands.product);
    const [rowBytes, pixelBytes] = [this.#rowPitch * stride[0], this.#pixelPitch * stride[1]];
    const offsets = Array.from({ length: height * width }, (_, i) => Math.floor(i / width) * rowBytes + (i % width) * pixelBytes);
    const inY = w.mul(w.sub(w.get(patch.y), w.get(block.y.begin)), rowBytes);
    const inX = w.mul(w.sub(w.get(patch.x), w.get(block.x.begin)), pixelBytes);
    const a = w.local(w.address(w.get(block.input), inY, inX, ...(pass ? [w.mul(w.get(pass), dilation[0] * this.#rowPitch)] : [])));
    const { words, product } = this.#operands;
    const start = (): void => startSums(w, tile, this.#operands.start, product, w.add(w.get(group.column), w.mul(w.value(block.group), panelCount(this.#outputs) * PANEL_COLUMNS)));
    const inParts = !pass && this.#sumsInParts();
    if (pass) w.when("eq", w.get(pass), 0, start, () => tile.zero());
    else start();
    const weights = w.get(b);
    const together = this.#pixelPitch === 4 * words && dilation[1] === 1;
    const taps = together ? 1 : kernel[1];
    const steps = together ? kernel[1] * words : words;
    const earlier = (): void => tile.add(w.get(patch.sums), this.#groupColumns * 4);
    this.#repeat(pass ? 1 : kernel[0], dilation[0] * this.#rowPitch, a, (row, times) => {
      if (inParts) w.when("gt", w.get(times), 0, () => tile.zero());
      this.#repeat(taps, dilation[1] * this.#pixelPitch, row, (tap) => {
        tile.multiply(w.get(tap), { offsets }, weights, ahead.beside(this.#layout(group), tile.rows), steps, this.#p.unroll);
      });
      if (!inParts) return;
      w.when("gt", w.get(times), 0, earlier);
      w.when("lt", w.get(times), kernel[0] - 1, () => tile.store(w.get(patch.sums), this.#groupColumns * 4));
    });
    if (pass) w.when("gt", w.get(pass), 0, earlier);
    return tile;
  }

  /** Whether each row of taps is summed from zero, as onnxruntime's blocks of channels are: a rounding error grows with the length of its chain. */
  #sumsInParts(): boolean {
    const { words, product } = this.#operands;
    return product.accumulator === "f32" && this.#shape.kernel[0] > 1 && this.#shape.kernel[1] * words >= PART_WORDS;
  }

  /** Whether patches of this size go to the output from their registers: where the code stays small. */
  #writesAtOnce(output: OutputWriter, height: number, width: number): boolean {
    return output.isLight && this.#isUsual(height, width);
  }

  /** Whether code for patches of this size may be large: there are few such sizes, and most patches have them. */
  #isUsual(height: number, width: number): boolean {
    const { outHeight, outWidth } = this.#shape;
    const isUsual = (size: number, d: 0 | 1, extent: Dim): boolean => typeof extent === "number" || size > this.#p.patch[d] / 2;
    return isUsual(height, 0, outHeight) && isUsual(width, 1, outWidth);
  }

  /** Fetches what the epilogue of a patch will read, and where its results will go. */
  #fetch(block: Block, output: OutputWriter, group: ColumnGroup, patch: Patch, height: number, width: number): void {
    const w = this.#w;
    const [, rowBytes, pixelBytes, channelBytes] = this.#outputPitches();
    const column = w.local(w.add(w.get(group.column), w.mul(w.value(block.group), this.#outputs)));
    for (let row = 0; row < height; row++) {
      const y = w.local(w.add(w.get(patch.y), row));
      output.fetch([w.value(block.batch), ...(this.#shape.spatialDims === 2 ? [w.get(y)] : []), w.get(patch.x)], width, w.get(column), group.vectors);
      if (typeof pixelBytes !== "number") continue;
      const to = w.address(w.get(block.output), w.mul(w.get(y), w.size(rowBytes)), w.mul(w.get(patch.x), pixelBytes), w.mul(w.get(column), w.size(channelBytes)));
      output.fetchTarget(to, pixelBytes, width, group.vectors);
    }
  }

  /** Bytes from one image, row, pixel and channel of the output to the next. */
  #outputPitches(): readonly [Dim, Dim, Dim, Dim] {
    return this.#shape.outputStrides.map((stride) => mul(bytesOf(this.#kernel.output.dtype), stride)) as [Dim, Dim, Dim, Dim];
  }

  #writeTile(tile: RegisterTile, block: Block, output: OutputWriter, group: ColumnGroup, patch: Patch, width: number): void {
    const w = this.#w;
    const [, rowStride, pixelStride, channelStride] = this.#outputPitches();
    const column = w.move(w.add(w.get(group.column), w.mul(w.value(block.group), this.#outputs)));
    const tail = this.#tail(group);
    const outer = (i: number): Size[] => {
      const [y, x] = [w.add(w.get(patch.y), Math.floor(i / width)), w.add(w.get(patch.x), i % width)];
      return [w.value(block.batch), ...(this.#shape.spatialDims === 2 ? [y] : []), x];
    };
    output.begin();
    const shared = output.shared(outer(0));
    let to = w.address(w.get(block.output), w.mul(w.get(patch.y), w.size(rowStride)), w.mul(w.get(patch.x), w.size(pixelStride)), w.mul(column, w.size(channelStride)));
    tile.accumulators.forEach((from, i) => {
      const toOffset = typeof pixelStride === "number" ? (i % width) * pixelStride : 0;
      output.row({ from, outer: shared ? [] : outer(i), column, to, toOffset, vectors: group.vectors, ...(tail && { tail }) }, shared);
      if (i === tile.rows - 1) return;
      if ((i + 1) % width === 0) to = w.address(to, w.sub(w.size(rowStride), typeof pixelStride === "number" ? 0 : w.mul(w.size(pixelStride), width - 1)));
      else if (typeof pixelStride !== "number") to = w.address(to, w.size(pixelStride));
    });
  }

  /** Runs the body `times` times with an address that moves on by `bytes`, and how often it has run. */
  #repeat(times: number, bytes: number, from: Local, body: (address: Local, done: Local) => void): void {
    const w = this.#w;
    if (times === 1) { body(from, w.local(0)); return; }
    const address = w.local(w.get(from));
    w.count(0, times, 1, (done) => {
      body(address, done);
      w.f.emit("add", address.slot, bytes);
    });
  }

  #layout(group: ColumnGroup): ColumnLayout {
    const panelBytes = this.#depth() * PANEL_ROW_BYTES;
    const vectorOffsets = Array.from({ length: group.vectors }, (_, v) => {
      const bytes = v * this.#w.vectorBytes;
      return Math.floor(bytes / PANEL_ROW_BYTES) * panelBytes + (bytes % PANEL_ROW_BYTES);
    });
    return { stepBytes: PANEL_ROW_BYTES, vectorOffsets };
  }

  #finish(block: Block, output: OutputWriter, group: ColumnGroup, patch: Patch): void {
    const w = this.#w;
    const shape = this.#shape;
    const [, rowStride, pixelStride, channelStride] = this.#outputPitches();
    const from = w.local(w.get(patch.sums));
    output.begin();
    w.count(0, w.get(patch.rows), 1, (i) => {
      w.count(0, w.get(patch.columns), 1, (j) => {
        const y = w.add(w.get(patch.y), w.get(i));
        const x = w.add(w.get(patch.x), w.get(j));
        const column = w.add(w.get(group.column), w.mul(w.value(block.group), this.#outputs));
        const tail = this.#tail(group);
        output.row({
          from: w.get(from),
          outer: [w.value(block.batch), ...(shape.spatialDims === 2 ? [y] : []), x],
          column,
          to: w.address(w.get(block.output), w.mul(y, w.size(rowStride)), w.mul(x, w.size(pixelStride)), w.mul(column, w.size(channelStride))),
          vectors: group.vectors,
          ...(tail && { tail }),
        });
        w.f.emit("add", from.slot, this.#groupColumns * 4);
      });
    });
  }

  #tail(group: ColumnGroup): Tail | undefined {
    if (group.columns === undefined) return undefined;
    return { mask: this.#w.vectors.tailMask(group.columns - (group.vectors - 1) * this.#w.lanes), columns: group.columns };
  }
}

/** Bytes of a copied pixel: padded where pixels would fall on few cache sets. */
function copiedPixelPitch(words: number): number {
  return words % 512 === 0 ? 4 * words + 64 : 4 * words;
}
