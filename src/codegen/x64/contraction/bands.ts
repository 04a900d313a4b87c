/**
 * A depthwise convolution with the products beside it, band by band of its output rows. The image rows that a band reads
 * are expanded into scratch memory just before; rows that the next band reads too are moved to the front of it, not made
 * again. A band's results go through the projection while they are near.
 *
 * The parts are the generators of the kernels themselves, writing into one function: what lies between them is addressed
 * as if it were whole, from where its first element would be.
 */
import { add, type BandKernel, type Buffer, ceilDiv, type CompiledKernel, type ConstantLookup, type Dim, type MatmulKernel, mul, product } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import type { ConvShape } from "./conv-shape.ts";
import { copyRow } from "./copy.ts";
import { DepthwiseGenerator, type DepthwiseOperands, type DepthwiseParameters } from "./depthwise.ts";
import { matmulBytes, MatmulGenerator } from "./matmul.ts";
import type { OutputWriter } from "./output.ts";
import { KernelWriter, type Local } from "./writer.ts";

export interface BandParameters {
  /** Output rows of a band. */
  readonly rows: number;
  /** Most rows and vectors of the products' register tiles. */
  readonly tile: readonly [number, number];
  readonly depthwise: Pick<DepthwiseParameters, "pixels" | "lines">;
}

/** What a band keeps: bytes of the expanded rows, of its results, and of both. */
export function bandBytes({ expansion, projection }: BandKernel, shape: ConvShape, rows: number): { readonly expanded: number; readonly results: number; readonly all: number } {
  const read = (rows - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0] + 1;
  const expanded = expansion ? read * rowBytes(shape, "width") : 0;
  const results = projection ? rows * rowBytes(shape, "outWidth") : 0;
  return { expanded, results, all: expanded + results };
}

function rowBytes(shape: ConvShape, width: "width" | "outWidth"): number {
  return 4 * shape.channels * (shape[width] as number);
}

/** A product over one row of pixels at a time. */
interface RowProduct {
  readonly generator: MatmulGenerator;
  readonly output: OutputWriter;
}

export class BandGenerator {
  readonly #kernel: BandKernel;
  readonly #shape: ConvShape;
  readonly #p: BandParameters;
  readonly #w: KernelWriter;
  readonly #depthwise: DepthwiseGenerator;
  readonly #expansion: RowProduct | undefined;
  readonly #projection: RowProduct | undefined;
  /** Where the expanded rows and the band's results lie in scratch, after what the products need. */
  readonly #expandedAt: number;
  readonly #resultsAt: number;
  readonly #scratchBytes: number;

  constructor(kernel: BandKernel, shape: ConvShape, operands: DepthwiseOperands, isa: Isa, constants: ConstantLookup, p: BandParameters) {
    const w = new KernelWriter(isa, kernel.name);
    const rowProduct = (matmul: MatmulKernel | undefined, width: number): RowProduct | undefined => {
      if (!matmul) return undefined;
      const [rows, vectors] = p.tile;
      const generator = new MatmulGenerator({ ...matmul, m: width }, isa, constants, {
        rows, vectors, copyA: false, b: "constant", unroll: 4,
        blockTiles: Math.ceil(width / rows), blockGroups: Math.ceil((matmul.n as number) / (vectors * w.lanes)),
      }, w);
      return { generator, output: generator.output() };
    };
    this.#kernel = kernel;
    this.#shape = shape;
    this.#p = p;
    this.#w = w;
    this.#depthwise = new DepthwiseGenerator(kernel.depthwise, shape, operands, isa, { ...p.depthwise, rows: p.rows }, w);
    this.#expansion = rowProduct(kernel.expansion, shape.width as number);
    this.#projection = rowProduct(kernel.projection, shape.outWidth as number);
    const bytes = bandBytes(kernel, shape, p.rows);
    this.#expandedAt = roundUp(Math.max(this.#expansion?.generator.scratchBytes ?? 0, this.#projection?.generator.scratchBytes ?? 0));
    this.#resultsAt = roundUp(this.#expandedAt + bytes.expanded);
    this.#scratchBytes = this.#resultsAt + bytes.results;
  }

  compile(): CompiledKernel {
    const w = this.#w;
    const { rows } = this.#p;
    const { outHeight, batch: images } = this.#shape;
    const radices = [ceilDiv(outHeight, rows), images];
    const output = this.#depthwise.output();
    const [first, last] = [w.local(0), w.local(0)];
    w.count(w.tileBegin, w.tileEnd, 1, (tile) => {
      const [band, batch] = w.split(tile, radices);
      const begin = w.local(w.mul(w.value(band!), rows));
      const end = w.local(w.min(w.add(w.get(begin), rows), w.size(outHeight)));
      if (this.#expansion) this.#expand(this.#expansion, batch!, begin, end, { first, last });
      if (this.#projection) this.#placeResults(batch!, begin);
      this.#depthwise.rows(batch!, begin, end, output);
      if (this.#projection) this.#eachRow(this.#projection, batch!, outHeight, this.#shape.outWidth as number, begin, end);
    });
    const { code } = w.f.finish();
    return {
      name: this.#kernel.name, code, params: w.table.list, packed: w.packed, tiles: product(radices), scratchBytes: this.#scratchBytes,
      flops: this.#flops(), bytes: this.#bytes(), tactic: bandTacticName(this.#p, w.lanes),
    };
  }

  /** Fills scratch with the image rows that output rows `begin` to `end` read; `made` says which it holds, of the same image. */
  #expand(expansion: RowProduct, batch: Local | number, begin: Local, end: Local, made: { readonly first: Local; readonly last: Local }): void {
    const w = this.#w;
    const { kernel, stride, dilation, pad, height } = this.#shape;
    const bytes = rowBytes(this.#shape, "width");
    const first = w.local(w.max(0, w.add(w.mul(w.get(begin), stride[0]), -pad[0])));
    const reach = (kernel[0] - 1) * dilation[0] + 1 - stride[0] - pad[0];
    const last = w.local(w.max(w.get(first), w.min(w.add(w.mul(w.get(end), stride[0]), reach), w.size(height))));
    w.when("eq", w.get(begin), 0, () => w.set(made.last, 0));
    w.when("gt", w.get(made.last), w.get(first), () => {
      const from = w.address(w.scratch, this.#expandedAt, w.mul(w.sub(w.get(first), w.get(made.first)), bytes));
      copyRow(w, from, w.address(w.scratch, this.#expandedAt), w.mul(w.sub(w.get(made.last), w.get(first)), bytes / 4));
    });
    const start = w.local(w.max(w.get(first), w.get(made.last)));
    w.set(made.first, w.get(first));
    w.set(made.last, w.get(last));
    this.#place(batch, height, first, bytes, this.#expandedAt, [this.#kernel.expansion!.output, this.#kernel.depthwise.input]);
    this.#eachRow(expansion, batch, height, this.#shape.width as number, start, last);
  }

  #placeResults(batch: Local | number, begin: Local): void {
    this.#place(batch, this.#shape.outHeight, begin, rowBytes(this.#shape, "outWidth"), this.#resultsAt, [this.#kernel.depthwise.output, this.#kernel.projection!.a.buffer]);
  }

  /** Lets buffers begin where row `first` of the image comes to lie at `at` in scratch. */
  #place(batch: Local | number, height: Dim, first: Local, bytes: number, at: number, buffers: readonly Buffer[]): void {
    const w = this.#w;
    const before = w.add(w.mul(w.value(batch), w.size(height)), w.get(first));
    const address = w.local(w.sub(w.address(w.scratch, at), w.mul(before, bytes)));
    for (const buffer of buffers) w.place(buffer, address);
  }

  #eachRow({ generator, output }: RowProduct, batch: Local | number, height: Dim, width: number, begin: Local, end: Local): void {
    const w = this.#w;
    w.count(w.get(begin), w.get(end), 1, (y) => {
      generator.rows(w.local(w.mul(w.add(w.mul(w.value(batch), w.size(height)), w.get(y)), width)), output);
    });
  }

  #flops(): Dim {
    const { expansion, depthwise, projection } = this.#kernel;
    const taps = this.#shape.kernel[0] * this.#shape.kernel[1];
    const of = (matmul: MatmulKernel | undefined): Dim => (matmul ? mul(2, matmul.m, matmul.n, matmul.k) : 0);
    return add(of(expansion), mul(2 * taps, product(depthwise.output.dims)), of(projection));
  }

  /** What must move to and from memory: not what lies between the parts. */
  #bytes(): Dim {
    const { expansion, depthwise, projection } = this.#kernel;
    const taps = this.#shape.kernel[0] * this.#shape.kernel[1];
    const [input, output] = [mul(4, product(depthwise.input.dims)), mul(4, product(depthwise.output.dims))];
    const before = expansion ? add(matmulBytes(expansion), mul(-1, input)) : input;
    const after = projection ? add(matmulBytes(projection), mul(-1, output)) : output;
    return add(before, 4 * taps * this.#shape.channels, after);
  }
}

export function bandTacticName({ rows, tile: [tileRows, vectors], depthwise: { pixels, lines } }: BandParameters, lanes: number): string {
  return `bands of ${rows}, matmul ${tileRows}x${vectors * lanes}, depthwise ${pixels}${lines === 2 ? " pairs" : ""}`;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
