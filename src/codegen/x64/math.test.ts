import assert from "node:assert/strict";
import { test } from "node:test";
import { erf } from "../../ir/index.ts";
import { allocateExecutable, nativeFunction, NativeMemory } from "../../native/index.ts";
import { AVX2, AVX512, FunctionBuilder, type Isa, mem } from "./function.ts";
import { type MathFunction, VectorMath } from "./math.ts";

const EXACT: Readonly<Record<MathFunction, (x: number, y: number) => number>> = {
  exp: Math.exp, log: Math.log, sin: Math.sin, cos: Math.cos, tan: Math.tan, asin: Math.asin, acos: Math.acos, atan: Math.atan,
  sinh: Math.sinh, cosh: Math.cosh, asinh: Math.asinh, acosh: Math.acosh, atanh: Math.atanh, tanh: Math.tanh, erf,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)), pow: (x, y) => (x === 1 || y === 0 ? 1 : Math.abs(x) === 1 && Math.abs(y) === Infinity ? 1 : x ** y),
};
/** Largest error allowed, in units of the last place. */
const ULPS: Readonly<Record<MathFunction, number>> = {
  exp: 1, log: 2, sin: 2, cos: 2, tan: 4, asin: 4, acos: 4, atan: 3, sinh: 4, cosh: 3, asinh: 4, acosh: 4, atanh: 4, tanh: 3, erf: 3, sigmoid: 3, pow: 2,
};

const SPECIAL = [0, -0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, Infinity, -Infinity, NaN, 1e-45, -1e-45, 1e-40, 1.17549435e-38, 3.4e38, -3.4e38, 1e30, -1e22, 88, 89, 100, -87, -100, -104, 1e5, 12345.678, 0.625, 0.99999994];

/** Runs the function over arrays whose length is a multiple of 16. */
function compute(name: MathFunction, isa: Isa, x: Float32Array, y: Float32Array): Float32Array {
  const f = new FunctionBuilder(isa, name, 4);
  const math = new VectorMath(f);
  const [px, py, pr, bytes] = f.params as [typeof f.params[0] & {}, typeof f.params[0] & {}, typeof f.params[0] & {}, typeof f.params[0] & {}];
  f.loop(0, bytes, isa.vectorBytes, (at) => {
    const a = f.vec();
    const b = f.vec();
    f.emit("vmovups", a, mem(px, { index: at }));
    f.emit("vmovups", b, mem(py, { index: at }));
    f.emit("vmovups", mem(pr, { index: at }), math.call(name, a, b));
  });
  const code = allocateExecutable(f.finish().code);
  const buffers = [x, y, x].map((values) => {
    const memory = NativeMemory.allocate(values.byteLength);
    memory.view().set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return memory;
  });
  try {
    nativeFunction(code.address, "void kernel(int64_t x, int64_t y, int64_t r, int64_t bytes)")(buffers[0]!.address, buffers[1]!.address, buffers[2]!.address, x.byteLength);
    const result = buffers[2]!.view();
    return new Float32Array(result.slice().buffer, 0, x.length);
  } finally {
    for (const memory of [code, ...buffers]) memory.dispose();
  }
}

/** Distance in units of the last place of the exact result's float32. */
function ulps(got: number, exact: number): number {
  const want = Math.fround(exact);
  if (Object.is(got, want) || (Number.isNaN(got) && Number.isNaN(want))) return 0;
  if (!Number.isFinite(want) || !Number.isFinite(got)) return got === want ? 0 : Infinity;
  const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.max(Math.abs(want), 2 ** -126))), -126) - 23);
  return Math.abs(got - exact) / unit;
}

function inputsFor(name: MathFunction): { x: Float32Array; y: Float32Array } {
  const x: number[] = [];
  const y: number[] = [];
  if (name === "pow") for (const a of SPECIAL) for (const b of SPECIAL) { x.push(a); y.push(b); }
  else x.push(...SPECIAL);
  const count = 40_000;
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  for (let i = 0; i < count; i++) {
    // Floats of all magnitudes, by walking over their bits, then an even spread over the interesting range.
    bits[0] = Math.imul(i, 0x9e3779b1) >>> 0;
    x.push(float[0]!);
    x.push(((i / count) * 2 - 1) * (i % 3 === 0 ? 1 : i % 3 === 1 ? 10 : 100));
    if (name === "pow") { y.push(((i * 7919) % 1000) / 50 - 10, ((i * 31) % 97) / 8 - 6); }
  }
  while (x.length % 16 !== 0) x.push(1);
  return { x: Float32Array.from(x), y: Float32Array.from({ length: x.length }, (_, i) => y[i] ?? 1) };
}

for (const isa of [AVX2, AVX512]) {
  for (const name of Object.keys(EXACT) as MathFunction[]) {
    test(`${isa.name}: ${name} stays within ${ULPS[name]} ulp`, () => {
      const { x, y } = inputsFor(name);
      const got = compute(name, isa, x, y);
      let worst = { error: 0, at: 0 };
      got.forEach((value, i) => {
        const exact = EXACT[name](x[i]!, y[i]!);
        // Results that are not normal numbers may lose bits.
        if (Math.abs(exact) < 2 ** -125 && Math.abs(value - exact) <= 2 ** -125) return;
        const error = ulps(value, exact);
        if (!(error <= worst.error)) worst = { error, at: i };
      });
      const { error, at } = worst;
      assert.ok(error <= ULPS[name], `${name}(${x[at]}${name === "pow" ? `, ${y[at]}` : ""}) is ${got[at]}, expected ${EXACT[name](x[at]!, y[at]!)}: ${error} ulp`);
    });
  }
}
