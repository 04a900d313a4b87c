/** The three names every element type has: in a model's configuration, on the wire, and in Sinter. */
import type { DType } from "../base/index.ts";

/** Datatype names of KServe v2. */
export type WireType = "BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64" | "FP16" | "BF16" | "FP32" | "FP64" | "BYTES";

interface DataTypeRow {
  readonly config: string;
  readonly wire: WireType;
  readonly dtype: DType;
  /** Bytes of one element; 0 for strings. */
  readonly sizeBytes: number;
}

const ROWS: readonly DataTypeRow[] = [
  { config: "TYPE_BOOL", wire: "BOOL", dtype: "bool", sizeBytes: 1 },
  { config: "TYPE_UINT8", wire: "UINT8", dtype: "uint8", sizeBytes: 1 },
  { config: "TYPE_UINT16", wire: "UINT16", dtype: "uint16", sizeBytes: 2 },
  { config: "TYPE_UINT32", wire: "UINT32", dtype: "uint32", sizeBytes: 4 },
  { config: "TYPE_UINT64", wire: "UINT64", dtype: "uint64", sizeBytes: 8 },
  { config: "TYPE_INT8", wire: "INT8", dtype: "int8", sizeBytes: 1 },
  { config: "TYPE_INT16", wire: "INT16", dtype: "int16", sizeBytes: 2 },
  { config: "TYPE_INT32", wire: "INT32", dtype: "int32", sizeBytes: 4 },
  { config: "TYPE_INT64", wire: "INT64", dtype: "int64", sizeBytes: 8 },
  { config: "TYPE_FP16", wire: "FP16", dtype: "float16", sizeBytes: 2 },
  { config: "TYPE_BF16", wire: "BF16", dtype: "bfloat16", sizeBytes: 2 },
  { config: "TYPE_FP32", wire: "FP32", dtype: "float32", sizeBytes: 4 },
  { config: "TYPE_FP64", wire: "FP64", dtype: "float64", sizeBytes: 8 },
  { config: "TYPE_STRING", wire: "BYTES", dtype: "string", sizeBytes: 0 },
];

export function dataTypeOfConfig(name: string): DataTypeRow | undefined {
  return ROWS.find((row) => row.config === name);
}

export function dataTypeOfDtype(dtype: DType): DataTypeRow | undefined {
  return ROWS.find((row) => row.dtype === dtype);
}

export function dataTypeOfWire(wire: string): DataTypeRow | undefined {
  return ROWS.find((row) => row.wire === wire);
}
