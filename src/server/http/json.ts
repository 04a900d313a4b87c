/**
 * A reader of JSON over bytes, for requests. Unlike `JSON.parse` it keeps 64-bit integers exact, accepts the NaN and
 * Infinity that Triton's clients send, bounds the nesting, and needs no string of the whole body.
 *
 * Numbers of up to 15 digits with a power of ten of up to 22 are exact by one multiplication or division (Clinger,
 * "How to read floating point numbers accurately", 1990); others go through `Number`.
 * Source: RFC 8259.
 */
import { ServingError } from "../contract.ts";

export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

/** As Triton. */
const MAX_DEPTH = 100;
const POWERS_OF_TEN = Array.from({ length: 23 }, (_, i) => 10 ** i);
const EXACT_DIGITS = 15;

const CODE = { tab: 9, lineFeed: 10, carriageReturn: 13, space: 32, quote: 34, plus: 43, comma: 44, minus: 45, point: 46, zero: 48, nine: 57, colon: 58, openBracket: 91, backslash: 92, closeBracket: 93, openBrace: 123, closeBrace: 125 } as const;
const WORDS: readonly (readonly [string, JsonValue])[] = [["null", null], ["true", true], ["false", false], ["NaN", Number.NaN], ["Infinity", Number.POSITIVE_INFINITY], ["Inf", Number.POSITIVE_INFINITY]];

/** @throws INVALID_ARG with the offset of what is wrong */
export function parseJson(bytes: Buffer, start = 0, end = bytes.length): JsonValue {
  return new JsonReader(bytes, start, end).document();
}

class JsonReader {
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  #at: number;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#at = start;
  }

  document(): JsonValue {
    const value = this.#value(0);
    if (this.#next() !== -1) this.#fail("something after the document");
    return value;
  }

  /** The next byte that is not white space, not passed over; -1 at the end. */
  #next(): number {
    const bytes = this.#bytes;
    for (; this.#at < this.#end; this.#at++) {
      const code = bytes[this.#at]!;
      if (code !== CODE.space && code !== CODE.lineFeed && code !== CODE.carriageReturn && code !== CODE.tab) return code;
    }
    return -1;
  }

  #value(depth: number): JsonValue {
    const code = this.#next();
    if (code === CODE.quote) return this.#string();
    if (code === CODE.openBracket) return this.#array(depth + 1);
    if (code === CODE.openBrace) return this.#object(depth + 1);
    if (code === CODE.minus || (code >= CODE.zero && code <= CODE.nine)) return this.#number();
    return this.#word();
  }

  #enter(depth: number): void {
    if (depth > MAX_DEPTH) throw new ServingError("INVALID_ARG", `JSON nesting depth exceeds maximum allowed limit (${MAX_DEPTH})`);
    this.#at++;
  }

  #array(depth: number): JsonValue[] {
    this.#enter(depth);
    const values: JsonValue[] = [];
    if (this.#next() === CODE.closeBracket) {
      this.#at++;
      return values;
    }
    for (;;) {
      values.push(this.#value(depth));
      const code = this.#next();
      if (code !== CODE.comma && code !== CODE.closeBracket) this.#fail("neither ',' nor ']' after an array's element");
      this.#at++;
      if (code === CODE.closeBracket) return values;
    }
  }

  #object(depth: number): JsonObject {
    this.#enter(depth);
    const object: JsonObject = new Map();
    if (this.#next() === CODE.closeBrace) {
      this.#at++;
      return object;
    }
    for (;;) {
      if (this.#next() !== CODE.quote) this.#fail("no name of an object's member");
      const name = this.#string();
      if (this.#next() !== CODE.colon) this.#fail("no ':' after a member's name");
      this.#at++;
      if (object.has(name)) throw new ServingError("INVALID_ARG", `input '${name}' already exists in request: the JSON names it twice`);
      object.set(name, this.#value(depth));
      const code = this.#next();
      if (code !== CODE.comma && code !== CODE.closeBrace) this.#fail("neither ',' nor '}' after an object's member");
      this.#at++;
      if (code === CODE.closeBrace) return object;
    }
  }

  #string(): string {
    const bytes = this.#bytes;
    const from = ++this.#at;
    let high = 0;
    let escaped = false;
    for (; this.#at < this.#end; this.#at++) {
      const code = bytes[this.#at]!;
      if (code === CODE.quote) {
        const to = this.#at++;
        if (escaped) return this.#unescape(from, to);
        return high < 128 ? bytes.toString("latin1", from, to) : bytes.toString("utf8", from, to);
      }
      if (code < CODE.space) this.#fail("a control character in a string");
      high |= code;
      if (code === CODE.backslash) {
        escaped = true;
        this.#at++;
      }
    }
    return this.#fail("a string without end");
  }

  #unescape(from: number, to: number): string {
    try {
      return JSON.parse(this.#bytes.toString("utf8", from - 1, to + 1)) as string;
    } catch {
      this.#at = from;
      return this.#fail("a wrong escape in a string");
    }
  }

  #number(): number | bigint {
    const bytes = this.#bytes;
    const from = this.#at;
    const negative = bytes[from] === CODE.minus;
    if (negative) {
      this.#at++;
      const code = this.#at < this.#end ? bytes[this.#at]! : -1;
      if (code < CODE.zero || code > CODE.nine) {
        const value = this.#word();
        return typeof value === "number" ? -value : this.#fail("no value");
      }
    }
    const whole = this.#digits(0);
    if (bytes[this.#at - whole.count] === CODE.zero && whole.count > 1) this.#fail("a number that begins with 0");
    let { value, count } = whole;
    let power = 0;
    let integer = true;
    if (this.#at < this.#end && bytes[this.#at] === CODE.point) {
      this.#at++;
      const fraction = this.#digits(value);
      if (fraction.count === 0) this.#fail("no digit after the decimal point");
      value = fraction.value;
      count += fraction.count;
      power = -fraction.count;
      integer = false;
    }
    const exponent = this.#exponent();
    if (exponent !== undefined) {
      power += exponent;
      integer = false;
    }
    if (count > EXACT_DIGITS || power > 22 || power < -22) return this.#slowNumber(from, integer);
    const exact = power < 0 ? value / POWERS_OF_TEN[-power]! : value * POWERS_OF_TEN[power]!;
    return negative ? -exact : exact;
  }

  /** Digits appended to `value`, which is right while they are few. */
  #digits(value: number): { value: number; count: number } {
    const bytes = this.#bytes;
    const from = this.#at;
    for (; this.#at < this.#end; this.#at++) {
      const digit = bytes[this.#at]! - CODE.zero;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    return { value, count: this.#at - from };
  }

  #exponent(): number | undefined {
    const bytes = this.#bytes;
    if (this.#at >= this.#end || (bytes[this.#at]! | 32) !== 101) return undefined;
    this.#at++;
    const sign = this.#at < this.#end ? bytes[this.#at] : 0;
    if (sign === CODE.minus || sign === CODE.plus) this.#at++;
    const { value, count } = this.#digits(0);
    if (count === 0) this.#fail("no digit in an exponent");
    return sign === CODE.minus ? -value : value;
  }

  #slowNumber(from: number, integer: boolean): number | bigint {
    const text = this.#bytes.toString("latin1", from, this.#at);
    const value = Number(text);
    return integer && !Number.isSafeInteger(value) && text.length <= 21 ? BigInt(text) : value;
  }

  #word(): JsonValue {
    for (const [word, value] of WORDS) {
      if (this.#at + word.length <= this.#end && this.#bytes.toString("latin1", this.#at, this.#at + word.length) === word) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#fail(this.#at >= this.#end ? "the end" : "no value");
  }

  #fail(found: string): never {
    throw new ServingError("INVALID_ARG", `failed to parse the request JSON buffer: ${found} at ${this.#at - this.#start}`);
  }
}
