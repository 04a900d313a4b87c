/** Size arithmetic of the plain kernels. */
import { DTYPE_BITS } from "../../../base/index.ts";
import type { Buffer } from "../../../ir/index.ts";

export { add, ceilDiv, mul } from "../../../ir/index.ts";

/** Bytes of one element. */
export const DTYPE_SIZE = (buffer: Buffer): number => DTYPE_BITS[buffer.dtype] / 8;
