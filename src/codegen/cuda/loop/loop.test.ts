import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBfloat16Bits, fromFloat16Bits, type NumericArray } from "../../../base/index.ts";
import { type Axis, axisIndex, type Bindings, type Buffer, castTo, constant, type Dim, type Expr, i64, loadElement, type LoopKernel, op, reduceOver, scalarTypeOf, select, symbol } from "../../../ir/index.ts";
import { inferNode, lowerings, opKey } from "../../../ops/index.ts";
import { buildCase, OPERATOR_CASES, type OperatorCase } from "../../../ops/lower/cases.ts";
import { type Contents, inputsOf, interpreted, randomElements, randomizer } from "../../x64/loop/testing.ts";
import { hasHostCompiler } from "../../../native/cuda/testing.ts";
import { assembled, hasNvcc, hostLibraryOf, runOnHost } from "../testing.ts";
import { cudaLoop } from "./index.ts";

interface Case { readonly title: string; readonly kernel: LoopKernel; readonly bindings: Bindings; readonly contents: Contents }

function numbers(buffer: Buffer, array: NumericArray): number[] {
  const decode = buffer.dtype === "float16" ? fromFloat16Bits : buffer.dtype === "bfloat16" ? fromBfloat16Bits : (x: number): number => x;
  return Array.from(array as ArrayLike<number | bigint>, (item) => decode(Number(item)));
}

function operatorCase(operator: OperatorCase, seed: number): Case {
  const { node, tensors } = buildCase(operator, randomizer(seed));
  inferNode(node);
  const result = node.outputs[0]!;
  const buffers = tensors.map((tensor, i): Buffer => ({ name: `x${i}`, dtype: tensor?.type ?? "float32", dims: tensor?.dims ?? [] }));
  const axes: Axis[] = result.dims!.map((extent, i) => ({ name: `a${i}`, extent }));
  const value = lowerings.get(opKey(node))!.element(node, 0, axes.map(axisIndex), (input, index) => loadElement(buffers[input]!, index));
  const output: Buffer = { name: "y", dtype: result.dtype!, dims: result.dims! };
  const contents: Contents = new Map(tensors.flatMap((tensor, i): [Buffer, NumericArray][] => (tensor ? [[buffers[i]!, tensor.data as NumericArray]] : [])));
  const title = `${operator.op} ${operator.inputs.map((operand) => (operand ? `${operand.dtype}[${operand.dims}]` : "-")).join(" ")} ${JSON.stringify(operator.attributes ?? {})}`;
  return { title, kernel: { kind: "loop", name: operator.op, axes, outputs: [{ buffer: output, value: castTo(scalarTypeOf(output.dtype), value) }] }, bindings: new Map(), contents };
}

const axis = (name: string, extent: Dim): Axis => ({ name, extent });
const tensor = (name: string, dtype: Buffer["dtype"], ...dims: Dim[]): Buffer => ({ name, dtype, dims });
const at = (buffer: Buffer, ...axes: (Axis | Expr)[]): Expr => loadElement(buffer, axes.map((a) => ("kind" in a ? a : axisIndex(a))));
const loop = (name: string, axes: readonly Axis[], buffer: Buffer, value: Expr): LoopKernel => ({ kind: "loop", name, axes, outputs: [{ buffer, value }] });

function filled(title: string, kernel: LoopKernel, sizes: Readonly<Record<string, number>> = {}): Case {
  const random = randomizer(7);
  const bindings = new Map(Object.entries(sizes));
  return { title: `${title} ${JSON.stringify(sizes)}`, kernel, bindings, contents: new Map([...inputsOf(kernel)].map((buffer) => [buffer, randomElements(buffer, bindings, random)])) };
}

function softmax(dtype: Buffer["dtype"], rows: Dim, columns: Dim): LoopKernel {
  const n = axis("n", rows), c = axis("c", columns), k = axis("k", columns), j = axis("j", columns);
  const x = tensor("x", dtype, rows, columns);
  const top = reduceOver("max", [k], at(x, n, k));
  const total = reduceOver("sum", [j], op("exp", op("sub", at(x, n, j), top)));
  return loop("softmax", [n, c], tensor("y", dtype, rows, columns), op("div", op("exp", op("sub", at(x, n, c), top)), total));
}

function layerNorm(dtype: Buffer["dtype"], rows: Dim, size: number): LoopKernel {
  const n = axis("n", rows), c = axis("c", size), k = axis("k", size), j = axis("j", size);
  const x = tensor("x", dtype, rows, size), scale = tensor("s", dtype, size), bias = tensor("b", dtype, size);
  const mean = op("div", reduceOver("sum", [k], at(x, n, k)), constant("f32", size));
  const apart = op("sub", at(x, n, j), mean);
  const variance = op("div", reduceOver("sum", [j], op("mul", apart, apart)), constant("f32", size));
  const normal = op("mul", op("sub", at(x, n, c), mean), op("rsqrt", op("add", variance, constant("f32", 1e-5))));
  return loop("layernorm", [n, c], tensor("y", dtype, rows, size), op("add", op("mul", normal, at(scale, c)), at(bias, c)));
}

/** The mean of an image, channels last. */
function imageMean(dtype: Buffer["dtype"], n: Dim, size: Dim, channels: number): LoopKernel {
  const image = axis("n", n), c = axis("c", channels), h = axis("h", size), w = axis("w", size);
  const sum = reduceOver("sum", [h, w], castTo("f32", at(tensor("x", dtype, n, size, size, channels), image, h, w, c)));
  return loop("mean", [image, c], tensor("y", "float16", n, channels), op("mul", sum, constant("f32", 0.25)));
}

/** The largest of 3x3 neighbours inside the image, every second place. */
function pooled(dtype: Buffer["dtype"], size: number, channels: number): LoopKernel {
  const outside = (size + 1) >> 1;
  const y = axis("y", outside), x = axis("x", outside), c = axis("c", channels), h = axis("h", 3), w = axis("w", 3);
  const [row, column] = [[y, h], [x, w]].map(([place, tap]) => op("add", op("add", op("mul", axisIndex(place!), i64(2)), axisIndex(tap!)), i64(-1))) as [Expr, Expr];
  const inside = [row, column].map((index) => op("and", op("ge", index, i64(0)), op("lt", index, i64(size)))) as [Expr, Expr];
  const value = castTo("i32", at(tensor("x", dtype, size, size, channels), row, column, axisIndex(c)));
  return loop("pool", [y, x, c], tensor("y", dtype, outside, outside, channels), reduceOver("max", [h, w], select(op("and", ...inside), value, constant("i32", -2147483648))));
}

function fixedCases(): Case[] {
  const s = symbol("s"), m = symbol("m", { min: 1, max: 1000 });
  const bias = loop("bias", [axis("n", s), axis("c", m)], tensor("y", "float16", s, m), constant("f32", 0));
  const [n, c] = bias.axes as [Axis, Axis];
  const add = { ...bias, outputs: [{ buffer: bias.outputs[0]!.buffer, value: op("add", at(tensor("x", "float32", s, m), n, c), at(tensor("b", "bfloat16", m), c)) }] };
  const i = axis("i", 50);
  const ids = tensor("ids", "int64", 20);
  const row = castTo("i64", castTo("i32", loadElement(ids, [axisIndex(i)])));
  const pick = loop("pick", [i], tensor("y", "float32", 50), select(op("lt", axisIndex(i), i64(20)), at(tensor("x", "float32", 7), op("max", op("min", row, i64(6)), i64(0))), constant("f32", -1)));
  const b = axis("b", 2), h = axis("h", 3), t = axis("t", m), d = axis("d", 20);
  const heads = loop("heads", [b, h, t, d], tensor("y", "float32", 2, 3, m, 20), at(tensor("x", "float32", 2, m, 60), b, t, op("add", op("mul", axisIndex(h), i64(20)), axisIndex(d))));
  const whole = axis("k", m), part = axis("r", 9);
  const total = loop("total", [part], tensor("y", "float32", 9), reduceOver("sum", [whole], at(tensor("x", "float32", 9, m), part, whole)));
  const columns = loop("columns", [part], tensor("y", "float32", 9), reduceOver("max", [whole], at(tensor("x", "int8", m, 9), whole, part) as Expr));
  return [
    ...[0, 1, 5].flatMap((rows) => [1, 8, 33, 256].map((size) => filled("bias", add, { s: rows, m: size }))),
    ...[1, 31, 128, 1000].map((size) => filled("softmax", softmax("float32", 5, m), { m: size })),
    filled("softmax of fp16", softmax("float16", 7, 64)), filled("softmax of long rows", softmax("float32", 2, 3001)),
    filled("layernorm", layerNorm("float32", s, 768), { s: 3 }), filled("layernorm of fp16", layerNorm("float16", s, 768), { s: 2 }), filled("layernorm of an odd size", layerNorm("bfloat16", s, 77), { s: 6 }),
    ...[1, 4, 20].map((size) => filled("image mean", imageMean("float16", s, size, 24), { s: 3 })), filled("image mean of bytes", imageMean("uint8", 2, 9, 16)), filled("image mean, odd", imageMean("float32", 2, 3, 7)),
    filled("pool", pooled("uint8", 7, 16)), filled("pool, odd", pooled("int8", 6, 5)),
    filled("guarded gather", pick), filled("heads", heads, { m: 7 }),
    ...[0, 3, 700].map((size) => filled("total", total, { m: size })), filled("columns", { ...columns, outputs: [{ buffer: tensor("y", "int32", 9), value: columns.outputs[0]!.value }] }, { m: 40 }),
  ];
}

const cases = [...OPERATOR_CASES.map((operator, i) => operatorCase(operator, i + 1)), ...fixedCases()];

test("loop kernels as host code agree with the interpreter", { skip: !hasHostCompiler && "no g++ here" }, async (t) => {
  const kernels = cases.map(({ kernel }) => cudaLoop(kernel));
  const library = hostLibraryOf(kernels);
  for (const [index, { title, kernel, bindings, contents }] of cases.entries()) {
    await t.test(title, () => {
      const expected = interpreted(kernel, bindings, contents);
      for (const edge of ["end", "start"] as const) {
        const got = runOnHost(library, kernels[index]!, `k${index}`, bindings, contents, edge);
        for (const { buffer } of kernel.outputs) {
          const want = numbers(buffer, expected.get(buffer)!);
          const narrow = buffer.dtype === "float16" || buffer.dtype === "bfloat16";
          const values = numbers(buffer, got.get(buffer)!);
          assert.equal(values.length, want.length);
          values.forEach((value, i) => {
            const near = Math.abs(value - want[i]!) <= (narrow ? 1e-2 : 1e-5) * Math.max(1, Math.abs(want[i]!));
            assert.ok(Object.is(value, want[i]) || value === want[i] || near, `${edge}: ${buffer.name}[${i}] is ${value}, expected ${want[i]}`);
          });
        }
      }
    });
  }
});

test("loop kernels assemble for the GPU without spills", { skip: !hasNvcc && "no nvcc here" }, () => {
  const chosen = cases.filter(({ title }, i) => i % 12 === 0 || /softmax|layernorm|bias|heads/.test(title));
  const kernels = chosen.map(({ kernel }) => cudaLoop(kernel));
  for (const [i, { registers, spilled }] of assembled(kernels).entries()) {
    assert.equal(spilled, 0, `${chosen[i]!.title} spills`);
    assert.ok(registers <= 64, `${chosen[i]!.title} takes ${registers} registers`);
  }
});
