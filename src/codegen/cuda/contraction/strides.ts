/** Strides of a buffer in elements, row-major where it names none. */
import { type Buffer, type Dim, mul } from "../../../ir/index.ts";

export function stridesOf(buffer: Buffer): readonly Dim[] {
  return buffer.strides ?? buffer.dims.map((_, i) => mul(...buffer.dims.slice(i + 1)));
}
