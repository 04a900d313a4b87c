/**
 * 3x3 convolution of stride 1 by Winograd's minimal filtering: 2.25 (tiles of 2x2 pixels) or 4 times (4x4) fewer
 * multiplications, for weights that are 16/9 or 4 times larger. Offered only when a build asks for fast convolutions.
 *
 * A unit of work is a run of output tiles, of whichever images, by some output channels. Its input tiles are
 * transformed into scratch, one matrix [tile][channel] per element of the transformed tile; per group of output channels these are
 * multiplied with the transformed weights by the register tile that all contractions share; the results are
 * transformed back, through the epilogue, to the output. The run is as long as its transformed tiles stay in the
 * second-level cache. Input tiles that reach over the image's edge are first copied with zeros around them.
 */
import { add, ceilDiv, type CompiledKernel, type ConvKernel, type Dim, mul, type PackedData, product } from "../../../ir/index.ts";
import { type Isa, type Mem, mem, type VReg } from "../function.ts";
import type { ConvShape } from "./conv-shape.ts";
import { paddedPitch } from "./copy.ts";
import { rowHeights } from "./matmul.ts";
import { RegisterTile } from "./microkernel.ts";
import { OutputWriter } from "./output.ts";
import { copyPadded } from "./padded-copy.ts";
import { PANEL_ROW_BYTES, panelCount } from "./panels.ts";
import { FLOAT } from "./products.ts";
import { WeightsAhead } from "./weights-ahead.ts";
import { type WinogradSize, WinogradTransform } from "./winograd-transform.ts";
import { winogradElements } from "./winograd-weights.ts";
import { KernelWriter, type Local, type Size } from "./writer.ts";

export interface WinogradParameters {
  /** Height and width of an output tile. */
  readonly size: WinogradSize;
  /** Output tiles of a unit of work. */
  readonly tiles: number;
  /** Most rows and vectors of the register tile. */
  readonly rows: number;
  readonly vectors: number;
  /** Column groups of a unit of work. */
  readonly blockGroups: number;
}

export function winogradTacticName(p: WinogradParameters, lanes: number): string {
  return `winograd ${p.size}x${p.size} ${p.rows}x${p.vectors * lanes} block ${p.tiles}x${p.blockGroups}`;
}

/** Some output tiles in a row, of all images counted through. */
interface Run { readonly first: Local; readonly count: Local }

/** Image, and row and column of an output tile's first pixel. */
interface Place { readonly batch: Local | number; readonly y: Local; readonly x: Local }

interface ColumnGroup { readonly column: Local; readonly vectors: number }

export class WinogradGenerator {
  readonly #kernel: ConvKernel;
  readonly #shape: ConvShape;
  readonly #packed: PackedData;
  readonly #p: WinogradParameters;
  readonly #w: KernelWriter;
  readonly #transform: WinogradTransform;
  readonly #edge: number;
  readonly #elements: number;
  readonly #down: Dim;
  readonly #across: Dim;
  /** Bytes of a row of transformed tiles, of one element's matrix of them, of a row and a matrix of products. */
  readonly #pitch: number;
  readonly #plane: number;
  readonly #sumPitch: number;
  readonly #sumPlane: number;
  /** Where in scratch the products and the copied input tile lie; transformed tiles are first. */
  readonly #sums: number;
  readonly #copied: number;
  readonly #scratchBytes: number;

  constructor(kernel: ConvKernel, shape: ConvShape, packed: PackedData, isa: Isa, p: WinogradParameters) {
    this.#kernel = kernel;
    this.#shape = shape;
    this.#packed = packed;
    this.#p = p;
    this.#w = new KernelWriter(isa, kernel.name);
    this.#transform = new WinogradTransform(this.#w, p.size);
    this.#edge = p.size + 2;
    this.#elements = winogradElements(p.size);
    this.#down = ceilDiv(shape.outHeight, p.size);
    this.#across = ceilDiv(shape.outWidth, p.size);
    this.#pitch = paddedPitch(shape.channels);
    this.#plane = p.tiles * this.#pitch;
    this.#sumPitch = p.vectors * this.#w.vectorBytes;
    this.#sumPlane = p.tiles * this.#sumPitch + 64;
    this.#sums = this.#elements * this.#plane;
    this.#copied = this.#sums + this.#elements * this.#sumPlane;
    this.#scratchBytes = this.#copied + this.#elements * 4 * shape.channels + this.#w.vectorBytes;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const shape = this.#shape;
    const kernel = this.#kernel;
    const tiles = product([shape.batch, this.#down, this.#across]);
    const radices = [Math.ceil(shape.outChannels / (this.#p.vectors * w.lanes * this.#p.blockGroups)), ceilDiv(tiles, this.#p.tiles)];
    const output = new OutputWriter(w, kernel, 1, "f32");
    w.count(w.tileBegin, w.tileEnd, 1, (unit) => {
      const [columns, block] = w.split(unit, radices);
      const first = w.local(w.mul(w.value(block!), this.#p.tiles));
      const run = { first, count: w.local(w.min(w.sub(w.size(tiles), w.get(first)), this.#p.tiles)) };
      this.#transformInput(run);
      this.#columnGroups(columns!, (group) => {
        this.#multiply(group);
        this.#transformOutput(run, group, output);
      });
    });
    const { code } = w.f.finish();
    const outputs = product(kernel.output.dims);
    return {
      name: kernel.name, code, params: w.table.list, packed: w.packed, tiles: product(radices), scratchBytes: this.#scratchBytes,
      flops: mul(2 * 9 * shape.channels, outputs),
      bytes: mul(4, add(product(kernel.input.dims), outputs, this.#elements * shape.channels * shape.outChannels)),
      tactic: winogradTacticName(this.#p, w.lanes),
    };
  }

  #place(run: Run, index: Local): Place {
    const w = this.#w;
    const tile = w.local(w.add(w.get(run.first), w.get(index)));
    const [x, y, batch] = w.split(tile, [this.#across, this.#down, this.#shape.batch]);
    const pixel = (at: Local | number): Local => w.local(w.mul(w.value(at), this.#p.size));
    return { batch: batch!, y: pixel(y!), x: pixel(x!) };
  }

  #transformInput(run: Run): void {
    const w = this.#w;
    const { inputStrides, pad, channels } = this.#shape;
    const [batchBytes, rowBytes, pixelBytes] = inputStrides.map((stride) => mul(4, stride)) as [Dim, Dim, Dim, Dim];
    w.count(0, w.get(run.count), 1, (index) => {
      const place = this.#place(run, index);
      const to = w.local(w.address(w.scratch, w.mul(w.get(index), this.#pitch)));
      const image = w.local(w.address(w.pointer(this.#kernel.input), w.mul(w.value(place.batch), w.size(batchBytes))));
      const [top, left] = [w.local(w.add(w.get(place.y), -pad[0])), w.local(w.add(w.get(place.x), -pad[1]))];
      const [border, done] = [w.f.label("border"), w.f.label("transformed")];
      if (typeof rowBytes === "number" && typeof pixelBytes === "number") {
        this.#jumpUnlessInside(top, left, border);
        const from = w.address(w.get(image), w.mul(w.get(top), rowBytes), w.mul(w.get(left), pixelBytes));
        this.#transformChannels(from, rowBytes, pixelBytes, w.get(to));
        w.f.jump("always", done);
      }
      w.f.bind(border);
      const copied = w.local(w.address(w.scratch, this.#copied));
      const [rowPitch, pixelPitch] = [this.#edge * 4 * channels, 4 * channels];
      copyPadded(w, this.#shape, { image, top, left, rows: w.local(this.#edge), columns: w.local(this.#edge), channels, to: copied, rowPitch, pixelPitch, conversion: { dtype: "float32", product: FLOAT, zero: 0 } });
      this.#transformChannels(w.get(copied), rowPitch, pixelPitch, w.get(to));
      w.f.bind(done);
    });
  }

  #jumpUnlessInside(top: Local, left: Local, border: ReturnType<KernelWriter["f"]["label"]>): void {
    const w = this.#w;
    const { height, width } = this.#shape;
    for (const [start, size] of [[top, height], [left, width]] as const) {
      w.f.emit("cmp", start.slot, 0);
      w.f.jump("lt", border);
      w.f.emit("cmp", w.move(w.add(w.get(start), this.#edge)), w.size(size));
      w.f.jump("gt", border);
    }
  }

  /** All channels of one input tile. Changes the registers. */
  #transformChannels(from: VReg, rowBytes: number, pixelBytes: number, to: VReg): void {
    const { f, vectors, vectorBytes, lanes } = this.#w;
    f.loop(0, this.#shape.channels / lanes, 1, () => {
      this.#bothWays((i, j) => vectors.load(mem(from, { disp: i * rowBytes + j * pixelBytes })), (values) => this.#transform.input(values), (values, i) => {
        for (const [j, value] of values.entries()) vectors.store(mem(to, { disp: (i * this.#edge + j) * this.#plane }), value);
      });
      f.emit("add", from, vectorBytes);
      f.emit("add", to, vectorBytes);
    });
  }

  /** A transform of a square of vectors, by columns and then by rows; between, they are in registers where all fit, else in the frame. */
  #bothWays(element: (i: number, j: number) => VReg, transform: (values: readonly VReg[]) => VReg[], row: (values: readonly VReg[], i: number) => void): void {
    const { f, vectors, vectorBytes } = this.#w;
    const places = Array.from({ length: this.#edge }, (_, index) => index);
    const fits = this.#elements + 8 <= (f.isa.name === "avx512" ? 32 : 16);
    const keep = (value: VReg): (() => VReg) => {
      if (fits) return () => value;
      const slot: Mem = f.stackSlot(vectorBytes, vectorBytes);
      vectors.store(slot, value);
      return () => vectors.load(slot);
    };
    const columns = places.map((j) => transform(places.map((i) => element(i, j))).map(keep));
    for (let i = 0; i < columns[0]!.length; i++) row(transform(columns.map((column) => column[i]!())), i);
  }

  #columnGroups(block: Local | number, body: (group: ColumnGroup) => void): void {
    const w = this.#w;
    const { outChannels } = this.#shape;
    const whole = this.#p.vectors * w.lanes;
    const column = w.local(w.mul(w.value(block), whole * this.#p.blockGroups));
    const end = w.local(w.min(w.add(w.get(column), whole * this.#p.blockGroups), outChannels));
    if (outChannels >= whole) {
      w.count(w.get(column), w.add(w.get(end), 1 - whole), whole, (at) => {
        body({ column: at, vectors: this.#p.vectors });
        w.set(column, w.add(w.get(at), whole));
      });
    }
    const rest = outChannels % whole;
    if (rest > 0) w.when("lt", w.get(column), w.get(end), () => body({ column, vectors: rest / w.lanes }));
  }

  /** The products of one column group: for each element of the transformed tile a matrix of tiles by channels. */
  #multiply(group: ColumnGroup): void {
    const w = this.#w;
    const { channels, outChannels } = this.#shape;
    const heights = rowHeights(this.#p.tiles, this.#p.rows);
    const [height, last] = [heights[0]!, heights[1] ?? 0];
    const weights = w.local(w.address(w.packedPointer(this.#packed), w.mul(w.get(group.column), 4 * channels)));
    const tiles = w.local(w.scratch);
    const sums = w.local(w.address(w.scratch, this.#sums));
    const rowTiles = Math.ceil(this.#p.tiles / height);
    const panelBytes = channels * PANEL_ROW_BYTES;
    const ahead = new WeightsAhead(w, panelCount(group.vectors * w.lanes), panelBytes, panelBytes, rowTiles, 4 * channels * outChannels);
    w.count(0, this.#elements, 1, () => {
      ahead.begin();
      const [from, to] = [w.local(w.get(tiles)), w.local(w.get(sums))];
      w.count(0, Math.floor(this.#p.tiles / height), 1, () => {
        this.#registerTile(height, group, from, weights, to, ahead);
        ahead.next();
        w.f.emit("add", from.slot, height * this.#pitch);
        w.f.emit("add", to.slot, height * this.#sumPitch);
      });
      if (last > 0) this.#registerTile(last, group, from, weights, to, ahead);
      w.f.emit("add", tiles.slot, this.#plane);
      w.f.emit("add", sums.slot, this.#sumPlane);
      w.set(weights, w.add(w.get(weights), 4 * channels * outChannels));
    });
  }

  #registerTile(rows: number, group: ColumnGroup, from: Local, weights: Local, to: Local, ahead: WeightsAhead): void {
    const w = this.#w;
    const { channels } = this.#shape;
    const tile = new RegisterTile(w, rows, group.vectors);
    const offsets = Array.from({ length: rows }, (_, r) => r * this.#pitch);
    const vectorOffsets = Array.from({ length: group.vectors }, (_, v) => {
      const bytes = v * w.vectorBytes;
      return Math.floor(bytes / PANEL_ROW_BYTES) * channels * PANEL_ROW_BYTES + (bytes % PANEL_ROW_BYTES);
    });
    tile.zero();
    tile.multiply(w.get(from), { offsets }, w.get(weights), ahead.beside({ stepBytes: PANEL_ROW_BYTES, vectorOffsets }, rows), channels, 4);
    tile.store(w.get(to), this.#sumPitch);
  }

  #transformOutput(run: Run, group: ColumnGroup, output: OutputWriter): void {
    const w = this.#w;
    const [batchBytes, rowBytes, pixelBytes] = this.#shape.outputStrides.map((stride) => mul(4, stride)) as [Dim, Dim, Dim, Dim];
    output.begin();
    w.count(0, w.get(run.count), 1, (index) => {
      const place = this.#place(run, index);
      const from = w.local(w.address(w.scratch, this.#sums, w.mul(w.get(index), this.#sumPitch)));
      const corner = w.address(w.pointer(this.#kernel.output), w.mul(w.value(place.batch), w.size(batchBytes)), w.mul(w.get(place.y), w.size(rowBytes)), w.mul(w.get(place.x), w.size(pixelBytes)));
      const to = w.local(w.address(corner, w.mul(w.get(group.column), 4)));
      w.count(0, group.vectors, 1, (v) => {
        const column = w.move(w.add(w.get(group.column), w.mul(w.get(v), w.lanes)));
        this.#transformTile(place, w.get(from), column, w.get(to), output);
        w.f.emit("add", from.slot, w.vectorBytes);
        w.f.emit("add", to.slot, w.vectorBytes);
      });
    });
  }

  /** One vector of an output tile's channels: only pixels inside the image are written. */
  #transformTile(place: Place, from: VReg, column: VReg, to: VReg, output: OutputWriter): void {
    const w = this.#w;
    const { outHeight, outWidth, outputStrides } = this.#shape;
    const [rowBytes, pixelBytes] = [mul(4, outputStrides[1]), 4 * (outputStrides[2] as number)];
    const outside = w.f.label("outside");
    const jumpIfOutside = (start: Local, i: number, size: Dim, label: typeof outside): void => {
      if (i === 0 || (typeof size === "number" && size % this.#p.size === 0)) return;
      w.f.emit("cmp", w.move(w.add(w.get(start), i)), w.size(size));
      w.f.jump("ge", label);
    };
    const load = (i: number, j: number): VReg => w.vectors.load(mem(from, { disp: (i * this.#edge + j) * this.#sumPlane }));
    this.#bothWays(load, (values) => this.#transform.output(values), (values, i) => {
      const rowEnd = w.f.label("rowEnd");
      jumpIfOutside(place.y, i, outHeight, outside);
      if (i > 0) w.f.emit("add", to, w.size(rowBytes));
      for (const [j, value] of values.entries()) {
        jumpIfOutside(place.x, j, outWidth, rowEnd);
        const outer: Size[] = [w.value(place.batch), w.add(w.get(place.y), i), w.add(w.get(place.x), j)];
        output.row({ from: [value], outer, column, to, toOffset: j * pixelBytes, vectors: 1 }, output.shared(outer));
      }
      w.f.bind(rowEnd);
    });
    w.f.bind(outside);
  }
}
