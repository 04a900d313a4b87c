/** Integer fields of native memory, read and written without allocating. */
import { viewMemory } from "../native/index.ts";

const HIGH = 2 ** 32;

/** 32- and 64-bit words over a range of native memory. 64-bit values are integers of at most 53 bits. */
export class Words {
  readonly #words: Int32Array;

  constructor(buffer: ArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static over(address: number, sizeBytes: number): Words {
    return new Words(viewMemory(address, sizeBytes));
  }

  get(offset: number): number {
    const index = offset >> 2;
    return this.#words[index + 1]! * HIGH + (this.#words[index]! >>> 0);
  }

  set(offset: number, value: number): void {
    const index = offset >> 2;
    this.#words[index] = value | 0;
    this.#words[index + 1] = Math.floor(value / HIGH);
  }

  get32(offset: number): number {
    return this.#words[offset >> 2]! >>> 0;
  }

  set32(offset: number, value: number): void {
    this.#words[offset >> 2] = value;
  }

  /** The words themselves, from an offset on. */
  from(offset: number): Int32Array {
    return this.#words.subarray(offset >> 2);
  }

  /** Takes over all that lies in another range of the same size from `offset` on. */
  copy(from: Words, offset: number): void {
    this.#words.set(from.#words.subarray(offset >> 2), offset >> 2);
  }

  clear(offset: number, sizeBytes: number): void {
    this.#words.fill(0, offset >> 2, (offset + sizeBytes) >> 2);
  }
}
