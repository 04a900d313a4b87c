/**
 * What the server and the process that runs onnxruntime say to each other: lines of JSON over a socket with sizes and
 * places, never data; the data lie in one memory file that both map, inherited as a descriptor.
 *
 * The file is as large as the largest batch may be, but only pages that are touched exist. Inputs stand at its beginning,
 * outputs behind them, each at a multiple of 64 bytes.
 */
import type { TensorDescription } from "../../repository/index.ts";

/** Address space of the shared file: inputs and outputs of one batch together. */
export const SHARED_BYTES = 2 ** 29;
/** Descriptors in the child: the socket and the shared file. */
export const SOCKET_FD = 3;
export const SHARED_FD = 4;
const ALIGNMENT = 64;

export interface PlacedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly sizeBytes: number;
}

export type ToChild =
  | { readonly kind: "load"; readonly model: string; readonly threads: number }
  | { readonly kind: "run"; readonly inputs: readonly PlacedTensor[]; readonly outputsAt: number };

export type FromChild =
  | { readonly kind: "loaded"; readonly inputs: readonly TensorDescription[]; readonly outputs: readonly TensorDescription[]; readonly version: string }
  | { readonly kind: "done"; readonly outputs: readonly PlacedTensor[] }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

export function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}
