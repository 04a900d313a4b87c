/** Products with scales per block against a plain evaluation, on memory that ends at an unmapped page. */
import { describe, it } from "node:test";
import { type Buffer, type Dim, type Epilogue, type MatmulKernel, symbol } from "../../../ir/index.ts";
import { detectCpu } from "../../../native/index.ts";
import type { Isa } from "../function.ts";
import { matmulTactics } from "./matmul-tactics.ts";
import { assertClose, AVX2, AVX512, type Contents, elementsOf, execute, randomFloats, randomizer } from "./testing.ts";

interface Case {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly bits: 4 | 8;
  readonly size: number;
  readonly hasZeros?: boolean;
  /** Elements between rows and between columns of A; side by side when absent. */
  readonly aStrides?: readonly [Dim, Dim];
  readonly isOpen?: boolean;
}

const CASES: readonly Case[] = [
  { m: 1, n: 64, k: 64, bits: 4, size: 32 }, { m: 1, n: 130, k: 96, bits: 4, size: 32, hasZeros: true }, { m: 2, n: 16, k: 40, bits: 4, size: 16 }, { m: 3, n: 65, k: 33, bits: 4, size: 32, hasZeros: true },
  { m: 4, n: 70, k: 128, bits: 8, size: 32 }, { m: 7, n: 5, k: 31, bits: 8, size: 16, hasZeros: true }, { m: 16, n: 64, k: 256, bits: 4, size: 128 }, { m: 77, n: 96, k: 72, bits: 4, size: 24, isOpen: true },
  { m: 9, n: 33, k: 17, bits: 8, size: 8, isOpen: true, hasZeros: true }, { m: 5, n: 20, k: 48, bits: 4, size: 16, aStrides: [1, 5] }, { m: 6, n: 20, k: 48, bits: 4, size: 16, aStrides: [60, 1] },
];

function buffer(name: string, dtype: Buffer["dtype"], dims: readonly Dim[]): Buffer {
  return { name, dtype, dims };
}

function check(isa: Isa, { m, n, k, bits, size, hasZeros = false, aStrides, isOpen = false }: Case): void {
  const random = randomizer(m * 1000 + n + k);
  const blocks = Math.ceil(k / size);
  const rowBytes = bits === 4 ? Math.ceil(k / 2) : k;
  const rows: Dim = isOpen ? symbol("rows") : m;
  const [rowStride, columnStride] = aStrides ?? [k, 1];
  const span = 1 + (m - 1) * Number(rowStride) + (k - 1) * Number(columnStride);
  const a = buffer("a", "float32", aStrides ? [span] : [rows, k]);
  const [b, scales, zeros, bias, output] = [buffer("b", bits === 4 ? "uint8" : "int8", [n, rowBytes]), buffer("s", "float32", [n, blocks]), buffer("z", "int8", [n, blocks]), buffer("bias", "float32", [n]), buffer("c", "float32", [rows, n])];
  const axes = [rows, n].map((extent, i) => ({ name: `o${i}`, extent }));
  const epilogue: Epilogue = { axes, value: { kind: "op", type: "f32", op: "add", args: [{ kind: "accumulator", type: "f32" }, { kind: "load", type: "f32", buffer: bias, index: [{ kind: "axis", type: "i64", axis: axes[1]! }] }] } };
  const kernel: MatmulKernel = {
    kind: "matmul", name: "blocks", batch: [], m: rows, n, k, a: { buffer: a, batchStrides: [], rowStride, columnStride },
    b: { buffer: b, batchStrides: [], rowStride: 1, columnStride: 1, blocks: { bits, size, scales, ...(hasZeros ? { zeros } : {}) } }, output, epilogue,
  };
  const integers = Uint8Array.from({ length: n * rowBytes }, () => Math.floor((random() + 1) * 127.99));
  const points = Int8Array.from({ length: n * blocks }, () => Math.floor(random() * 7));
  const factors = randomFloats(n * blocks, random);
  const contents: Contents = new Map([[a, randomFloats(span, random)], [bias, randomFloats(n, random)]]);
  const integer = (column: number, i: number): number => {
    if (bits === 8) return (integers[column * rowBytes + i]! << 24) >> 24;
    return ((integers[column * rowBytes + (i >> 1)]! >> (4 * (i % 2))) << 28) >> 28;
  };
  const expected = Float32Array.from({ length: m * n }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = contents.get(bias)![column]!;
    for (let i = 0; i < k; i++) {
      const block = column * blocks + Math.floor(i / size);
      sum += contents.get(a)![row * Number(rowStride) + i * Number(columnStride)]! * (integer(column, i) - (hasZeros ? points[block]! : 0)) * factors[block]!;
    }
    return sum;
  });
  const constants = new Map<Buffer, Uint8Array>([[b, integers], [scales, new Uint8Array(factors.buffer)], [zeros, new Uint8Array(points.buffer)]]);
  const bindings = new Map(isOpen ? [["rows", m]] : []);
  const [tactic] = matmulTactics(kernel, isa, (one) => constants.get(one), bindings);
  for (const edge of ["start", "end"] as const) {
    const got = execute(tactic!.compile(), bindings, contents, output, edge, 2);
    assertClose(elementsOf("float32", new Uint8Array(got.buffer)), expected, `${isa.name} ${JSON.stringify({ m, n, k, bits, size, hasZeros })}`, 2e-5 * k);
  }
}

describe("products with scales per block", () => {
  for (const isa of [AVX512, AVX2]) {
    it(`of odd sizes, on ${isa.name}`, { skip: isa.name === "avx512" && !detectCpu().features.has("avx512f") }, () => {
      for (const one of CASES) check(isa, one);
    });
  }
});
