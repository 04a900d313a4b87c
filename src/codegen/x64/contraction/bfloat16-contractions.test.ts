import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBfloat16Bits, toBfloat16Bits } from "../../../base/index.ts";
import { type Bindings, type Buffer, type ConvKernel, type Dim, type Epilogue, evaluate, type MatmulKernel, symbol, type Tactic } from "../../../ir/index.ts";
import { detectCpu } from "../../../native/index.ts";
import { spanOf } from "../../../tune/index.ts";
import { convTactics } from "./conv-tactics.ts";
import { matmulTactics } from "./matmul-tactics.ts";
import { AMX, AVX2, AVX512, type Contents, type Elements, execute, randomizer } from "./testing.ts";

const skip = detectCpu().features.has("avx512bf16") ? false : "this processor has no AVX512-BF16";
const skipTiles = detectCpu().features.has("amxbf16") ? false : "this processor has no AMX";

const buffer = (name: string, dtype: Buffer["dtype"], dims: readonly Dim[], strides?: readonly Dim[]): Buffer => ({ name, dtype, dims, ...(strides && { strides }) });

function randomBits(count: number, random: () => number): Uint16Array {
  return Uint16Array.from({ length: count }, () => toBfloat16Bits(random()));
}

const elementOf = (one: Buffer, contents: Contents, i: number): number => (one.dtype === "bfloat16" ? fromBfloat16Bits(contents.get(one)![i]!) : contents.get(one)![i]!);

/** Sums differ by their order only; a stored bfloat16 by its rounding too. */
function assertNear(kernel: { readonly output: Buffer }, tactic: Tactic, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  const isNarrow = kernel.output.dtype === "bfloat16";
  for (let i = 0; i < expected.length; i++) {
    const value = isNarrow ? fromBfloat16Bits(got[i]!) : got[i]!;
    if (!(Math.abs(value - expected[i]!) <= (isNarrow ? 2 ** -8 : 1e-4) * Math.max(0.5, Math.abs(expected[i]!)))) assert.fail(`${tactic.name}: element ${i} is ${value}, expected ${expected[i]}`);
  }
}

function chosen(tactics: readonly Tactic[], limit: number): Tactic[] {
  assert.ok(tactics.length > 0, "no tactic");
  return tactics.filter((_, i) => i < 2 || i % Math.ceil(tactics.length / limit) === 0);
}

interface Product {
  readonly m: Dim;
  readonly n: Dim;
  readonly k: Dim;
  readonly constantB: boolean;
  readonly transposed?: "a" | "b";
  readonly outputType?: "float32" | "bfloat16";
  readonly bindings?: Bindings;
  /** Whether results are stored as bfloat16 as well. */
  readonly copies?: boolean;
}

/** On tiles, all tactics of tiles; else some of all tactics. */
function checkProduct(p: Product, limit = 4, isa = AVX512): void {
  const { m, n, k, transposed } = p;
  const bindings = p.bindings ?? new Map();
  const a = buffer("a", "bfloat16", transposed === "a" ? [k, m] : [m, k]);
  const b = buffer("b", "bfloat16", transposed === "b" ? [n, k] : [k, n]);
  const bias = buffer("bias", "float32", [n]);
  const output = buffer("c", p.outputType ?? "float32", [m, n]);
  const copy = p.copies ? buffer("copy", "bfloat16", [m, n]) : undefined;
  const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const epilogue: Epilogue = { axes, value: { kind: "op", type: "f32", op: "add", args: [{ kind: "accumulator", type: "f32" }, { kind: "load", type: "f32", buffer: bias, index: [{ kind: "axis", type: "i64", axis: axes[1]! }] }] } };
  const kernel: MatmulKernel = {
    kind: "matmul", name: "mm", batch: [], m, n, k, output, epilogue, ...(copy && { copy }),
    a: { buffer: a, batchStrides: [], ...(transposed === "a" ? { rowStride: 1, columnStride: m } : { rowStride: k, columnStride: 1 }) },
    b: { buffer: b, batchStrides: [], ...(transposed === "b" ? { rowStride: 1, columnStride: k } : { rowStride: n, columnStride: 1 }) },
  };
  const random = randomizer(3);
  const contents: Contents = new Map<Buffer, Elements>([[a, randomBits(spanOf(a, bindings), random)], [b, randomBits(spanOf(b, bindings), random)], [bias, Float32Array.from({ length: spanOf(bias, bindings) }, random)]]);
  const [rows, columns, depth] = [m, n, k].map((dim) => evaluate(dim, bindings)) as [number, number, number];
  const expected = new Float64Array(rows * columns);
  for (let x = 0; x < rows; x++) for (let y = 0; y < columns; y++) {
    let sum = contents.get(bias)![y]!;
    for (let z = 0; z < depth; z++) sum += elementOf(a, contents, transposed === "a" ? z * rows + x : x * depth + z) * elementOf(b, contents, transposed === "b" ? y * depth + z : z * columns + y);
    expected[x * columns + y] = sum;
  }
  const bytes = new Uint8Array(contents.get(b)!.buffer);
  const all = matmulTactics(kernel, isa, (one) => (p.constantB && one === b ? bytes : undefined), bindings);
  const tactics = isa.amx ? all.filter(({ name }) => name.includes("tiles")) : all;
  chosen(tactics, isa.amx ? tactics.length : limit).forEach((tactic, i) => {
    assertNear(kernel, tactic, execute(tactic.compile(), bindings, contents, output, i % 2 ? "start" : "end", 1 + (i % 3)), expected);
    if (copy) assertNear({ output: copy }, tactic, execute(tactic.compile(), bindings, contents, copy, i % 2 ? "start" : "end", 1 + (i % 3)), expected);
  });
}

test("bfloat16 products: constant right sides, odd reductions, both output types", { skip }, () => {
  for (const outputType of ["float32", "bfloat16"] as const) {
    for (const [m, n, k] of [[1, 1, 1], [12, 32, 8], [13, 33, 5], [3, 20, 67], [25, 64, 130], [1, 300, 40]] as const) checkProduct({ m, n, k, constantB: true, outputType });
  }
  checkProduct({ m: 5, n: 40, k: 1500, constantB: true });
  for (const [m, n, k] of [[13, 33, 5], [3, 70, 66]] as const) checkProduct({ m, n, k, constantB: true, copies: true });
  checkProduct({ m: 11, n: 20, k: 15, constantB: true, transposed: "a" });
  checkProduct({ m: 11, n: 20, k: 15, constantB: true, transposed: "b" });
});

test("bfloat16 products: two moving operands, sizes bound at run time", { skip }, () => {
  for (const transposed of [undefined, "a", "b"] as const) checkProduct({ m: 10, n: 45, k: 31, constantB: false, ...(transposed && { transposed }) });
  const [M, N, K] = [symbol("m"), symbol("n"), symbol("k")];
  for (const [m, n, k] of [[1, 1, 1], [0, 5, 3], [5, 5, 0], [29, 77, 41], [6, 16, 1100]] as const) {
    checkProduct({ m: M, n: N, k: K, constantB: false, bindings: new Map([["m", m], ["n", n], ["k", k]]) }, 2);
    checkProduct({ m: M, n: 77, k: 41, constantB: true, bindings: new Map([["m", m]]), outputType: "bfloat16" }, 2);
  }
});

/** Sizes around tiles and grids, in rows, columns and words of the reduction. */
const TILE_SIZES = [[1, 1, 1], [16, 16, 32], [17, 17, 33], [32, 32, 64], [33, 40, 62], [64, 70, 31], [47, 300, 130], [100, 33, 1100]] as const;

test("bfloat16 products on tiles: rows, columns and reductions that do not fill them", { skip: skipTiles }, () => {
  for (const [m, n, k] of TILE_SIZES) {
    for (const constantB of [true, false]) checkProduct({ m, n, k, constantB, outputType: k % 2 ? "float32" : "bfloat16" }, 0, AMX);
    checkProduct({ m: symbol("m"), n, k, constantB: true, bindings: new Map([["m", m]]), copies: true }, 0, AMX);
    checkProduct({ m: symbol("m"), n: symbol("n"), k, constantB: false, bindings: new Map([["m", m], ["n", n]]) }, 0, AMX);
  }
  for (const transposed of ["a", "b"] as const) for (const constantB of [true, false]) checkProduct({ m: 40, n: 50, k: 70, constantB, transposed }, 0, AMX);
  for (const [m, n, k] of [[0, 40, 8], [40, 40, 0]] as const) checkProduct({ m, n, k, constantB: true }, 0, AMX);
});

interface Image {
  readonly size: number;
  readonly out: number;
  readonly kernel: number;
  readonly channels: number;
  readonly outputs: number;
  readonly groups?: number;
  readonly stride?: number;
  readonly pad?: number;
}

function checkConvolution(p: Image): void {
  const { size, out, channels, outputs, groups = 1, stride = 1, pad = 0 } = p;
  const x = buffer("x", "bfloat16", [1, size, size, channels]);
  const w = buffer("w", "bfloat16", [outputs, channels / groups, p.kernel, p.kernel]);
  const output = buffer("y", "bfloat16", [1, out, out, outputs]);
  const kernel: ConvKernel = { kind: "conv", name: "conv", input: x, weights: w, output, groups, kernel: [p.kernel, p.kernel], strides: [stride, stride], dilations: [1, 1], pads: [pad, pad] };
  const random = randomizer(9);
  const contents: Contents = new Map([x, w].map((one) => [one, randomBits(spanOf(one, new Map()), random)]));
  const [ins, outs] = [channels / groups, outputs / groups];
  const expected: number[] = [];
  for (let oy = 0; oy < out; oy++) for (let ox = 0; ox < out; ox++) for (let o = 0; o < outputs; o++) {
    let sum = 0;
    for (let ky = 0; ky < p.kernel; ky++) for (let kx = 0; kx < p.kernel; kx++) {
      const [iy, ix] = [oy * stride - pad + ky, ox * stride - pad + kx];
      if (iy < 0 || iy >= size || ix < 0 || ix >= size) continue;
      for (let c = 0; c < ins; c++) sum += elementOf(x, contents, (iy * size + ix) * channels + Math.floor(o / outs) * ins + c) * elementOf(w, contents, ((o * ins + c) * p.kernel + ky) * p.kernel + kx);
    }
    expected.push(sum);
  }
  const bytes = new Uint8Array(contents.get(w)!.buffer);
  const tactics = convTactics(kernel, AVX512, (one) => (one === w ? bytes : undefined), new Map());
  chosen(tactics, 3).forEach((tactic, i) => assertNear(kernel, tactic, execute(tactic.compile(), new Map(), contents, output, i % 2 ? "start" : "end"), expected));
}

test("bfloat16 convolutions: odd channels, padding, groups, depthwise", { skip }, () => {
  checkConvolution({ size: 9, out: 9, kernel: 3, pad: 1, channels: 8, outputs: 24 });
  checkConvolution({ size: 9, out: 5, kernel: 3, pad: 1, stride: 2, channels: 3, outputs: 17 });
  checkConvolution({ size: 7, out: 7, kernel: 1, channels: 20, outputs: 40 });
  checkConvolution({ size: 7, out: 7, kernel: 3, pad: 1, channels: 12, outputs: 24, groups: 3 });
  checkConvolution({ size: 9, out: 9, kernel: 3, pad: 1, channels: 40, outputs: 40, groups: 40 });
});

test("an instruction set without bfloat16 products has no tactic for them", () => {
  const [a, b, output] = [buffer("a", "bfloat16", [2, 2]), buffer("b", "bfloat16", [2, 2]), buffer("c", "float32", [2, 2])];
  const operand = (one: Buffer) => ({ buffer: one, batchStrides: [], rowStride: 2, columnStride: 1 });
  assert.deepEqual(matmulTactics({ kind: "matmul", name: "mm", batch: [], m: 2, n: 2, k: 2, a: operand(a), b: operand(b), output }, AVX2, () => undefined, new Map()), []);
});
