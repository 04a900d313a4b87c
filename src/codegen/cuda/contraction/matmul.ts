/**
 * Matrix products: which form each operand has, and the kernels for it.
 *
 * B is best with its reduction contiguous. Constants are packed that way; a B that is computed is read as it lies, rows
 * or columns contiguous. Batch dimensions that an operand broadcasts are left out of its tensor map.
 */
import { DTYPE_BITS } from "../../../base/index.ts";
import { add, ceilDiv, type ConstantLookup, type Dim, dimEqual, isStatic, type MatmulKernel, type MatmulOperand, mul } from "../../../ir/index.ts";
import { mappedLoad } from "./mapped-load.ts";
import { type Element, ELEMENTS, isMultiplied, operandsOf } from "./elements.ts";
import type { HopperLoads, LoadPlace } from "./matmul-hopper.ts";
import type { KernelText } from "./kernel-text.ts";
import { isStorable } from "./output-text.ts";
import { packColumns, type PackedMatrix } from "./packing.ts";
import { type Problem, STEP_BYTES } from "./problem.ts";
import { stridesOf } from "./strides.ts";
import { isAligned } from "./tensor-map.ts";
import { isZero, shiftedBytes, withoutZeroPoint } from "./zero-points.ts";

/** Undefined when the product is not of a kind that the matrix units do. @param packed the right operand, when it is a constant */
export function matmulProblem(kernel: MatmulKernel, packed: PackedMatrix | undefined): Problem | undefined {
  const operands = operandsOf(kernel.a.buffer.dtype, packed?.dtype ?? kernel.b.buffer.dtype);
  if (!operands || kernel.copy || kernel.batch.length > 3) return undefined;
  const [{ bytes, sum }] = operands.map((type) => ELEMENTS[type]) as [Element];
  if (!packed && !(isZero(kernel.a.zero) && isZero(kernel.b.zero))) return undefined;
  const strides = stridesOf(kernel.output);
  if (!isStorable(kernel.output.dtype, kernel.epilogue, sum) || strides.at(-1) !== 1) return undefined;
  return {
    description: { name: kernel.name, flops: mul(2, ...kernel.batch, kernel.m, kernel.n, kernel.k), bytes: bytesMoved(kernel) },
    operands,
    batch: kernel.batch,
    rows: kernel.m,
    columns: kernel.n,
    steps: ceilDiv(kernel.k, STEP_BYTES / bytes),
    output: { buffer: kernel.output, epilogue: kernel.epilogue, rowStride: strides.at(-2)!, batchStrides: strides.slice(0, -2) },
  };
}

function bytesMoved({ batch, m, n, k, a, output }: MatmulKernel): Dim {
  const [operand, result] = [a.buffer.dtype, output.dtype].map((dtype) => DTYPE_BITS[dtype] / 8) as [number, number];
  return mul(add(mul(operand, k, add(m, n)), mul(result, m, n)), ...batch);
}

/** The same with an epilogue that knows the left operand's zero point. */
export function withZeroPoint(text: KernelText, problem: Problem, kernel: MatmulKernel, packed: PackedMatrix | undefined): Problem {
  if (!packed) return problem;
  return { ...problem, output: { ...problem.output, epilogue: withoutZeroPoint(text, kernel.epilogue, kernel.output, kernel.a.zero, packed) } };
}

/** B as `[n, k]`, when it is a constant without batches. */
export function packB(kernel: MatmulKernel, constants: ConstantLookup): PackedMatrix | undefined {
  const { b, n, k } = kernel;
  const dtype = b.buffer.dtype;
  if (!isMultiplied(dtype)) return undefined;
  const source = constants(b.buffer);
  const batched = b.batchStrides.some((stride) => stride !== 0);
  if (!source || batched || !isStatic([n, k, b.rowStride, b.columnStride, b.offset ?? 0])) return undefined;
  const [columns, depth, rowStride, columnStride, offset] = [n, k, b.rowStride, b.columnStride, b.offset ?? 0] as number[] as [number, number, number, number, number];
  const key = `${b.buffer.name}:${columns}x${depth}:${rowStride},${columnStride},${offset}`;
  const view = { columns, depth: Int32Array.from({ length: depth }, (_, row) => row * rowStride), columnStart: (column: number) => offset + column * columnStride };
  if (isZero(b.zero)) return packColumns(key, source, dtype, view);
  const columnOf = (element: number): number => (columnStride === 1 ? (element - offset) % rowStride : Math.floor((element - offset) / columnStride));
  const shifted = shiftedBytes(b.buffer, b.zero, constants, columnOf);
  return shifted && packColumns(`${key} less ${typeof b.zero === "number" ? b.zero : b.zero!.name}`, shifted, "int8", view);
}

export type FormOfB = "constant" | "rows" | "columns";

/** How the copy engine can read B, undefined when it cannot. */
export function formOfB(kernel: MatmulKernel, packed: PackedMatrix | undefined): FormOfB | undefined {
  const { b } = kernel;
  const bytes = DTYPE_BITS[b.buffer.dtype] / 8;
  if (packed) return "constant";
  const mappable = (outer: Dim): boolean => isAligned(b.buffer, [outer, ...b.batchStrides, b.offset ?? 0], bytes);
  if (dimEqual(b.rowStride, 1) && mappable(b.columnStride)) return "columns";
  return bytes === 2 && dimEqual(b.columnStride, 1) && mappable(b.rowStride) ? "rows" : undefined;
}

export function isMappableA({ a }: MatmulKernel): boolean {
  return dimEqual(a.columnStride, 1) && isAligned(a.buffer, [a.rowStride, ...a.batchStrides, a.offset ?? 0], DTYPE_BITS[a.buffer.dtype] / 8);
}

/** @param tile rows of A and columns of B that one box brings */
export function matmulLoads(text: KernelText, kernel: MatmulKernel, problem: Problem, packed: PackedMatrix | undefined, form: FormOfB, tile: readonly [number, number], multicast: number): HopperLoads {
  const [element, elementOfB] = problem.operands;
  const depth = STEP_BYTES / ELEMENTS[element].bytes;
  const of = ({ buffer, batchStrides, offset = 0 }: MatmulOperand, type = element) => ({ source: text.pointer(buffer), element: type, batch: kernel.batch, batchStrides, offset });
  const a = mappedLoad(text, { ...of(kernel.a), inner: kernel.k, outer: kernel.m, outerStride: kernel.a.rowStride, box: [depth, tile[0]] });
  const rowsOf = (place: LoadPlace): string => `${place.step} * ${depth}`;
  const common = { a: (place: LoadPlace) => a(place, rowsOf(place), place.first), bColumnsContiguous: form === "rows" };
  if (form === "rows") {
    const b = mappedLoad(text, { ...of(kernel.b, elementOfB), inner: kernel.n, outer: kernel.k, outerStride: kernel.b.rowStride, box: [64, depth] });
    const boxes = tile[1] / 64 / multicast;
    return {
      ...common,
      b: (place) => Array.from({ length: boxes }, (_, i) => b({ ...place, to: `${place.to} + ${i * 64 * STEP_BYTES}` }, `${place.first} + ${i * 64}`, rowsOf(place))).join("\n          "),
    };
  }
  const lying = packed
    ? { source: text.packedPointer(packed.data, "u8"), element: elementOfB, batch: [], batchStrides: [], offset: 0, outerStride: packed.pitch }
    : { ...of(kernel.b, elementOfB), outerStride: kernel.b.columnStride };
  const b = mappedLoad(text, { ...lying, inner: kernel.k, outer: kernel.n, box: [depth, tile[1] / multicast] });
  return { ...common, b: (place) => b(place, rowsOf(place), place.first) };
}
