/** All ways to run a kernel on a GPU; the plain one is last and takes everything. */
import { assert } from "../../base/index.ts";
import type { Bindings, ConstantLookup, Kernel } from "../../ir/index.ts";
import type { CudaArch, CudaTactic } from "./contract.ts";
import { attentionTactics, convTactics, matmulTactics } from "./contraction/index.ts";
import { cudaLoop } from "./loop/index.ts";
import { plainAttention, plainConv, plainMatmul } from "./plain/index.ts";

/** Behind every fast kernel's estimate. */
const LAST = 1e30;

export function cudaTactics(kernel: Kernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  assert(kernel.kind !== "sequential", "a sequential kernel planned for a GPU");
  switch (kernel.kind) {
    case "loop": return [{ name: "loop", estimate: 0, compile: () => cudaLoop(kernel) }];
    case "matmul": return [...matmulTactics(kernel, arch, constants, bindings), { name: "matmul plain", estimate: LAST, compile: () => plainMatmul(kernel) }];
    case "conv": return [...convTactics(kernel, arch, constants, bindings), { name: "conv plain", estimate: LAST, compile: () => plainConv(kernel) }];
    case "attention": return [...attentionTactics(kernel, arch, bindings), { name: "attention plain", estimate: LAST, compile: () => plainAttention(kernel) }];
  }
}
