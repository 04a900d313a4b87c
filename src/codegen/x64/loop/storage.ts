/** What elements take: in memory by storage type, in registers by the type they are computed with. */
import { DTYPE_BITS, type DType } from "../../../base/index.ts";
import type { ScalarType } from "../../loop-ir.ts";

export function elementBytes(dtype: DType): number {
  return DTYPE_BITS[dtype] / 8;
}

/** Types whose lanes fill two registers where others fill one. */
export const isWide = (type: ScalarType): boolean => type === "f64" || type === "i64" || type === "u64";
