/**
 * Timing on the processor this runs on: the kernel's tiles on one thread, on memory with harmless contents.
 *
 * In a model's run all other kernels' weights have passed through the caches since a kernel's own were used last; so
 * its weights lie here in several copies, which are used in turn and are too large together for the caches.
 */
import { cpus } from "node:os";
import type { Bindings, CompiledKernel, PackedData } from "../ir/index.ts";
import { NativeMemory } from "../native/index.ts";
import { BoundKernel, packedBytes, packInto } from "./bound-kernel.ts";
import type { PreparedKernel, TuneDevice } from "./tune.ts";

/** A sample lasts at least this long, so that the clock's steps do not matter. */
const SAMPLE_NS = 400_000;
/** More than a core's share of the caches holds. */
const COLD_BYTES = 48 * 2 ** 20;
/** Smaller weights are not worth many copies: fetching them takes little of a kernel's time. */
const MOST_COPIES = 128;

export class CpuDevice implements TuneDevice {
  readonly identity: string;
  readonly #threads: number;
  /** Packed constants of the kernels prepared now, by key: the tactics of a kernel share them. */
  readonly #packed = new Map<string, { readonly copies: readonly NativeMemory[]; users: number }>();

  constructor(isa: string, threads: number) {
    this.identity = `${isa}, ${cpus()[0]?.model.trim() ?? "unknown processor"}, ${threads} threads`;
    this.#threads = threads;
  }

  prepare(kernel: CompiledKernel, bindings: Bindings): PreparedKernel {
    const bound = new BoundKernel(kernel, bindings, { pack: (data) => this.#pack(data) });
    for (const buffer of bound.buffers) {
      if (buffer.dtype === "float32") fill(bound.memory(buffer)!.view());
    }
    const share = threadShare(bound.tiles, this.#threads);
    let repeats = 1;
    return {
      time: () => {
        for (;;) {
          const ns = elapsed(bound, repeats);
          if (ns >= SAMPLE_NS || repeats >= 1 << 20) return (ns / repeats) * share;
          repeats = Math.min(1 << 20, Math.ceil((repeats * SAMPLE_NS * 1.2) / Math.max(ns, 1000)));
        }
      },
      dispose: () => {
        bound.dispose();
        for (const { key } of kernel.packed) this.#unpack(key);
      },
    };
  }

  #pack(data: PackedData): readonly NativeMemory[] {
    let entry = this.#packed.get(data.key);
    if (!entry) {
      entry = { copies: copiesOf(data), users: 0 };
      this.#packed.set(data.key, entry);
    }
    entry.users++;
    return entry.copies;
  }

  #unpack(key: string): void {
    const entry = this.#packed.get(key)!;
    if (--entry.users > 0) return;
    for (const memory of entry.copies) memory.dispose();
    this.#packed.delete(key);
  }
}

function copiesOf(data: PackedData): NativeMemory[] {
  const first = packInto(NativeMemory.allocate(packedBytes(data)), data);
  const count = Math.min(MOST_COPIES, Math.ceil(COLD_BYTES / packedBytes(data)));
  const others = Array.from({ length: count - 1 }, () => {
    const copy = NativeMemory.allocate(packedBytes(data));
    copy.view().set(first.view());
    return copy;
  });
  return [first, ...others];
}

/** The longest thread's share of the work when tiles are handed out one by one. */
function threadShare(tiles: number, threads: number): number {
  return tiles === 0 ? 1 : Math.ceil(tiles / threads) / tiles;
}

/** Wall or processor time, whichever is less: the first counts moments given to other processes, the second other threads of this one. */
function elapsed(bound: BoundKernel, repeats: number): number {
  const before = process.cpuUsage();
  const begin = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) bound.run();
  const wall = Number(process.hrtime.bigint() - begin);
  const { user, system } = process.cpuUsage(before);
  return Math.min(wall, (user + system) * 1000 || wall);
}

/** Numbers in [-0.5, 0.5): none is so small that it slows the processor down, none grows without bound. */
function fill(bytes: Uint8Array): void {
  const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
  let state = 1;
  for (let i = 0; i < floats.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    floats[i] = state / 2 ** 32;
  }
}
