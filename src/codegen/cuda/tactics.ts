/** All ways to run a kernel on a GPU; the plain one is last and takes everything. */
import { assert } from "../../base/index.ts";
import type { AttentionKernel, Bindings, Buffer, ConstantLookup, ConvKernel, Kernel } from "../../ir/index.ts";
import type { CudaArch, CudaTactic } from "./contract.ts";
import { convShape } from "./contraction/conv-shape.ts";
import { depthwiseTactics } from "./contraction/depthwise.ts";
import { attentionTactics, convTactics, matmulTactics } from "./contraction/index.ts";
import { cudaLoop } from "./loop/index.ts";
import { plainAttention, plainConv, plainMatmul } from "./plain/index.ts";

/** Behind every fast kernel's estimate. */
const LAST = 1e30;

/** Code for several architectures keeps to what all of them have, which the plain kernels do. */
export function cudaTactics(kernel: Kernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  assert(kernel.kind !== "sequential", "a sequential kernel planned for a GPU");
  switch (kernel.kind) {
    case "loop": return [{ name: "loop", estimate: 0, compile: () => cudaLoop(kernel) }];
    case "matmul": return [...(isNarrow(kernel.a.buffer) && arch.ownInstructions ? matmulTactics(kernel, arch, constants, bindings) : []), { name: "matmul plain", estimate: LAST, compile: () => plainMatmul(kernel) }];
    case "conv": return [...fastConvolutions(kernel, arch, constants, bindings), { name: "conv plain", estimate: LAST, compile: () => plainConv(kernel) }];
    case "attention": return [...fastAttention(kernel, arch, bindings), { name: "attention plain", estimate: LAST, compile: () => plainAttention(kernel) }];
  }
}

/** The matrix units round float32 to 10 bits of fraction, so products of it stay plain arithmetic; and those of integers, which have zero points. */
const isNarrow = ({ dtype }: Buffer): boolean => dtype === "float16" || dtype === "bfloat16";

function fastConvolutions(kernel: ConvKernel, arch: CudaArch, constants: ConstantLookup, bindings: Bindings): CudaTactic[] {
  if (!arch.ownInstructions) return [];
  if (isNarrow(kernel.input)) return convTactics(kernel, arch, constants, bindings);
  const shape = convShape(kernel);
  return shape ? depthwiseTactics(kernel, shape, arch, constants, bindings) : [];
}

function fastAttention(kernel: AttentionKernel, arch: CudaArch, bindings: Bindings): CudaTactic[] {
  return isNarrow(kernel.q.buffer) && arch.ownInstructions ? attentionTactics(kernel, arch, bindings) : [];
}
