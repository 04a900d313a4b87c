/** What a matrix product multiplies and how: the product of its operand types, and its right side as a packed constant. */
import type { Buffer, ConstantLookup, MatmulKernel, PackedData } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { packPanels } from "./panels.ts";
import { type Product, productOf, tileProductOf } from "./products.ts";
import { fitsBytes, packColumnSums, packWords, type WordMatrix, type WordSource } from "./word-panels.ts";
import { constantZeros, scalarZero } from "./zero-points.ts";

export interface MatmulOperands {
  readonly product: Product;
  readonly packed: PackedData | undefined;
  /** Of `pairs`: what is subtracted from A while it is copied, and from a moving B while it is packed. */
  readonly zeroA: number | Buffer;
  readonly zeroB: number | Buffer;
  readonly start: SumStart | undefined;
}

/** What sums begin at, per column: the packed int32, times minus a zero point that the run fills in (with 128 added where A is flipped). */
export interface SumStart {
  readonly columns: PackedData;
  readonly zero?: Buffer;
}

/** Undefined when there is no product of these types on this instruction set. */
export function matmulOperands(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup): MatmulOperands | undefined {
  const source = constantSource(kernel, constants);
  const product = productOfOperands(kernel, isa, source);
  return product && operandsOf(kernel, constants, source, product);
}

/** The same for tiles, with the same packed constant. */
export function tileOperands(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup): MatmulOperands | undefined {
  const source = constantSource(kernel, constants);
  const product = productOfOperands(kernel, isa, source);
  const tiles = product && tileProductOf(product, isa);
  return tiles && operandsOf(kernel, constants, source, tiles);
}

function productOfOperands({ a, b }: MatmulKernel, isa: Isa, source: WordSource | undefined): Product | undefined {
  return productOf(a.buffer.dtype, b.buffer.dtype, isa, source !== undefined && fitsBytes(source));
}

function operandsOf(kernel: MatmulKernel, constants: ConstantLookup, source: WordSource | undefined, product: Product): MatmulOperands {
  const { a, b } = kernel;
  const zeroA = scalarZero(a.zero, constants);
  const zeroB = scalarZero(b.zero, constants);
  const key = `${b.buffer.name}:${kernel.k}x${kernel.n}@${b.offset ?? 0}+${b.rowStride},${b.columnStride}`;
  if (!source) return { product, packed: undefined, zeroA, zeroB, start: undefined };
  if (product.name === "float") return { product, packed: packFloats(kernel, key, source.bytes), zeroA: 0, zeroB: 0, start: undefined };
  const matrices = [wordMatrix(kernel, product)];
  const packed = packWords(`${key}-${Array.from(source.zeros)}`, source, product, matrices);
  return { product, packed, zeroA, zeroB: 0, start: product.name === "bytes" ? sumStart(key, source, matrices, product, zeroA) : undefined };
}

export function sumStart(key: string, source: WordSource, matrices: readonly WordMatrix[], product: Product, zero: number | Buffer): SumStart | undefined {
  if (typeof zero !== "number") return { columns: packColumnSums(key, source, matrices, 1), zero };
  const shifted = zero + (product.flips ? 128 : 0);
  return shifted === 0 ? undefined : { columns: packColumnSums(key, source, matrices, -shifted) };
}

/** B's elements when they are known and the same in all batches. */
function constantSource(kernel: MatmulKernel, constants: ConstantLookup): WordSource | undefined {
  const { b, k, n } = kernel;
  const bytes = constants(b.buffer);
  const zeros = constantZeros(b.zero, constants);
  const isStatic = [k, n, b.rowStride, b.columnStride, b.offset ?? 0].every((size) => typeof size === "number");
  if (!bytes || !zeros || !isStatic || b.batchStrides.some((stride) => stride !== 0)) return undefined;
  return { bytes, dtype: b.buffer.dtype, zeros };
}

function packFloats({ b, k, n }: MatmulKernel, key: string, source: Uint8Array): PackedData {
  const view = { rows: k as number, columns: n as number, offset: (b.offset ?? 0) as number, rowStride: b.rowStride as number, columnStride: b.columnStride as number };
  return packPanels(`panel16:${key}`, source, [view]);
}

function wordMatrix({ b, k, n }: MatmulKernel, product: Product): WordMatrix {
  const elements = Math.ceil((k as number) / product.perWord) * product.perWord;
  const rows = Array.from({ length: elements }, (_, row) => (row < (k as number) ? row * (b.rowStride as number) : -1));
  return { rows, columns: n as number, offset: (b.offset ?? 0) as number, columnStride: b.columnStride as number, firstColumn: 0 };
}
