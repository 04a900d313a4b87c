/** What the sequential operators share: making kernels, reading dims, types that only move. */
import { type DType, DTYPE_BITS } from "../../base/index.ts";
import { type Buffer, type Dim, type Node, product, SequentialCode, type SequentialKernel, sequentialTypeOf, symbolsOf } from "../../ir/index.ts";
import type { SequentialPart } from "../contract.ts";

export function kernelOf(name: string, tiles: Dim, outputs: readonly Buffer[], work: Dim, write: (code: SequentialCode) => void): SequentialPart {
  const code = new SequentialCode();
  write(code);
  const kernel: SequentialKernel = { kind: "sequential", name, tiles, outputs, work, body: code.statements };
  return { kind: "kernel", kernel };
}

export const hasNumbers = (node: Node, input: number): boolean => {
  const value = node.inputs[input];
  return value?.kind === "tensor" && value.dims !== undefined && value.dtype !== undefined && sequentialTypeOf(value.dtype) !== undefined;
};

/** The integer type that moves elements of a type. */
export function bitsOf(dtype: DType | undefined): DType | undefined {
  if (!dtype || dtype === "string") return undefined;
  return ({ 8: "uint8", 16: "uint16", 32: "uint32", 64: "int64" } as const)[DTYPE_BITS[dtype] as 8];
}

/** A size of its own, which may be told once it is known. */
export const isSymbol = (dim: Dim | undefined): dim is Exclude<Dim, number> => dim !== undefined && typeof dim !== "number" && symbolsOf(dim).has(dim.key);

/** The elements before an axis, along it and after it. */
export function linesOf(dims: readonly Dim[], axis: number): { readonly outer: Dim; readonly length: Dim; readonly inner: Dim } {
  return { outer: product(dims.slice(0, axis)), length: dims[axis]!, inner: product(dims.slice(axis + 1)) };
}
