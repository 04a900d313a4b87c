/** All ways to run a kernel on a GPU; the plain one is last and takes everything. */
import { assert } from "../../base/index.ts";
import type { AttentionKernel, Bindings, ConstantLookup, ConvKernel, Kernel } from "../../ir/index.ts";
import { type CudaArch, type CudaTactic, hasFragments } from "./contract.ts";
import { isMultiplied } from "./contraction/elements.ts";
import { attentionTactics, convTactics, matmulTactics } from "./contraction/index.ts";
import { loopTactics } from "./loop/index.ts";
import { plainAttention, plainConv, plainMatmul } from "./plain/index.ts";

/** Behind every fast kernel's estimate. */
const LAST = 1e30;

/** Code for several architectures keeps to what all of them have, which the plain kernels do. */
export function cudaTactics(kernel: Kernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  assert(kernel.kind !== "sequential" && kernel.kind !== "bands", `a kernel of kind ${kernel.kind} planned for a GPU`);
  switch (kernel.kind) {
    case "loop": return loopTactics(kernel);
    case "matmul": return [...(isMultiplied(kernel.a.buffer.dtype) && hasFragments(arch) ? matmulTactics(kernel, arch, constants, bindings) : []), { name: "matmul plain", estimate: LAST, compile: () => plainMatmul(kernel) }];
    case "conv": return [...fastConvolutions(kernel, arch, constants, bindings), { name: "conv plain", estimate: LAST, compile: () => plainConv(kernel) }];
    case "attention": return [...fastAttention(kernel, arch, bindings), { name: "attention plain", estimate: LAST, compile: () => plainAttention(kernel) }];
  }
}

function fastConvolutions(kernel: ConvKernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  return isMultiplied(kernel.input.dtype) && hasFragments(arch) ? convTactics(kernel, arch, constants, bindings) : [];
}

function fastAttention(kernel: AttentionKernel, arch: CudaArch, bindings: Bindings): CudaTactic[] {
  return isMultiplied(kernel.q.buffer.dtype) && hasFragments(arch) ? attentionTactics(kernel, arch, bindings) : [];
}
