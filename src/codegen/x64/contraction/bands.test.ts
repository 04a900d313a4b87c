/** Bands against the same three steps done one after the other, plainly. */
import { test } from "node:test";
import { type BandKernel, type Bindings, type Buffer, type ConvKernel, type Dim, type Epilogue, evaluate, type Expr, type MatmulKernel, mul, symbol } from "../../../ir/index.ts";
import { spanOf } from "../../../tune/index.ts";
import type { Isa } from "../function.ts";
import { bandTactics } from "./band-tactics.ts";
import { BandGenerator } from "./bands.ts";
import { convShape } from "./conv-shape.ts";
import { depthwiseOperands } from "./depthwise.ts";
import { assertClose, AVX2, AVX512, type Contents, epilogueValue, execute, expectedOutput, randomFloats, randomizer } from "./testing.ts";

interface Options {
  readonly batch?: Dim;
  readonly size: readonly [number, number];
  readonly channels: number;
  /** Channels before the expansion and after the projection; neither without them. */
  readonly expandedFrom?: number;
  readonly projectedTo?: number;
  readonly kernel: readonly [number, number];
  readonly strides?: readonly [number, number];
  readonly dilations?: readonly [number, number];
  readonly pads?: readonly [number, number];
  readonly residual?: boolean;
  readonly bindings?: Bindings;
  /** Output rows of a band, where the tactics' own are not wanted. */
  readonly rows?: number;
}

const ACCUMULATOR: Expr = { kind: "accumulator", type: "f32" };

function biasRelu(dims: readonly Dim[], bias: Buffer, residual?: Buffer): Epilogue {
  const axes = dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const index = axes.map((axis): Expr => ({ kind: "axis", type: "i64", axis }));
  const biased: Expr = { kind: "op", type: "f32", op: "add", args: [ACCUMULATOR, { kind: "load", type: "f32", buffer: bias, index: index.slice(-1) }] };
  if (residual) return { axes, value: { kind: "op", type: "f32", op: "add", args: [biased, { kind: "load", type: "f32", buffer: residual, index }] } };
  return { axes, value: { kind: "op", type: "f32", op: "max", args: [biased, { kind: "const", type: "f32", value: 0 }] } };
}

function floats(name: string, ...dims: Dim[]): Buffer {
  return { name, dtype: "float32", dims };
}

function pointwise(name: string, pixels: Dim, k: number, n: number, a: Buffer, output: Buffer, residual?: Buffer): MatmulKernel {
  const weights = floats(`${name}w`, n, k);
  return {
    kind: "matmul", name, batch: [], m: pixels, n, k, output: { ...output, dims: [pixels, n] },
    a: { buffer: a, batchStrides: [], rowStride: k, columnStride: 1 },
    b: { buffer: weights, batchStrides: [], rowStride: 1, columnStride: k },
    epilogue: biasRelu([pixels, n], floats(`${name}b`, n), residual),
  };
}

function bandKernel(o: Options): BandKernel {
  const batch = o.batch ?? 2;
  const [strides, dilations, pads] = [o.strides ?? [1, 1], o.dilations ?? [1, 1], o.pads ?? [0, 0]];
  const outSize = [0, 1].map((d) => Math.floor((o.size[d]! + 2 * pads[d]! - (o.kernel[d]! - 1) * dilations[d]! - 1) / strides[d]!) + 1) as [number, number];
  const [inPixels, outPixels] = [mul(batch, o.size[0] * o.size[1]), mul(batch, outSize[0] * outSize[1])];
  const input = floats("image", batch, ...o.size, o.channels);
  const output = floats("results", batch, ...outSize, o.channels);
  const depthwise: ConvKernel = {
    kind: "conv", name: "depthwise", input, output, weights: floats("dw", o.channels, 1, ...o.kernel), groups: o.channels,
    kernel: o.kernel, strides, dilations, pads, epilogue: biasRelu(output.dims, floats("db", o.channels)),
  };
  const residual = o.residual ? floats("residual", outPixels, o.projectedTo!) : undefined;
  return {
    kind: "bands", name: "bands", depthwise,
    ...(o.expandedFrom ? { expansion: pointwise("e", inPixels, o.expandedFrom, o.channels, floats("x", inPixels, o.expandedFrom), input) } : {}),
    ...(o.projectedTo ? { projection: pointwise("p", outPixels, o.channels, o.projectedTo, output, floats("y"), residual) } : {}),
  };
}

function product(kernel: MatmulKernel, a: Float32Array, contents: Contents, bindings: Bindings): Float32Array {
  const [m, n, k] = [kernel.m, kernel.n, kernel.k].map((dim) => evaluate(dim, bindings)) as [number, number, number];
  const weights = contents.get(kernel.b.buffer)!;
  return Float32Array.from({ length: m * n }, (_, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    let sum = 0;
    for (let step = 0; step < k; step++) sum += a[row * k + step]! * weights[column * k + step]!;
    return epilogueValue(kernel.epilogue, sum, [row, column], contents, bindings);
  });
}

function convolution(kernel: ConvKernel, image: Float32Array, contents: Contents, bindings: Bindings): Float32Array {
  const [, h, w, c] = kernel.input.dims.map((dim) => evaluate(dim, bindings)) as [number, number, number, number];
  const [n, oh, ow] = kernel.output.dims.map((dim) => evaluate(dim, bindings)) as [number, number, number];
  const [kh, kw] = kernel.kernel as [number, number];
  const weights = contents.get(kernel.weights)!;
  const result = new Float32Array(n * oh * ow * c);
  result.forEach((_, i) => {
    const [ch, x, y, b] = [i % c, Math.floor(i / c) % ow, Math.floor(i / (c * ow)) % oh, Math.floor(i / (c * ow * oh))];
    let sum = 0;
    for (let ky = 0; ky < kh; ky++) for (let kx = 0; kx < kw; kx++) {
      const [iy, ix] = [y * kernel.strides[0]! - kernel.pads[0]! + ky * kernel.dilations[0]!, x * kernel.strides[1]! - kernel.pads[1]! + kx * kernel.dilations[1]!];
      if (iy >= 0 && iy < h && ix >= 0 && ix < w) sum += image[((b * h + iy) * w + ix) * c + ch]! * weights[(ch * kh + ky) * kw + kx]!;
    }
    result[i] = epilogueValue(kernel.epilogue, sum, [b, y, x, ch], contents, bindings);
  });
  return result;
}

function check(isa: Isa, options: Options): void {
  const kernel = bandKernel(options);
  const { expansion, depthwise, projection } = kernel;
  const bindings = options.bindings ?? new Map();
  const random = randomizer(5);
  const contents: Contents = new Map();
  const loads = [expansion, depthwise, projection].flatMap((part) => (part?.epilogue ? loadsOf(part.epilogue.value) : []));
  const constants = [depthwise.weights, ...[expansion, projection].flatMap((part) => (part ? [part.b.buffer] : []))];
  for (const buffer of [expansion ? expansion.a.buffer : depthwise.input, ...constants, ...loads]) contents.set(buffer, randomFloats(spanOf(buffer, bindings), random));
  const image = expansion ? product(expansion, contents.get(expansion.a.buffer) as Float32Array, contents, bindings) : (contents.get(depthwise.input) as Float32Array);
  const middle = convolution(depthwise, image, contents, bindings);
  const output = (projection ?? depthwise).output;
  const expected = expectedOutput(output, bindings);
  expected.set(projection ? product(projection, middle, contents, bindings) : middle);
  const lookup = (buffer: Buffer): Uint8Array | undefined => (constants.includes(buffer) ? new Uint8Array(contents.get(buffer)!.buffer) : undefined);
  const shape = convShape(depthwise)!;
  const own = bandTactics(kernel, isa, lookup, bindings).filter((_, i) => i % 5 === 0);
  const operands = depthwiseOperands(depthwise, shape, isa, lookup)!;
  const given = { rows: options.rows ?? 2, tile: [4, 2], depthwise: { pixels: 3, lines: shape.kernel[0] > shape.stride[0] ? 2 : 1 } } as const;
  [...own.map((tactic) => tactic.compile()), new BandGenerator(kernel, shape, operands, isa, lookup, given).compile()].forEach((compiled, i) => {
    assertClose(execute(compiled, bindings, contents, output, i % 2 ? "start" : "end", 1 + (i % 3)), expected, `${isa.name} ${compiled.tactic}`);
  });
}

function loadsOf(expr: Expr): Buffer[] {
  if (expr.kind === "load") return [expr.buffer];
  return expr.kind === "op" ? expr.args.flatMap(loadsOf) : [];
}

for (const isa of [AVX512, AVX2]) {
  test(`${isa.name}: an expansion, a convolution and a projection`, () => {
    check(isa, { size: [13, 11], channels: 24, expandedFrom: 7, projectedTo: 10, kernel: [3, 3], pads: [1, 1] });
    check(isa, { size: [9, 14], channels: 40, expandedFrom: 16, projectedTo: 33, kernel: [5, 5], pads: [2, 2], residual: true, rows: 3 });
  });
  test(`${isa.name}: an expansion before strides, with and without padding`, () => {
    check(isa, { size: [15, 12], channels: 17, expandedFrom: 5, kernel: [3, 3], strides: [2, 2], pads: [1, 1] });
    check(isa, { size: [14, 15], channels: 32, expandedFrom: 9, kernel: [3, 3], strides: [2, 2], pads: [0, 0], rows: 1 });
    check(isa, { size: [16, 9], channels: 16, expandedFrom: 3, kernel: [2, 3], strides: [3, 1], pads: [0, 1], rows: 1 });
    check(isa, { size: [12, 12], channels: 20, expandedFrom: 4, kernel: [3, 3], dilations: [2, 2], pads: [2, 2] });
  });
  test(`${isa.name}: a projection after a convolution`, () => {
    check(isa, { size: [11, 13], channels: 19, projectedTo: 64, kernel: [3, 3], pads: [1, 1], residual: true });
    check(isa, { size: [10, 10], channels: 48, projectedTo: 12, kernel: [3, 3], strides: [2, 2], pads: [1, 1], rows: 5 });
  });
  test(`${isa.name}: images counted at run time`, () => {
    check(isa, { batch: symbol("n"), bindings: new Map([["n", 3]]), size: [8, 10], channels: 24, expandedFrom: 8, projectedTo: 16, kernel: [3, 3], pads: [1, 1], residual: true });
  });
  test(`${isa.name}: padding wider than the image, and bands larger than it`, () => {
    check(isa, { size: [3, 4], channels: 16, expandedFrom: 4, kernel: [3, 3], pads: [4, 1], rows: 2 });
    check(isa, { size: [5, 5], channels: 16, expandedFrom: 4, projectedTo: 8, kernel: [3, 3], pads: [1, 1], rows: 9 });
  });
}
