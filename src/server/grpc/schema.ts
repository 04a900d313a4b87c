/**
 * Protobuf messages described by tables, for all that is not the data plane: plain objects with the proto's field names to bytes
 * and back. Fields that have their default value are not written, as proto3 says, but for members of a oneof.
 */
import { type ProtoReader, type ProtoWriter, UserError, WIRE } from "../../base/index.ts";

export type Scalar = "string" | "bytes" | "bool" | "int32" | "int64" | "uint32" | "uint64" | "float" | "double";

/** Numbers by name. */
export interface EnumType {
  readonly kind: "enum";
  readonly values: Readonly<Record<string, number>>;
}

export interface ListType {
  readonly kind: "list";
  readonly of: Single;
}

export interface MapType {
  readonly kind: "map";
  readonly key: "string" | "uint64";
  readonly value: Single;
}

/** A member of a oneof. */
export interface ChoiceType {
  readonly kind: "choice";
  readonly of: Single;
}

export interface Message {
  readonly kind: "message";
  readonly fields: Readonly<Record<string, readonly [number, FieldType]>>;
  readonly byNumber: ReadonlyMap<number, readonly [string, FieldType]>;
}

type Single = Scalar | EnumType | Message;
export type FieldType = Single | ListType | MapType | ChoiceType;
export type Plain = Readonly<Record<string, unknown>>;

export function message(fields: Message["fields"]): Message {
  return { kind: "message", fields, byNumber: new Map(Object.entries(fields).map(([name, [number, type]]) => [number, [name, type]])) };
}

export const list = (of: Single): ListType => ({ kind: "list", of });
export const map = (key: MapType["key"], value: Single): MapType => ({ kind: "map", key, value });
export const choice = (of: Single): ChoiceType => ({ kind: "choice", of });

/** @param names in order of their numbers, from 0 */
export function enumeration(...names: readonly string[]): EnumType {
  return { kind: "enum", values: Object.fromEntries(names.map((name, i) => [name, i])) };
}

/** Writes the fields of `value` that the message has; others are left out. */
export function encode(writer: ProtoWriter, type: Message, value: Plain): void {
  for (const [name, [number, field]] of Object.entries(type.fields)) {
    const held = value[name];
    if (held !== undefined && held !== null) encodeField(writer, number, field, held);
  }
}

function encodeField(writer: ProtoWriter, number: number, type: FieldType, value: unknown): void {
  if (typeof type === "string" || type.kind === "enum" || type.kind === "message") {
    if (!isDefault(type, value)) encodeSingle(writer, number, type, value);
  } else if (type.kind === "choice") encodeSingle(writer, number, type.of, value);
  else if (type.kind === "map") encodeMap(writer, number, type, value);
  else encodeList(writer, number, type.of, value as readonly unknown[]);
}

function isDefault(type: Single, value: unknown): boolean {
  if (typeof type === "object") return type.kind === "enum" && enumNumber(type, value) === 0;
  return value === 0 || value === 0n || value === "" || value === false || (type === "bytes" && (value as Uint8Array).byteLength === 0);
}

function encodeSingle(writer: ProtoWriter, number: number, type: Single, value: unknown): void {
  if (typeof type === "object") {
    if (type.kind === "enum") writer.uint(number, enumNumber(type, value));
    else writer.message(number, () => encode(writer, type, value as Plain));
    return;
  }
  switch (type) {
    case "string": writer.string(number, String(value)); break;
    case "bytes": writer.bytes(number, value as Uint8Array); break;
    case "bool": writer.bool(number, value === true); break;
    case "float": writer.float(number, Number(value)); break;
    case "double": writer.double(number, Number(value)); break;
    default: writer.uint(number, integer(value));
  }
}

function encodeList(writer: ProtoWriter, number: number, of: Single, values: readonly unknown[]): void {
  if (typeof of === "string" && of.includes("int")) writer.packed(number, values.map(integer));
  else for (const value of values) encodeSingle(writer, number, of, value);
}

function encodeMap(writer: ProtoWriter, number: number, type: MapType, value: unknown): void {
  const entries = value instanceof Map ? value.entries() : Object.entries(value as Plain);
  for (const [key, held] of entries) {
    writer.message(number, () => {
      encodeSingle(writer, 1, type.key, key);
      encodeSingle(writer, 2, type.value, held);
    });
  }
}

function integer(value: unknown): number | bigint {
  return typeof value === "bigint" || typeof value === "number" ? value : BigInt(String(value));
}

function enumNumber(type: EnumType, value: unknown): number {
  return typeof value === "number" ? value : (type.values[String(value)] ?? 0);
}

/** All fields of the message, absent ones with their default; members of a oneof only where they are given. */
export function decode(reader: ProtoReader, type: Message): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const [name, [, field]] of Object.entries(type.fields)) {
    const initial = defaultOf(field);
    if (initial !== undefined) value[name] = initial;
  }
  while (reader.next()) {
    const known = type.byNumber.get(reader.field);
    if (known === undefined) reader.skip();
    else decodeField(reader, known[0], known[1], value);
  }
  return value;
}

function defaultOf(type: FieldType): unknown {
  if (typeof type === "object") return type.kind === "list" ? [] : type.kind === "map" ? new Map() : type.kind === "enum" ? 0 : undefined;
  return type === "string" ? "" : type === "bytes" ? new Uint8Array(0) : type === "bool" ? false : 0;
}

function decodeField(reader: ProtoReader, name: string, type: FieldType, into: Record<string, unknown>): void {
  if (typeof type === "object" && type.kind === "list") {
    reader.repeated(wireOf(type.of), (one) => decodeSingle(one, type.of), into[name] as unknown[]);
  } else if (typeof type === "object" && type.kind === "map") {
    const entry = decode(reader.message(), message({ key: [1, type.key], value: [2, type.value] }));
    (into[name] as Map<unknown, unknown>).set(entry["key"], entry["value"] ?? {});
  } else into[name] = decodeSingle(reader, typeof type === "object" && type.kind === "choice" ? type.of : type);
}

function wireOf(type: Single): number {
  if (typeof type === "object") return type.kind === "enum" ? WIRE.varint : WIRE.bytes;
  if (type === "string" || type === "bytes") return WIRE.bytes;
  return type === "float" ? WIRE.fixed32 : type === "double" ? WIRE.fixed64 : WIRE.varint;
}

function decodeSingle(reader: ProtoReader, type: Single): unknown {
  if (typeof type === "object") return type.kind === "message" ? decode(reader.message(), type) : reader.int64();
  switch (type) {
    case "string": return reader.string();
    case "bytes": return reader.view8();
    case "bool": return Boolean(reader.int64());
    case "float": return reader.float();
    case "double": return reader.double();
    case "uint32":
    case "uint64": return unsigned(reader.int64());
    default: return reader.int64();
  }
}

/** A varint that was read as signed, as the unsigned number that it is. */
export function unsigned(value: number | bigint): number | bigint {
  return value < 0 ? BigInt.asUintN(64, BigInt(value)) : value;
}

/** @throws UserError when it is beyond what a number holds exactly */
export function toCount(what: string, value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new UserError("input-invalid", `Unable to parse '${what}': ${String(value)} is not an unsigned integer below 2^53`);
}
