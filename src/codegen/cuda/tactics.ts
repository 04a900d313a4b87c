/** All ways to run a kernel on a GPU; the plain one is last and takes everything. */
import type { Bindings, Buffer, ConstantLookup, Kernel } from "../../ir/index.ts";
import type { CudaArch, CudaTactic } from "./contract.ts";
import { matmulTactics } from "./contraction/matmul-tactics.ts";
import { cudaLoop } from "./loop/index.ts";
import { plainAttention, plainConv, plainMatmul } from "./plain/index.ts";

/** Behind every fast kernel's estimate. */
const LAST = 1e30;

export function cudaTactics(kernel: Kernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  switch (kernel.kind) {
    case "loop": return [{ name: "loop", estimate: 0, compile: () => cudaLoop(kernel) }];
    case "matmul": return [...(isNarrow(kernel.a.buffer) ? matmulTactics(kernel, arch, constants, bindings) : []), { name: "matmul plain", estimate: LAST, compile: () => plainMatmul(kernel) }];
    case "conv": return [{ name: "conv plain", estimate: LAST, compile: () => plainConv(kernel) }];
    case "attention": return [{ name: "attention plain", estimate: LAST, compile: () => plainAttention(kernel) }];
  }
}

/** The matrix units round float32 to 10 bits of fraction, so products of it stay plain arithmetic. */
const isNarrow = ({ dtype }: Buffer): boolean => dtype !== "float32";
