import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBfloat16Bits, fromFloat16Bits, type NumericArray } from "../../../base/index.ts";
import { type Axis, axisIndex, type Bindings, type Buffer, castTo, constant, dimValue, type Dim, type Expr, i64, loadElement, type LoopKernel, op, reduceOver, scalarTypeOf, select, symbol } from "../../../ir/index.ts";
import { inferNode, lowerings, opKey } from "../../../ops/index.ts";
import { buildCase, OPERATOR_CASES, type OperatorCase } from "../../../ops/lower/cases.ts";
import { AVX2, AVX512, type Isa } from "../function.ts";
import { type Contents, executed, inputsOf, interpreted, randomElements, randomizer } from "./testing.ts";

const ISAS: readonly Isa[] = [AVX2, AVX512];

function numbers(buffer: Buffer, array: NumericArray): number[] {
  const decode = buffer.dtype === "float16" ? fromFloat16Bits : buffer.dtype === "bfloat16" ? fromBfloat16Bits : (x: number): number => x;
  return Array.from(array as ArrayLike<number | bigint>, (item) => decode(Number(item)));
}

function agree(kernel: LoopKernel, bindings: Bindings, contents: Contents, isa: Isa, tolerance = 1e-5, parts = 1): void {
  const expected = interpreted(kernel, bindings, contents);
  for (const edge of ["end", "start"] as const) {
    const got = executed(kernel, isa, bindings, contents, edge, parts);
    for (const { buffer } of kernel.outputs) {
      const want = numbers(buffer, expected.get(buffer)!);
      const narrow = buffer.dtype === "float16" || buffer.dtype === "bfloat16";
      numbers(buffer, got.get(buffer)!).forEach((value, i) => {
        const near = Math.abs(value - want[i]!) <= (narrow ? 1e-2 : tolerance) * Math.max(1, Math.abs(want[i]!));
        assert.ok(Object.is(value, want[i]) || value === want[i] || near, `${isa.name}, ${edge}: ${buffer.name}[${i}] is ${value}, expected ${want[i]}`);
      });
    }
  }
}

function kernelOf(operator: OperatorCase, seed: number): { kernel: LoopKernel; contents: Contents } {
  const { node, tensors } = buildCase(operator, randomizer(seed));
  inferNode(node);
  const result = node.outputs[0]!;
  const buffers = tensors.map((tensor, i): Buffer => ({ name: `x${i}`, dtype: tensor?.type ?? "float32", dims: tensor?.dims ?? [] }));
  const axes: Axis[] = result.dims!.map((extent, i) => ({ name: `a${i}`, extent }));
  const value = lowerings.get(opKey(node))!.element(node, 0, axes.map(axisIndex), (input, index) => loadElement(buffers[input]!, index));
  const output: Buffer = { name: "y", dtype: result.dtype!, dims: result.dims! };
  const contents: Contents = new Map(tensors.flatMap((tensor, i): [Buffer, NumericArray][] => (tensor ? [[buffers[i]!, tensor.data as NumericArray]] : [])));
  return { kernel: { kind: "loop", name: operator.op, axes, outputs: [{ buffer: output, value: castTo(scalarTypeOf(output.dtype), value) }] }, contents };
}

for (const isa of ISAS) {
  for (const [at, operator] of OPERATOR_CASES.entries()) {
    const title = `${operator.op} ${operator.inputs.map((operand) => (operand ? `${operand.dtype}[${operand.dims}]` : "-")).join(" ")} ${JSON.stringify(operator.attributes ?? {})}`;
    test(`${isa.name} code of ${title} agrees with the interpreter`, () => {
      const { kernel, contents } = kernelOf(operator, at + 1);
      agree(kernel, new Map(), contents, isa);
    });
  }
}

const floats = (name: string, ...dims: Dim[]): Buffer => ({ name, dtype: "float32", dims });
const axis = (name: string, extent: Dim): Axis => ({ name, extent });
const at = (buffer: Buffer, ...axes: (Axis | Expr)[]): Expr => loadElement(buffer, axes.map((a) => ("kind" in a ? a : axisIndex(a))));
const kernel = (name: string, axes: readonly Axis[], buffer: Buffer, value: Expr): LoopKernel => ({ kind: "loop", name, axes, outputs: [{ buffer, value }] });

function check(made: LoopKernel, bindings: Bindings, isa: Isa, parts = 1, tolerance = 1e-5): void {
  const random = randomizer(7);
  agree(made, bindings, new Map([...inputsOf(made)].map((buffer) => [buffer, randomElements(buffer, bindings, random)])), isa, tolerance, parts);
}

for (const isa of ISAS) {
  test(`${isa.name}: symbolic sizes, zero included`, () => {
    const rows = axis("n", symbol("n"));
    const columns = axis("c", symbol("c"));
    const made = kernel("bias", [rows, columns], floats("y", symbol("n"), symbol("c")), op("add", at(floats("x", symbol("n"), symbol("c")), rows, columns), at(floats("b", symbol("c")), columns)));
    for (const n of [0, 1, 3, 70]) for (const c of [0, 1, 7, 8, 16, 33, 200]) check(made, new Map([["n", n], ["c", c]]), isa);
  });

  test(`${isa.name}: softmax over a symbolic row, in parts`, () => {
    const s = symbol("s");
    const rows = axis("n", 37);
    const columns = axis("c", s);
    const x = floats("x", 37, s);
    const k = axis("k", s);
    const top = reduceOver("max", [k], at(x, rows, k));
    const j = axis("j", s);
    const total = reduceOver("sum", [j], op("exp", op("sub", at(x, rows, j), top)));
    const made = kernel("softmax", [rows, columns], floats("y", 37, s), op("div", op("exp", op("sub", at(x, rows, columns), top)), total));
    for (const length of [1, 5, 16, 31, 64, 129]) check(made, new Map([["s", length]]), isa, 3);
  });

  test(`${isa.name}: a long sum in each lane errs as its blocks do, not as one chain`, () => {
    const n = symbol("n");
    const [lane, k] = [axis("c", 24), axis("k", n)];
    const [x, y] = [floats("x", n, 24), floats("y", 24)];
    const made = kernel("sum", [lane], y, reduceOver("sum", [k], at(x, k, lane)));
    for (const count of [0, 1, 5, 63, 64, 131, 5000]) {
      const data = Float32Array.from({ length: count * 24 }, (_, i) => 1.5 + Math.sin(i * i));
      const got = executed(made, isa, new Map([["n", count]]), new Map([[x, data]])).get(y)!;
      let [own, chained] = [0, 0];
      for (let c = 0; c < 24; c++) {
        let [exact, chain] = [0, 0];
        for (let i = 0; i < count; i++) {
          exact += data[i * 24 + c]!;
          chain = Math.fround(chain + data[i * 24 + c]!);
        }
        own += ((Number(got[c]) - exact) / (exact || 1)) ** 2;
        chained += ((chain - exact) / (exact || 1)) ** 2;
      }
      assert.ok(Math.sqrt(own / 24) <= (count < 1000 ? 1e-7 : Math.sqrt(chained / 24) / 3), `${count} terms err by ${Math.sqrt(own / 24)}, one chain by ${Math.sqrt(chained / 24)}`);
    }
  });

  test(`${isa.name}: one long axis in chunks`, () => {
    const i = axis("i", 100_003);
    check(kernel("relu", [i], floats("y", 100_003), op("max", at(floats("x", 100_003), i), constant("f32", 0))), new Map(), isa, 4);
  });

  test(`${isa.name}: reshape that splits and joins axes`, () => {
    const s = symbol("s");
    const b = axis("b", 2), h = axis("h", 3), t = axis("t", s), d = axis("d", 20);
    const x = floats("x", 2, s, 60);
    const made = kernel("heads", [b, h, t, d], floats("y", 2, 3, s, 20), at(x, b, t, op("add", op("mul", axisIndex(h), i64(20)), axisIndex(d))));
    check(made, new Map([["s", 7]]), isa);
    const c = axis("c", 60), t2 = axis("t", s), b2 = axis("b", 2);
    const z = floats("z", 2, 3, s, 20);
    check(kernel("merge", [b2, t2, c], floats("w", 2, s, 60), at(z, b2, op("div", axisIndex(c), i64(20)), t2, op("mod", axisIndex(c), i64(20)))), new Map([["s", 7]]), isa);
  });

  test(`${isa.name}: guarded gathers read nothing outside`, () => {
    const i = axis("i", 50);
    const indices: Buffer = { name: "ids", dtype: "int64", dims: [20] };
    const isInside = op("lt", axisIndex(i), i64(20));
    const row = castTo("i64", castTo("i32", loadElement(indices, [axisIndex(i)])));
    const clamped = op("max", op("min", row, i64(6)), i64(0));
    check(kernel("pick", [i], floats("y", 50), select(isInside, at(floats("x", 7), clamped), constant("f32", -1))), new Map(), isa);
  });

  test(`${isa.name}: strided outputs and inputs`, () => {
    const n = axis("n", 5), c = axis("c", 19);
    const x: Buffer = { name: "x", dtype: "float32", dims: [5, 19], strides: [40, 2] };
    const y: Buffer = { name: "y", dtype: "float32", dims: [5, 19], strides: [1, 5] };
    check(kernel("strided", [n, c], y, op("mul", at(x, n, c), castTo("f32", dimValue(3)))), new Map(), isa);
  });
}

for (const isa of ISAS) {
  test(`${isa.name}: clamped values divided by a number, without a division, are correctly rounded`, () => {
    const random = randomizer(11);
    const count = 4096;
    for (const scale of [0.05774121731519699, 0.11118628829717636, 1 / 3, 1e-7, 2 ** -80, 777.77, 1.9999998807907104, 1].map(Math.fround)) {
      const [x, n] = [floats("x", count), axis("n", count)];
      const bound = (steps: number): Expr => constant("f32", Math.fround(scale * steps));
      const made = kernel("quotient", [n], floats("y", count), op("div", op("max", op("min", at(x, n), bound(255)), bound(-255)), constant("f32", scale)));
      const values = Float32Array.from({ length: count }, (_, i) => (i % 2 ? (i / 8 - 255 + (i % 16 === 1 ? 0.5 : 0)) * scale : (random() * 600 - 300) * scale));
      values.set([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0]);
      const got = executed(made, isa, new Map(), new Map([[x, values]]), "end", 1).get(made.outputs[0]!.buffer)!;
      const [low, high] = [Math.fround(scale * -255), Math.fround(scale * 255)];
      values.forEach((value, i) => {
        const expected = Math.fround(Math.max(Math.min(value, high), low) / scale);
        assert.ok(Object.is(got[i], expected) || got[i] === expected, `${scale}: ${value} gives ${got[i]}, expected ${expected}`);
      });
    }
  });
}
