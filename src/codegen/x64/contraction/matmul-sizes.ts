/** What tactics of matrix products reckon with: sizes at a shape, and blocks that fill a budget evenly. */
import { type Bindings, evaluate, type MatmulKernel } from "../../../ir/index.ts";
import type { Product } from "./products.ts";

/** `k` counts words. */
export interface MatmulSizes { readonly batch: number; readonly m: number; readonly n: number; readonly k: number }

export function matmulSizes(kernel: MatmulKernel, { perWord }: Product, bindings: Bindings): MatmulSizes {
  return {
    batch: kernel.batch.reduce<number>((count, dim) => count * evaluate(dim, bindings), 1),
    m: evaluate(kernel.m, bindings), n: evaluate(kernel.n, bindings),
    k: Math.ceil(evaluate(kernel.k, bindings) / perWord),
  };
}

/** The smallest block size that needs no more blocks. */
export function even(total: number, most: number): number {
  return Math.ceil(total / Math.ceil(total / most));
}

/** A whole number from 1 to `most`. */
export function clamp(value: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(value)));
}
