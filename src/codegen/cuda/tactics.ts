/** All ways to run a kernel on a GPU; the plain one is last and takes everything. */
import type { Bindings, ConstantLookup, Kernel } from "../../ir/index.ts";
import type { CudaArch, CudaTactic } from "./contract.ts";
import { cudaLoop } from "./loop/index.ts";
import { plainAttention, plainConv, plainMatmul } from "./plain/index.ts";

/** Behind every fast kernel's estimate. */
const LAST = 1e30;

export function cudaTactics(kernel: Kernel, _arch: CudaArch, _constants: ConstantLookup, _bindings: Bindings): CudaTactic[] {
  switch (kernel.kind) {
    case "loop": return [{ name: "loop", estimate: 0, compile: () => cudaLoop(kernel) }];
    case "matmul": return [{ name: "matmul plain", estimate: LAST, compile: () => plainMatmul(kernel) }];
    case "conv": return [{ name: "conv plain", estimate: LAST, compile: () => plainConv(kernel) }];
    case "attention": return [{ name: "attention plain", estimate: LAST, compile: () => plainAttention(kernel) }];
  }
}
