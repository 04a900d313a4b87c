/**
 * A writer of protobuf's wire format. Nested messages are written before their length is known: the length's place is kept free for
 * one byte, and what follows moves up when more are needed, which small messages never do. Long runs of bytes stay outside as parts of
 * their own, so that tensors are not copied.
 * Source: Protocol Buffers, "Encoding".
 */
import { WIRE } from "./protobuf.ts";

/** Bytes above this are a part of their own. */
const SEPARATE_BYTES = 4096;

export class ProtoWriter {
  #buffer: Buffer;
  #at = 0;
  /** Finished parts; `#buffer` holds what comes after them. */
  readonly #parts: Uint8Array[] = [];
  #partBytes = 0;
  /** How many messages are open: while one is, no part can be cut off. */
  #open = 0;

  /** @param reserved bytes left free at the beginning, for a frame's head */
  constructor(reserved = 0, capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(Math.max(capacity, reserved));
    this.#at = reserved;
  }

  /** All bytes so far, the reserved ones included. */
  get size(): number {
    return this.#partBytes + this.#at;
  }

  /** What was written, in order. */
  finish(): Uint8Array[] {
    return this.#at === 0 && this.#parts.length > 0 ? this.#parts : [...this.#parts, this.#buffer.subarray(0, this.#at)];
  }

  uint(field: number, value: number | bigint): void {
    this.#key(field, WIRE.varint);
    this.varint(value);
  }

  bool(field: number, value: boolean): void {
    this.uint(field, value ? 1 : 0);
  }

  float(field: number, value: number): void {
    this.#key(field, WIRE.fixed32);
    this.#ensure(4);
    this.#at = this.#buffer.writeFloatLE(value, this.#at);
  }

  double(field: number, value: number): void {
    this.#key(field, WIRE.fixed64);
    this.#ensure(8);
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
  }

  string(field: number, text: string): void {
    this.#key(field, WIRE.bytes);
    const length = Buffer.byteLength(text);
    this.varint(length);
    this.#ensure(length);
    this.#at += this.#buffer.write(text, this.#at);
  }

  bytes(field: number, bytes: Uint8Array): void {
    this.#key(field, WIRE.bytes);
    this.varint(bytes.byteLength);
    this.#raw(bytes);
  }

  packed(field: number, values: readonly (number | bigint)[]): void {
    if (values.length === 0) return;
    this.message(field, () => {
      for (const value of values) this.varint(value);
    });
  }

  /** @param write writes the message's fields */
  message(field: number, write: () => void): void {
    this.#key(field, WIRE.bytes);
    this.#ensure(1);
    const lengthAt = this.#at++;
    this.#open++;
    write();
    this.#open--;
    const length = this.#at - lengthAt - 1;
    if (length < 128) {
      this.#buffer[lengthAt] = length;
      return;
    }
    const more = varintBytes(length) - 1;
    this.#ensure(more);
    this.#buffer.copyWithin(lengthAt + 1 + more, lengthAt + 1, this.#at);
    const end = this.#at + more;
    this.#at = lengthAt;
    this.varint(length);
    this.#at = end;
  }

  /** A finished message as a field of this one. */
  nested(field: number, message: ProtoWriter): void {
    this.#key(field, WIRE.bytes);
    this.varint(message.size);
    for (const part of message.finish()) this.#raw(part);
  }

  #raw(bytes: Uint8Array): void {
    if (this.#open === 0 && bytes.byteLength > SEPARATE_BYTES) {
      this.#parts.push(this.#buffer.subarray(0, this.#at), bytes);
      this.#partBytes += this.#at + bytes.byteLength;
      this.#buffer = Buffer.allocUnsafe(64);
      this.#at = 0;
      return;
    }
    this.#ensure(bytes.byteLength);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }

  /** A value without its key; negative ones take ten bytes. */
  varint(value: number | bigint): void {
    this.#ensure(10);
    if (typeof value === "number" && value >= 0) {
      let rest = value;
      while (rest >= 128) {
        this.#buffer[this.#at++] = (rest % 128) | 128;
        rest = Math.floor(rest / 128);
      }
      this.#buffer[this.#at++] = rest;
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest >= 128n) {
      this.#buffer[this.#at++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.#buffer[this.#at++] = Number(rest);
  }

  #key(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }

  #ensure(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#buffer.length));
    larger.set(this.#buffer.subarray(0, this.#at));
    this.#buffer = larger;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}
