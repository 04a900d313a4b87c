/** What attention kernels need to know of their operands: 16-bit rows, contiguous and aligned, in panels of 128 bytes. */
import { add, type AttentionKernel, ceilDiv, type Dim, dimEqual, type KernelDescription, mul, product, type StridedOperand } from "../../../ir/index.ts";
import { isAligned } from "./tensor-map.ts";

/** Elements of one swizzled row of shared memory. */
export const PANEL = 64;

export interface AttentionShape {
  readonly element: "float16" | "bfloat16";
  readonly headSize: number;
  readonly valueSize: number;
  /** Panels of a query or key, and of a value. */
  readonly headPanels: 1 | 2;
  readonly valuePanels: 1 | 2;
}

/** Undefined when elements are not 16-bit, rows not contiguous and aligned, or heads larger than 128. */
export function attentionShape({ q, k, v, output, headSize, valueSize }: AttentionKernel): AttentionShape | undefined {
  const element = q.buffer.dtype;
  if (element !== "float16" && element !== "bfloat16") return undefined;
  if ([k, v, output].some(({ buffer }) => buffer.dtype !== element)) return undefined;
  if (typeof headSize !== "number" || typeof valueSize !== "number" || headSize > 2 * PANEL || valueSize > 2 * PANEL) return undefined;
  const aligned = ({ buffer, strides, offset = 0 }: StridedOperand): boolean => dimEqual(strides[3], 1) && isAligned(buffer, [...strides.slice(0, 3), offset], 2);
  if (![q, k, v].every(aligned) || !dimEqual(output.strides[3], 1)) return undefined;
  return { element, headSize, valueSize, headPanels: headSize > PANEL ? 2 : 1, valuePanels: valueSize > PANEL ? 2 : 1 };
}

export function kvHeads({ heads, headsPerKv }: AttentionKernel): Dim {
  return ceilDiv(heads, headsPerKv);
}

export function describeAttention(kernel: AttentionKernel): Pick<KernelDescription, "name" | "flops" | "bytes"> {
  const { batch, heads, queries, keys, headSize, valueSize } = kernel;
  const elements = ({ buffer }: StridedOperand): Dim => product(buffer.dims);
  return {
    name: kernel.name,
    flops: mul(2, add(headSize, valueSize), batch, heads, queries, keys),
    bytes: mul(2, add(elements(kernel.q), elements(kernel.k), elements(kernel.v), elements(kernel.output))),
  };
}
