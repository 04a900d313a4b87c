/** What the tests of CUDA C++ share: kernels run as host code on memory that ends at an unmapped page, and what ptxas says of them. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { byteLength, newArray, type NumericArray, viewArray } from "../../base/index.ts";
import { type Bindings, type Buffer, COUNTER_WORDS, evaluate } from "../../ir/index.ts";
import { allocateGuarded, type NativeMemory } from "../../native/index.ts";
import { HostLibrary } from "../../native/cuda/testing.ts";
import { spanOf } from "../../tune/index.ts";
import { archName, type CudaArch, type CudaKernel, HOPPER } from "./contract.ts";
import { PRELUDE } from "./prelude.ts";

export const hasNvcc = spawnSync("nvcc", ["--version"]).status === 0;

/** Runs one kernel. @param contents of the buffers it reads. @returns the buffers it has, afterwards */
export function runOnHost(library: HostLibrary, kernel: CudaKernel, name: string, bindings: Bindings, contents: ReadonlyMap<Buffer, NumericArray>, edge: "start" | "end" = "end"): Map<Buffer, NumericArray> {
  const owned: NativeMemory[] = [];
  const own = (sizeBytes: number): NativeMemory => {
    const memory = allocateGuarded(sizeBytes, edge);
    owned.push(memory);
    return memory;
  };
  const buffers = new Map<Buffer, NativeMemory>();
  try {
    const slots = kernel.params.map((param): number => {
      switch (param.kind) {
        case "dim": return evaluate(param.value, bindings);
        case "workspace": return Number(own(kernel.scratchBytes).address);
        case "counters": return Number(own(4 * COUNTER_WORDS).address);
        case "packed": {
          const data = kernel.packed[param.index]!;
          const memory = own(data.sizeBytes);
          data.write(memory.view());
          return Number(memory.address);
        }
        case "pointer": {
          const memory = own(byteLength(param.buffer.dtype, spanOf(param.buffer, bindings)));
          const given = contents.get(param.buffer);
          if (given && given.length > 0) memory.view().set(new Uint8Array(given.buffer, given.byteOffset, given.byteLength).subarray(0, memory.sizeBytes));
          buffers.set(param.buffer, memory);
          return Number(memory.address);
        }
      }
    });
    library.launch(name, slots, kernel.launch.grid.map((dim) => evaluate(dim, bindings)), kernel.launch.block);
    return new Map([...buffers].map(([buffer, memory]) => [buffer, memory.sizeBytes === 0 ? (newArray(buffer.dtype, 0) as NumericArray) : (viewArray(buffer.dtype as "float32", memory.view().slice()) as NumericArray)]));
  } finally {
    for (const memory of owned) memory.dispose();
  }
}

/** All kernels as one library of the host; kernel `i` is called `k<i>`. */
export function hostLibraryOf(kernels: readonly CudaKernel[]): HostLibrary {
  return new HostLibrary([PRELUDE, ...kernels.map(renamed)].join("\n"), kernels.map((_, i) => `k${i}`));
}

/** Each in a namespace, since their helper functions have the same names. */
const renamed = ({ source, launch }: CudaKernel, i: number): string => `namespace n${i} {\n${source.replace(` ${launch.entry}(`, ` k${i}(`)}\n}\nusing n${i}::k${i};`;

/** Registers, spilled bytes and stack of each kernel, by what ptxas reports. */
export function assembled(kernels: readonly CudaKernel[], target: CudaArch = HOPPER): { readonly registers: number; readonly spilled: number; readonly stack: number }[] {
  const folder = mkdtempSync(join(tmpdir(), "sinter-cuda-"));
  try {
    writeFileSync(join(folder, "kernels.cu"), [PRELUDE, ...kernels.map(renamed)].join("\n"));
    const arch = archName(target);
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
