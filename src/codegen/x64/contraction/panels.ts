/**
 * Constant right-hand sides (matmul's B, a convolution's weights) in the one packed form that all tactics share:
 * panels of 16 columns, `[ceil(columns / 16)][depth][16]` float32, zero where the last panel has no column. A tile
 * of 32, 48 or 64 columns reads several panels side by side; an AVX2 vector is half a panel row.
 */
import type { PackedData } from "../../../ir/index.ts";

export const PANEL_COLUMNS = 16;
/** Bytes of one panel row. */
export const PANEL_ROW_BYTES = PANEL_COLUMNS * 4;

export function panelCount(columns: number): number {
  return Math.ceil(columns / PANEL_COLUMNS);
}

/** Where element (row, column) of the matrix lies in the source, in elements. */
export interface MatrixView {
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  /** One stride, or the offset of every row. */
  readonly rowStride: number | readonly number[];
  readonly columnStride: number;
}

/** Packs float32 matrices of equal shape one after another. @param key names source and view */
export function packPanels(key: string, source: Uint8Array, views: readonly MatrixView[]): PackedData {
  const sizes = views.map((view) => panelCount(view.columns) * view.rows * PANEL_COLUMNS);
  return {
    key,
    sizeBytes: 4 * sizes.reduce((sum, size) => sum + size, 0),
    write(into) {
      const from = floats(source);
      const to = new Float32Array(into.buffer, into.byteOffset, into.byteLength >>> 2);
      let start = 0;
      views.forEach((view, index) => {
        writePanels(from, view, to.subarray(start, start + sizes[index]!));
        start += sizes[index]!;
      });
    },
  };
}

function floats(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >>> 2);
}

function writePanels(from: Float32Array, view: MatrixView, to: Float32Array): void {
  const { rows, columns, offset, rowStride, columnStride } = view;
  for (let first = 0, panel = 0; first < columns; first += PANEL_COLUMNS, panel += rows * PANEL_COLUMNS) {
    const count = Math.min(PANEL_COLUMNS, columns - first);
    for (let row = 0; row < rows; row++) {
      const at = offset + (typeof rowStride === "number" ? row * rowStride : rowStride[row]!) + first * columnStride;
      const target = panel + row * PANEL_COLUMNS;
      for (let column = 0; column < count; column++) to[target + column] = from[at + column * columnStride]!;
    }
  }
}
