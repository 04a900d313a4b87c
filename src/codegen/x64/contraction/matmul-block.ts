/** A block of a matrix product's output, whatever multiplies it: where it begins and ends, and where its operands lie. */
import { type Buffer, type Dim, type MatmulKernel, mul, type PackedData } from "../../../ir/index.ts";
import { stridesOf } from "./output.ts";
import { bytesOf } from "./products.ts";
import type { KernelWriter, Local, Size } from "./writer.ts";

/** Everything that outlives a loop is in the frame. */
export interface MatmulBlock {
  readonly outer: readonly (Local | number)[];
  readonly rowBegin: Local;
  readonly rowEnd: Local;
  readonly columnBegin: Local;
  readonly columnEnd: Local;
  /** Addresses of A at the block's first row, of B and of the output at the batch's first element. */
  readonly a: Local;
  readonly b: Local;
  readonly output: Local;
}

/** Which block, counted in blocks of so many rows and columns, and in batches. */
export interface BlockPlace {
  readonly outer: readonly (Local | number)[];
  readonly rowBlock: Local | number;
  readonly columnBlock: Local | number;
  readonly rows: Size;
  readonly columns: number;
}

/** @param packed B, where it is read as a packed constant */
export function placeBlock(w: KernelWriter, { a, b, m, n, output }: MatmulKernel, packed: PackedData | undefined, { outer, rowBlock, columnBlock, rows, columns }: BlockPlace): MatmulBlock {
  const rowBegin = w.local(w.mul(w.value(rowBlock), rows));
  const columnBegin = w.local(w.mul(w.value(columnBlock), columns));
  const start = (buffer: Buffer, offset: Dim, batchStrides: readonly Dim[], ...more: Size[]): Local => {
    const size = bytesOf(buffer.dtype);
    const offsets = outer.map((index, i) => w.mul(w.size(mul(size, batchStrides[i]!)), w.value(index)));
    return w.local(w.address(w.pointer(buffer), w.size(mul(size, offset)), ...offsets, ...more));
  };
  return {
    outer,
    rowBegin,
    rowEnd: w.local(w.min(w.add(w.get(rowBegin), rows), w.size(m))),
    columnBegin,
    columnEnd: w.local(w.min(w.add(w.get(columnBegin), columns), w.size(n))),
    a: start(a.buffer, a.offset ?? 0, a.batchStrides, w.mul(w.get(rowBegin), w.size(mul(bytesOf(a.buffer.dtype), a.rowStride)))),
    b: packed ? w.local(w.packedPointer(packed)) : start(b.buffer, b.offset ?? 0, b.batchStrides),
    output: start(output, 0, stridesOf(output)),
  };
}
