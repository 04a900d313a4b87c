/**
 * Changes a protobuf message where its structure is: a field somewhere inside is left out, doubled, exchanged with another, given
 * another number or another value. What comes out is well-formed on the wire, so that it gets past the reader to what checks meaning.
 * Source: Protocol Buffers, "Encoding".
 */
import { WIRE } from "../base/index.ts";
import type { Random } from "./random.ts";

interface Field {
  readonly number: number;
  readonly wire: number;
  /** What follows the key, without a length. */
  readonly payload: Uint8Array;
}

/** How far inside a change may lie. */
const DEPTH = 6;

export function mutateMessage(bytes: Uint8Array, random: Random, depth = DEPTH): Uint8Array {
  const fields = fieldsOf(bytes);
  if (!fields || fields.length === 0) return changedBytes(bytes, random);
  const inner = fields.map((field, i) => ({ field, i })).filter(({ field }) => field.wire === WIRE.bytes && field.payload.length > 0);
  if (depth > 0 && inner.length > 0 && random(4) > 0) {
    // A model is its graph: half of the time the longest field is entered.
    const chosen = random(2) === 0 ? inner.reduce((a, b) => (b.field.payload.length > a.field.payload.length ? b : a)) : inner[random(inner.length)]!;
    return written(fields.with(chosen.i, { ...chosen.field, payload: mutateMessage(chosen.field.payload, random, depth - 1) }));
  }
  return written(changedFields(fields, random));
}

function changedFields(fields: readonly Field[], random: Random): Field[] {
  const [a, b] = [random(fields.length), random(fields.length)];
  const field = fields[a]!;
  switch (random(5)) {
    case 0: return fields.filter((_, i) => i !== a);
    case 1: return [...fields, field];
    case 2: return fields.with(a, { ...fields[b]!, number: field.number }).with(b, { ...field, number: fields[b]!.number });
    case 3: return fields.with(a, { ...field, number: 1 + random(30) });
    default: return fields.with(a, { ...field, payload: field.wire === WIRE.varint ? varint(oddNumber(random)) : changedBytes(field.payload, random) });
  }
}

/** Numbers at which sizes, counts and enumerations break. */
function oddNumber(random: Random): bigint {
  const numbers = [0n, 1n, 2n, 7n, 16n, 255n, 65536n, 0x7fffffffn, 0xffffffffn, 1n << 40n, (1n << 63n) - 1n, (1n << 64n) - 1n];
  return numbers[random(numbers.length)]!;
}

function changedBytes(bytes: Uint8Array, random: Random): Uint8Array {
  if (bytes.length === 0) return Uint8Array.of(random(256));
  if (random(4) === 0) return bytes.slice(0, random(bytes.length));
  const copy = bytes.slice();
  copy[random(copy.length)] = random(256);
  return copy;
}

/** Undefined for what is no message. */
function fieldsOf(bytes: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) return Number.NaN;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  while (at < bytes.length) {
    const key = readVarint();
    const wire = key % 8;
    let begin = at;
    if (wire === WIRE.varint) readVarint();
    else if (wire === WIRE.bytes) {
      const length = readVarint();
      begin = at;
      at += length;
    } else if (wire === WIRE.fixed32) at += 4;
    else if (wire === WIRE.fixed64) at += 8;
    else return undefined;
    if (!(at <= bytes.length) || key < 8) return undefined;
    fields.push({ number: Math.floor(key / 8), wire, payload: bytes.subarray(begin, at) });
  }
  return fields;
}

function written(fields: readonly Field[]): Uint8Array {
  const parts = fields.flatMap(({ number, wire, payload }) => [varint(BigInt(number * 8 + wire)), ...(wire === WIRE.bytes ? [varint(BigInt(payload.length))] : []), payload]);
  return new Uint8Array(Buffer.concat(parts));
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 128n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return Uint8Array.from([...bytes, Number(value)]);
}
