/** Element types that the matrix units multiply, and how each is named in PTX and in tensor maps. */
import type { DType } from "../../../base/index.ts";

export type Multiplied = "float16" | "bfloat16" | "float32" | "int8" | "float8e4m3fn" | "float8e5m2";

export interface Element {
  readonly bytes: number;
  /** In wgmma and mma instructions; float32 is rounded to tf32 by the unit. */
  readonly ptx: string;
  /** Sums are int32. */
  readonly integer: boolean;
  /** The type of one stored element in CUDA C++. */
  readonly type: string;
}

export const ELEMENTS: Readonly<Record<Multiplied, Element>> = {
  float16: { bytes: 2, ptx: "f16", integer: false, type: "u16" },
  bfloat16: { bytes: 2, ptx: "bf16", integer: false, type: "u16" },
  float32: { bytes: 4, ptx: "tf32", integer: false, type: "float" },
  int8: { bytes: 1, ptx: "s8", integer: true, type: "signed char" },
  float8e4m3fn: { bytes: 1, ptx: "e4m3", integer: false, type: "u8" },
  float8e5m2: { bytes: 1, ptx: "e5m2", integer: false, type: "u8" },
};

export function isMultiplied(dtype: DType): dtype is Multiplied {
  return dtype in ELEMENTS;
}
