/**
 * Depthwise convolution (every channel has its own filter), vectors along channels.
 *
 * A tile is some neighbouring output pixels of a row by one vector of channels. For each kernel row the input pixels are
 * loaded once, each used by every tap that needs it, with the row's weights in registers. Rows outside the image are
 * skipped at run time. Where widths are known, taps outside the image are left out when the code is made: the first and
 * last tiles of a row are pieces of code of their own. Where they are bound at run time, tiles at a row's ends read
 * zeros in place of columns outside, and store only the pixels that exist.
 * Elements are multiplied lane by lane: bfloat16 as float32; integers less their zero points, as 16-bit numbers.
 */
import { accumulatorOf, add, type Bindings, ceilDiv, type CompiledKernel, type ConstantLookup, type ConvKernel, type Dim, evaluate, mul, type PackedData, product, type Tactic } from "../../../ir/index.ts";
import { type Isa, type Mem, mem, type VReg } from "../function.ts";
import type { ConvShape } from "./conv-shape.ts";
import { OutputWriter, type Tail } from "./output.ts";
import { packLanes } from "./lane-panels.ts";
import { PANEL_ROW_BYTES } from "./panels.ts";
import { bytesOf, FLOAT, multiplyWords, type Product, productOf } from "./products.ts";
import { constantZeros, scalarZero } from "./zero-points.ts";
import { Lanes } from "../loop/lanes.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface DepthwiseParameters {
  /** Output pixels of a tile. */
  readonly pixels: number;
  /** Output rows of a unit of work. */
  readonly rows: number;
  /** Output rows of a tile: two share most of the image rows they read. */
  readonly lines: 1 | 2;
}

const WANTED_BLOCKS = 8;
/** Widest tile when the width is bound at run time: what a row's last tile wastes stays small. */
const MOST_DYNAMIC_PIXELS = 16;

/** Empty when the convolution is not depthwise. */
export function depthwiseTactics(kernel: ConvKernel, shape: ConvShape, isa: Isa, constants: ConstantLookup, optimum: Bindings): Tactic[] {
  const operands = depthwiseOperands(kernel, shape, isa, constants);
  if (!operands) return [];
  return depthwiseChoices(shape, isa, optimum).map(({ p, estimate }): Tactic => ({
    name: depthwiseTacticName(p, operands.product.name), estimate,
    compile: () => new DepthwiseGenerator(kernel, shape, operands, isa, p).compile(),
  }));
}

/** Parameters worth trying, best estimate first. */
export function depthwiseChoices(shape: ConvShape, isa: Isa, optimum: Bindings): { readonly p: DepthwiseParameters; readonly estimate: number }[] {
  const height = evaluate(shape.outHeight, optimum);
  const blocks = Math.max(1, Math.ceil(WANTED_BLOCKS / Math.max(1, evaluate(shape.batch, optimum))));
  const rows = Math.max(1, Math.ceil(height / blocks));
  const width = evaluate(shape.outWidth, optimum);
  const registers = isa.name === "avx512" ? 32 : 16;
  const free = registers - 2 - shape.kernel[1];
  const most = Math.max(1, Math.min(free, typeof shape.outWidth === "number" ? width : MOST_DYNAMIC_PIXELS));
  const widths = new Set([4, 7, 8, 14, 16, Math.min(most, 16)].filter((pixels) => pixels <= most).concat(Math.min(most, 4)));
  const single = [...widths].map((pixels): DepthwiseParameters => ({ pixels, rows, lines: 1 }));
  const mostInPair = Math.min(most, Math.floor((registers - 1 - 2 * shape.kernel[1]) / 2));
  const isTall = height > 1 && shape.kernel[0] > shape.stride[0];
  const pairs = isTall ? [...new Set([4, 5, 7, 10, mostInPair])].filter((pixels) => pixels > 1 && pixels <= mostInPair).map((pixels): DepthwiseParameters => ({ pixels, rows: Math.min(height, rows + (rows % 2)), lines: 2 })) : [];
  const all = [...single, ...pairs];
  return all.map((p) => {
    const { pixels } = p;
    const tiles = Math.ceil(width / pixels);
    const rowLoads = (pixels - 1) * shape.stride[1] + 2 * shape.kernel[1];
    const loads = p.lines === 1 ? rowLoads : (rowLoads * (shape.kernel[0] + shape.stride[0])) / (2 * shape.kernel[0]);
    return { p, estimate: height * shape.channels * shape.kernel[0] * tiles * (loads + pixels * shape.kernel[1] + 8) / (isa.vectorBytes / 4) };
  }).sort((a, b) => a.estimate - b.estimate);
}

function depthwiseTacticName(p: DepthwiseParameters, product: Product["name"]): string {
  return `depthwise ${product === "float" ? "" : `${product} `}${p.pixels} rows ${p.rows}${p.lines === 2 ? " pairs" : ""}`;
}

export interface DepthwiseOperands {
  readonly product: Product;
  readonly packed: PackedData;
  readonly zero: number;
}

export function depthwiseOperands(kernel: ConvKernel, shape: ConvShape, isa: Isa, constants: ConstantLookup): DepthwiseOperands | undefined {
  const bytes = constants(kernel.weights);
  const zeros = constantZeros(kernel.weightsZero, constants);
  const zero = scalarZero(kernel.inputZero, constants);
  if (!bytes || !zeros || typeof zero !== "number" || shape.groups !== shape.channels || shape.outChannels !== shape.channels || shape.groups === 1) return undefined;
  if (shape.channelsFirst || shape.inputStrides[3] !== 1 || typeof shape.inputStrides[2] !== "number" || shape.kernel[1] > 9) return undefined;
  const { dtype } = kernel.weights;
  const product = dtype === "float32" || dtype === "bfloat16" ? FLOAT : productOf(kernel.input.dtype, dtype, isa, false);
  if (!product || accumulatorOf(kernel.input.dtype) !== product.accumulator) return undefined;
  const taps = shape.kernel[0] * shape.kernel[1];
  const view = { rows: taps, columns: shape.channels, offset: 0, rowStride: 1, columnStride: taps };
  const key = `depthwise:${kernel.weights.name}:${taps}x${shape.channels}${zeros.length === 1 && zeros[0] === 0 ? "" : `-${Array.from(zeros)}`}`;
  return { product, packed: packLanes(key, { bytes, dtype, zeros }, view), zero };
}

/** A piece of an output row that one piece of code makes: `repeat` tiles of `pixels` from `begin` on. */
interface Piece {
  readonly begin: number;
  readonly pixels: number;
  readonly repeat: number;
}

/**
 * Which columns of a tile lie in the image: all of them, those that follow from the tile's place known now, or
 * those that a comparison at run time finds.
 */
type Border = { readonly kind: "none" } | { readonly kind: "known"; readonly begin: number } | { readonly kind: "open" };

interface TileCode {
  readonly pixels: number;
  readonly border: Border;
}

/** The sums of one output row, and which row of the kernel an image row is multiplied with for them. */
interface TapRow {
  readonly sums: readonly VReg[];
  readonly tap: number;
}

/** What finds columns outside at run time: the tile's first image column, the image's width, and where zeros are. */
interface Bounds {
  readonly first: VReg;
  readonly width: VReg;
  readonly zeros: VReg;
}

/** An output row, and the address of its pixel 0. */
interface Line {
  readonly y: Local;
  readonly output: Local;
}

/** The output rows that a tile makes together. */
interface Row {
  readonly batch: Local | number;
  readonly lines: readonly Line[];
  /** Image row of the first line's first tap; may be negative. */
  readonly top: Local;
  /** Address of that image row's pixel 0. */
  readonly image: Local;
  /** First channel, and how many bytes of a panel lie before it. */
  readonly channel: Local;
  readonly weights: Local;
}

/** Of a kernel of its own, or of a part of one whose writer is given. */
export class DepthwiseGenerator {
  readonly #kernel: ConvKernel;
  readonly #shape: ConvShape;
  readonly #operands: DepthwiseOperands;
  readonly #lanes: Lanes;
  /** Bytes of an element of the input, and of the output. */
  readonly #inBytes: number;
  readonly #outBytes: number;
  readonly #w: KernelWriter;
  readonly #p: DepthwiseParameters;

  constructor(kernel: ConvKernel, shape: ConvShape, operands: DepthwiseOperands, isa: Isa, p: DepthwiseParameters, writer = new KernelWriter(isa, kernel.name)) {
    this.#kernel = kernel;
    this.#shape = shape;
    this.#operands = operands;
    this.#p = p;
    this.#w = writer;
    this.#lanes = new Lanes(this.#w.f);
    this.#inBytes = bytesOf(kernel.input.dtype);
    this.#outBytes = bytesOf(kernel.output.dtype);
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const shape = this.#shape;
    const kernel = this.#kernel;
    const radices = [ceilDiv(shape.outHeight, this.#p.rows), shape.batch];
    const output = this.output();
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [block, batch] = w.split(tile, radices);
      const begin = w.local(w.mul(w.value(block!), this.#p.rows));
      const end = w.local(w.min(w.add(w.get(begin), this.#p.rows), w.size(shape.outHeight)));
      this.rows(batch!, begin, end, output);
    });
    const { code } = w.f.finish();
    const taps = shape.kernel[0] * shape.kernel[1];
    const outputs = product(kernel.output.dims);
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed, tiles: product(radices), scratchBytes: 0,
      flops: mul(2 * taps, outputs),
      bytes: add(mul(this.#inBytes, product(kernel.input.dims)), mul(this.#outBytes, outputs), bytesOf(kernel.weights.dtype) * taps * shape.channels),
      tactic: depthwiseTacticName(this.#p, this.#operands.product.name),
    };
  }

  output(): OutputWriter {
    return new OutputWriter(this.#w, this.#kernel, this.#shape.outputStrides[3], this.#operands.product.accumulator);
  }

  /** Output rows of one image. */
  rows(batch: Local | number, begin: Local, end: Local, output: OutputWriter): void {
    const w = this.#w;
    const single = w.local(w.get(begin));
    if (this.#p.lines === 2) {
      w.count(w.get(begin), w.add(w.get(end), -1), 2, (y) => {
        this.#row(output, batch, y, 2);
        w.set(single, w.add(w.get(y), 2));
      });
    }
    w.count(w.get(single), w.get(end), 1, (y) => this.#row(output, batch, y, 1));
  }

  #row(output: OutputWriter, batch: Local | number, y: Local, lines: 1 | 2): void {
    const w = this.#w;
    const shape = this.#shape;
    const scaled = (index: Local | number, stride: Dim, size: number) => w.mul(w.value(index), w.size(mul(size, stride)));
    const top = w.local(w.add(w.mul(w.get(y), shape.stride[0]), -shape.pad[0]));
    const first = w.local(w.address(w.pointer(this.#kernel.output), scaled(batch, shape.outputStrides[0], this.#outBytes), scaled(y, shape.outputStrides[1], this.#outBytes)));
    const line = (i: number): Line => (i === 0 ? { y, output: first } : { y: w.local(w.add(w.get(y), i)), output: w.local(w.address(w.get(first), w.size(mul(this.#outBytes * i, shape.outputStrides[1])))) });
    const row: Row = {
      batch, top, lines: Array.from({ length: lines }, (_, i) => line(i)),
      image: w.local(w.address(w.pointer(this.#kernel.input), scaled(batch, shape.inputStrides[0], this.#inBytes), scaled(top, shape.inputStrides[1], this.#inBytes))),
      channel: w.local(0),
      weights: w.local(0),
    };
    if (typeof shape.outWidth !== "number" || typeof shape.width !== "number") {
      this.#openRow(output, row);
      return;
    }
    for (const piece of piecesOf(shape, this.#p.pixels)) {
      if (piece.repeat === 1) this.#channels(output, row, { pixels: piece.pixels, border: { kind: "known", begin: piece.begin } }, w.local(piece.begin));
      else w.count(piece.begin, piece.begin + piece.repeat * piece.pixels, piece.pixels, (x) => {
        this.#channels(output, row, { pixels: piece.pixels, border: { kind: "none" } }, x);
      });
    }
  }

  /** A row whose width is bound at run time. */
  #openRow(output: OutputWriter, row: Row): void {
    const w = this.#w;
    const { outWidth, width, stride, pad, kernel, dilation } = this.#shape;
    const { pixels } = this.#p;
    const last = (pixels - 1) * stride[1] + (kernel[1] - 1) * dilation[1];
    const count = w.local();
    const innerEnd = w.local(w.sub(w.size(width), last));
    w.count(0, w.size(outWidth), pixels, (x) => {
      const [border, done] = [w.f.label("border"), w.f.label("tileDone")];
      w.set(count, w.min(w.sub(w.size(outWidth), w.get(x)), pixels));
      const first = w.add(w.mul(w.get(x), stride[1]), -pad[1]) as VReg;
      w.f.emit("cmp", first, 0);
      w.f.jump("lt", border);
      w.f.emit("cmp", first, innerEnd.slot);
      w.f.jump("ge", border);
      w.f.emit("cmp", count.slot, pixels);
      w.f.jump("lt", border);
      this.#channels(output, row, { pixels, border: { kind: "none" } }, x);
      w.f.jump("always", done);
      w.f.bind(border);
      const widths = pixels >= 6 ? [pixels, Math.ceil(pixels / 2)] : [pixels];
      w.choose(count, widths, (width) => this.#channels(output, row, { pixels: width, border: { kind: "open" } }, x));
      w.f.bind(done);
    });
  }

  #channels(output: OutputWriter, row: Row, tile: TileCode, x: Local): void {
    const w = this.#w;
    const { channels } = this.#shape;
    const whole = Math.floor(channels / w.lanes) * w.lanes;
    w.count(0, whole, w.lanes, (channel) => {
      w.set(row.channel, w.get(channel));
      this.#tile(output, row, tile, x, undefined);
    });
    if (channels > whole) {
      w.set(row.channel, whole);
      this.#tile(output, row, tile, x, channels - whole);
    }
  }

  #tile(output: OutputWriter, row: Row, tile: TileCode, x: Local, rest: number | undefined): void {
    const w = this.#w;
    const shape = this.#shape;
    const sums = row.lines.map((_, line) => Array.from({ length: tile.pixels }, (_, i) => w.vectors.zero(`s${line}_${i}`)));
    this.#startWeights(row);
    const image = w.get(row.image);
    const pixelBytes = this.#inBytes * (shape.inputStrides[2] as number);
    const first = w.add(w.mul(w.get(x), shape.stride[1]), -shape.pad[1]) as VReg;
    w.f.emit("add", image, w.mul(first, pixelBytes) as VReg);
    w.f.emit("add", image, w.mul(w.get(row.channel), this.#inBytes) as VReg);
    const weights = w.get(row.weights);
    const y = w.get(row.top);
    const bounds = tile.border.kind === "open" ? { first, width: w.move(w.size(shape.width)), zeros: this.#zeros() } : undefined;
    const multiply = (taps: readonly TapRow[]): void => this.#insideImage(y, () => this.#tapRow(tile, taps, image, weights, rest, bounds));
    if (row.lines.length === 1) this.#tapRows(sums[0]!, image, y, weights, multiply);
    else this.#sharedTapRows(sums, image, y, multiply);
    row.lines.forEach((line, i) => this.#finish(output, row, line, tile, x, sums[i]!, rest));
  }

  /** The kernel's rows one by one, for one output row. */
  #tapRows(sums: readonly VReg[], image: VReg, y: VReg, weights: VReg, multiply: (taps: readonly TapRow[]) => void): void {
    const w = this.#w;
    const { kernel, dilation, inputStrides } = this.#shape;
    w.f.loop(0, kernel[0], 1, () => {
      multiply([{ sums, tap: 0 }]);
      w.f.emit("add", image, w.size(mul(this.#inBytes * dilation[0], inputStrides[1])));
      w.f.emit("add", y, dilation[0]);
      w.f.emit("add", weights, kernel[1] * PANEL_ROW_BYTES);
    });
  }

  /** The image rows that several output rows read, each once. */
  #sharedTapRows(sums: readonly (readonly VReg[])[], image: VReg, y: VReg, multiply: (taps: readonly TapRow[]) => void): void {
    const w = this.#w;
    const { kernel, dilation, stride, inputStrides } = this.#shape;
    const rows = new Map<number, TapRow[]>();
    sums.forEach((line, i) => {
      for (let tap = 0; tap < kernel[0]; tap++) {
        const at = i * stride[0] + tap * dilation[0];
        rows.set(at, [...(rows.get(at) ?? []), { sums: line, tap }]);
      }
    });
    let before = 0;
    for (const [at, taps] of [...rows].sort(([a], [b]) => a - b)) {
      if (at > before) {
        w.f.emit("add", image, w.size(mul(this.#inBytes * (at - before), inputStrides[1])));
        w.f.emit("add", y, at - before);
      }
      multiply(taps);
      before = at;
    }
  }

  #insideImage(y: VReg, body: () => void): void {
    const { f } = this.#w;
    const next = f.label("nextTapRow");
    f.emit("cmp", y, 0);
    f.jump("lt", next);
    f.emit("cmp", y, this.#w.size(this.#shape.height));
    f.jump("ge", next);
    body();
    f.bind(next);
  }

  /** Address of elements that are nothing. */
  #zeros(): VReg {
    const { f, vectorBytes } = this.#w;
    const register = f.gp("zeros");
    f.emit("lea", register, f.constant(new Uint8Array(vectorBytes).fill(this.#operands.zero), vectorBytes));
    return register;
  }

  /** Address of the channel's weights: its panel, and its place in a panel row. */
  #startWeights(row: Row): void {
    const w = this.#w;
    const taps = this.#shape.kernel[0] * this.#shape.kernel[1];
    const panel = w.get(row.channel);
    w.f.emit("shr", panel, 4);
    const inside = w.get(row.channel);
    w.f.emit("and", inside, 15);
    w.set(row.weights, w.address(w.packedPointer(this.#operands.packed), w.mul(panel, taps * PANEL_ROW_BYTES), w.mul(inside, 4)));
  }

  #tapRow(tile: TileCode, rows: readonly TapRow[], image: VReg, weights: VReg, rest: number | undefined, bounds: Bounds | undefined): void {
    const w = this.#w;
    const shape = this.#shape;
    const pixelBytes = this.#inBytes * (shape.inputStrides[2] as number);
    const taps = rows.map(({ tap }) => Array.from({ length: shape.kernel[1] }, (_, t) => w.vectors.load(mem(weights, { disp: (tap * shape.kernel[1] + t) * PANEL_ROW_BYTES }))));
    const mask = rest === undefined ? undefined : w.vectors.tailMask(rest);
    const zero = this.#operands.zero === 0 ? undefined : this.#lanes.splat("i32", this.#operands.zero)[0]!;
    const last = (tile.pixels - 1) * shape.stride[1] + (shape.kernel[1] - 1) * shape.dilation[1];
    for (let column = 0; column <= last; column++) {
      const users = this.#users(tile, column);
      if (users.length === 0) continue;
      const place = bounds ? mem(this.#columnOrZeros(image, column, bounds)) : mem(image, { disp: column * pixelBytes });
      const pixel = this.#pixel(place, mask, zero);
      for (const [output, tap] of users) rows.forEach(({ sums }, i) => multiplyWords(w.f, this.#operands.product, sums[output]!, pixel, taps[i]![tap]!));
    }
  }

  #pixel(place: Mem, mask: VReg | undefined, zero: VReg | undefined): VReg {
    const pixel = this.#lanes.load(this.#kernel.input.dtype, place, mask)[0]!;
    return zero ? this.#lanes.emit("vpsubd", pixel, zero) : pixel;
  }

  /** Address of the tile's input column; of zeros when it is outside the image (a negative one is a large unsigned one). */
  #columnOrZeros(image: VReg, column: number, bounds: Bounds): VReg {
    const { f } = this.#w;
    const x = f.gp("column");
    f.emit("lea", x, mem(bounds.first, { disp: column }));
    const address = f.gp("columnAddress");
    f.emit("lea", address, mem(image, { disp: column * this.#inBytes * (this.#shape.inputStrides[2] as number) }));
    f.emit("cmp", x, bounds.width);
    f.emit("cmovae", address, bounds.zeros);
    return address;
  }

  /** The output pixels of the tile that use its input column, with the tap; none when the column is known to be outside. */
  #users(tile: TileCode, column: number): [output: number, tap: number][] {
    const { stride, dilation, kernel, pad, width } = this.#shape;
    if (tile.border.kind === "known") {
      const x = tile.border.begin * stride[1] - pad[1] + column;
      if (x < 0 || x >= (width as number)) return [];
    }
    const users: [number, number][] = [];
    for (let tap = 0; tap < kernel[1]; tap++) {
      const distance = column - tap * dilation[1];
      if (distance >= 0 && distance % stride[1] === 0 && distance / stride[1] < tile.pixels) users.push([distance / stride[1], tap]);
    }
    return users;
  }

  #finish(output: OutputWriter, row: Row, line: Line, tile: TileCode, x: Local, sums: readonly VReg[], rest: number | undefined): void {
    const w = this.#w;
    const shape = this.#shape;
    const tail: Tail | undefined = rest === undefined ? undefined : { mask: w.vectors.tailMask(rest), columns: rest };
    output.begin();
    const outer = (pixel: Size): Size[] => [w.value(row.batch), ...(shape.spatialDims === 2 ? [w.get(line.y)] : []), pixel];
    const column = w.get(row.channel);
    const shared = output.shared(outer(0));
    const step = mul(this.#outBytes, shape.outputStrides[2]);
    const place = (pixel: Size): VReg => w.address(w.get(line.output), w.mul(pixel, w.size(step)), w.mul(column, w.size(mul(this.#outBytes, shape.outputStrides[3]))));
    const first = typeof step === "number" ? place(w.get(x)) : undefined;
    const store = (sum: VReg, i: number): void => {
      const to = first ? { to: first, toOffset: i * (step as number) } : { to: place(w.add(w.get(x), i)) };
      output.row({ from: [sum], outer: shared ? [] : outer(w.add(w.get(x), i)), column, ...to, vectors: 1, ...(tail && { tail }) }, shared);
    };
    const end = w.f.label("stored");
    sums.forEach((sum, i) => {
      if (tile.border.kind === "open" && i > 0) {
        w.f.emit("cmp", w.add(w.get(x), i) as VReg, w.size(shape.outWidth));
        w.f.jump("ge", end);
      }
      store(sum, i);
    });
    w.f.bind(end);
  }
}

/** Cuts an output row into tiles; inner tiles of one width in a row become one repeated piece. */
export function piecesOf(shape: ConvShape, pixels: number): Piece[] {
  const { stride, dilation, kernel, pad } = shape;
  const [outWidth, width] = [shape.outWidth as number, shape.width as number];
  const pieces: Piece[] = [];
  const inner = (begin: number, count: number): boolean => {
    const first = begin * stride[1] - pad[1];
    return first >= 0 && first + (count - 1) * stride[1] + (kernel[1] - 1) * dilation[1] < width;
  };
  for (let begin = 0; begin < outWidth; begin += pixels) {
    const count = Math.min(pixels, outWidth - begin);
    const before = pieces.at(-1);
    const joins = before && before.pixels === count && inner(begin, count) && inner(before.begin, before.pixels);
    if (joins) pieces[pieces.length - 1] = { ...before, repeat: before.repeat + 1 };
    else pieces.push({ begin, pixels: count, repeat: 1 });
  }
  return pieces;
}
