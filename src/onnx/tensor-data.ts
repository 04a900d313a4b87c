/**
 * TensorProto to constant: every storage form of every element type. Raw and packed float data are views of the
 * file; the other forms (integers as varints, values one by one) are decoded into memory of their own, as are
 * sparse tensors, which are expanded.
 * Source: onnx.proto, TensorProto and SparseTensorProto.
 */
import { byteLength, type DType, DTYPE_BITS, Tensor, UserError, viewArray } from "../base/index.ts";
import type { ConstantData, TensorConstant } from "../ir/index.ts";
import { ExternalData } from "./external-data.ts";
import { MAX_WINDOW_BYTES, readFileWindows } from "./file-source.ts";
import { readTensor, type SparseTensorProto, type TensorProto } from "./proto.ts";
import { onnxReader } from "./protobuf.ts";

/** TensorProto.DataType. */
const DATA_TYPES: readonly (DType | undefined)[] = [
  undefined, "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64",
  "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
  "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2",
];

export function dtypeOf(dataType: number): DType | undefined {
  return DATA_TYPES[dataType];
}

/** The number of a dtype in TensorProto.DataType. */
export function dataTypeOf(dtype: DType): number {
  return DATA_TYPES.indexOf(dtype);
}

/** Largest tensor that is made in memory rather than viewed. */
const MAX_DECODED_BYTES = 2 ** 31;

/** The storage field of each type other than raw_data. */
function storageField(dtype: DType): number {
  switch (dtype) {
    case "float32": case "complex64": return 4;
    case "int64": return 7;
    case "float64": case "complex128": return 10;
    case "uint32": case "uint64": return 11;
    default: return 5;
  }
}

/** @throws UserError naming the tensor */
export function readConstant(tensor: TensorProto, external: ExternalData, label: string = tensor.name): TensorConstant {
  const dtype = dtypeOf(tensor.dataType);
  if (!dtype) throw invalid(label, `has element type ${tensor.dataType}, which ONNX does not define`);
  const count = checkedCount(label, tensor.dims);
  return { dtype, dims: tensor.dims, constant: readData(tensor, dtype, count, external, label) };
}

/**
 * A file that holds one TensorProto, as ONNX's test data does.
 * @param path named in errors; data outside the file is looked for beside it
 */
export function readTensorProto(bytes: Uint8Array, path: string): Tensor {
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const external = new ExternalData(path, readFileWindows);
  try {
    const { dtype, dims, constant } = readConstant(readTensor(onnxReader(plain, path)), external, path);
    return dtype === "string" ? new Tensor("string", [...(constant.strings ?? [])], dims) : Tensor.fromBytes(dtype, new Uint8Array(constant.bytes), dims);
  } finally {
    external.close();
  }
}

function readData(tensor: TensorProto, dtype: DType, count: number, external: ExternalData, label: string): ConstantData {
  if (dtype === "string") {
    if (tensor.strings.length !== count) throw invalid(label, `has ${tensor.strings.length} strings; dims [${tensor.dims}] need ${count}`);
    return { bytes: new Uint8Array(0), strings: tensor.strings };
  }
  const needed = byteLength(dtype, count);
  if (!Number.isSafeInteger(needed) || needed > MAX_WINDOW_BYTES) throw invalid(label, `has dims [${tensor.dims}], which take ${needed} bytes; at most ${MAX_WINDOW_BYTES} are read`);
  if (tensor.isExternal) return { bytes: external.view(label, tensor.external, needed) };
  const bytes = tensor.raw && (tensor.raw.length > 0 || needed === 0 || tensor.runs.size === 0) ? tensor.raw : typedData(tensor, dtype, count, label);
  if (bytes.length !== needed) throw invalid(label, `has ${bytes.length} bytes of data; ${dtype}[${tensor.dims}] needs ${needed}`);
  return { bytes };
}

export function checkedCount(label: string, dims: readonly number[]): number {
  let count = 1;
  for (const dim of dims) {
    if (dim < 0) throw invalid(label, `has dims [${dims}]; a dimension cannot be negative`);
    count *= dim;
  }
  if (!Number.isSafeInteger(count)) throw invalid(label, `has dims [${dims}], more elements than can be counted`);
  return count;
}

function typedData(tensor: TensorProto, dtype: DType, count: number, label: string): Uint8Array {
  const field = storageField(dtype);
  const runs = tensor.runs.get(field) ?? [];
  const only = runs.length === 1 ? runs[0]! : undefined;
  if (only && (field === 4 || field === 10)) return tensor.file.subarray(only.start, only.end);
  const stored = runs.reduce((sum, run) => sum + run.end - run.start, 0);
  // Every stored value takes at least a byte, so that dims alone cannot make us allocate.
  const mostValues = storedCount(dtype, count);
  if (stored < mostValues) throw invalid(label, `has ${stored} bytes of stored values; ${dtype}[${tensor.dims}] needs at least ${mostValues}`);
  if (field === 4 || field === 10) return joined(tensor.file, runs, stored);
  return decodeIntegers(tensor, runs, dtype, count, label);
}

/** How many values the storage field holds: packed types store whole bytes, one per value. */
function storedCount(dtype: DType, count: number): number {
  return DTYPE_BITS[dtype] < 8 ? byteLength(dtype, count) : count;
}

function joined(file: Uint8Array, runs: readonly { start: number; end: number }[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const run of runs) {
    bytes.set(file.subarray(run.start, run.end), at);
    at += run.end - run.start;
  }
  return bytes;
}

function decodeIntegers(tensor: TensorProto, runs: readonly { start: number; end: number }[], dtype: Exclude<DType, "string"> | DType, count: number, label: string): Uint8Array {
  const bytes = new Uint8Array(byteLength(dtype, count));
  const array = viewArray(dtype as Exclude<DType, "string">, bytes);
  let at = 0;
  for (const run of runs) {
    const reader = onnxReader(tensor.file, label, run);
    while (!reader.done) {
      const value = reader.int64();
      if (at >= array.length) throw invalid(label, `stores more than the ${array.length} values its dims [${tensor.dims}] need`);
      if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[at++] = BigInt(value);
      else array[at++] = Number(typeof value === "bigint" ? BigInt.asIntN(32, value) : value);
    }
  }
  if (at !== array.length) throw invalid(label, `stores ${at} values; ${dtype}[${tensor.dims}] needs ${array.length}`);
  return bytes;
}

/** Expands a sparse tensor: coordinates as linear indices [nnz] or as tuples [nnz, rank]. */
export function readSparse(sparse: SparseTensorProto, external: ExternalData, label: string): TensorConstant {
  if (!sparse.values) throw invalid(label, "is sparse without values");
  const values = readConstant(sparse.values, external, label);
  const { dtype } = values;
  const count = checkedCount(label, sparse.dims);
  if (dtype === "string" || DTYPE_BITS[dtype] < 8) throw invalid(label, `is sparse with elements of type ${dtype}; whole bytes are needed`);
  const size = DTYPE_BITS[dtype] / 8;
  if (count * size > MAX_DECODED_BYTES) throw invalid(label, `takes ${count * size} bytes when expanded; at most ${MAX_DECODED_BYTES} are made`);
  const nonZeros = values.dims[0] ?? 0;
  const bytes = new Uint8Array(count * size);
  if (nonZeros > 0) {
    if (!sparse.indices) throw invalid(label, "is sparse without indices");
    const positions = linearIndices(readConstant(sparse.indices, external, `${label} (indices)`), sparse.dims, nonZeros, label);
    positions.forEach((position, i) => {
      if (!(position >= 0 && position < count)) throw invalid(label, `has sparse index ${position} outside its ${count} elements`);
      bytes.set(values.constant.bytes.subarray(i * size, (i + 1) * size), position * size);
    });
  }
  return { dtype, dims: sparse.dims, constant: { bytes } };
}

function linearIndices(indices: TensorConstant, dims: readonly number[], nonZeros: number, label: string): number[] {
  const isTuples = indices.dims.length === 2;
  if (indices.dtype !== "int64" || indices.dims[0] !== nonZeros || (isTuples ? indices.dims[1] !== dims.length : indices.dims.length !== 1)) {
    throw invalid(label, `has sparse indices ${indices.dtype}[${indices.dims}]; expected int64[${nonZeros}] or int64[${nonZeros},${dims.length}]`);
  }
  const items = [...(viewArray("int64", indices.constant.bytes) as BigInt64Array)].map(Number);
  if (!isTuples) return items;
  return Array.from({ length: nonZeros }, (_, row) => dims.reduce((position, dim, axis) => position * dim + items[row * dims.length + axis]!, 0));
}

function invalid(label: string, what: string): UserError {
  return new UserError("model-invalid", `Tensor "${label}" ${what}.`);
}
