/** Boxes of an operand in memory to shared memory, by the copy engine: the tensor map, and the statement that loads one. */
import { type Dim, mul } from "../../../ir/index.ts";
import { ELEMENTS, type Multiplied } from "./elements.ts";
import type { KernelText } from "./kernel-text.ts";
import type { StepBytes } from "./problem.ts";

/** C++ expressions: where a box goes, which barrier counts it, and the blocks that receive it when more than the own one. */
export interface LoadTarget {
  readonly to: string;
  readonly barrier: string;
  readonly mask?: string;
}

/** `inner` is the contiguous dimension. Batch dimensions that the operand broadcasts are left out of its map. */
export interface MappedOperand {
  readonly source: string;
  readonly element: Multiplied;
  readonly inner: Dim;
  readonly outer: Dim;
  readonly outerStride: Dim;
  readonly batch: readonly Dim[];
  readonly batchStrides: readonly Dim[];
  readonly offset: Dim;
  /** Elements of a box: inner, outer. */
  readonly box: readonly [number, number];
  /** Bytes of a box's row, and so how it is swizzled; 128 when absent. */
  readonly rowBytes?: StepBytes;
}

/** @returns the statement that loads the box at (inner, outer) of a batch, whose indices are `batch` */
export function mappedLoad(text: KernelText, operand: MappedOperand, batch = operand.batch.map((_, i) => `b${i}`)): (target: LoadTarget, inner: string, outer: string) => string {
  const { bytes } = ELEMENTS[operand.element];
  const kept = operand.batchStrides.flatMap((stride, i) => (stride === 0 ? [] : [i])).reverse();
  const name = text.tensorMap(operand.source, {
    ...(operand.offset !== 0 && { offsetBytes: mul(operand.offset, bytes) }),
    element: mapElement(operand.element),
    dims: [operand.inner, operand.outer, ...kept.map((i) => operand.batch[i]!)],
    strideBytes: [operand.outerStride, ...kept.map((i) => operand.batchStrides[i]!)].map((stride) => mul(stride, bytes)),
    box: [...operand.box, ...kept.map(() => 1)],
    swizzle: operand.rowBytes === 64 ? "64B" : "128B",
    promotion: "256B",
  });
  return ({ to, barrier, mask }, inner, outer) => {
    const place = [inner, outer, ...kept.map((i) => batch[i]!)];
    return mask ? `loadTile${place.length}Multicast(${to}, &${name}, ${barrier}, ${mask}, ${place.join(", ")});` : `loadTile${place.length}(${to}, &${name}, ${barrier}, ${place.join(", ")});`;
  };
}

/** float32 is rounded to tf32 on its way; bytes have no sign there. */
export function mapElement(element: Multiplied): "float16" | "bfloat16" | "tf32" | "uint8" {
  return element === "float32" ? "tf32" : element === "int8" ? "uint8" : element;
}
