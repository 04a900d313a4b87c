/** Zero points of 8-bit operands: known when code is made, or read by it. */
import type { DType } from "../../../base/index.ts";
import type { Buffer, ConstantLookup, ZeroPoint } from "../../../ir/index.ts";
import { mem, type VReg } from "../function.ts";
import { bytesOf } from "./products.ts";
import type { KernelWriter } from "./writer.ts";

/** The elements of a constant zero point; undefined when only the run knows them. */
export function constantZeros(zero: ZeroPoint | undefined, constants: ConstantLookup): ArrayLike<number> | undefined {
  if (zero === undefined || typeof zero === "number") return [zero ?? 0];
  const bytes = constants(zero);
  if (!bytes) return undefined;
  return zero.dtype === "int8" ? new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : bytes;
}

/** The zero point of A or of an image: a number where it is known. */
export function scalarZero(zero: ZeroPoint | undefined, constants: ConstantLookup): number | Buffer {
  if (zero === undefined || typeof zero === "number") return zero ?? 0;
  return constantZeros(zero, constants)?.[0] ?? zero;
}

/** The element in a general register, extended by its sign. */
export function loadByte(w: KernelWriter, dtype: DType, place: ReturnType<typeof mem>): VReg {
  const register = w.f.gp("byte");
  if (bytesOf(dtype) === 2) w.f.emit("movzx.w", register, place);
  else w.f.emit(dtype === "int8" ? "movsx.b" : "movzx.b", register, place);
  return register;
}

/** A fresh register with the zero point. */
export function zeroRegister(w: KernelWriter, zero: number | Buffer): VReg {
  return typeof zero === "number" ? w.move(zero) : loadByte(w, zero.dtype, mem(w.pointer(zero)));
}

/** The zero point in every lane of `bits` bits. */
export function zeroLanes(w: KernelWriter, zero: number | Buffer, bits: 8 | 16 | 32): VReg {
  const register = w.f.vec("zero");
  if (zero === 0) {
    w.f.emit("vpxor", register, register, register);
    return register;
  }
  w.f.emit("vmovd", register, zeroRegister(w, zero));
  w.f.emit({ 8: "vpbroadcastb", 16: "vpbroadcastw", 32: "vpbroadcastd" }[bits], register, register);
  return register;
}
