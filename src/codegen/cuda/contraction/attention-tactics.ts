/** Candidate ways to run attention on a GPU, best estimate first. */
import type { AttentionKernel, Bindings } from "../../../ir/index.ts";
import type { CudaArch, CudaTactic } from "../contract.ts";
import { ampereAttentionTactics } from "./attention-ampere.ts";
import { hopperAttentionTactics } from "./attention-hopper.ts";
import { preciseAttentionTactics } from "./attention-precise.ts";

/** Empty when heads are larger than 128, or 16-bit rows not aligned. */
export function attentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  return [...hopperAttentionTactics(kernel, arch, optimum), ...ampereAttentionTactics(kernel, arch, optimum), ...preciseAttentionTactics(kernel, arch, optimum)].sort((a, b) => a.estimate - b.estimate);
}
