/** Little-endian bytes of a constant of a scalar type. */
import { unreachable } from "../../../base/index.ts";
import type { ScalarType } from "../../loop-ir.ts";

export function constantBits(type: Exclude<ScalarType, "bool">, value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(type === "f64" || type === "i64" || type === "u64" ? 8 : 4);
  const view = new DataView(bytes.buffer);
  switch (type) {
    case "f32": view.setFloat32(0, Number(value), true); break;
    case "f64": view.setFloat64(0, Number(value), true); break;
    case "i32": case "u32": view.setInt32(0, Number(value) | 0, true); break;
    case "i64": case "u64": view.setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true); break;
    default: unreachable(type);
  }
  return bytes;
}
