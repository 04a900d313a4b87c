/**
 * The memory that the server and a GPU's process share, in blocks of powers of two that are never split or joined: the
 * process pins each once, and it stays pinned. It outlives the process: replies that are still being written read it.
 */
import { SinterError } from "../../base/index.ts";
import { closeDescriptor, createMemoryFile, PAGE_BYTES, viewShared } from "../../native/index.ts";
import type { Place } from "./protocol.ts";

/** Bytes of the file, and the block they belong to. */
export interface Block extends Place {
  readonly bytes: Uint8Array;
}

export class SharedMemory {
  readonly fd: number;
  readonly #view: Uint8Array<ArrayBuffer>;
  readonly #free = new Map<number, Block[]>();
  #end = 0;

  constructor(sizeBytes: number) {
    this.fd = createMemoryFile("sinter-gpu", sizeBytes);
    this.#view = viewShared(this.fd, sizeBytes);
  }

  /** A block of at least that many bytes; its contents are undefined. @throws SinterError "limit-exceeded" */
  take(sizeBytes: number): Block {
    const capacity = 2 ** Math.max(Math.log2(PAGE_BYTES), Math.ceil(Math.log2(Math.max(1, sizeBytes))));
    const known = this.#free.get(capacity)?.pop();
    if (known) return known;
    if (this.#end + capacity > this.#view.byteLength) throw new SinterError("limit-exceeded", `Memory shared with the GPU's process: ${capacity} bytes are asked for, ${this.#end} of ${this.#view.byteLength} are taken; make smaller batches.`);
    const block: Block = { offset: this.#end, sizeBytes: capacity, bytes: this.#view.subarray(this.#end, this.#end + capacity) };
    this.#end += capacity;
    return block;
  }

  give(block: Block): void {
    const list = this.#free.get(block.sizeBytes);
    if (list) list.push(block);
    else this.#free.set(block.sizeBytes, [block]);
  }

  /** Where bytes lie in the file; undefined for others. */
  offsetOf(bytes: Uint8Array): number | undefined {
    return bytes.buffer === this.#view.buffer ? bytes.byteOffset - this.#view.byteOffset : undefined;
  }

  /** Views that are still held stay good. */
  close(): void {
    closeDescriptor(this.fd);
  }
}
