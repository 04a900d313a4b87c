/**
 * The kernel IR: what one step of a program computes, before a target turns it into code.
 *
 * A kernel is a loop kernel, a contraction (matmul, convolution, attention), a sequential kernel or a reference step. All sizes are `Dim`s:
 * a kernel is generated once and handles every shape of the profile; static sizes are specialised.
 */
import type { Dim } from "./dim.ts";
import type { Axis, Buffer, Expr, LoopKernel } from "./loop.ts";
import type { SequentialKernel } from "./sequential.ts";

/**
 * What happens to a contraction's results on their way to memory: `value` is an expression over `accumulator`, the
 * output axes and loads of other buffers. `axes` are the output's dimensions, outer to inner.
 */
export interface Epilogue {
  readonly axes: readonly Axis[];
  readonly value: Expr;
}

/** C[batch, m, n] = epilogue(sum over k of A[batch, m, k] * B[batch, k, n]). */
export interface MatmulKernel {
  readonly kind: "matmul";
  readonly name: string;
  /** Batch dimensions, outer to inner; axes of the output before m and n. */
  readonly batch: readonly Dim[];
  readonly m: Dim;
  readonly n: Dim;
  readonly k: Dim;
  readonly a: MatmulOperand;
  readonly b: MatmulOperand;
  /** Dims: [...batch, m, n] (its `strides` may differ from row-major). */
  readonly output: Buffer;
  readonly epilogue?: Epilogue;
}

/** Strides in elements; a batch stride of 0 broadcasts. */
export interface MatmulOperand {
  readonly buffer: Buffer;
  /** One per batch dimension. */
  readonly batchStrides: readonly Dim[];
  readonly rowStride: Dim; // of A: from m to m+1; of B: from k to k+1
  readonly columnStride: Dim; // of A: from k to k+1; of B: from n to n+1
  /** First element, counted from the buffer's start. */
  readonly offset?: Dim;
}

/**
 * Convolution over channels-last images: input [batch, ...spatial, channels], output [batch, ...spatial, channels],
 * weights a constant in ONNX's order [outChannels, inChannels / groups, ...kernel]. One or two spatial dims (three run as loops).
 */
export interface ConvKernel {
  readonly kind: "conv";
  readonly name: string;
  readonly input: Buffer;
  readonly weights: Buffer;
  readonly output: Buffer;
  readonly groups: number;
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin pads, one per spatial dim; end pads follow from the output's size. */
  readonly pads: readonly number[];
  /** True when `input` is channels-first (a network's first layer reads the image as it comes). */
  readonly inputChannelsFirst?: boolean;
  readonly epilogue?: Epilogue;
}

/**
 * Scaled dot-product attention without a stored score matrix:
 * O[b, h, i, :] = sum_j softmax_j(scale * Q[b, h, i, :] . K[b, h, j, :] + mask(b, h, i, j)) V[b, h, j, :].
 * Strides are those of [batch, head, row, element]; element stride 1 for q, v and output. Grouped heads: head h reads K and V head h / headsPerKv.
 */
export interface AttentionKernel {
  readonly kind: "attention";
  readonly name: string;
  readonly batch: Dim;
  readonly heads: Dim;
  readonly headsPerKv: number;
  readonly queries: Dim;
  readonly keys: Dim;
  /** Size of a query/key row and of a value row. */
  readonly headSize: Dim;
  readonly valueSize: Dim;
  readonly q: StridedOperand;
  readonly k: StridedOperand;
  readonly v: StridedOperand;
  readonly output: StridedOperand;
  readonly scale: number;
  /** Row i sees key j only when j <= i + causalOffset. */
  readonly causalOffset?: Dim;
  /** Added to the scores: f32 over `axes` [b, h, i, j]; absent when there is none. */
  readonly mask?: Epilogue;
}

export interface StridedOperand {
  readonly buffer: Buffer;
  /** Elements between neighbours in [batch, head, row, element]. */
  readonly strides: readonly [Dim, Dim, Dim, Dim];
  readonly offset?: Dim;
}

export type Kernel = LoopKernel | MatmulKernel | ConvKernel | AttentionKernel | SequentialKernel;

/**
 * One 64-bit slot of a kernel's parameter block: an address, or a size. Filled by the runtime when a shape is bound.
 * Slots hold no more than 2^53, so that JavaScript can compute them.
 */
export type Param =
  | { readonly kind: "pointer"; readonly buffer: Buffer }
  /** Index into `CompiledKernel.packed`: the address of those bytes in the engine's weight section. */
  | { readonly kind: "packed"; readonly index: number }
  | { readonly kind: "dim"; readonly value: Dim };

/** Constant data in the form a kernel wants, made from model constants; equal keys share one copy in the engine. */
export interface PackedData {
  /** Says source and layout, for example "panel32:<constant>"; equal keys mean equal bytes. */
  readonly key: string;
  readonly sizeBytes: number;
  /** Writes all `sizeBytes` bytes into zeroed memory. */
  write(into: Uint8Array): void;
}

/**
 * A kernel as machine code.
 *
 * The entry's C type is `void kernel(const int64_t *params, int64_t tileBegin, int64_t tileEnd, void *scratch)`
 * (System V AMD64): it does tiles [tileBegin, tileEnd) of `tiles`, in any order, on any thread. `scratch` is
 * `scratchBytes` of 64-byte aligned memory of the calling thread. Code is position-independent; it may use every
 * vector and mask register, keeps the callee-saved general ones, and ends with vzeroupper.
 */
export interface CompiledKernel {
  readonly name: string;
  readonly code: Uint8Array;
  readonly params: readonly Param[];
  readonly packed: readonly PackedData[];
  readonly tiles: Dim;
  readonly scratchBytes: number;
  /** Floating-point operations and bytes that must move, for profiles. */
  readonly flops: Dim;
  readonly bytes: Dim;
  /** The candidate's parameters in words, for inspect and the timing cache; e.g. "matmul 12x32 k256". */
  readonly tactic: string;
}

/** Gives the elements of a constant buffer, for packing; undefined when the buffer is not a constant. */
export type ConstantLookup = (buffer: Buffer) => Uint8Array | undefined;

/** A candidate way to run a kernel; `compile` is called only for those that are timed or chosen. */
export interface Tactic {
  readonly name: string;
  /** Lower is better; a rough model used at level 0 and to order candidates. */
  readonly estimate: number;
  compile(): CompiledKernel;
}
