import { test } from "node:test";
import { type Bindings, type Buffer, type Dim, type Epilogue, evaluate, type MatmulKernel, symbol } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { matmulTactics } from "./matmul-tactics.ts";
import { stridesOf } from "./output.ts";
import { assertClose, AVX2, AVX512, type Contents, type Elements, epilogueValue, execute, expectedOutput, randomFloats, randomizer } from "./testing.ts";
import { spanOf } from "../../../tune/index.ts";

interface Case {
  readonly kernel: MatmulKernel;
  readonly constantB: boolean;
  readonly bindings?: Bindings;
  /** Sizes that tactics are made for, when they are others. */
  readonly optimum?: Bindings;
  readonly extra?: readonly Buffer[];
}

function buffer(name: string, dims: readonly Dim[], strides?: readonly Dim[]): Buffer {
  return { name, dtype: "float32", dims, ...(strides && { strides }) };
}

/** A plain product of row-major matrices. */
function plain(m: Dim, n: Dim, k: Dim, epilogue?: (output: Buffer) => Epilogue): MatmulKernel {
  const output = buffer("c", [m, n]);
  return {
    kind: "matmul", name: "mm", batch: [], m, n, k,
    a: { buffer: buffer("a", [m, k]), batchStrides: [], rowStride: k, columnStride: 1 },
    b: { buffer: buffer("b", [k, n]), batchStrides: [], rowStride: n, columnStride: 1 },
    output, ...(epilogue && { epilogue: epilogue(output) }),
  };
}

function biasReluResidual(bias: Buffer, residual: Buffer): (output: Buffer) => Epilogue {
  return (output) => {
    const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
    const index = axes.map((axis) => ({ kind: "axis", type: "i64", axis }) as const);
    return {
      axes,
      value: {
        kind: "op", type: "f32", op: "add", args: [
          { kind: "op", type: "f32", op: "max", args: [
            { kind: "op", type: "f32", op: "add", args: [{ kind: "accumulator", type: "f32" }, { kind: "load", type: "f32", buffer: bias, index: index.slice(-1) }] },
            { kind: "const", type: "f32", value: 0 }] },
          { kind: "load", type: "f32", buffer: residual, index },
        ],
      },
    };
  };
}

function reference(kernel: MatmulKernel, contents: Contents, bindings: Bindings): Elements {
  const value = (dim: Dim): number => evaluate(dim, bindings);
  const result = expectedOutput(kernel.output, bindings);
  const [m, n, k] = [value(kernel.m), value(kernel.n), value(kernel.k)];
  const batch = kernel.batch.map(value);
  const strides = stridesOf(kernel.output).map(value);
  const [a, b] = [contents.get(kernel.a.buffer)!, contents.get(kernel.b.buffer)!];
  const dot = (at: number, bt: number, x: number, y: number): number => {
    let sum = 0;
    for (let z = 0; z < k; z++) sum += a[at + x * value(kernel.a.rowStride) + z * value(kernel.a.columnStride)]! * b[bt + z * value(kernel.b.rowStride) + y * value(kernel.b.columnStride)]!;
    return sum;
  };
  const at = (index: readonly number[], by: readonly Dim[]): number => index.reduce((sum, i, d) => sum + i * value(by[d]!), 0);
  const visit = (index: readonly number[]): void => {
    if (index.length < batch.length) {
      for (let i = 0; i < batch[index.length]!; i++) visit([...index, i]);
      return;
    }
    const [ao, bo] = [value(kernel.a.offset ?? 0) + at(index, kernel.a.batchStrides), value(kernel.b.offset ?? 0) + at(index, kernel.b.batchStrides)];
    for (let x = 0; x < m; x++) for (let y = 0; y < n; y++) {
      result[at([...index, x, y], strides)] = epilogueValue(kernel.epilogue, dot(ao, bo, x, y), [...index, x, y], contents, bindings);
    }
  };
  visit([]);
  return result;
}

function check(isa: Isa, item: Case, limit = 4): void {
  const { kernel } = item;
  const bindings = item.bindings ?? new Map();
  const random = randomizer(7);
  const contents: Contents = new Map();
  for (const one of [kernel.a.buffer, kernel.b.buffer, ...(item.extra ?? [])]) contents.set(one, randomFloats(spanOf(one, bindings), random));
  const bytes = new Uint8Array(contents.get(kernel.b.buffer)!.buffer);
  const tactics = matmulTactics(kernel, isa, (one) => (item.constantB && one === kernel.b.buffer ? bytes : undefined), item.optimum ?? bindings);
  const expected = reference(kernel, contents, bindings);
  // The best few, and some from all over the list.
  const chosen = tactics.filter((_, i) => i < 2 || i % Math.ceil(tactics.length / limit) === 0);
  chosen.forEach((tactic, i) => {
    const compiled = tactic.compile();
    const got = execute(compiled, bindings, contents, kernel.output, i % 2 ? "start" : "end", 1 + (i % 3));
    assertClose(got, expected, `${isa.name} ${tactic.name} ${evaluate(kernel.m, bindings)}x${evaluate(kernel.n, bindings)}x${evaluate(kernel.k, bindings)}`);
  });
}

for (const isa of [AVX512, AVX2]) {
  test(`${isa.name}: a constant right side, sizes around the tiles`, () => {
    for (const [m, n, k] of [[1, 1, 1], [12, 32, 8], [13, 33, 5], [11, 31, 4], [25, 64, 17], [128, 96, 64], [7, 130, 33], [1, 300, 40], [2, 16, 3], [64, 10, 600]] as const) check(isa, { kernel: plain(m, n, k), constantB: true });
  });

  test(`${isa.name}: empty sizes`, () => {
    for (const [m, n, k] of [[0, 8, 8], [8, 0, 8], [3, 20, 0], [0, 0, 0]] as const) {
      check(isa, { kernel: plain(m, n, k), constantB: true });
      check(isa, { kernel: plain(m, n, k), constantB: false });
    }
  });

  test(`${isa.name}: two moving operands`, () => {
    for (const [m, n, k] of [[1, 1, 1], [12, 32, 8], [13, 33, 5], [30, 47, 31], [5, 100, 520]] as const) check(isa, { kernel: plain(m, n, k), constantB: false });
  });

  test(`${isa.name}: sizes bound at run time`, () => {
    const [M, N, K] = [symbol("m"), symbol("n"), symbol("k")];
    for (const [m, n, k] of [[1, 1, 1], [0, 5, 3], [5, 5, 0], [12, 32, 16], [29, 77, 40], [6, 16, 1100]] as const) {
      check(isa, { kernel: plain(M, N, K), constantB: false, bindings: new Map([["m", m], ["n", n], ["k", k]]) }, 3);
      check(isa, { kernel: plain(M, 77, 40), constantB: true, bindings: new Map([["m", m]]) }, 3);
    }
  });

  test(`${isa.name}: blocks made for 128 rows at other heights`, () => {
    const M = symbol("m");
    for (const m of [1, 16, 63, 126, 127, 129, 130, 300]) check(isa, { kernel: plain(M, 100, 24), constantB: true, bindings: new Map([["m", m]]), optimum: new Map([["m", 128]]) }, 6);
  });

  test(`${isa.name}: transposed operands by their strides`, () => {
    for (const constantB of [false, true]) {
      const [m, n, k] = [14, 37, 21];
      const kernel = plain(m, n, k);
      check(isa, { kernel: { ...kernel, b: { buffer: buffer("b", [n, k]), batchStrides: [], rowStride: 1, columnStride: k } }, constantB });
      check(isa, { kernel: { ...kernel, a: { buffer: buffer("a", [k, m]), batchStrides: [], rowStride: 1, columnStride: m } }, constantB });
    }
  });

  test(`${isa.name}: batches with strides, offsets and broadcast`, () => {
    const [b0, b1, m, n, k] = [2, 3, 9, 20, 13];
    check(isa, {
      constantB: false,
      kernel: {
        kind: "matmul", name: "bmm", batch: [b0, b1], m, n, k,
        a: { buffer: buffer("a", [b0, m, b1, k]), batchStrides: [m * b1 * k, k], rowStride: b1 * k, columnStride: 1 },
        b: { buffer: buffer("b", [5 + b1 * k * n]), batchStrides: [0, k * n], rowStride: n, columnStride: 1, offset: 5 },
        output: buffer("c", [b0, b1, m, n], [b1 * m * n, n, b1 * n, 1]),
      },
    });
  });

  test(`${isa.name}: output columns apart`, () => {
    const kernel = plain(14, 37, 6);
    check(isa, { kernel: { ...kernel, output: buffer("c", [14, 37], [1, 14]) }, constantB: true });
  });

  test(`${isa.name}: bias, activation and residual on the way out`, () => {
    const [m, n, k] = [27, 45, 19];
    const [bias, residual] = [buffer("bias", [n]), buffer("residual", [m, n])];
    check(isa, { kernel: plain(m, n, k, biasReluResidual(bias, residual)), constantB: true, extra: [bias, residual] });
    const M = symbol("m");
    const moving = buffer("residual", [M, n]);
    check(isa, { kernel: plain(M, n, k, biasReluResidual(bias, moving)), constantB: true, extra: [bias, moving], bindings: new Map([["m", m]]) });
  });
}
