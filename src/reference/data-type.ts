/** Element types as attributes name them. Source: ONNX TensorProto.DataType. */
import { type DType, UnsupportedError } from "../base/index.ts";
import type { ReferenceAttributes } from "./contract.ts";
import { intAttribute } from "./arguments.ts";

const DATA_TYPES: readonly (DType | undefined)[] = [
  undefined, "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64",
  "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
  "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2",
];

/** The type an attribute names; `absent` when it is not there or 0. */
export function typeAttribute(attributes: ReferenceAttributes, name: string, absent: DType): DType {
  const value = intAttribute(attributes, name, 0);
  if (value === 0) return absent;
  const type = DATA_TYPES[value];
  if (!type) throw new UnsupportedError("unsupported", `Attribute "${name}" is ${value}, which is no element type; expected 1 to ${DATA_TYPES.length - 1}.`);
  return type;
}
