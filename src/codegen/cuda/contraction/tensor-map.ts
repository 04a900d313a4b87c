/** Which operands the tensor copy engine (TMA) can read in place: starts and strides must be multiples of 16 bytes. */
import { type Dim, mul } from "../../../ir/index.ts";

/** Whether every term of a dimension is a multiple, whatever the symbols. */
export function isMultipleOf(dim: Dim, factor: number): boolean {
  return typeof dim === "number" ? dim % factor === 0 : dim.terms.every((term) => term.coefficient % factor === 0);
}

export function isMappable(strides: readonly Dim[], offset: Dim, elementBytes: number): boolean {
  return [...strides, offset].every((dim) => isMultipleOf(mul(dim, elementBytes), 16));
}
