/**
 * Memory for large results. The system hands out fresh memory page by page, each at the price of a fault, on a virtual
 * machine often of one in the host too: together more than the copy of the bytes. So results lie where kernels write them,
 * and memory of results that the garbage collector has dropped is used again.
 */
import { byteLength, elementCount } from "../base/index.ts";
import { NativeMemory } from "../native/index.ts";
import type { AllocateOutput } from "./execution.ts";
import { tensorOver } from "./native-tensors.ts";

/** Smaller results are copied: a view of native memory costs more than that. */
const LEAST_BYTES = 2 ** 20;
/** Most bytes kept for later. */
const MOST_SPARE_BYTES = 256 * 2 ** 20;

export class ResultMemory {
  /** By size. */
  readonly #spare = new Map<number, NativeMemory[]>();
  readonly #dropped = new FinalizationRegistry<NativeMemory>((memory) => this.#keep(memory));
  #spareBytes = 0;
  #disposed = false;

  /** Memory for an output, with whatever it held before; undefined for a small one. */
  readonly allocate: AllocateOutput = (_, type, dims) => {
    const sizeBytes = type === "string" ? 0 : byteLength(type, elementCount(dims));
    if (type === "string" || sizeBytes < LEAST_BYTES) return undefined;
    const memory = this.#take(sizeBytes) ?? NativeMemory.allocate(sizeBytes);
    const tensor = tensorOver(memory, type, dims);
    this.#dropped.register(tensor.bytes.buffer, memory);
    return tensor;
  };

  /** Results stay as they are until they are dropped. */
  dispose(): void {
    this.#disposed = true;
    for (const memory of [...this.#spare.values()].flat()) memory.dispose();
    this.#spare.clear();
    this.#spareBytes = 0;
  }

  #take(sizeBytes: number): NativeMemory | undefined {
    const memory = this.#spare.get(sizeBytes)?.pop();
    if (memory) this.#spareBytes -= sizeBytes;
    return memory;
  }

  #keep(memory: NativeMemory): void {
    const { sizeBytes } = memory;
    if (this.#disposed || sizeBytes > MOST_SPARE_BYTES) {
      memory.dispose();
      return;
    }
    this.#makeRoom(sizeBytes);
    const sameSize = this.#spare.get(sizeBytes);
    if (sameSize) sameSize.push(memory);
    else this.#spare.set(sizeBytes, [memory]);
    this.#spareBytes += sizeBytes;
  }

  /** Gives up what other shapes have left, the oldest first. */
  #makeRoom(sizeBytes: number): void {
    for (const [size, memories] of this.#spare) {
      while (this.#spareBytes + sizeBytes > MOST_SPARE_BYTES && memories.length > 0) {
        memories.shift()!.dispose();
        this.#spareBytes -= size;
      }
      if (memories.length === 0) this.#spare.delete(size);
    }
  }
}
