/**
 * Runs generated CUDA C++ without a GPU: the host's compiler takes the same text over a shim in which a block's threads
 * are fibers that switch at barriers and shuffles. Memory ends at an unmapped page. What this shows is that the text
 * computes what it should and touches nothing else; not that the GPU's own instructions do.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DTYPE_BITS, newArray, type NumericArray, viewArray } from "../../base/index.ts";
import { type Bindings, type Buffer, evaluate } from "../../ir/index.ts";
import { allocateGuarded, libc, nativeFunction, NativeMemory } from "../../native/index.ts";
import { COUNTER_WORDS } from "../../ir/index.ts";
import { archName, type CudaKernel, HOPPER } from "./contract.ts";
import { PRELUDE } from "./prelude.ts";

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
export const hasNvcc = spawnSync("nvcc", ["--version"]).status === 0;

/** Kernels as one shared library of the host. */
export class HostKernels {
  readonly #kernels: readonly CudaKernel[];
  readonly #library: number;

  constructor(kernels: readonly CudaKernel[]) {
    this.#kernels = kernels;
    const folder = mkdtempSync(join(tmpdir(), "sinter-cuda-"));
    try {
      const parts = kernels.map(({ source, launch }, i) => `namespace k${i} {\n${source}}\nextern "C" void run_${i}(const long long* args, long long x, long long y, long long z) { launch(k${i}::${launch.entry}, args, x, y, z, ${launch.block}); }`);
      writeFileSync(join(folder, "kernels.cpp"), [SHIM, PRELUDE, ...parts.map((part) => part.replace('extern "C" __global__', "static __global__"))].join("\n"));
      execFileSync("g++", ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", join(folder, "kernels.so"), join(folder, "kernels.cpp")], { stdio: ["ignore", "inherit", "inherit"] });
      this.#library = Number(libc("int64_t dlopen(const char *path, int flags)")(join(folder, "kernels.so"), 2));
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Runs kernel `index`. @param contents of the buffers it reads. @returns the buffers it has, afterwards */
  run(index: number, bindings: Bindings, contents: ReadonlyMap<Buffer, NumericArray>, spanOf: (buffer: Buffer) => number, edge: "start" | "end" = "end"): Map<Buffer, NumericArray> {
    const kernel = this.#kernels[index]!;
    const owned: NativeMemory[] = [];
    const own = (sizeBytes: number): NativeMemory => {
      const memory = allocateGuarded(sizeBytes, edge);
      owned.push(memory);
      return memory;
    };
    const buffers = new Map<Buffer, NativeMemory>();
    try {
      const values = kernel.params.map((param): bigint => {
        switch (param.kind) {
          case "dim": return BigInt(evaluate(param.value, bindings));
          case "workspace": return own(kernel.scratchBytes).address;
          case "counters": return own(4 * COUNTER_WORDS).address;
          case "packed": {
            const data = kernel.packed[param.index]!;
            const memory = own(data.sizeBytes);
            data.write(memory.view());
            return memory.address;
          }
          case "pointer": {
            const memory = own(Math.ceil((spanOf(param.buffer) * DTYPE_BITS[param.buffer.dtype]) / 8));
            const given = contents.get(param.buffer);
            if (given && given.length > 0) memory.view().set(new Uint8Array(given.buffer, given.byteOffset, given.byteLength).subarray(0, memory.sizeBytes));
            buffers.set(param.buffer, memory);
            return memory.address;
          }
        }
      });
      const args = own(Math.max(8, 8 * values.length));
      args.view().set(new Uint8Array(BigInt64Array.from(values).buffer));
      const grid = kernel.launch.grid.map((dim) => evaluate(dim, bindings));
      const address = libc("int64_t dlsym(int64_t library, const char *name)")(this.#library, `run_${index}`);
      nativeFunction(BigInt(address), "void run(int64_t args, int64_t x, int64_t y, int64_t z)")(args.address, ...grid);
      return new Map([...buffers].map(([buffer, memory]) => [buffer, memory.sizeBytes === 0 ? (newArray(buffer.dtype, 0) as NumericArray) : (viewArray(buffer.dtype as "float32", memory.view().slice()) as NumericArray)]));
    } finally {
      for (const memory of owned) memory.dispose();
    }
  }
}

/** Registers, spilled bytes and stack of each kernel, by what ptxas reports. */
export function assembled(kernels: readonly CudaKernel[]): { readonly registers: number; readonly spilled: number; readonly stack: number }[] {
  const folder = mkdtempSync(join(tmpdir(), "sinter-cuda-"));
  try {
    const renamed = kernels.map(({ source, launch }, i) => source.replace(` ${launch.entry}(`, ` k${i}(`));
    writeFileSync(join(folder, "kernels.cu"), [PRELUDE, ...renamed].join("\n"));
    const arch = archName(HOPPER);
    const { stderr, status } = spawnSync("nvcc", ["-std=c++17", "-w", `-gencode=arch=${arch.replace("sm", "compute")},code=${arch}`, "-cubin", "-Xptxas", "-v", "-o", join(folder, "kernels.cubin"), join(folder, "kernels.cu")], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return kernels.map((_, i) => {
      const report = new RegExp(`Function properties for k${i}\\n[^]*?Used \\d+ registers`).exec(stderr)?.[0] ?? "";
      const number = (pattern: RegExp): number => Number(pattern.exec(report)?.[1] ?? Number.NaN);
      return { registers: number(/Used (\d+) registers/), spilled: number(/(\d+) bytes spill stores/), stack: number(/(\d+) bytes stack frame/) };
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
