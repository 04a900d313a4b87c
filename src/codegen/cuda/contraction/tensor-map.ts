/** Alignment: which operands the tensor copy engine (TMA) and vector accesses can take as they lie. */
import { type Buffer, BUFFER_ALIGNMENT, type Dim, mul } from "../../../ir/index.ts";

/** Whether every term of a dimension is a multiple, whatever the symbols. */
export function isMultipleOf(dim: Dim, factor: number): boolean {
  return typeof dim === "number" ? dim % factor === 0 : dim.terms.every((term) => term.coefficient % factor === 0);
}

/** Whether the places that are reached by steps of `strides` elements from the buffer's start are multiples of so many bytes. */
export function isAligned({ alignment = BUFFER_ALIGNMENT }: Buffer, strides: readonly Dim[], elementBytes: number, bytes = 16): boolean {
  return alignment % bytes === 0 && strides.every((stride) => isMultipleOf(mul(stride, elementBytes), bytes));
}
