/** Candidate ways to run attention on a GPU, best estimate first. */
import type { AttentionKernel, Bindings } from "../../../ir/index.ts";
import type { CudaArch, CudaTactic } from "../contract.ts";
import { ampereAttentionTactics } from "./attention-ampere.ts";
import { hopperAttentionTactics } from "./attention-hopper.ts";

/** Empty when elements are not 16-bit, rows not aligned, or heads larger than 128. */
export function attentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  return [...hopperAttentionTactics(kernel, arch, optimum), ...ampereAttentionTactics(kernel, arch, optimum)].sort((a, b) => a.estimate - b.estimate);
}
