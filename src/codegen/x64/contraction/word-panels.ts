/**
 * Constant right-hand sides whose words hold several elements: panels of 16 columns, `[ceil(columns / 16)][words][16]`,
 * one 32-bit word per column and step. Elements that fill a word up, and columns that fill a panel up, are zero.
 */
import type { DType } from "../../../base/index.ts";
import type { PackedData } from "../../../ir/index.ts";
import { PANEL_COLUMNS, panelCount } from "./panels.ts";
import type { Product } from "./products.ts";

/** A matrix in a constant: where each element of each word lies. */
export interface WordMatrix {
  /** Element offset of every element of the reduction in word order, whole words; -1 where there is none. */
  readonly rows: readonly number[];
  readonly columns: number;
  readonly offset: number;
  readonly columnStride: number;
  /** The element of a column that its zero point follows. */
  readonly firstColumn: number;
}

/** Elements of a constant with the zero point of each column. */
export interface WordSource {
  readonly bytes: Uint8Array;
  readonly dtype: DType;
  /** One for all, or one per column. */
  readonly zeros: ArrayLike<number>;
}

/** Packs matrices of equal shape one after another. @param key names source, zero points and views */
export function packWords(key: string, source: WordSource, product: Product, matrices: readonly WordMatrix[]): PackedData {
  const [first] = matrices;
  const words = first ? first.rows.length / product.perWord : 0;
  const size = first ? panelCount(first.columns) * words * PANEL_COLUMNS * 4 : 0;
  return {
    key: `${product.name} ${key}`,
    sizeBytes: size * matrices.length,
    write(into) {
      const from = constantElements(source);
      matrices.forEach((matrix, index) => writeWords(from, source.zeros, matrix, product.perWord, into.subarray(index * size, (index + 1) * size)));
    },
  };
}

/**
 * What sums of unsigned bytes begin at: `factor` times the sum of each column, int32, as many as whole panels have.
 * @param factor minus what is to be subtracted from every element of A
 */
export function packColumnSums(key: string, source: WordSource, matrices: readonly WordMatrix[], factor: number): PackedData {
  const columns = matrices[0] ? panelCount(matrices[0].columns) * PANEL_COLUMNS : 0;
  return {
    key: `sums ${factor} ${key}`,
    sizeBytes: 4 * columns * matrices.length,
    write(into) {
      const from = constantElements(source);
      const to = new Int32Array(into.buffer, into.byteOffset, into.byteLength >>> 2);
      matrices.forEach((matrix, index) => {
        for (let column = 0; column < matrix.columns; column++) {
          const zero = zeroOf(source.zeros, matrix.firstColumn + column);
          let sum = 0;
          for (const row of matrix.rows) if (row >= 0) sum += from[matrix.offset + row + column * matrix.columnStride]! - zero;
          to[index * columns + column] = Math.imul(sum, factor);
        }
      });
    },
  };
}

/** Whether all differences from the zero points are 8-bit signed integers. */
export function fitsBytes(source: WordSource): boolean {
  const zeros = Array.from(source.zeros);
  if (source.dtype === "int8") return zeros.every((zero) => zero === 0);
  return source.dtype === "uint8" && zeros.every((zero) => zero === 128);
}

/** The zero point of a column. */
export function zeroOf(zeros: ArrayLike<number>, column: number): number {
  return zeros.length === 1 ? zeros[0]! : zeros[column]!;
}

type Elements = Int8Array | Uint8Array | Uint16Array;

/** The source's elements; bfloat16 as its bits. */
export function constantElements({ bytes, dtype }: WordSource): Elements {
  if (dtype === "uint8") return bytes;
  if (dtype === "int8") return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >>> 1);
}

function writeWords(from: Elements, zeros: ArrayLike<number>, matrix: WordMatrix, perWord: number, into: Uint8Array): void {
  const { rows, columns, offset, columnStride } = matrix;
  const to = perWord === 4 ? new Int8Array(into.buffer, into.byteOffset, into.byteLength) : new Int16Array(into.buffer, into.byteOffset, into.byteLength >>> 1);
  const panel = rows.length * PANEL_COLUMNS;
  for (let column = 0; column < columns; column++) {
    const zero = zeroOf(zeros, matrix.firstColumn + column);
    const source = offset + column * columnStride;
    const target = Math.floor(column / PANEL_COLUMNS) * panel + (column % PANEL_COLUMNS) * perWord;
    for (let word = 0, row = 0; row < rows.length; word++) {
      const at = target + word * PANEL_COLUMNS * perWord;
      for (let i = 0; i < perWord; i++, row++) if (rows[row]! >= 0) to[at + i] = from[source + rows[row]!]! - zero;
    }
  }
}
