/** Bytes of one element in memory, for the storage types that kernels read and write. */
import { DTYPE_BITS, type DType } from "../../../base/index.ts";

export function elementBytes(dtype: DType): number {
  return DTYPE_BITS[dtype] / 8;
}
