/**
 * The kernel IR: what one step of a program computes, before a target turns it into code.
 *
 * A kernel is a loop kernel, a contraction (matmul, convolution, attention), a sequential kernel or a reference step. All sizes are `Dim`s:
 * a kernel is generated once and handles every shape of the profile; static sizes are specialised.
 */
import type { DType } from "../base/index.ts";
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

/**
 * What is subtracted from every element of an integer operand before it is multiplied: a number, or the one element of
 * a buffer that the run fills, or (of constant right sides) the elements of a constant, one per column.
 */
export type ZeroPoint = number | Buffer;

/** The float32 results once more, rounded to bfloat16: laid out as the output is, row-major without gaps. */
export type NarrowCopy = Buffer;

/**
 * C[batch, m, n] = epilogue(sum over k of A[batch, m, k] * B[batch, k, n]), zero points subtracted first.
 *
 * What is multiplied and what sums are kept in are apart: both operands are float32 or both bfloat16, and sums are
 * float32; or both are 8-bit integers of either sign, and sums are int32 (wrapping). The output's type is its own.
 */
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
  readonly copy?: NarrowCopy;
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
  /** Of 8-bit operands; 0 when absent. */
  readonly zero?: ZeroPoint;
  /** Of constant right sides: what the buffer's integers stand for. Strides say nothing then. */
  readonly blocks?: BlockWeights;
}

/**
 * Weights as small integers with a scale per block of the reduction, beside a float32 A:
 * B[k, n] = (q[n, k] - zeros[n, k / size]) * scales[n, k / size].
 */
export interface BlockWeights {
  /** Of signed integers; those of four lie two in a byte, low ones first, each row of k beginning with a byte. */
  readonly bits: 4 | 8;
  /** A multiple of 8. */
  readonly size: number;
  /** float32 [n, blocks]. */
  readonly scales: Buffer;
  /** int8 [n, blocks]; 0 when absent. */
  readonly zeros?: Buffer;
}

/** The type in which a contraction over elements of this type keeps its sums; undefined for types it does not multiply. */
export function accumulatorOf(dtype: DType): "f32" | "i32" | undefined {
  if (dtype === "float32" || dtype === "bfloat16") return "f32";
  return dtype === "int8" || dtype === "uint8" ? "i32" : undefined;
}

/**
 * Convolution over channels-last images: input [batch, ...spatial, channels], output [batch, ...spatial, channels],
 * weights a constant in ONNX's order [outChannels, inChannels / groups, ...kernel]. One or two spatial dims (three run as loops).
 * Types as in a matrix product. Padding stands for elements that are nothing once the zero point is subtracted.
 */
export interface ConvKernel {
  readonly kind: "conv";
  readonly name: string;
  readonly input: Buffer;
  readonly weights: Buffer;
  readonly output: Buffer;
  readonly copy?: NarrowCopy;
  readonly groups: number;
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin pads, one per spatial dim; end pads follow from the output's size. */
  readonly pads: readonly number[];
  /** True when `input` is channels-first (a network's first layer reads the image as it comes). */
  readonly inputChannelsFirst?: boolean;
  /** Of 8-bit inputs, and of 8-bit weights (one per output channel when it is a constant of several elements). */
  readonly inputZero?: ZeroPoint;
  readonly weightsZero?: ZeroPoint;
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
 * One 64-bit slot of a kernel's parameters: an address, or a size. Filled by the runtime when a shape is bound.
 * Slots hold no more than 2^53, so that JavaScript can compute them (device addresses keep to that too).
 */
export type Param =
  | { readonly kind: "pointer"; readonly buffer: Buffer }
  /** Index into `CompiledKernel.packed`: the address of those bytes in the engine's weight section. */
  | { readonly kind: "packed"; readonly index: number }
  | { readonly kind: "dim"; readonly value: Dim }
  /** On a GPU: `scratchBytes` of device memory, 256-byte aligned, its content undefined; the kernels of a run take turns. */
  | { readonly kind: "workspace" }
  /** On a GPU: `COUNTER_WORDS` 32-bit words of device memory that are 0 at the start and that every kernel leaves at 0. */
  | { readonly kind: "counters" };

/** How many words a kernel finds behind a "counters" parameter. */
export const COUNTER_WORDS = 16384;

/** Constant data in the form a kernel wants, made from model constants; equal keys share one copy in the engine. */
export interface PackedData {
  /** Says source and layout, for example "panel32:<constant>"; equal keys mean equal bytes. */
  readonly key: string;
  readonly sizeBytes: number;
  /** Writes all `sizeBytes` bytes into zeroed memory. */
  write(into: Uint8Array): void;
}

/** What is known of a kernel on every target, and what its code must be given. */
export interface KernelDescription {
  readonly name: string;
  readonly params: readonly Param[];
  readonly packed: readonly PackedData[];
  /** Floating-point operations and bytes that must move, for profiles. */
  readonly flops: Dim;
  readonly bytes: Dim;
  /** Working memory: on a processor per thread, on a GPU of the whole kernel. */
  readonly scratchBytes: number;
  /** The candidate's parameters in words, for inspect and the timing cache; e.g. "matmul 12x32 k256". */
  readonly tactic: string;
}

/**
 * A kernel as machine code.
 *
 * On x64, the entry's C type is `void kernel(const int64_t *params, int64_t tileBegin, int64_t tileEnd, void *scratch)`
 * (System V AMD64): it does tiles [tileBegin, tileEnd) of `tiles`, in any order, on any thread. `scratch` is
 * `scratchBytes` of 64-byte aligned memory of the calling thread. Code is position-independent; it may use every
 * vector and mask register, keeps the callee-saved general ones, and ends with vzeroupper. It may set up tiles (AMX),
 * and then ends with tilerelease.
 *
 * On a GPU, `code` is a module (cubin or PTX) and `launch` says how its entry is started; `tiles` counts thread blocks.
 */
export interface CompiledKernel extends KernelDescription {
  readonly code: Uint8Array;
  readonly tiles: Dim;
  readonly launch?: Launch;
  /** On x64: processor features that it uses and that others of the same instruction set may lack. */
  readonly features?: readonly string[];
}

/**
 * How a GPU kernel is started. Its C parameters are the slots of `params` in order, 8 bytes each (a pointer or a
 * `long long`), then one `const __grid_constant__ TensorMap` per element of `tensorMaps`.
 */
export interface Launch {
  /** Name of the kernel in its module. */
  readonly entry: string;
  /** Thread blocks in x, y and z; nothing is launched when one is 0. */
  readonly grid: readonly [Dim, Dim, Dim];
  /** Launch at most this many blocks per multiprocessor (along x): the kernel strides over its work by `gridDim.x`. */
  readonly blocksPerMultiprocessor?: number;
  /** Threads per block. */
  readonly block: number;
  /** Blocks per cluster along x, y and z. */
  readonly cluster?: readonly [number, number, number];
  /** Dynamic shared memory. */
  readonly sharedBytes: number;
  readonly tensorMaps: readonly TensorMap[];
}

/** A description that the tensor copy engine reads tiles by (cuTensorMapEncodeTiled); encoded when a shape is bound. */
export interface TensorMap {
  /** Index into `params` of the pointer or packed data where the tensor begins (16-byte aligned). */
  readonly param: number;
  /** Bytes from there to the tensor's first element, a multiple of 16. */
  readonly offsetBytes?: Dim;
  readonly element: "float32" | "float16" | "bfloat16" | "uint8" | "tf32";
  /** Elements per dimension, innermost first; 1 to 5 dimensions. */
  readonly dims: readonly Dim[];
  /** Bytes from one index to the next, of all dimensions but the innermost; multiples of 16. */
  readonly strideBytes: readonly Dim[];
  /** Elements of the tile per dimension, at most 256 each. */
  readonly box: readonly number[];
  readonly swizzle: "none" | "32B" | "64B" | "128B";
  /** How much of L2's line a fetch promotes to; 128B by default. */
  readonly promotion?: "none" | "64B" | "128B" | "256B";
  /** A tile is pixels under one tap of a convolution (cuTensorMapEncodeIm2col); dims are [channel, column, row, image]. */
  readonly pixels?: PixelTile;
}

/** Pairs are [horizontal, vertical]. */
export interface PixelTile {
  /** Channels and pixels of a tile; `box` holds the strides of the convolution per dimension instead. */
  readonly channels: number;
  readonly count: number;
  /** Where the first tap of the first pixel lies, and how far before the image's end that of the last one may. */
  readonly lower: readonly [number, number];
  readonly upper: readonly [Dim, Dim];
}

/** Gives the elements of a constant buffer, for packing; undefined when the buffer is not a constant. */
export type ConstantLookup = (buffer: Buffer) => Uint8Array | undefined;

/** A candidate way to run a kernel; `compile` is called only for those that are timed or chosen. */
export interface Tactic<Result = CompiledKernel> {
  readonly name: string;
  /** Lower is better; a rough model used at level 0 and to order candidates. */
  readonly estimate: number;
  /** Bytes its packed weights take beyond the one copy that other tactics share; absent when none. */
  readonly extraWeightBytes?: number;
  compile(): Result;
}
