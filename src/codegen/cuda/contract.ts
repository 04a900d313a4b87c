/**
 * What the CUDA target's kernel generators give: CUDA C++ and how to launch it.
 *
 * `source` is one translation unit without includes: helper functions if it needs any, and one
 * `extern "C" __global__ void <launch.entry>(...)`. Before it is compiled, `PRELUDE` is put in front, which declares
 * the conversions, the arithmetic of expressions and `TensorMap`; so NVRTC needs no header, and a machine that builds
 * needs no toolkit. Equal sources are compiled once and stored once, so nothing in `source` should name the node it
 * came from. `KernelParams` collects the parameters and writes the C parameter list.
 */
import type { KernelDescription, Launch, Tactic } from "../../ir/index.ts";

export interface CudaKernel extends KernelDescription {
  readonly source: string;
  readonly launch: Launch;
}

export type CudaTactic = Tactic<CudaKernel>;

/** The GPU that code is generated for. */
export interface CudaArch {
  /** Compute capability without the dot, e.g. 90. */
  readonly capability: number;
  /** Whether code may use instructions of that architecture alone (wgmma of "sm_90a"); then it runs on no other. */
  readonly ownInstructions: boolean;
  readonly multiprocessors: number;
  /** Most dynamic shared memory of one block, in bytes. */
  readonly sharedBytesPerBlock: number;
}

/** An H100 or H200 with all its multiprocessors, for generating code where no GPU is. */
export const HOPPER: CudaArch = { capability: 90, ownInstructions: true, multiprocessors: 132, sharedBytesPerBlock: 232_448 };

/** What NVRTC and nvcc call the architecture: the variant with its own instructions where there is one. */
export function archName({ capability, ownInstructions }: CudaArch): string {
  return ownInstructions && capability >= 90 ? `sm_${capability}a` : `sm_${capability}`;
}

/** Whether code may use Hopper's warpgroup products and the copy engine with them. */
export function hasWarpgroups({ capability, ownInstructions }: CudaArch): boolean {
  return capability === 90 && ownInstructions;
}

/** Whether code may use warp-wide products of all types and asynchronous copies. */
export function hasFragments({ capability, ownInstructions }: CudaArch): boolean {
  return capability >= 80 && ownInstructions;
}
