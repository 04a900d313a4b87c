/** Tensors as JSON: `data`, flat or nested, to little-endian bytes and back. */
import { type Datatype, ServingError } from "../contract.ts";
import { ELEMENT_BYTES } from "../wire/datatypes.ts";
import type { JsonValue } from "./json.ts";

/** Gives memory for a tensor of a request, aligned to eight bytes. */
export type Allocate = (sizeBytes: number) => Uint8Array;

function flatten(values: readonly JsonValue[], into: JsonValue[]): void {
  for (const value of values) {
    if (Array.isArray(value)) flatten(value, into);
    else into.push(value);
  }
}

/** Most requests send flat arrays, which are used as they are. */
function leaves(data: readonly JsonValue[]): readonly JsonValue[] {
  if (!data.some(Array.isArray)) return data;
  const flat: JsonValue[] = [];
  flatten(data, flat);
  return flat;
}

function refuse(found: string): never {
  throw new ServingError("INVALID_ARG", `Unable to parse 'data': ${found}`);
}

/** @throws INVALID_ARG when an element does not fit the type, or there are not `count` of them */
export function readTensor(name: string, datatype: Datatype, count: number, data: readonly JsonValue[], allocate: Allocate): Uint8Array {
  if (datatype === "FP16" || datatype === "BF16") {
    throw new ServingError("INVALID_ARG", `receiving ${datatype} data via JSON is not supported. Please use the binary data format for input ${name}`);
  }
  const values = leaves(data);
  if (values.length !== count) refuse(`Shape does not match true shape of 'data' field of input '${name}': expected ${count} elements, got ${values.length}`);
  if (datatype === "BYTES") return readStrings(values, allocate);
  const bytes = allocate(count * ELEMENT_BYTES[datatype]);
  READERS[datatype](values, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return bytes;
}

function readStrings(values: readonly JsonValue[], allocate: Allocate): Uint8Array {
  const texts = values.map((value) => (typeof value === "string" ? value : refuse("attempt to access JSON non-string as string")));
  const lengths = texts.map((text) => Buffer.byteLength(text));
  const bytes = allocate(lengths.reduce((sum, length) => sum + 4 + length, 0));
  const out = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  texts.forEach((text, i) => {
    out.writeUInt32LE(lengths[i]!, at);
    at += 4 + out.write(text, at + 4);
  });
  return bytes;
}

type Read = (values: readonly JsonValue[], out: DataView) => void;

function integers(bits: 8 | 16 | 32, signed: boolean): Read {
  const least = signed ? -(2 ** (bits - 1)) : 0;
  const most = 2 ** (signed ? bits - 1 : bits) - 1;
  return (values, out) => {
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (typeof value !== "number" || !(value >= least && value <= most) || !Number.isInteger(value)) refuse(`${describe(value)} is not an integer from ${least} to ${most}`);
      if (bits === 8) out.setInt8(i, value);
      else if (bits === 16) out.setInt16(2 * i, value, true);
      else out.setInt32(4 * i, value, true);
    }
  };
}

function integers64(signed: boolean): Read {
  const least = signed ? -(2n ** 63n) : 0n;
  const most = signed ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  return (values, out) => {
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (typeof value === "number" && Number.isSafeInteger(value) && (signed || value >= 0)) {
        out.setInt32(8 * i, value, true);
        out.setInt32(8 * i + 4, Math.floor(value / 0x1_0000_0000), true);
      } else {
        const exact = typeof value === "bigint" ? value : typeof value === "number" && Number.isInteger(value) ? BigInt(value) : undefined;
        if (exact === undefined || exact < least || exact > most) refuse(`${describe(value)} is not an integer from ${least} to ${most}`);
        out.setBigInt64(8 * i, exact, true);
      }
    }
  };
}

function floats(bytesEach: 4 | 8): Read {
  return (values, out) => {
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      const number = typeof value === "number" ? value : typeof value === "bigint" ? Number(value) : refuse(`${describe(value)} is not a number`);
      if (bytesEach === 4) out.setFloat32(4 * i, number, true);
      else out.setFloat64(8 * i, number, true);
    }
  };
}

const READERS: Readonly<Record<Exclude<Datatype, "BYTES" | "FP16" | "BF16">, Read>> = {
  BOOL: (values, out) => {
    values.forEach((value, i) => {
      if (typeof value === "boolean") out.setUint8(i, value ? 1 : 0);
      else if (value === 0 || value === 1) out.setUint8(i, value);
      else refuse("attempt to access JSON non-boolean as boolean");
    });
  },
  INT8: integers(8, true), INT16: integers(16, true), INT32: integers(32, true), INT64: integers64(true),
  UINT8: integers(8, false), UINT16: integers(16, false), UINT32: integers(32, false), UINT64: integers64(false),
  FP32: floats(4), FP64: floats(8),
};

function describe(value: unknown): string {
  if (value instanceof Map) return "an object";
  return typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : String(value);
}

/** The elements as text, separated by commas. @throws INVALID_ARG for types that JSON cannot carry */
export function writeTensor(name: string, datatype: Datatype, bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (datatype === "BYTES") return writeStrings(bytes);
  const element = WRITERS[datatype];
  if (element === undefined) throw new ServingError("UNSUPPORTED", `sending ${datatype} data via JSON is not supported. Please use the binary data format for output ${name}`);
  const size = ELEMENT_BYTES[datatype];
  let text = "";
  for (let at = 0; at + size <= bytes.byteLength; at += size) text += at === 0 ? element(view, at) : `,${element(view, at)}`;
  return text;
}

/** NaN and the infinities are written by name, as Triton does and its clients read. */
const WRITERS: Readonly<Partial<Record<Datatype, (view: DataView, at: number) => string | number | bigint | boolean>>> = {
  BOOL: (view, at) => view.getUint8(at) !== 0,
  INT8: (view, at) => view.getInt8(at), INT16: (view, at) => view.getInt16(at, true), INT32: (view, at) => view.getInt32(at, true), INT64: (view, at) => view.getBigInt64(at, true),
  UINT8: (view, at) => view.getUint8(at), UINT16: (view, at) => view.getUint16(at, true), UINT32: (view, at) => view.getUint32(at, true), UINT64: (view, at) => view.getBigUint64(at, true),
  FP32: (view, at) => view.getFloat32(at, true), FP64: (view, at) => view.getFloat64(at, true),
};

function writeStrings(bytes: Uint8Array): string {
  return elementsOf(bytes).map((element) => JSON.stringify(element)).join(",");
}

/** The elements of a BYTES tensor as text. */
export function elementsOf(bytes: Uint8Array): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  for (let at = 0; at + 4 <= buffer.length; ) {
    const length = buffer.readUInt32LE(at);
    texts.push(buffer.toString("utf8", at + 4, at + 4 + length));
    at += 4 + length;
  }
  return texts;
}
