/**
 * Element types: their names (those of onnxruntime-common), sizes and JavaScript arrays.
 * Sources: ONNX TensorProto.DataType; onnxruntime-common Tensor.DataTypeMap.
 */

export const DTYPES = [
  "float32", "float64", "float16", "bfloat16",
  "int8", "int16", "int32", "int64",
  "uint8", "uint16", "uint32", "uint64",
  "bool", "string", "complex64", "complex128",
  "int4", "uint4", "int2", "uint2",
  "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1",
] as const;

export type DType = (typeof DTYPES)[number];

/** Bits one element takes in memory; 0 for strings, which live on the host only. */
export const DTYPE_BITS: Readonly<Record<DType, number>> = {
  float32: 32, float64: 64, float16: 16, bfloat16: 16,
  int8: 8, int16: 16, int32: 32, int64: 64,
  uint8: 8, uint16: 16, uint32: 32, uint64: 64,
  bool: 8, string: 0, complex64: 64, complex128: 128,
  int4: 4, uint4: 4, int2: 2, uint2: 2,
  float8e4m3fn: 8, float8e4m3fnuz: 8, float8e5m2: 8, float8e5m2fnuz: 8, float8e8m0: 8, float4e2m1: 4,
};

/** Number of bytes `count` packed elements take. */
export function byteLength(dtype: DType, count: number): number {
  return Math.ceil((DTYPE_BITS[dtype] * count) / 8);
}

export type NumericArray =
  | Float32Array | Float64Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

type NumericArrayConstructor = {
  new (length: number): NumericArray;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): NumericArray;
  readonly BYTES_PER_ELEMENT: number;
};

const ARRAYS: Readonly<Record<Exclude<DType, "string">, NumericArrayConstructor>> = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bfloat16: Uint16Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  bool: Uint8Array, complex64: Float32Array, complex128: Float64Array,
  int4: Uint8Array, uint4: Uint8Array, int2: Uint8Array, uint2: Uint8Array,
  float8e4m3fn: Uint8Array, float8e4m3fnuz: Uint8Array, float8e5m2: Uint8Array, float8e5m2fnuz: Uint8Array,
  float8e8m0: Uint8Array, float4e2m1: Uint8Array,
};

/** How many array items hold `count` elements: fewer for packed types, two per complex number. */
function arrayLength(dtype: DType, count: number): number {
  if (dtype === "complex64" || dtype === "complex128") return 2 * count;
  return DTYPE_BITS[dtype] < 8 ? byteLength(dtype, count) : count;
}

/** A zeroed array for `count` elements. Elements below a byte are packed, lowest bits first. */
export function newArray(dtype: DType, count: number): NumericArray | string[] {
  if (dtype === "string") return new Array<string>(count).fill("");
  return new ARRAYS[dtype](arrayLength(dtype, count));
}

/** Views `bytes` (aligned to the element) as the dtype's array; copies when it is not aligned. */
export function viewArray(dtype: Exclude<DType, "string">, bytes: Uint8Array): NumericArray {
  const type = ARRAYS[dtype];
  const size = type.BYTES_PER_ELEMENT;
  // Not `bytes.slice()`: a Buffer's slice is a view.
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new type(aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / size));
}

/** Whether `array` is what a tensor of this type holds. */
export function isArrayOf(dtype: DType, array: unknown): boolean {
  return dtype === "string" ? Array.isArray(array) : array instanceof ARRAYS[dtype];
}

/** The length of array a tensor of `count` elements must have. */
export function requiredLength(dtype: DType, count: number): number {
  return dtype === "string" ? count : arrayLength(dtype, count);
}

export function isFloat(dtype: DType): boolean {
  return dtype.startsWith("float") || dtype === "bfloat16";
}

export function isInteger(dtype: DType): boolean {
  return dtype.startsWith("int") || dtype.startsWith("uint");
}
