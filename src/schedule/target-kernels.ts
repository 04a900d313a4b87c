/** What a target has kernels for beyond loops and products of float32; the rest runs as loops or on the reference. */
export interface TargetKernels {
  /** Products of these types. */
  readonly bfloat16: boolean;
  readonly float16: boolean;
  /** Attention over queries, keys and values of the same types. */
  readonly narrowAttention: boolean;
  /** Contractions that write their results twice, as float32 and rounded to bfloat16. */
  readonly narrowCopies: boolean;
  /** Products of 8-bit integers. */
  readonly integers: boolean;
  /** Products of float32 and weights of four or eight bits with a scale per block. */
  readonly blockWeights: boolean;
  /** Algorithms in steps: TopK, NonMaxSuppression and the like. */
  readonly sequential: boolean;
}

/** Of every processor that engines run on. */
export const PROCESSOR_KERNELS: TargetKernels = { bfloat16: false, float16: false, narrowAttention: false, narrowCopies: true, integers: true, blockWeights: true, sequential: true };
