/** A block of a matrix product's output, whatever multiplies it: where it begins and ends, and where its operands lie. */
import { type Buffer, type Dim, type MatmulKernel, mul, type PackedData } from "../../../ir/index.ts";
import type { VReg } from "../function.ts";
import { type OutputWriter, stridesOf, type Tail } from "./output.ts";
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

/** Rows of sums in scratch memory, on their way to the output. */
export interface SumRows {
  /** Address of the first row's sums, and bytes from one row to the next. */
  readonly from: VReg;
  readonly pitch: number;
  /** Index of the first row, and how many there are. */
  readonly row: Local;
  readonly rows: Local;
  readonly column: Local;
  readonly vectors: number;
  tail(): Tail | undefined;
}

/** The epilogue and the stores of some rows. */
export function writeSums(w: KernelWriter, kernel: MatmulKernel, block: MatmulBlock, output: OutputWriter, sums: SumRows): void {
  const [rowBytes, columnBytes] = stridesOf(kernel.output).slice(-2).map((stride) => mul(bytesOf(kernel.output.dtype), stride)) as [Dim, Dim];
  output.begin();
  const shared = output.shared([...block.outer.map((index) => w.value(index)), 0]);
  const from = w.local(sums.from);
  const to = w.local(w.address(w.get(block.output), w.mul(w.get(sums.row), w.size(rowBytes)), w.mul(w.get(sums.column), w.size(columnBytes))));
  w.count(0, w.get(sums.rows), 1, (r) => {
    const tail = sums.tail();
    output.row({
      from: w.get(from), outer: shared ? [] : [...block.outer.map((index) => w.value(index)), w.add(w.get(sums.row), w.get(r))],
      column: w.get(sums.column), to: w.get(to), vectors: sums.vectors, ...(tail && { tail }),
    }, shared);
    w.f.emit("add", from.slot, sums.pitch);
    w.f.emit("add", to.slot, typeof rowBytes === "number" ? rowBytes : w.size(rowBytes));
  });
}
