/** Candidate ways to run a matrix product on a GPU, best estimate first. */
import { type Bindings, type ConstantLookup, evaluate, type MatmulKernel } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel, CudaTactic } from "../contract.ts";
import { KernelText } from "./kernel-text.ts";
import { formOfB, isMappableA, matmulLoads, matmulProblem, packB } from "./matmul.ts";
import { ampereKernel, type AmpereParameters, ampereTacticName, fitsAmpere } from "./matmul-ampere.ts";
import { matmulOperands } from "./matmul-operands.ts";
import { fitsHopper, hopperKernel, type HopperParameters, hopperTacticName } from "./matmul-hopper.ts";

const TILES: readonly (readonly [number, number, 1 | 2, number])[] = [
  [128, 256, 2, 4], [256, 128, 2, 4], [128, 192, 2, 5], [128, 128, 2, 4], [128, 128, 2, 6], [64, 256, 1, 5], [64, 128, 1, 6], [64, 64, 1, 8], [128, 64, 2, 8],
];

const WARP_TILES: readonly (readonly [number, number, number, number, number])[] = [[128, 128, 2, 4, 3], [128, 128, 2, 2, 3], [64, 128, 2, 4, 4], [64, 64, 2, 2, 4], [32, 64, 2, 2, 5], [16, 64, 1, 2, 6]];

export function matmulTactics(kernel: MatmulKernel, arch: CudaArch, constants: ConstantLookup, optimum: Bindings): CudaTactic[] {
  const problem = matmulProblem(kernel);
  if (!problem) return [];
  const packed = packB(kernel, problem.element, constants);
  const form = formOfB(kernel, problem.element, packed);
  const tactics: CudaTactic[] = [];
  if (arch.capability === 90 && problem.element !== "float32" && form && isMappableA(kernel, problem.element)) {
    for (const p of hopperCandidates()) {
      const compile = (): CudaKernel => {
        const text = new KernelText(kernel.output);
        return hopperKernel(text, problem, matmulLoads(text, kernel, problem, packed, form, p.tile, p.multicast), p, arch);
      };
      tactics.push({ name: hopperTacticName(p), estimate: evaluate(kernel.m, optimum), compile });
    }
  }
  for (const p of ampereCandidates()) {
    const compile = (): CudaKernel => {
      const text = new KernelText(kernel.output);
      return ampereKernel(text, problem, matmulOperands(text, kernel, problem.element, packed), p);
    };
    if (fitsAmpere(p, arch)) tactics.push({ name: ampereTacticName(p), estimate: 1e12, compile });
  }
  return tactics;
}

function* hopperCandidates(): Generator<HopperParameters> {
  for (const [rows, columns, consumers, stages] of TILES) {
    for (const split of [1, 2, 4, 8] as const) {
      for (const multicast of [1, 2] as const) {
        const p = { tile: [rows, columns], consumers, stages, multicast, split, group: 8 } as const;
        if (split > 1 && (multicast > 1 || columns > 128 || rows > 128)) continue;
        if (fitsHopper(p)) yield p;
      }
    }
  }
  for (const [rows, columns, stages] of [[128, 128, 6], [64, 256, 5], [64, 128, 8], [64, 192, 6]] as const) yield { tile: [rows, columns], consumers: 2, alternate: true, stages, multicast: 1, split: 1, group: 8 };
}

function* ampereCandidates(): Generator<AmpereParameters> {
  for (const [rows, columns, down, across, stages] of WARP_TILES) yield { tile: [rows, columns], warps: [down, across], stages, group: 8 };
}
