/** What a target has kernels for beyond loops and products of float32; the rest runs as loops or on the reference. */
export interface TargetKernels {
  /** Products of bfloat16. */
  readonly bfloat16: boolean;
  /** Kernels that write their float32 results in bfloat16 as well. */
  readonly narrowCopies: boolean;
  /** Products of 8-bit integers. */
  readonly integers: boolean;
  /** Algorithms in steps: TopK, NonMaxSuppression and the like. */
  readonly sequential: boolean;
}

/** Of every processor that engines run on. */
export const PROCESSOR_KERNELS: TargetKernels = { bfloat16: false, narrowCopies: true, integers: true, sequential: true };
