/** Elements of constants as numbers. */
import { elementCount, fromBfloat16Bits, fromFloat16Bits, viewArray } from "../../base/index.ts";
import { isStatic, type Value } from "../../ir/index.ts";

/** Constants above this many elements are not read. */
const MAX_ELEMENTS = 4096;

/** A small constant's elements as numbers; undefined for what is not constant, large, or not numeric. */
export function numbersConstant(value: Value | undefined): readonly number[] | undefined {
  const dtype = value?.dtype;
  if (!value?.constant || !dtype || !value.dims || !isStatic(value.dims)) return undefined;
  const count = elementCount(value.dims);
  if (dtype === "string" || dtype.startsWith("complex") || dtype.startsWith("float8") || dtype.startsWith("float4") || count > MAX_ELEMENTS) return undefined;
  const items = viewArray(dtype, value.constant.bytes);
  if (items.length !== count) return undefined;
  if (dtype === "float16") return Array.from(items as Uint16Array, fromFloat16Bits);
  if (dtype === "bfloat16") return Array.from(items as Uint16Array, fromBfloat16Bits);
  return Array.from(items as ArrayLike<number | bigint>, Number);
}
