/**
 * A GPU as tuner and runtime use it. The driver is one implementation (`cuda-gpu.ts`); tests have one that runs kernels
 * as host code, so that all logic above it is tested where no GPU is.
 *
 * Addresses and handles are numbers (below 2^53). Whoever makes something disposes it. After a fault (`isLost`) every
 * handle is dead and disposing does nothing.
 */
import type { NativeMemory } from "../memory.ts";

export interface GpuDescription {
  readonly name: string;
  /** Compute capability without the dot, e.g. 90. */
  readonly capability: number;
  readonly multiprocessors: number;
  /** Most dynamic shared memory of one block. */
  readonly sharedBytesPerBlock: number;
  readonly memoryBytes: number;
  /** CUDA version of the driver, e.g. "13.0". */
  readonly driver: string;
}

export interface GpuModule {
  /** A kernel by name, allowed to use that much dynamic shared memory. */
  kernel(entry: string, sharedBytes: number): GpuKernel;
  dispose(): void;
}

/** A kernel of a loaded module. */
export interface GpuKernel {
  readonly handle: number;
}

export interface TensorMapValues {
  readonly element: "float32" | "float16" | "bfloat16" | "uint8" | "tf32";
  readonly address: number;
  readonly dims: readonly number[];
  readonly strideBytes: readonly number[];
  readonly box: readonly number[];
  readonly swizzle: "none" | "32B" | "64B" | "128B";
  readonly promotion?: "none" | "64B" | "128B" | "256B";
  /** Set for tiles of pixels (cuTensorMapEncodeIm2col); `box` then holds steps from pixel to pixel. */
  readonly pixels?: { readonly channels: number; readonly count: number; readonly lower: readonly [number, number]; readonly upper: readonly [number, number] };
}

export interface GpuLaunch {
  readonly kernel: GpuKernel;
  readonly grid: readonly [number, number, number];
  readonly block: number;
  readonly cluster?: readonly [number, number, number];
  readonly sharedBytes: number;
  /** The kernel's 8-byte parameters. */
  readonly slots: readonly number[];
  readonly tensorMaps: readonly TensorMapValues[];
}

/** Kernel launches that are launched as one. */
export interface GpuGraph {
  readonly handle: number;
  dispose(): void;
}

/** A moment in a stream. */
export interface GpuEvent {
  record(): void;
  /** Milliseconds from that moment to this one; both have passed. */
  since(earlier: GpuEvent): number;
  dispose(): void;
}

/** Work in order. */
export interface GpuStream {
  launch(launch: GpuLaunch): void;
  copyIn(to: number, from: number, sizeBytes: number): void;
  copyOut(to: number, from: number, sizeBytes: number): void;
  /** Launches as a graph, in which each waits for those of `after` (indices of earlier ones) and for no other. Nothing runs yet. */
  graph(launches: readonly GpuLaunch[], after: readonly (readonly number[])[]): GpuGraph;
  launchGraph(graph: GpuGraph): void;
  event(): GpuEvent;
  /** Waits on the calling thread. @throws SinterError "gpu-fault" */
  synchronize(): void;
  /** Settles on this thread's event loop when all that was put in so far has ended. One at a time. */
  finished(): Promise<void>;
  dispose(): void;
}

export interface Gpu {
  readonly description: GpuDescription;
  /** A fault has ended its context. */
  readonly isLost: boolean;
  /** Device memory, its content undefined. @throws SinterError "limit-exceeded" */
  allocate(sizeBytes: number): number;
  free(address: number): void;
  /** Host memory that copies reach directly. */
  allocateHost(sizeBytes: number): HostMemory;
  /**
   * Lets copies reach memory of the caller's directly, page-aligned, which overlaps no other such memory and stays mapped from now on.
   * @returns whether the system allows it
   */
  register(address: number, sizeBytes: number): boolean;
  /** Whether copies reach all of these bytes directly, as memory that was registered. */
  reaches(address: number, sizeBytes: number): boolean;
  /** Copies and waits. */
  upload(to: number, from: number | bigint, sizeBytes: number): void;
  download(to: number | bigint, from: number, sizeBytes: number): void;
  zero(address: number, sizeBytes: number): void;
  /** @throws UnsupportedError "engine-incompatible" when this GPU cannot run it */
  loadModule(image: Uint8Array): GpuModule;
  createStream(): GpuStream;
  memory(): { readonly freeBytes: number; readonly totalBytes: number };
}

export type HostMemory = Pick<NativeMemory, "address" | "sizeBytes" | "view" | "dispose">;
