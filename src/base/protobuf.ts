/**
 * A reader of protobuf's wire format over a window of bytes: nothing is copied, nested messages are windows of the
 * same bytes. Every length is checked against its window, so that damaged input ends in an error of its source's choice that states
 * the offset, and nesting is bounded.
 * Source: Protocol Buffers, "Encoding".
 */

/** Deepest nesting of messages; ONNX needs about five per level of subgraph. */
const MAX_DEPTH = 100;
const MAX_STRING_BYTES = 1 << 28;

export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** A range of the file's bytes. */
export interface Window {
  readonly start: number;
  readonly end: number;
}

/** What is being read, and what reading it throws. */
export interface ProtoSource {
  /** The bytes contradict the format. @param found where and what */
  invalid(found: string): Error;
  /** The bytes end too early. */
  truncated(found: string): Error;
  /** A stated bound was reached. */
  limit(found: string): Error;
}

export class ProtoReader {
  readonly bytes: Uint8Array;
  readonly source: ProtoSource;
  private readonly text: Buffer;
  private readonly view: DataView;
  private readonly end: number;
  private readonly depth: number;
  private position: number;
  /** Number and wire type of the field that `next` found. */
  field = 0;
  wire = 0;

  /** @param outer the reader this one's window belongs to */
  constructor(bytes: Uint8Array, source: ProtoSource, window: Window = { start: 0, end: bytes.length }, outer?: ProtoReader, depth = 0) {
    this.bytes = bytes;
    this.source = source;
    this.text = outer?.text ?? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = outer?.view ?? new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = window.start;
    this.end = window.end;
    this.depth = depth;
    if (depth > MAX_DEPTH) throw source.limit(`messages are nested more than ${MAX_DEPTH} deep at byte ${window.start}`);
  }

  get done(): boolean {
    return this.position >= this.end;
  }

  /** Moves to the next field. @returns false at the end of the message */
  next(): boolean {
    if (this.position >= this.end) return false;
    const at = this.position;
    const key = this.unsigned();
    this.field = Math.floor(key / 8);
    this.wire = key % 8;
    if (this.field === 0 || this.field > 0x1fffffff) this.fail(at, "field number 0 or too large");
    return true;
  }

  /** Passes over the current field. */
  skip(): void {
    switch (this.wire) {
      case WIRE.varint: this.varint(); return;
      case WIRE.fixed64: this.take(8); return;
      case WIRE.bytes: this.window(); return;
      case WIRE.fixed32: this.take(4); return;
      default: this.fail(this.position, `wire type ${this.wire}, which is not used any more`);
    }
  }

  /** A signed 64-bit integer: a number where that is exact. */
  int64(): number | bigint {
    this.expect(WIRE.varint);
    return this.varint();
  }

  /** A signed integer of at most 53 bits; larger ones are refused. */
  integer(): number {
    const at = this.position;
    const value = this.int64();
    if (typeof value === "bigint") this.fail(at, `integer ${value}, outside the safe range`);
    return value;
  }

  float(): number {
    this.expect(WIRE.fixed32);
    return this.view.getFloat32(this.take(4), true);
  }

  double(): number {
    this.expect(WIRE.fixed64);
    return this.view.getFloat64(this.take(8), true);
  }

  string(): string {
    const { start, end } = this.window();
    if (end - start > MAX_STRING_BYTES) this.fail(start, `a string of ${end - start} bytes`);
    return this.text.toString("utf8", start, end);
  }

  /** The current field's bytes, as a view. */
  view8(): Uint8Array {
    const { start, end } = this.window();
    return this.bytes.subarray(start, end);
  }

  message(): ProtoReader {
    return new ProtoReader(this.bytes, this.source, this.window(), this, this.depth + 1);
  }

  /** Where the current length-delimited field lies. */
  window(): Window {
    this.expect(WIRE.bytes);
    const at = this.position;
    const length = this.unsigned();
    if (length > this.end - this.position) {
      if (this.position + length > this.bytes.length) this.failTruncated(at, length);
      this.fail(at, `a field of ${length} bytes in a message that has ${this.end - this.position} left`);
    }
    const start = this.position;
    this.position += length;
    return { start, end: this.position };
  }

  /** Where the current field of fixed size lies. */
  fixed(): Window {
    const start = this.take(this.wire === WIRE.fixed64 ? 8 : 4);
    return { start, end: this.position };
  }

  /** Where the current variable-length integer lies. */
  varintWindow(): Window {
    const start = this.position;
    this.varint();
    return { start, end: this.position };
  }

  /** Reads one value or a packed run of them, as both forms of a repeated field allow. */
  repeated<T>(wire: number, read: (reader: ProtoReader) => T, into: T[]): void {
    if (this.wire !== WIRE.bytes || wire === WIRE.bytes) {
      into.push(read(this));
      return;
    }
    const run = new ProtoReader(this.bytes, this.source, this.window(), this, this.depth);
    run.wire = wire;
    while (!run.done) into.push(read(run));
  }

  private expect(wire: number): void {
    if (this.wire !== wire) this.fail(this.position, `field ${this.field} with wire type ${this.wire}; expected ${wire}`);
  }

  private take(count: number): number {
    const at = this.position;
    if (count > this.end - at) {
      if (at + count > this.bytes.length) this.failTruncated(at, count);
      this.fail(at, `a value that ends outside its message`);
    }
    this.position += count;
    return at;
  }

  /** Lengths and keys: never negative, at most 2^53. */
  private unsigned(): number {
    const at = this.position;
    const value = this.varint();
    if (typeof value === "bigint" || value < 0) this.fail(at, `length or key ${value}`);
    return value;
  }

  private varint(): number | bigint {
    const first = this.position < this.end ? this.bytes[this.position]! : 255;
    if (first < 128) {
      this.position++;
      return first;
    }
    let low = 0;
    let high = 0;
    for (let i = 0; i < 10; i++) {
      const byte = this.bytes[this.take(1)]!;
      if (i < 4) low |= (byte & 127) << (7 * i);
      else if (i === 4) {
        low |= (byte & 15) << 28;
        high |= (byte & 127) >> 4;
      } else high |= (i === 9 ? byte & 1 : byte & 127) << (7 * i - 32);
      if (byte < 128) return signed64(low >>> 0, high);
    }
    return this.fail(this.position - 10, "an integer of more than ten bytes");
  }

  private fail(at: number, what: string): never {
    throw this.source.invalid(`byte ${at}: found ${what}`);
  }

  private failTruncated(at: number, length: number): never {
    throw this.source.truncated(`byte ${at}: a field of ${length} bytes does not fit in the ${this.bytes.length} bytes there are`);
  }
}

function signed64(low: number, high: number): number | bigint {
  const value = high * 0x1_0000_0000 + low;
  return Number.isSafeInteger(value) ? value : (BigInt(high) << 32n) | BigInt(low);
}
