/**
 * Constant right-hand sides in the one form that all tactics share: `[columns][depth]`, the reduction contiguous, rows
 * padded with zeros to a multiple of 16 bytes. This is what wgmma and mma want of B, and what the copy engine can read.
 */
import type { PackedData } from "../../../ir/index.ts";
import { ELEMENTS, type Multiplied } from "./elements.ts";

export interface PackedMatrix {
  readonly data: PackedData;
  /** Elements from one column to the next. */
  readonly pitch: number;
  readonly columns: number;
  readonly dtype: Multiplied;
}

/** Where element (k, n) of the matrix lies in the source, in elements. */
export interface ConstantView {
  readonly columns: number;
  /** Source position of every place of a packed row, relative to the column's start; negative for zeros. */
  readonly depth: Int32Array;
  readonly columnStart: (column: number) => number;
}

export function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** @param key names source and view */
export function packColumns(key: string, source: Uint8Array, dtype: Multiplied, view: ConstantView): PackedMatrix {
  const elementBytes = ELEMENTS[dtype].bytes;
  const pitch = alignUp(view.depth.length, 16 / elementBytes);
  return {
    pitch,
    columns: view.columns,
    dtype,
    data: {
      key: `columns${pitch}:${key}`,
      sizeBytes: pitch * view.columns * elementBytes,
      write(into) {
        const [from, to] = [elements(source, elementBytes), elements(into, elementBytes)];
        for (let column = 0; column < view.columns; column++) {
          const start = view.columnStart(column);
          const target = column * pitch;
          for (let k = 0; k < view.depth.length; k++) if (view.depth[k]! >= 0) to[target + k] = from[start + view.depth[k]!]!;
        }
      },
    },
  };
}

/** Elements as unsigned integers: packing moves bits. */
function elements(bytes: Uint8Array, elementBytes: number): Uint8Array | Uint16Array | Uint32Array {
  const aligned = bytes.byteOffset % elementBytes === 0 ? bytes : bytes.slice();
  switch (elementBytes) {
    case 1: return aligned;
    case 2: return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >>> 1);
    default: return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >>> 2);
  }
}
