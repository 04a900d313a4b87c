/**
 * The values of ONNX's test data: TensorProto, SequenceProto and OptionalProto files to host values.
 * Written apart from the importer's reader, so that each checks the other.
 * Source: onnx.proto3 (TensorProto), onnx-data.proto3 (SequenceProto, OptionalProto).
 */
import { assert, byteLength, type DType, elementCount, Tensor, viewArray } from "../base/index.ts";
import type { ValueKind } from "../ir/index.ts";
import { dtypeOf } from "../onnx/index.ts";
import type { HostValue } from "../reference/index.ts";

/** One field of a message: a varint, or the bytes of anything else. */
interface Field {
  readonly number: number;
  readonly wire: number;
  readonly integer: bigint;
  readonly bytes: Uint8Array;
}

function varintAt(bytes: Uint8Array, at: number): { value: bigint; end: number } {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = bytes[at++];
    assert(byte !== undefined, "a varint ends inside its message");
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return { value, end: at };
  }
}

function* fieldsOf(bytes: Uint8Array): Generator<Field> {
  let at = 0;
  while (at < bytes.length) {
    const key = varintAt(bytes, at);
    const number = Number(key.value >> 3n);
    const wire = Number(key.value & 7n);
    at = key.end;
    if (wire === 0) {
      const integer = varintAt(bytes, at);
      at = integer.end;
      yield { number, wire, integer: integer.value, bytes: new Uint8Array(0) };
      continue;
    }
    let length = wire === 1 ? 8 : 4;
    if (wire === 2) {
      const size = varintAt(bytes, at);
      length = Number(size.value);
      at = size.end;
    }
    yield { number, wire, integer: 0n, bytes: bytes.subarray(at, at + length) };
    at += length;
  }
}

/** Values of a repeated integer field, packed or single. */
function integersOf(field: Field): bigint[] {
  if (field.wire === 0) return [field.integer];
  const values: bigint[] = [];
  for (let at = 0; at < field.bytes.length;) {
    const { value, end } = varintAt(field.bytes, at);
    values.push(value);
    at = end;
  }
  return values;
}

interface TensorFields {
  dims: number[];
  dataType: number;
  raw: Uint8Array | undefined;
  /** Bytes of float_data or double_data. */
  floats: Uint8Array[];
  integers: bigint[];
  strings: string[];
}

function tensorFields(bytes: Uint8Array): TensorFields {
  const tensor: TensorFields = { dims: [], dataType: 0, raw: undefined, floats: [], integers: [], strings: [] };
  for (const field of fieldsOf(bytes)) {
    switch (field.number) {
      case 1: tensor.dims.push(...integersOf(field).map(Number)); break;
      case 2: tensor.dataType = Number(field.integer); break;
      case 4: case 10: tensor.floats.push(field.bytes); break;
      case 5: case 7: case 11: for (const value of integersOf(field)) tensor.integers.push(value); break;
      case 6: tensor.strings.push(Buffer.from(field.bytes).toString("utf8")); break;
      case 9: tensor.raw = field.bytes; break;
      default:
    }
  }
  return tensor;
}

/** Each stored integer is one item of the type's array: bits of float16, two int4 in a byte. */
function fromIntegers(dtype: Exclude<DType, "string">, integers: readonly bigint[], count: number): Uint8Array {
  const bytes = new Uint8Array(byteLength(dtype, count));
  const items = viewArray(dtype, bytes);
  integers.forEach((value, i) => {
    if (items instanceof BigInt64Array || items instanceof BigUint64Array) items[i] = value;
    else items[i] = Number(BigInt.asIntN(32, value));
  });
  return bytes;
}

export function readTensorProto(bytes: Uint8Array): Tensor {
  const { dims, dataType, raw, floats, integers, strings } = tensorFields(bytes);
  const dtype = dtypeOf(dataType);
  assert(dtype, `a tensor file of a known element type, not ${dataType}`);
  if (dtype === "string") return new Tensor("string", strings, dims);
  if (raw && raw.length > 0) return Tensor.fromBytes(dtype, new Uint8Array(raw), dims);
  const joined = new Uint8Array(Buffer.concat(floats));
  return Tensor.fromBytes(dtype, joined.length > 0 ? joined : fromIntegers(dtype, integers, elementCount(dims)), dims);
}

/** tensor_values 3, sequence_values 5. */
function readSequenceProto(bytes: Uint8Array): HostValue {
  const sequence: HostValue[] = [];
  for (const field of fieldsOf(bytes)) {
    if (field.number === 3) sequence.push(readTensorProto(field.bytes));
    else if (field.number === 5) sequence.push(readSequenceProto(field.bytes));
  }
  return { sequence };
}

/** tensor_value 3, sequence_value 5; neither in an empty optional. */
function readOptionalProto(bytes: Uint8Array): HostValue {
  for (const field of fieldsOf(bytes)) {
    if (field.number === 3) return readTensorProto(field.bytes);
    if (field.number === 5) return readSequenceProto(field.bytes);
  }
  return undefined;
}

/** The value a file of test data holds; its message does not say which kind it is. */
export function readValueProto(bytes: Uint8Array, kind: ValueKind): HostValue {
  assert(kind !== "map", "test data without maps");
  return kind === "sequence" ? readSequenceProto(bytes) : kind === "optional" ? readOptionalProto(bytes) : readTensorProto(bytes);
}
