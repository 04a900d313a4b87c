/**
 * What the tests of loop code share: running a compiled kernel on memory that ends at an unmapped page, beside the
 * interpreter on the same data.
 */
import { newArray, type NumericArray, toBfloat16Bits, toFloat16Bits, viewArray } from "../../../base/index.ts";
import { type Bindings, type Buffer, interpretLoop, type LoopKernel, visitExpr } from "../../../ir/index.ts";
import { allocateGuarded } from "../../../native/index.ts";
import { BoundKernel, spanOf } from "../../../tune/index.ts";
import type { Isa } from "../function.ts";
import { compileLoop } from "./compile-loop.ts";

export type Contents = Map<Buffer, NumericArray>;

/** Random numbers in [-1, 1) from a seed. */
export function randomizer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) & 0xffff) / 32768 - 1;
  };
}

/** Elements of a buffer: floats in [-scale, scale), integers in the same range (unsigned ones in [0, scale)). */
export function randomElements(buffer: Buffer, bindings: Bindings, random: () => number, scale = 4): NumericArray {
  const array = newArray(buffer.dtype, spanOf(buffer, bindings)) as NumericArray;
  for (let i = 0; i < array.length; i++) {
    const value = random() * scale;
    const whole = Math.trunc(buffer.dtype.startsWith("u") ? Math.abs(value) : value);
    if (buffer.dtype === "float16") array[i] = toFloat16Bits(value);
    else if (buffer.dtype === "bfloat16") array[i] = toBfloat16Bits(value);
    else if (buffer.dtype === "bool") array[i] = value > 0 ? 1 : 0;
    else if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[i] = BigInt(whole);
    else array[i] = buffer.dtype.startsWith("float") ? value : whole;
  }
  return array;
}

export function inputsOf(kernel: LoopKernel): Set<Buffer> {
  const inputs = new Set<Buffer>();
  for (const { value, index } of kernel.outputs) {
    for (const expr of [value, ...(index ?? [])]) visitExpr(expr, (e) => { if (e.kind === "load") inputs.add(e.buffer); });
  }
  return inputs;
}

/** The outputs according to the interpreter; `contents` stays as it is. */
export function interpreted(kernel: LoopKernel, bindings: Bindings, contents: Contents): Contents {
  const arrays = new Map(contents);
  for (const { buffer } of kernel.outputs) arrays.set(buffer, newArray(buffer.dtype, spanOf(buffer, bindings)) as NumericArray);
  interpretLoop(kernel, { bindings, arrays });
  return new Map(kernel.outputs.map(({ buffer }) => [buffer, arrays.get(buffer)!]));
}

/** The outputs of generated code; every buffer touches an unmapped page at `edge`. Tiles run in `parts`, last first. */
export function executed(kernel: LoopKernel, isa: Isa, bindings: Bindings, contents: Contents, edge: "start" | "end" = "end", parts = 1): Contents {
  const bound = new BoundKernel(compileLoop(kernel, isa), bindings, { allocate: (sizeBytes) => allocateGuarded(sizeBytes, edge) });
  const elements = (buffer: Buffer): NumericArray => {
    const count = spanOf(buffer, bindings);
    return count === 0 ? (newArray(buffer.dtype, 0) as NumericArray) : viewArray(buffer.dtype as "float32", bound.memory(buffer)!.view());
  };
  try {
    for (const [buffer, values] of contents) if (bound.memory(buffer) && values.length > 0) elements(buffer).set(values as never);
    for (let part = parts - 1; part >= 0; part--) bound.run(Math.floor((bound.tiles * part) / parts), Math.floor((bound.tiles * (part + 1)) / parts));
    return new Map(kernel.outputs.map(({ buffer }) => [buffer, bound.memory(buffer) ? elements(buffer).slice() : (newArray(buffer.dtype, spanOf(buffer, bindings)) as NumericArray)]));
  } finally {
    bound.dispose();
  }
}

