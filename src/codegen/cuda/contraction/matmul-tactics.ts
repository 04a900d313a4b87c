/** Candidate ways to run a matrix product on a GPU, best estimate first. */
import { type Bindings, type ConstantLookup, evaluate, type MatmulKernel } from "../../../ir/index.ts";
import { type CudaArch, type CudaTactic, hasWarpgroups } from "../contract.ts";
import { ELEMENTS } from "./elements.ts";
import { KernelText } from "./kernel-text.ts";
import { formOfB, isMappableA, matmulLoads, matmulProblem, packB, withZeroPoint } from "./matmul.ts";
import { ampereKernel, ampereTacticName } from "./matmul-ampere.ts";
import { hopperKernel, hopperTacticName } from "./matmul-hopper.ts";
import { matmulOperands } from "./matmul-operands.ts";
import { ampereCandidates, ampereEstimate, hopperCandidates, hopperEstimate } from "./tile-candidates.ts";

/** Empty when the product is of a kind that is not generated. */
export function matmulTactics(kernel: MatmulKernel, arch: CudaArch, constants: ConstantLookup, optimum: Bindings): CudaTactic[] {
  const packed = packB(kernel, constants);
  const problem = matmulProblem(kernel, packed);
  if (!problem) return [];
  const [element] = problem.operands;
  const form = formOfB(kernel, packed);
  const sizes = {
    batch: kernel.batch.reduce<number>((count, dim) => count * evaluate(dim, optimum), 1),
    rows: evaluate(kernel.m, optimum), columns: evaluate(kernel.n, optimum), depthBytes: evaluate(kernel.k, optimum) * ELEMENTS[element].bytes,
  };
  const tactics: CudaTactic[] = [];
  if (hasWarpgroups(arch) && element !== "float32" && form && isMappableA(kernel)) {
    for (const p of hopperCandidates(arch, sizes)) {
      if (form === "rows" && (p.tile[1] / p.multicast) % 64 !== 0) continue;
      tactics.push({ name: hopperTacticName(p), estimate: hopperEstimate(p, sizes, arch), compile: () => {
        const text = new KernelText(kernel.output);
        return hopperKernel(text, withZeroPoint(text, problem, kernel, packed), matmulLoads(text, kernel, problem, packed, form, p.tile, p.multicast), p, arch);
      } });
    }
  }
  for (const p of ampereCandidates(arch)) {
    if (form === "rows" && p.tile[1] % 64 !== 0) continue;
    tactics.push({ name: ampereTacticName(p), estimate: ampereEstimate(p, sizes, arch), compile: () => {
      const text = new KernelText(kernel.output);
      return ampereKernel(text, withZeroPoint(text, problem, kernel, packed), matmulOperands(text, kernel, element, packed), p);
    } });
  }
  return tactics.sort((a, b) => a.estimate - b.estimate);
}
