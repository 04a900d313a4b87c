/**
 * What the tests of contractions share: running a compiled kernel on guarded memory, random data, and a plain
 * evaluation of epilogues.
 */
import assert from "node:assert/strict";
import { DTYPE_BITS, type DType } from "../../../base/index.ts";
import { type Bindings, type Buffer, type CompiledKernel, type Epilogue, evaluate, type Expr } from "../../../ir/index.ts";
import { allocateGuarded } from "../../../native/index.ts";
import { BoundKernel, spanOf } from "../../../tune/index.ts";
import type { Isa } from "../function.ts";

export const AVX512: Isa = { name: "avx512", vectorBytes: 64, vnni: true, bf16: true, amx: false };
/** With tiles, which few processors have. */
export const AMX: Isa = { ...AVX512, amx: true };
export const AVX2: Isa = { name: "avx2", vectorBytes: 32, vnni: false, bf16: false, amx: false };

/** Random numbers from a seed. */
export function randomizer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) & 0xffff) / 32768 - 1;
  };
}

export function randomFloats(count: number, random: () => number): Float32Array {
  return Float32Array.from({ length: count }, random);
}

export type Elements = Float32Array | Int32Array | Int8Array | Uint8Array | Uint16Array;
export type Contents = Map<Buffer, Elements>;

/** What output buffers hold before a kernel runs. */
export const UNTOUCHED = 12345;

/** Elements of a buffer as numbers; bfloat16 as its bits. */
export function elementsOf(dtype: DType, bytes: Uint8Array): Elements {
  switch (dtype) {
    case "int8": return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    case "uint8": return bytes;
    case "bfloat16": return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 1);
    case "int32": return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
    default: return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
  }
}

function emptyElements(dtype: DType, count: number): Elements {
  return elementsOf(dtype, new Uint8Array(count * (DTYPE_BITS[dtype] / 8)));
}

/**
 * Runs all tiles, cut at `cuts` and done last part first, on memory that touches an unmapped page at `edge`.
 * @returns the output buffer's elements; places the kernel does not write hold 12345
 */
export function execute(kernel: CompiledKernel, bindings: Bindings, contents: Contents, output: Buffer, edge: "start" | "end" = "end", parts = 1): Elements {
  const bound = new BoundKernel(kernel, bindings, { allocate: (sizeBytes) => allocateGuarded(sizeBytes, edge) });
  try {
    const elements = (buffer: Buffer): Elements => elementsOf(buffer.dtype, bound.memory(buffer)!.view());
    if (bound.memory(output) && spanOf(output, bindings) > 0) elements(output).fill(UNTOUCHED);
    for (const [buffer, values] of contents) {
      if (bound.memory(buffer) && values.length > 0) elements(buffer).set(values);
    }
    for (let part = parts - 1; part >= 0; part--) {
      bound.run(Math.floor((bound.tiles * part) / parts), Math.floor((bound.tiles * (part + 1)) / parts));
    }
    return bound.memory(output) && spanOf(output, bindings) > 0 ? elements(output).slice() : emptyElements(output.dtype, spanOf(output, bindings)).fill(UNTOUCHED);
  } finally {
    bound.dispose();
  }
}

/** The element of a row-major or strided buffer. */
export function elementAt(buffer: Buffer, contents: Contents, index: readonly number[], bindings: Bindings): number {
  const dims = buffer.dims.map((dim) => evaluate(dim, bindings));
  const strides = buffer.strides?.map((stride) => evaluate(stride, bindings)) ?? dims.map((_, i) => dims.slice(i + 1).reduce((a, b) => a * b, 1));
  return contents.get(buffer)![index.reduce((at, value, i) => at + value * strides[i]!, 0)]!;
}

/** The epilogue's value at one point of the output. Knows the operators the tests use. */
export function epilogueValue(epilogue: Epilogue | undefined, accumulator: number, point: readonly number[], contents: Contents, bindings: Bindings): number {
  if (!epilogue) return accumulator;
  const value = (expr: Expr): number => {
    switch (expr.kind) {
      case "const": return Number(expr.value);
      case "accumulator": return accumulator;
      case "axis": return point[epilogue.axes.indexOf(expr.axis)]!;
      case "dim": return evaluate(expr.value, bindings);
      case "cast": return value(expr.arg);
      case "load": return elementAt(expr.buffer, contents, expr.index.map(value), bindings);
      case "select": return value(expr.condition) ? value(expr.then) : value(expr.else);
      case "op": return operate(expr.op, expr.args.map(value));
      default: throw new Error(`no test evaluation of ${expr.kind}`);
    }
  };
  return value(epilogue.value);
}

function operate(op: string, [a = 0, b = 0]: readonly number[]): number {
  switch (op) {
    case "add": return a + b;
    case "sub": return a - b;
    case "mul": return a * b;
    case "max": return Math.max(a, b);
    case "min": return Math.min(a, b);
    case "le": return a <= b ? 1 : 0;
    case "lt": return a < b ? 1 : 0;
    default: throw new Error(`no test evaluation of ${op}`);
  }
}

/** Compares element by element, relative to the size of the sums. */
export function assertClose(got: Elements, expected: ArrayLike<number>, what: string, tolerance = 1e-4): void {
  assert.equal(got.length, expected.length, what);
  for (let i = 0; i < got.length; i++) {
    const error = Math.abs(got[i]! - expected[i]!);
    if (!(error <= tolerance * Math.max(1, Math.abs(expected[i]!)))) assert.fail(`${what}: element ${i} of ${got.length} is ${got[i]}, expected ${expected[i]}`);
  }
}

export function expectedOutput(output: Buffer, bindings: Bindings): Elements {
  return emptyElements(output.dtype, spanOf(output, bindings)).fill(UNTOUCHED);
}
