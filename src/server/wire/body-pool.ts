/**
 * Memory for requests on their way in: native, so that kernels read a tensor where the socket's bytes were put, and kept
 * for the next request, since mapping and faulting pages anew costs more than the copy.
 *
 * Sizes are powers of two. What is kept is bounded; above the bound memory goes back to the system at once.
 */
import { assert } from "../../base/index.ts";
import { NativeMemory } from "../../native/index.ts";

const SMALLEST = 4096;
/** Free memory a pool keeps. */
const KEEP_BYTES = 256 * 2 ** 20;

/** One piece of memory; whoever took it gives it back once. */
export class Body {
  readonly capacity: number;
  /** The whole capacity. */
  readonly bytes: Buffer;
  /** How much of it is filled. */
  length = 0;
  readonly memory: NativeMemory;
  taken = true;

  constructor(memory: NativeMemory) {
    this.memory = memory;
    this.capacity = memory.sizeBytes;
    const view = memory.view();
    this.bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  }

  append(chunk: Uint8Array): void {
    this.bytes.set(chunk, this.length);
    this.length += chunk.byteLength;
  }

  filled(): Buffer {
    return this.bytes.subarray(0, this.length);
  }
}

export class BodyPool {
  readonly #free: Body[][] = [];
  #kept = 0;
  #closed = false;

  /** Memory of at least that many bytes, with what earlier requests left in it. */
  take(sizeBytes: number): Body {
    const body = this.#free[sizeClass(sizeBytes)]?.pop();
    if (body === undefined) return new Body(NativeMemory.allocate(SMALLEST * 2 ** sizeClass(sizeBytes)));
    this.#kept -= body.capacity;
    body.taken = true;
    body.length = 0;
    return body;
  }

  give(body: Body): void {
    assert(body.taken, "a request's memory given back twice");
    body.taken = false;
    if (this.#closed || this.#kept + body.capacity > KEEP_BYTES) {
      body.memory.dispose();
      return;
    }
    this.#kept += body.capacity;
    (this.#free[sizeClass(body.capacity)] ??= []).push(body);
  }

  /** A larger piece with the same beginning; the old one is given back. */
  grow(body: Body, sizeBytes: number): Body {
    const larger = this.take(Math.max(sizeBytes, 2 * body.capacity));
    larger.append(body.filled());
    this.give(body);
    return larger;
  }

  /** Gives back what is kept; what is still taken goes when it is given back. */
  close(): void {
    this.#closed = true;
    for (const bodies of this.#free.splice(0)) for (const body of bodies ?? []) body.memory.dispose();
    this.#kept = 0;
  }
}

/** 0 for up to 4096 bytes, 1 for up to 8192, and so on. */
function sizeClass(sizeBytes: number): number {
  return sizeBytes <= SMALLEST ? 0 : 32 - Math.clz32((sizeBytes - 1) >>> 12);
}
