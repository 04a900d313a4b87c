/** String tensors on the wire: a 32-bit little-endian length before each element's UTF-8 bytes. */
import { UserError } from "../base/index.ts";

/** @throws UserError "input-invalid" when the bytes do not hold exactly `count` elements */
export function decodeStrings(bytes: Uint8Array, count: number): string[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: string[] = [];
  let at = 0;
  while (at < view.length && strings.length <= count) {
    if (at + 4 > view.length) throw new UserError("input-invalid", `String data ends within the length of element ${strings.length}.`);
    const length = view.readUInt32LE(at);
    at += 4;
    if (length > view.length - at) throw new UserError("input-invalid", `String element ${strings.length} is said to have ${length} bytes; ${view.length - at} are left.`);
    strings.push(view.toString("utf8", at, at + length));
    at += length;
  }
  if (strings.length !== count || at !== view.length) throw new UserError("input-invalid", `String data holds ${strings.length} elements${at === view.length ? "" : " and more"}; the shape says ${count}.`);
  return strings;
}

export function encodeStrings(strings: readonly string[]): Uint8Array {
  const sizes = strings.map((text) => Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + size + 4, 0));
  let at = 0;
  for (const [i, text] of strings.entries()) {
    at = bytes.writeUInt32LE(sizes[i]!, at);
    at += bytes.write(text, at);
  }
  return bytes;
}

/** Where each group of `perGroup` elements ends. */
export function stringEnds(bytes: Uint8Array, perGroup: number): number[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ends: number[] = [];
  let inGroup = 0;
  for (let at = 0; at < view.length; ) {
    at += 4 + view.readUInt32LE(at);
    if (++inGroup === perGroup) {
      ends.push(at);
      inGroup = 0;
    }
  }
  return ends;
}
