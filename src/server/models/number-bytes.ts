/** One number as the little-endian bytes of an element. */
import { newArray, toBfloat16Bits, toFloat16Bits } from "../../base/index.ts";
import { dataTypeOfConfig } from "../../repository/index.ts";

/** @param dataType TYPE_FP32 and the like, not strings */
export function numberBytes(dataType: string, value: number): Uint8Array {
  const dtype = dataTypeOfConfig(dataType)!.dtype;
  const array = newArray(dtype, 1);
  if (Array.isArray(array)) return new Uint8Array(4);
  if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[0] = BigInt(Math.trunc(value));
  else array[0] = dtype === "float16" ? toFloat16Bits(value) : dtype === "bfloat16" ? toBfloat16Bits(value) : value;
  return new Uint8Array(array.buffer);
}
