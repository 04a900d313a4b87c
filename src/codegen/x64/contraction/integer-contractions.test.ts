import assert from "node:assert/strict";
import { test } from "node:test";
import type { DType } from "../../../base/index.ts";
import { type Bindings, type Buffer, type ConstantLookup, type ConvKernel, type Dim, type Epilogue, evaluate, type Expr, type Kernel, type MatmulKernel, symbol, type Tactic, type ZeroPoint } from "../../../ir/index.ts";
import { spanOf } from "../../../tune/index.ts";
import type { Isa } from "../function.ts";
import { convTactics } from "./conv-tactics.ts";
import { matmulTactics } from "./matmul-tactics.ts";
import { AMX, AVX2, AVX512, type Contents, type Elements, elementsOf, execute, randomizer } from "./testing.ts";
import { detectCpu } from "../../../native/index.ts";

/** Every instruction set that this processor has; results must be the same bits on all. */
const SETS: readonly Isa[] = [AVX2, ...(detectCpu().features.has("avxvnni") ? [{ ...AVX2, vnni: true }] : []), { ...AVX512, vnni: false }, AVX512, ...(detectCpu().features.has("amxint8") ? [AMX] : [])];

const nameOf = (isa: Isa): string => `${isa.name}${isa.vnni ? " vnni" : ""}${isa.amx ? " amx" : ""}`;

function buffer(name: string, dtype: DType, dims: readonly Dim[], strides?: readonly Dim[]): Buffer {
  return { name, dtype, dims, ...(strides && { strides }) };
}

type Fill = "random" | "extreme";

/** Whole ranges of the types; `extreme` has their ends only, so that sums are as large as they can be. */
function fill(one: Buffer, bindings: Bindings, random: () => number, how: Fill): Elements {
  const low = one.dtype === "int8" ? -128 : 0;
  const bytes = Uint8Array.from({ length: spanOf(one, bindings) }, () => (how === "extreme" ? (random() < 0.8 ? low + 255 : low) : low + Math.floor((random() + 1) * 127.99)) & 255);
  return elementsOf(one.dtype, bytes);
}

const zeroAt = (zero: ZeroPoint | undefined, contents: Contents, column: number): number => {
  if (zero === undefined || typeof zero === "number") return zero ?? 0;
  const values = contents.get(zero)!;
  return values[values.length === 1 ? 0 : column]!;
};

interface Problem {
  readonly kernel: Kernel;
  readonly buffers: readonly Buffer[];
  readonly constants: readonly Buffer[];
  readonly output: Buffer;
  readonly bindings: Bindings;
  tactics(isa: Isa, constants: ConstantLookup): Tactic[];
  expected(contents: Contents): Elements;
}

function check(problem: Problem, how: Fill = "random", limit = 4): void {
  const random = randomizer(5);
  const contents: Contents = new Map(problem.buffers.map((one) => [one, fill(one, problem.bindings, random, how)]));
  const constants: ConstantLookup = (one) => (problem.constants.includes(one) ? new Uint8Array(contents.get(one)!.buffer) : undefined);
  const expected = problem.expected(contents);
  for (const isa of SETS) {
    const tactics = problem.tactics(isa, constants);
    assert.ok(tactics.length > 0, `${nameOf(isa)}: no tactic`);
    tactics.filter(({ name }, i) => i < 2 || name.includes("tiles") || i % Math.ceil(tactics.length / limit) === 0).forEach((tactic, i) => {
      const got = execute(tactic.compile(), problem.bindings, contents, problem.output, i % 2 ? "start" : "end", 1 + (i % 3));
      const at = got.findIndex((value, j) => value !== expected[j]);
      assert.equal(at, -1, `${nameOf(isa)} ${tactic.name}: element ${at} is ${got[at]}, expected ${expected[at]}`);
    });
  }
}

interface Product {
  readonly m: Dim;
  readonly n: Dim;
  readonly k: Dim;
  readonly types?: readonly [DType, DType];
  readonly constantB?: boolean;
  readonly zeroA?: number | "buffer";
  readonly zeroB?: number | "buffer" | "columns";
  readonly transposed?: "a" | "b";
  readonly bindings?: Bindings;
  readonly epilogue?: (output: Buffer) => Epilogue;
  readonly outputType?: DType;
  /** What the epilogue makes of a sum. */
  readonly after?: (sum: number, column: number) => number;
}

function product(p: Product): Problem {
  const { m, n, k } = p;
  const [typeA, typeB] = p.types ?? ["uint8", "int8"];
  const a = buffer("a", typeA, p.transposed === "a" ? [k, m] : [m, k]);
  const b = buffer("b", typeB, p.transposed === "b" ? [n, k] : [k, n]);
  const c = buffer("c", p.outputType ?? "int32", [m, n]);
  const zero = (which: number | "buffer" | "columns" | undefined, name: string, dtype: DType): ZeroPoint | undefined =>
    which === "buffer" ? buffer(name, dtype, []) : which === "columns" ? buffer(name, dtype, [n]) : which;
  const [zeroA, zeroB] = [zero(p.zeroA, "za", typeA), zero(p.zeroB, "zb", typeB)];
  const kernel: MatmulKernel = {
    kind: "matmul", name: "mm", batch: [], m, n, k, output: c, ...(p.epilogue && { epilogue: p.epilogue(c) }),
    a: { buffer: a, batchStrides: [], ...(p.transposed === "a" ? { rowStride: 1, columnStride: m } : { rowStride: k, columnStride: 1 }), ...(zeroA !== undefined && { zero: zeroA }) },
    b: { buffer: b, batchStrides: [], ...(p.transposed === "b" ? { rowStride: 1, columnStride: k } : { rowStride: n, columnStride: 1 }), ...(zeroB !== undefined && { zero: zeroB }) },
  };
  const bindings = p.bindings ?? new Map();
  const value = (dim: Dim): number => evaluate(dim, bindings);
  const isBuffer = (one: ZeroPoint | undefined): one is Buffer => typeof one === "object";
  const buffers = [a, b, ...[zeroA, zeroB].filter(isBuffer)];
  return {
    kernel, buffers, output: c, bindings,
    constants: p.constantB === false ? [] : [b, ...[zeroB].filter(isBuffer)],
    tactics: (isa, constants) => matmulTactics(kernel, isa, constants, bindings),
    expected: (contents) => {
      const [rows, columns, depth] = [value(m), value(n), value(k)];
      const [av, bv] = [contents.get(a)!, contents.get(b)!];
      const at = (x: number, z: number): number => av[p.transposed === "a" ? z * rows + x : x * depth + z]! - zeroAt(zeroA, contents, 0);
      const bt = (z: number, y: number): number => bv[p.transposed === "b" ? y * depth + z : z * columns + y]! - zeroAt(zeroB, contents, y);
      const result = elementsOf(c.dtype, new Uint8Array(rows * columns * (c.dtype === "int32" ? 4 : 1)));
      for (let x = 0; x < rows; x++) for (let y = 0; y < columns; y++) {
        let sum = 0;
        for (let z = 0; z < depth; z++) sum += at(x, z) * bt(z, y);
        result[x * columns + y] = p.after ? p.after(sum, y) : sum;
      }
      return result;
    },
  };
}

const TYPES = [["uint8", "int8"], ["int8", "int8"], ["uint8", "uint8"], ["int8", "uint8"]] as const;

test("integer products: constant right sides of every type, sizes around words and tiles", () => {
  for (const types of TYPES) {
    for (const [m, n, k] of [[1, 1, 1], [12, 32, 8], [13, 33, 5], [3, 20, 67], [25, 64, 130], [1, 300, 40], [7, 48, 36]] as const) check(product({ m, n, k, types }));
    check(product({ m: 5, n: 40, k: 2100, types }), "extreme", 2);
    check(product({ m: 49, n: 50, k: 1100, types, zeroA: "buffer" }), "random", 2);
  }
});

test("integer products: zero points known and not known", () => {
  for (const types of TYPES) {
    for (const zeroA of [3, "buffer"] as const) {
      for (const zeroB of [undefined, types[1] === "uint8" ? 128 : -7, "columns"] as const) {
        check(product({ m: 9, n: 37, k: 22, types, zeroA, ...(zeroB !== undefined && { zeroB }) }), "random", 2);
      }
    }
  }
});

test("integer products: two moving operands, plain and transposed", () => {
  for (const types of TYPES) {
    for (const zeros of [{}, { zeroA: "buffer", zeroB: "buffer" }] as const) {
      check(product({ m: 10, n: 45, k: 31, types, constantB: false, ...zeros }), "random", 2);
      check(product({ m: 10, n: 45, k: 31, types, constantB: false, transposed: "b", ...zeros }), "extreme", 2);
      check(product({ m: 11, n: 20, k: 14, types, constantB: false, transposed: "a", ...zeros }), "random", 2);
    }
  }
  check(product({ m: 11, n: 20, k: 14, transposed: "a" }));
  check(product({ m: 11, n: 20, k: 14, transposed: "b", zeroA: 9 }));
});

test("integer products: sizes bound at run time", () => {
  const [M, N, K] = [symbol("m"), symbol("n"), symbol("k")];
  for (const [m, n, k] of [[1, 1, 1], [0, 5, 3], [5, 5, 0], [12, 32, 16], [29, 77, 41], [6, 16, 2300]] as const) {
    check(product({ m: M, n: N, k: K, types: ["int8", "uint8"], constantB: false, zeroB: "buffer", bindings: new Map([["m", m], ["n", n], ["k", k]]) }), "random", 2);
    check(product({ m: M, n: 77, k: 41, types: ["int8", "int8"], zeroA: "buffer", bindings: new Map([["m", m]]) }), "random", 2);
  }
});

test("integer products: requantized on the way out", () => {
  const epilogue = (output: Buffer): Epilogue => {
    const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
    const op = (name: "mul" | "round" | "max" | "min", ...args: readonly Expr[]): Expr => ({ kind: "op", type: "f32", op: name, args });
    const number = (value: number): Expr => ({ kind: "const", type: "f32", value });
    const scaled = op("mul", { kind: "cast", type: "f32", arg: { kind: "accumulator", type: "i32" } }, number(0.0078125));
    return { axes, value: { kind: "cast", type: "i32", arg: op("max", op("min", op("round", scaled), number(127)), number(-128)) } };
  };
  const halfToEven = (x: number): number => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  const after = (sum: number): number => Math.max(-128, Math.min(127, halfToEven(sum / 128)));
  for (const [m, n, k] of [[14, 45, 19], [3, 16, 64]] as const) check(product({ m, n, k, epilogue, outputType: "int8", zeroA: 4, after }));
});

interface Image {
  readonly size: readonly [number, number];
  readonly out: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly channels: number;
  readonly outputs: number;
  readonly groups?: number;
  readonly stride?: number;
  readonly dilation?: number;
  readonly pad?: number;
  readonly types?: readonly [DType, DType];
  readonly zero?: number | "buffer";
  readonly weightsZero?: number | "columns";
}

function convolution(p: Image): Problem {
  const groups = p.groups ?? 1;
  const [stride, dilation, pad] = [p.stride ?? 1, p.dilation ?? 1, p.pad ?? 0];
  const [typeX, typeW] = p.types ?? ["uint8", "int8"];
  const x = buffer("x", typeX, [2, ...p.size, p.channels]);
  const w = buffer("w", typeW, [p.outputs, p.channels / groups, ...p.kernel]);
  const y = buffer("y", "int32", [2, ...p.out, p.outputs]);
  const inputZero = p.zero === "buffer" ? buffer("zx", typeX, []) : p.zero;
  const weightsZero = p.weightsZero === "columns" ? buffer("zw", typeW, [p.outputs]) : p.weightsZero;
  const kernel: ConvKernel = {
    kind: "conv", name: "conv", input: x, weights: w, output: y, groups, kernel: p.kernel, strides: [stride, stride], dilations: [dilation, dilation], pads: [pad, pad],
    ...(inputZero !== undefined && { inputZero }), ...(weightsZero !== undefined && { weightsZero }),
  };
  const zeros = [inputZero, weightsZero].filter((one) => typeof one === "object");
  return {
    kernel, output: y, bindings: new Map(), buffers: [x, w, ...zeros], constants: [w, ...zeros.filter((one) => one === weightsZero)],
    tactics: (isa, constants) => convTactics(kernel, isa, constants, new Map()),
    expected: (contents) => {
      const [xv, wv] = [contents.get(x)!, contents.get(w)!];
      const [inputs, outputs] = [p.channels / groups, p.outputs / groups];
      const result = new Int32Array(2 * p.out[0] * p.out[1] * p.outputs);
      let at = 0;
      for (let b = 0; b < 2; b++) for (let oy = 0; oy < p.out[0]; oy++) for (let ox = 0; ox < p.out[1]; ox++) for (let o = 0; o < p.outputs; o++) {
        let sum = 0;
        for (let ky = 0; ky < p.kernel[0]; ky++) for (let kx = 0; kx < p.kernel[1]; kx++) {
          const [iy, ix] = [oy * stride - pad + ky * dilation, ox * stride - pad + kx * dilation];
          if (iy < 0 || iy >= p.size[0] || ix < 0 || ix >= p.size[1]) continue;
          for (let c = 0; c < inputs; c++) {
            const value = xv[((b * p.size[0] + iy) * p.size[1] + ix) * p.channels + Math.floor(o / outputs) * inputs + c]! - zeroAt(inputZero, contents, 0);
            sum += value * (wv[((o * inputs + c) * p.kernel[0] + ky) * p.kernel[1] + kx]! - zeroAt(weightsZero, contents, o));
          }
        }
        result[at++] = sum;
      }
      return result;
    },
  };
}

test("integer convolutions: kernels, strides, padding with the zero point", () => {
  for (const types of TYPES) {
    for (const zero of [undefined, 7, "buffer"] as const) {
      const given = { types, ...(zero !== undefined && { zero }) };
      check(convolution({ size: [9, 13], out: [9, 13], kernel: [3, 3], pad: 1, channels: 8, outputs: 24, ...given }), "random", 2);
      check(convolution({ size: [9, 11], out: [5, 6], kernel: [3, 3], pad: 1, stride: 2, channels: 6, outputs: 33, ...given }), "random", 2);
      check(convolution({ size: [7, 7], out: [7, 7], kernel: [1, 1], channels: 20, outputs: 40, ...given }), "extreme", 2);
    }
    check(convolution({ size: [12, 12], out: [6, 6], kernel: [7, 7], pad: 3, stride: 2, channels: 3, outputs: 17, types, zero: 1 }), "random", 2);
    check(convolution({ size: [9, 9], out: [5, 5], kernel: [3, 3], dilation: 2, channels: 5, outputs: 16, types, zero: 2, weightsZero: "columns" }), "random", 2);
  }
});

test("integer convolutions: groups and depthwise", () => {
  for (const types of TYPES) {
    check(convolution({ size: [6, 7], out: [6, 7], kernel: [3, 3], pad: 1, channels: 12, outputs: 24, groups: 3, types, zero: 5 }), "random", 2);
    check(convolution({ size: [6, 7], out: [6, 7], kernel: [3, 3], pad: 1, channels: 64, outputs: 64, groups: 2, types, zero: 5, weightsZero: "columns" }), "random", 2);
    for (const [stride, out] of [[1, 9], [2, 5]] as const) {
      check(convolution({ size: [9, 9], out: [out, out], kernel: [3, 3], pad: 1, stride, channels: 40, outputs: 40, groups: 40, types, zero: 5 }), "random", 3);
      check(convolution({ size: [9, 9], out: [out, out], kernel: [5, 5], pad: 2, stride, channels: 16, outputs: 16, groups: 16, types, zero: "buffer", weightsZero: "columns" }), "extreme", 3);
    }
  }
});
