/**
 * Native memory for outputs, kept for the next batch: blocks of powers of two. What is not given back belongs to the
 * garbage collector, so that a lost reply costs a block and not the process.
 */
import { allocateTensor } from "../../runtime/index.ts";

const LEAST_BYTES = 4096;

export class NativePool {
  readonly #free = new Map<number, Uint8Array[]>();
  readonly #maxIdleBytes: number;
  #idleBytes = 0;

  /** @param maxIdleBytes blocks beyond that are left to the garbage collector */
  constructor(maxIdleBytes = 256 * 2 ** 20) {
    this.#maxIdleBytes = maxIdleBytes;
  }

  /** A block of at least that many bytes, aligned to a page; its contents are undefined. */
  take(sizeBytes: number): Uint8Array {
    const capacity = capacityFor(sizeBytes);
    const block = this.#free.get(capacity)?.pop();
    if (!block) return allocateTensor("uint8", [capacity]).bytes;
    this.#idleBytes -= capacity;
    return block;
  }

  give(block: Uint8Array): void {
    if (this.#idleBytes + block.byteLength > this.#maxIdleBytes) return;
    const list = this.#free.get(block.byteLength);
    if (list) list.push(block);
    else this.#free.set(block.byteLength, [block]);
    this.#idleBytes += block.byteLength;
  }
}

function capacityFor(sizeBytes: number): number {
  let capacity = LEAST_BYTES;
  while (capacity < sizeBytes) capacity *= 2;
  return capacity;
}

/** Blocks in which an instance's inputs are gathered, kept from batch to batch. */
export class StagedInputs {
  readonly #pool: NativePool;
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(pool: NativePool) {
    this.#pool = pool;
  }

  get sizeBytes(): number {
    return [...this.#blocks.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  take(input: number, sizeBytes: number): Uint8Array {
    let block = this.#blocks.get(input);
    if (!block || block.byteLength < sizeBytes) {
      if (block) this.#pool.give(block);
      this.#blocks.set(input, (block = this.#pool.take(sizeBytes)));
    }
    return block.subarray(0, sizeBytes);
  }

  dispose(): void {
    for (const block of this.#blocks.values()) this.#pool.give(block);
    this.#blocks.clear();
  }
}
