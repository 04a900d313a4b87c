/** Element types that the matrix units multiply, and how each is named in PTX and in tensor maps. */
import type { DType } from "../../../base/index.ts";

export type Multiplied = "float16" | "bfloat16" | "float32";

export interface Element {
  readonly bytes: number;
  /** In wgmma and mma instructions; float32 is rounded to tf32 by the unit. */
  readonly ptx: string;
  /** The type of one stored element in CUDA C++. */
  readonly type: string;
}

export const ELEMENTS: Readonly<Record<Multiplied, Element>> = {
  float16: { bytes: 2, ptx: "f16", type: "u16" },
  bfloat16: { bytes: 2, ptx: "bf16", type: "u16" },
  float32: { bytes: 4, ptx: "tf32", type: "float" },
};

export function isMultiplied(dtype: DType): dtype is Multiplied {
  return dtype in ELEMENTS;
}
