/**
 * The GPU as a tuning device: a kernel's launches, one after the other in a graph so that their own cost does not count, between two
 * events.
 */
import { byteLength } from "../base/index.ts";
import { type Bindings, type Buffer, type CompiledKernel, COUNTER_WORDS, type Dim, evaluate, type PackedData, type TensorMap } from "../ir/index.ts";
import type { Gpu, GpuGraph, GpuLaunch, GpuStream, TensorMapValues } from "../native/index.ts";
import { NativeMemory } from "../native/index.ts";
import { spanOf } from "./bound-kernel.ts";
import type { PreparedKernel, TuneDevice } from "./tune.ts";

/** A sample lasts at least this long. */
const SAMPLE_MS = 0.4;
const MAX_REPEATS = 64;
const FIRST_REPEATS = 4;
/** Beyond the end of every buffer, so that what reads whole tiles finds memory. */
const SLACK_BYTES = 256;

export class GpuDevice implements TuneDevice {
  readonly identity: string;
  readonly #gpu: Gpu;
  readonly #constants: DeviceConstants;

  /** @param compiler what made the code: other compilers make other times */
  constructor(gpu: Gpu, compiler: string) {
    const { name, driver, multiprocessors } = gpu.description;
    this.identity = `${name}, ${multiprocessors} multiprocessors, driver ${driver}, ${compiler}`;
    this.#gpu = gpu;
    this.#constants = new DeviceConstants(gpu);
  }

  prepare(kernel: CompiledKernel, bindings: Bindings): PreparedKernel {
    this.#constants.trim(KEPT_CONSTANTS);
    return new PreparedLaunch(this.#gpu, kernel, bindings, this.#constants);
  }

  release(): void {
    this.#constants.trim(0);
  }
}

/** Packed constants kept on the device though no candidate uses them: all tactics of a kernel share one form, and packing is what takes longest. */
const KEPT_CONSTANTS = 8;

class DeviceConstants {
  readonly #gpu: Gpu;
  /** By key, the one that was asked for last at the end. */
  readonly #held = new Map<string, { readonly address: number; users: number }>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Its address, good until it is given back. */
  take(data: PackedData): number {
    const held = this.#held.get(data.key) ?? { address: this.#upload(data), users: 0 };
    held.users++;
    this.#held.delete(data.key);
    this.#held.set(data.key, held);
    return held.address;
  }

  give({ key }: PackedData): void {
    this.#held.get(key)!.users--;
  }

  /** Frees those that nobody uses, all but the `count` that were asked for last. */
  trim(count: number): void {
    const idle = [...this.#held].filter(([, { users }]) => users === 0);
    for (const [key, { address }] of idle.slice(0, Math.max(0, idle.length - count))) {
      this.#gpu.free(address);
      this.#held.delete(key);
    }
  }

  #upload(data: PackedData): number {
    const address = this.#gpu.allocate(data.sizeBytes + SLACK_BYTES);
    this.#gpu.zero(address, data.sizeBytes + SLACK_BYTES);
    using memory = NativeMemory.allocate(data.sizeBytes);
    data.write(memory.view());
    this.#gpu.upload(address, memory.address, data.sizeBytes);
    return address;
  }
}

class PreparedLaunch implements PreparedKernel {
  readonly #gpu: Gpu;
  readonly #stream: GpuStream;
  readonly #owned: number[] = [];
  readonly #taken: PackedData[] = [];
  readonly #launch: GpuLaunch;
  readonly #release: () => void;
  readonly #constants: DeviceConstants;
  #graph: GpuGraph | undefined;
  #repeats = FIRST_REPEATS;

  constructor(gpu: Gpu, kernel: CompiledKernel, bindings: Bindings, constants: DeviceConstants) {
    this.#gpu = gpu;
    this.#constants = constants;
    this.#stream = gpu.createStream();
    const module = gpu.loadModule(kernel.code);
    this.#release = () => module.dispose();
    const { launch } = kernel;
    const slots = this.#slots(kernel, bindings);
    const [x, y, z] = launch!.grid.map((dim) => evaluate(dim, bindings)) as [number, number, number];
    const most = launch!.blocksPerMultiprocessor === undefined ? x : launch!.blocksPerMultiprocessor * gpu.description.multiprocessors;
    this.#launch = {
      kernel: module.kernel(launch!.entry, launch!.sharedBytes), grid: [Math.min(x, most), y, z], block: launch!.block, sharedBytes: launch!.sharedBytes, slots,
      ...(launch!.cluster ? { cluster: launch!.cluster } : {}),
      tensorMaps: launch!.tensorMaps.map((map) => tensorMapValues(map, bindings, slots)),
    };
  }

  time(): number {
    for (;;) {
      const ms = this.#sample();
      if (ms >= SAMPLE_MS || this.#repeats >= MAX_REPEATS) return (ms * 1e6) / this.#repeats;
      this.#repeats = Math.min(MAX_REPEATS, Math.ceil((this.#repeats * SAMPLE_MS * 1.2) / Math.max(ms, 0.001)));
      this.#graph?.dispose();
      this.#graph = undefined;
    }
  }

  dispose(): void {
    this.#graph?.dispose();
    this.#stream.dispose();
    this.#release();
    for (const address of this.#owned.splice(0)) this.#gpu.free(address);
    for (const data of this.#taken.splice(0)) this.#constants.give(data);
  }

  #sample(): number {
    const stream = this.#stream;
    this.#graph ??= stream.graph(Array.from({ length: this.#repeats }, () => this.#launch), Array.from({ length: this.#repeats }, (_, i) => (i === 0 ? [] : [i - 1])));
    const [begin, end] = [stream.event(), stream.event()];
    try {
      begin.record();
      stream.launchGraph(this.#graph);
      end.record();
      stream.synchronize();
      return end.since(begin);
    } finally {
      begin.dispose();
      end.dispose();
    }
  }

  #slots(kernel: CompiledKernel, bindings: Bindings): number[] {
    const buffers = new Map<Buffer, number>();
    return kernel.params.map((param): number => {
      switch (param.kind) {
        case "dim": return evaluate(param.value, bindings);
        case "workspace": return this.#own(kernel.scratchBytes);
        case "counters": return this.#own(4 * COUNTER_WORDS);
        case "packed": return this.#take(kernel.packed[param.index]!);
        case "pointer": {
          const known = buffers.get(param.buffer) ?? this.#own(byteLength(param.buffer.dtype, spanOf(param.buffer, bindings)));
          buffers.set(param.buffer, known);
          return known;
        }
      }
    });
  }

  #take(data: PackedData): number {
    const address = this.#constants.take(data);
    this.#taken.push(data);
    return address;
  }

  /** Zeroed memory: harmless as numbers and as positions. */
  #own(sizeBytes: number): number {
    const address = this.#gpu.allocate(sizeBytes + SLACK_BYTES);
    this.#owned.push(address);
    this.#gpu.zero(address, sizeBytes + SLACK_BYTES);
    return address;
  }
}

function tensorMapValues({ param, dims, strideBytes, offsetBytes = 0, pixels, ...map }: TensorMap, bindings: Bindings, slots: readonly number[]): TensorMapValues {
  const at = (dim: Dim): number => evaluate(dim, bindings);
  const corners = pixels && { pixels: { ...pixels, upper: [at(pixels.upper[0]), at(pixels.upper[1])] as const } };
  return { ...map, ...corners, address: slots[param]! + at(offsetBytes), dims: dims.map(at), strideBytes: strideBytes.map(at) };
}
