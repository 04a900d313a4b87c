/**
 * Packed weights as a kernel finds them in a model's run: all other kernels' weights have passed through the caches since
 * its own were used last. So they lie here in several copies, to be used in turn, that are together larger than the
 * caches. The memory is kept for the next kernel's weights: fresh pages would cost more than the copies.
 */
import type { PackedData } from "../ir/index.ts";
import { NativeMemory } from "../native/index.ts";
import { packedBytes } from "./bound-kernel.ts";

/** More than a core's share of the caches holds. */
const BLOCK_BYTES = 48 * 2 ** 20;
/** Smaller weights are not worth many copies: fetching them takes little of a kernel's time. */
const MOST_COPIES = 128;

export class ColdWeights {
  /** What is in use, by key: the tactics of a kernel share it. */
  readonly #used = new Map<string, { readonly memory: NativeMemory; readonly addresses: readonly bigint[]; users: number }>();
  readonly #free: NativeMemory[] = [];

  /** Addresses of the copies; `release` gives them back. */
  take(data: PackedData): readonly bigint[] {
    let entry = this.#used.get(data.key);
    if (!entry) {
      const sizeBytes = packedBytes(data);
      const memory = this.#memory(sizeBytes);
      entry = { memory, addresses: copies(memory, data, sizeBytes), users: 0 };
      this.#used.set(data.key, entry);
    }
    entry.users++;
    return entry.addresses;
  }

  release({ key }: PackedData): void {
    const entry = this.#used.get(key)!;
    if (--entry.users > 0) return;
    this.#used.delete(key);
    if (entry.memory.sizeBytes === BLOCK_BYTES) this.#free.push(entry.memory);
    else entry.memory.dispose();
  }

  dispose(): void {
    for (const memory of this.#free.splice(0)) memory.dispose();
  }

  #memory(sizeBytes: number): NativeMemory {
    if (sizeBytes > BLOCK_BYTES) return NativeMemory.allocate(sizeBytes);
    return this.#free.pop() ?? NativeMemory.allocate(BLOCK_BYTES);
  }
}

function copies(memory: NativeMemory, data: PackedData, sizeBytes: number): bigint[] {
  const count = Math.max(1, Math.min(MOST_COPIES, Math.floor(memory.sizeBytes / sizeBytes)));
  const bytes = memory.view();
  const first = bytes.subarray(0, data.sizeBytes);
  first.fill(0);
  data.write(first);
  for (let copy = 1; copy < count; copy++) bytes.set(first, copy * sizeBytes);
  return Array.from({ length: count }, (_, copy) => memory.address + BigInt(copy * sizeBytes));
}
