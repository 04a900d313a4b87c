/** `InferTensorContents`: typed values in protobuf's own encodings, to little-endian tensor bytes. */
import { type ProtoReader, WIRE } from "../../base/index.ts";
import { type Datatype, ServingError } from "../contract.ts";

/** Which field holds the values of a type. */
const FIELDS: Readonly<Partial<Record<Datatype, number>>> = {
  BOOL: 1, INT8: 2, INT16: 2, INT32: 2, INT64: 3, UINT8: 4, UINT16: 4, UINT32: 4, UINT64: 5, FP32: 6, FP64: 7, BYTES: 8,
};

type Put = (bytes: DataView, at: number, value: number | bigint) => void;

const PUT: Readonly<Partial<Record<Datatype, readonly [number, Put]>>> = {
  BOOL: [1, (bytes, at, value) => bytes.setUint8(at, value ? 1 : 0)],
  INT8: [1, (bytes, at, value) => bytes.setInt8(at, Number(value))],
  UINT8: [1, (bytes, at, value) => bytes.setUint8(at, Number(value))],
  INT16: [2, (bytes, at, value) => bytes.setInt16(at, Number(value), true)],
  UINT16: [2, (bytes, at, value) => bytes.setUint16(at, Number(value), true)],
  INT32: [4, (bytes, at, value) => bytes.setInt32(at, Number(value), true)],
  UINT32: [4, (bytes, at, value) => bytes.setUint32(at, Number(value), true)],
  INT64: [8, (bytes, at, value) => bytes.setBigInt64(at, BigInt(value), true)],
  UINT64: [8, (bytes, at, value) => bytes.setBigInt64(at, BigInt(value), true)],
};

/** @throws INVALID_ARG when values stand in another type's field, or the type cannot travel so */
export function readContents(reader: ProtoReader, name: string, datatype: Datatype): Uint8Array {
  const field = FIELDS[datatype];
  const integers: (number | bigint)[] = [];
  const pieces: Uint8Array[] = [];
  const lengths = datatype === "BYTES";
  while (reader.next()) {
    if (reader.field !== field) {
      throw new ServingError("INVALID_ARG", `unexpected explicit tensor data for input tensor '${name}' of type '${datatype}': it is in field ${reader.field}, expected ${field ?? "raw_input_contents"}`);
    }
    if (datatype === "FP32" || datatype === "FP64") pieces.push(fixedBytes(reader, datatype === "FP32" ? WIRE.fixed32 : WIRE.fixed64));
    else if (lengths) {
      const bytes = reader.view8();
      pieces.push(Uint8Array.of(bytes.length, bytes.length >>> 8, bytes.length >>> 16, bytes.length >>> 24), bytes);
    } else reader.repeated(WIRE.varint, (one) => one.int64(), integers);
  }
  const put = PUT[datatype];
  if (put === undefined) return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  const [size, write] = put;
  const bytes = new Uint8Array(size * integers.length);
  const view = new DataView(bytes.buffer);
  integers.forEach((value, i) => write(view, size * i, value));
  return bytes;
}

/** Packed floats lie in the message as tensors do; single ones do as well. */
function fixedBytes(reader: ProtoReader, single: number): Uint8Array {
  if (reader.wire === WIRE.bytes) return reader.view8();
  if (reader.wire !== single) throw reader.source.invalid(`contents of wire type ${reader.wire}; expected ${single}`);
  const { start, end } = reader.fixed();
  return reader.bytes.subarray(start, end);
}
