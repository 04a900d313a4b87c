/**
 * Memory for programs that are copies of one: blocks of one size, cut from slabs whose pages are taken all at once, since a page
 * that is taken when it is touched costs more than what is written to it. A slab is freed when its last block is: copies
 * are given up in the order in which they were made, or nearly so.
 */
import { NativeMemory } from "../native/index.ts";
import { LINE_BYTES } from "./layout.ts";

/** Memory of one program; whoever holds it frees it once. */
export interface Block {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  free(): void;
}

const BLOCKS_PER_SLAB = 8;
/** Large blocks are fewer in a slab. */
const MOST_SLAB_BYTES = 512 * 1024;

/** A block with memory of its own. */
export function singleBlock(sizeBytes: number): Block {
  const memory = NativeMemory.allocate(sizeBytes);
  return { address: Number(memory.address), bytes: memory.view(), free: () => memory.dispose() };
}

export class Blocks {
  readonly #sizeBytes: number;
  readonly #perSlab: number;
  #slab: Slab | undefined;

  constructor(sizeBytes: number) {
    this.#sizeBytes = Math.ceil(sizeBytes / LINE_BYTES) * LINE_BYTES;
    this.#perSlab = Math.max(1, Math.min(BLOCKS_PER_SLAB, Math.floor(MOST_SLAB_BYTES / this.#sizeBytes)));
  }

  /** Zeroed memory. */
  take(): Block {
    if (!this.#slab?.hasRoom) this.#slab = new Slab(this.#sizeBytes, this.#perSlab);
    return this.#slab.take();
  }

  /** Gives up what was not taken. Blocks in use stay until they are freed. */
  dispose(): void {
    this.#slab?.giveUp();
    this.#slab = undefined;
  }
}

class Slab {
  readonly #memory: NativeMemory;
  readonly #blockBytes: number;
  #left: number;
  /** Blocks in use or not yet taken. */
  #live: number;

  constructor(blockBytes: number, count: number) {
    this.#memory = NativeMemory.allocate(blockBytes * count, { populate: true });
    this.#blockBytes = blockBytes;
    this.#left = count;
    this.#live = count;
  }

  get hasRoom(): boolean {
    return this.#left > 0;
  }

  take(): Block {
    const offset = --this.#left * this.#blockBytes;
    return { address: Number(this.#memory.address) + offset, bytes: this.#memory.view(offset, this.#blockBytes), free: () => this.#release(1) };
  }

  giveUp(): void {
    const left = this.#left;
    this.#left = 0;
    this.#release(left);
  }

  #release(count: number): void {
    this.#live -= count;
    if (count > 0 && this.#live === 0) this.#memory.dispose();
  }
}
