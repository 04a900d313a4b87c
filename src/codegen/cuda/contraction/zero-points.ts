/**
 * Zero points of 8-bit operands, which the matrix units do not know. What the left one puts into a sum does not depend on
 * the row, sum (a - z) w = sum a w - z sum w, and is taken off by the epilogue, exactly. The right one's is taken from the
 * weights when they are packed.
 */
import { axisIndex, type Buffer, castTo, constant, type ConstantLookup, type Epilogue, type Expr, i64, loadElement, op, rewrite, type ZeroPoint } from "../../../ir/index.ts";
import type { KernelText } from "./kernel-text.ts";
import type { PackedMatrix } from "./packing.ts";

export const isZero = (zero: ZeroPoint | undefined): boolean => zero === undefined || zero === 0;

/** The epilogue over sums that are what they would be without the left operand's zero point. @param columns of the packed right operand */
export function withoutZeroPoint(text: KernelText, epilogue: Epilogue | undefined, output: Buffer, zero: ZeroPoint | undefined, { data, pitch, dtype, columns }: PackedMatrix): Epilogue | undefined {
  if (zero === undefined || zero === 0) return epilogue;
  const axes = epilogue?.axes ?? output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const sums = text.packedBuffer({
    key: `sums:${data.key}`,
    sizeBytes: 4 * columns,
    write: (into) => writeSums(into, data, dtype, pitch, columns),
  }, "int32", [columns]);
  const point: Expr = typeof zero === "number" ? constant("i32", zero) : castTo("i32", loadElement(zero, zero.dims.map(() => i64(0))));
  const accumulator: Expr = { kind: "accumulator", type: "i32" };
  const corrected = op("sub", accumulator, op("mul", loadElement(sums, [axisIndex(axes.at(-1)!)]), point));
  return { axes, value: rewrite(epilogue?.value ?? accumulator, (e) => (e.kind === "accumulator" ? corrected : undefined)) };
}

function writeSums(into: Uint8Array, data: PackedMatrix["data"], dtype: PackedMatrix["dtype"], pitch: number, columns: number): void {
  const bytes = new Uint8Array(data.sizeBytes);
  data.write(bytes);
  const elements = dtype === "int8" ? new Int8Array(bytes.buffer) : bytes;
  const sums = new Int32Array(columns);
  for (let column = 0; column < columns; column++) {
    let sum = 0;
    for (let k = 0; k < pitch; k++) sum += elements[column * pitch + k]!;
    sums[column] = sum;
  }
  into.set(new Uint8Array(sums.buffer));
}

/** Constant bytes with their zero points, one or one per column, as int8 without; undefined where int8 does not hold them, or the zero points are not known. @param columnOf of an element */
export function shiftedBytes(buffer: Buffer, zero: ZeroPoint | undefined, constants: ConstantLookup, columnOf: (element: number) => number): Uint8Array | undefined {
  const source = constants(buffer);
  const zeros = typeof zero === "number" ? Int32Array.of(zero) : zero && zerosOf(zero, constants);
  if (!source || !zeros) return undefined;
  const elements = buffer.dtype === "int8" ? new Int8Array(source.buffer, source.byteOffset, source.byteLength) : source;
  const shifted = new Int8Array(elements.length);
  for (let i = 0; i < elements.length; i++) {
    const value = elements[i]! - zeros[zeros.length === 1 ? 0 : columnOf(i)]!;
    if (value < -128 || value > 127) return undefined;
    shifted[i] = value;
  }
  return new Uint8Array(shifted.buffer);
}

function zerosOf(zero: Buffer, constants: ConstantLookup): Int32Array | undefined {
  const source = constants(zero);
  if (!source) return undefined;
  return Int32Array.from(zero.dtype === "int8" ? new Int8Array(source.buffer, source.byteOffset, source.byteLength) : source);
}
