/**
 * A GPU where there is none: the host's compiler takes the same CUDA C++ over a shim in which a block's threads are fibers
 * that switch at barriers and shuffles. `HostLibrary` runs single kernels; `EmulatedGpu` is a whole device, so that
 * building for a GPU, loading and running are tested as they are.
 *
 * What this shows is that the text computes what it should and touches nothing else, and that the runtime launches it
 * rightly; not what the GPU's own instructions do.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SinterError } from "../../base/index.ts";
import { libc } from "../koffi.ts";
import { NativeMemory } from "../memory.ts";
import { SharedLibrary } from "../shared-library.ts";
import type { Gpu, GpuDescription, GpuEvent, GpuGraph, GpuLaunch, GpuModule, GpuStream } from "./gpu.ts";
import { HostRanges } from "./host-ranges.ts";
import type { CudaCompiler } from "./nvrtc.ts";

const memcpy = libc("int64_t memcpy(int64_t to, int64_t from, size_t bytes)");
const memset = libc("int64_t memset(int64_t to, int value, size_t bytes)");

const SHIM = `
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>
#include <ucontext.h>
#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static double rsqrt(double x) { return 1.0 / sqrt(x); }
static float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static float __int_as_float(int x) { float y; memcpy(&y, &x, 4); return y; }
static double __longlong_as_double(long long x) { double y; memcpy(&y, &x, 8); return y; }
static float host_f16(unsigned short bits) { _Float16 h; memcpy(&h, &bits, 2); return h; }
static unsigned short host_f16_bits(float x) { _Float16 h = x; unsigned short bits; memcpy(&bits, &h, 2); return bits; }
static unsigned short host_bf16_bits(float x) { unsigned u; memcpy(&u, &x, 4); return x != x ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16; }

struct Barrier { unsigned waiting, generation; };
struct Fiber { ucontext_t context; std::vector<char> stack; bool done; };
static std::vector<Fiber> fibers(1024);
static ucontext_t scheduler;
static unsigned current, alive;
static Barrier block_barrier, warp_barriers[32];
static unsigned warp_alive[32];
static unsigned long long slots[1024];
static void (*body)(void*);
static void* argument;

static void yield() { swapcontext(&fibers[current].context, &scheduler); }
static void wait(Barrier& barrier, unsigned& members) {
  unsigned mine = barrier.generation;
  barrier.waiting++;
  while (barrier.generation == mine) {
    if (barrier.waiting >= members) { barrier.waiting = 0; barrier.generation++; break; }
    yield();
  }
}
static void __syncthreads() { wait(block_barrier, alive); }
static void __syncwarp(unsigned = 0xffffffffu) { wait(warp_barriers[current / 32], warp_alive[current / 32]); }
template <typename T> static T __shfl_xor_sync(unsigned, T x, int step) {
  T y;
  memcpy(&slots[current], &x, sizeof x);
  __syncwarp();
  memcpy(&y, &slots[current ^ step], sizeof y);
  __syncwarp();
  return y;
}
template <typename T> static T __shfl_sync(unsigned, T x, int lane) {
  T y;
  memcpy(&slots[current], &x, sizeof x);
  __syncwarp();
  memcpy(&y, &slots[current / 32 * 32 + lane], sizeof y);
  __syncwarp();
  return y;
}
static void enter() {
  body(argument);
  fibers[current].done = true;
  alive--;
  warp_alive[current / 32]--;
  yield();
}
static void run_block(unsigned threads) {
  alive = threads;
  for (unsigned i = 0; i < threads; i++) {
    Fiber& fiber = fibers[i];
    fiber.stack.resize(65536);
    fiber.done = false;
    if (i % 32 == 0) warp_alive[i / 32] = threads - i < 32 ? threads - i : 32;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  while (alive > 0) for (current = 0; current < threads; current++) if (!fibers[current].done) {
    threadIdx = {current, 0, 0};
    swapcontext(&scheduler, &fibers[current].context);
  }
}
template <typename... A, size_t... I> static void call(void (*kernel)(A...), const long long* args, std::index_sequence<I...>) { kernel((A)args[I]...); }
template <typename... A> static void launch(void (*kernel)(A...), const long long* args, unsigned x, unsigned y, unsigned z, unsigned threads) {
  auto run = [&] { call(kernel, args, std::index_sequence_for<A...>()); };
  argument = &run;
  body = [](void* p) { (*(decltype(run)*)p)(); };
  gridDim = {x, y, z};
  blockDim = {threads, 1, 1};
  for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++) for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++) for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++) run_block(threads);
}
`;

export const hasHostCompiler = spawnSync("g++", ["--version"]).status === 0;

export class HostLibrary {
  readonly #library: SharedLibrary;

  /** @param source prelude and kernels; @param entries the kernels' names */
  constructor(source: string, entries: readonly string[]) {
    const folder = mkdtempSync(join(tmpdir(), "sinter-cuda-"));
    try {
      const [text, library] = [join(folder, "kernels.cpp"), join(folder, "kernels.so")];
      const launchers = entries.map((entry) => `extern "C" void run_${entry}(const long long* args, long long x, long long y, long long z, long long threads) { launch(${entry}, args, x, y, z, threads); }`);
      writeFileSync(text, [SHIM, source, ...launchers].join("\n"));
      execFileSync("g++", ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", library, text], { stdio: ["ignore", "inherit", "inherit"] });
      this.#library = SharedLibrary.open([library])!;
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  launch(entry: string, slots: readonly number[], [x, y, z]: readonly number[], threads: number): void {
    using args = NativeMemory.allocate(Math.max(8, 8 * slots.length));
    args.view().set(new Uint8Array(BigInt64Array.from(slots, BigInt).buffer));
    this.#library.find(`void run_${entry}(int64_t args, int64_t x, int64_t y, int64_t z, int64_t threads)`)!(args.address, x!, y!, z!, threads);
  }
}

/** "Compiles" to the text itself, which `EmulatedGpu` loads. */
export const hostCompiler: CudaCompiler = { identity: "host", compile: (source) => Buffer.from(source, "utf8") };

export class EmulatedGpu implements Gpu {
  readonly description: GpuDescription;
  isLost = false;
  /** Kernels run so far, and graphs launched. */
  launches = 0;
  graphs = 0;
  /** Makes the next wait end as an illegal access does. */
  faulty = false;
  readonly #memory = new Map<number, NativeMemory>();
  readonly #registered = new HostRanges();
  readonly #libraries = new Map<string, HostLibrary>();
  readonly #kernels: { readonly library: HostLibrary; readonly entry: string }[] = [];

  /** @param capability from 8.0 on, kernels that this can run are those of builds with `compatibility` */
  constructor(capability = 75) {
    this.description = { name: "emulated", capability, multiprocessors: 4, sharedBytesPerBlock: 232_448, memoryBytes: 2 ** 34, driver: "0.0" };
  }

  /** Bytes that are allocated on the device. */
  get allocatedBytes(): number {
    return [...this.#memory.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  allocate(sizeBytes: number): number {
    const memory = NativeMemory.allocate(sizeBytes);
    this.#memory.set(Number(memory.address), memory);
    return Number(memory.address);
  }

  free(address: number): void {
    this.#memory.get(address)!.dispose();
    this.#memory.delete(address);
  }

  allocateHost(sizeBytes: number): NativeMemory {
    return NativeMemory.allocate(Math.max(64, sizeBytes));
  }

  register(address: number, sizeBytes: number): boolean {
    this.#registered.add(address, sizeBytes);
    return true;
  }

  reaches(address: number, sizeBytes: number): boolean {
    return this.#registered.covers(address, sizeBytes);
  }

  upload(to: number, from: number | bigint, sizeBytes: number): void {
    memcpy(to, from, sizeBytes);
  }

  download(to: number | bigint, from: number, sizeBytes: number): void {
    memcpy(to, from, sizeBytes);
  }

  zero(address: number, sizeBytes: number): void {
    memset(address, 0, sizeBytes);
  }

  loadModule(image: Uint8Array): GpuModule {
    const source = Buffer.from(image).toString("utf8");
    return {
      kernel: (entry) => {
        let library = this.#libraries.get(source);
        if (!library) this.#libraries.set(source, (library = new HostLibrary(source, [entry])));
        return { handle: this.#kernels.push({ library, entry }) - 1 };
      },
      dispose: () => undefined,
    };
  }

  createStream(): GpuStream {
    return new EmulatedStream(this);
  }

  memory(): { readonly freeBytes: number; readonly totalBytes: number } {
    return { freeBytes: this.description.memoryBytes - this.allocatedBytes, totalBytes: this.description.memoryBytes };
  }

  run({ kernel, slots, grid, block }: GpuLaunch): void {
    this.launches++;
    const { library, entry } = this.#kernels[kernel.handle]!;
    library.launch(entry, slots, grid, block);
  }
}

/** Runs at once what is put in. */
class EmulatedStream implements GpuStream {
  readonly #gpu: EmulatedGpu;
  readonly #graphs = new Map<number, GpuLaunch[]>();

  constructor(gpu: EmulatedGpu) {
    this.#gpu = gpu;
  }

  launch(launch: GpuLaunch): void {
    this.#gpu.run(launch);
  }

  copyIn(to: number, from: number, sizeBytes: number): void {
    this.#gpu.upload(to, from, sizeBytes);
  }

  copyOut(to: number, from: number, sizeBytes: number): void {
    this.#gpu.download(to, from, sizeBytes);
  }

  /** In the given order, or in another that the waits allow: the last that may go first does. */
  graph(launches: readonly GpuLaunch[], after: readonly (readonly number[])[]): GpuGraph {
    const ordered: GpuLaunch[] = [];
    const done = new Set<number>();
    while (done.size < launches.length) {
      for (let i = launches.length - 1; i >= 0; i--) {
        if (done.has(i) || !after[i]!.every((earlier) => done.has(earlier))) continue;
        done.add(i);
        ordered.push(launches[i]!);
        break;
      }
    }
    const handle = this.#graphs.size;
    this.#graphs.set(handle, ordered);
    return { handle, dispose: () => this.#graphs.set(handle, []) };
  }

  launchGraph({ handle }: GpuGraph): void {
    this.#gpu.graphs++;
    for (const launch of this.#graphs.get(handle)!) this.#gpu.run(launch);
  }

  event(): GpuEvent & { readonly at: number } {
    const event = { at: 0, record: () => { event.at = performance.now(); }, since: (earlier: GpuEvent) => event.at - (earlier as typeof event).at, dispose: () => undefined };
    return event;
  }

  synchronize(): void {
    if (!this.#gpu.faulty) return;
    this.#gpu.faulty = false;
    this.#gpu.isLost = true;
    throw new SinterError("gpu-fault", "GPU: a run ended with CUDA_ERROR_ILLEGAL_ADDRESS (injected).");
  }

  async finished(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.synchronize();
  }

  dispose(): void {
    this.#graphs.clear();
  }
}
