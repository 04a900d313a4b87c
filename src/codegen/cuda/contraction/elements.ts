/** Element types that the matrix units multiply, and how each is named in PTX and in tensor maps. */
import type { DType } from "../../../base/index.ts";

export type Multiplied = "float16" | "bfloat16" | "float32" | "int8" | "uint8";

export interface Element {
  readonly bytes: number;
  /** In wgmma and mma instructions; float32 is rounded to tf32 by the unit. */
  readonly ptx: string;
  /** The type of one stored element in CUDA C++. */
  readonly type: string;
  /** What sums are kept in. */
  readonly sum: "float" | "int";
}

export const ELEMENTS: Readonly<Record<Multiplied, Element>> = {
  float16: { bytes: 2, ptx: "f16", type: "u16", sum: "float" },
  bfloat16: { bytes: 2, ptx: "bf16", type: "u16", sum: "float" },
  float32: { bytes: 4, ptx: "tf32", type: "float", sum: "float" },
  int8: { bytes: 1, ptx: "s8", type: "u8", sum: "int" },
  uint8: { bytes: 1, ptx: "u8", type: "u8", sum: "int" },
};

export function isMultiplied(dtype: DType): dtype is Multiplied {
  return dtype in ELEMENTS;
}

/** The left and the right operand's elements. */
export type Operands = readonly [Multiplied, Multiplied];

/** Undefined when the unit does not multiply the two: bytes of either sign mix, other types do not. */
export function operandsOf(a: DType, b: DType): Operands | undefined {
  if (!isMultiplied(a) || !isMultiplied(b)) return undefined;
  return a === b || (ELEMENTS[a].sum === "int" && ELEMENTS[b].sum === "int") ? [a, b] : undefined;
}
