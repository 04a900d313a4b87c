/**
 * A product as the tiled kernels see it, whatever it came from (matmul, convolution): rows by columns, and a reduction
 * in steps of 128 bytes, which is one swizzled row of shared memory.
 */
import type { Buffer, Dim, Epilogue, KernelDescription } from "../../../ir/index.ts";
import type { Operands } from "./elements.ts";

export const STEP_BYTES = 128;

/** Shorter steps are for the copy engine alone: of pixels whose channels are half as long. */
export type StepBytes = 64 | 128;

export interface TiledOutput {
  readonly buffer: Buffer;
  readonly epilogue: Epilogue | undefined;
  /** Elements from a row to the next; columns touch. */
  readonly rowStride: Dim;
  readonly batchStrides: readonly Dim[];
  /** Dimensions that `row` runs over, each as a C++ name and its value; `row` itself when absent. */
  readonly rows?: readonly { readonly name: string; readonly value: string }[];
  /** C++ of the first column's index along the output's last dimension, when batches lie side by side there. */
  readonly columnBase?: string;
}

export interface Problem {
  /** What the kernel does, whatever its text. */
  readonly description: Pick<KernelDescription, "name" | "flops" | "bytes">;
  /** Element types of rows and columns. */
  readonly operands: Operands;
  readonly batch: readonly Dim[];
  readonly rows: Dim;
  readonly columns: Dim;
  /** Steps of the reduction, of `STEP_BYTES` unless loads say otherwise. */
  readonly steps: Dim;
  readonly output: TiledOutput;
}
