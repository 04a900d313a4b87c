/**
 * Timing on the processor this runs on: the kernel's tiles on one thread, on memory with harmless contents.
 */
import { cpus } from "node:os";
import type { Bindings, CompiledKernel } from "../ir/index.ts";
import { BoundKernel } from "./bound-kernel.ts";
import { ColdWeights } from "./cold-weights.ts";
import type { PreparedKernel, TuneDevice } from "./tune.ts";

/** A sample lasts at least this long, so that the clock's steps do not matter. */
const SAMPLE_NS = 400_000;

export class CpuDevice implements TuneDevice {
  readonly identity: string;
  readonly #threads: number;
  readonly #weights = new ColdWeights();

  constructor(isa: string, threads: number) {
    this.identity = `${isa}, ${cpus()[0]?.model.trim() ?? "unknown processor"}, ${threads} threads, weights from memory`;
    this.#threads = threads;
  }

  prepare(kernel: CompiledKernel, bindings: Bindings): PreparedKernel {
    const bound = new BoundKernel(kernel, bindings, { pack: (data) => this.#weights.take(data) });
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
        for (const data of kernel.packed) this.#weights.release(data);
      },
    };
  }

  release(): void {
    this.#weights.dispose();
  }
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
