/**
 * Attention of float32 with warp-wide products: each product is three of tf32 parts, so that the result keeps its
 * precision. A block has 16 queries per warp, held in registers; keys and values pass through shared memory, rows padded by
 * four words so that fragments meet no bank twice. Any strides.
 *
 * The second product takes the scores as they lie: a lane holds the weights of keys 2t and 2t + 1 of eight, which are
 * called steps t and t + 4 of the reduction, and values are read in the same order.
 * Sources: PTX ISA 9.0, 9.7.14.5 (fragments of m16n8k8); Ootomo and Yokota, "Recovering single precision accuracy from tensor cores", 2022.
 */
import { type AttentionKernel, type Bindings, ceilDiv, type Dim, evaluate, mul, type StridedOperand } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel, CudaTactic } from "../contract.ts";
import { describeAttention } from "./attention-shape.ts";
import { PLAIN_ACCESS } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { outputForm } from "./output-text.ts";
import { BASE } from "./prelude.ts";
import { SPLIT, warpProduct } from "./products.ts";
import { finishText, NOTHING, softmaxText } from "./softmax-text.ts";

/** Keys that meet a block's queries at a time: long rows leave fewer registers for scores. */
const keysOf = (headSize: number, valueSize: number): number => (Math.max(headSize, valueSize) > 64 ? 16 : 32);
const LARGEST_HEAD = 128;
const PAD = 4;

const roundUp = (size: number): number => Math.ceil(size / 8) * 8;

/** Empty when something is not float32, or heads are larger than 128 or of unknown size. */
export function preciseAttentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  const { q, k, v, output, headSize, valueSize } = kernel;
  if ([q, k, v, output].some(({ buffer }) => buffer.dtype !== "float32") || typeof headSize !== "number" || typeof valueSize !== "number") return [];
  if (headSize > LARGEST_HEAD || valueSize > LARGEST_HEAD || output.strides[3] !== 1) return [];
  return [4, 2].map((warps) => ({
    name: tacticName({ warps, headSize, valueSize }),
    estimate: estimate(kernel, warps, arch, optimum),
    compile: () => preciseAttention(kernel, { warps, headSize, valueSize }),
  }));
}

function tacticName({ warps, headSize, valueSize }: Sizes): string {
  return `mma attention ${16 * warps}x${keysOf(headSize, valueSize)} of float32`;
}

function estimate(kernel: AttentionKernel, warps: number, arch: CudaArch, optimum: Bindings): number {
  const at = (dim: Dim): number => evaluate(dim, optimum);
  const blocks = at(kernel.batch) * at(kernel.heads) * Math.ceil(at(kernel.queries) / (16 * warps));
  return Math.ceil(blocks / arch.multiprocessors) * at(kernel.keys) * (warps + 2) + 350;
}

interface Sizes {
  readonly warps: number;
  readonly headSize: number;
  readonly valueSize: number;
}

function preciseAttention(kernel: AttentionKernel, sizes: Sizes): CudaKernel {
  const text = new KernelText(kernel.output.buffer);
  const body = bodyText(text, kernel, sizes);
  const threads = 32 * sizes.warps;
  const keys = keysOf(sizes.headSize, sizes.valueSize);
  const rowWords = { k: roundUp(sizes.headSize) + PAD, v: roundUp(sizes.valueSize) + PAD };
  return {
    ...describeAttention(kernel),
    source: `${BASE}${NOTHING}${warpProduct(["float32", "float32"])}${outputForm("float32").store}
constexpr int KEYS = ${keys}, QUERIES = ${16 * sizes.warps}, THREADS = ${threads}, HEAD = ${roundUp(sizes.headSize)}, VALUE = ${roundUp(sizes.valueSize)}, K_ROW = ${rowWords.k}, V_ROW = ${rowWords.v};
${SPLIT}/* The product of the low parts is below the precision. */
__device__ __forceinline__ void multiplyPrecisely(float (&d)[4], const u32 (&a)[4], const u32 (&aLow)[4], float b0, float b1) {
  u32 high[2], low[2];
  split(b0, high[0], low[0]);
  split(b1, high[1], low[1]);
  multiply(d, aLow, high[0], high[1]);
  multiply(d, a, low[0], low[1]);
  multiply(d, a, high[0], high[1]);
}

extern "C" __global__ void __launch_bounds__(${threads}) attention(${text.declarations}) {${body}}
`,
    launch: {
      entry: "attention",
      grid: [mul(ceilDiv(kernel.queries, 16 * sizes.warps), kernel.heads, kernel.batch), 1, 1],
      block: threads, sharedBytes: 4 * keys * (rowWords.k + rowWords.v), tensorMaps: [],
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: tacticName(sizes),
  };
}

function bodyText(text: KernelText, kernel: AttentionKernel, { headSize, valueSize }: Sizes): string {
  const causal = kernel.causalOffset !== undefined;
  const kvHead = kernel.headsPerKv === 1 ? "b1" : `b1 / ${kernel.headsPerKv}`;
  const { q, output } = kernel;
  const at = (operand: StridedOperand, head: string): string => `${text.pointer(operand.buffer)} + b0 * ${text.size64(operand.strides[0])} + (${head}) * ${text.size64(operand.strides[1])} + ${text.size64(operand.offset ?? 0)}`;
  const copy = (name: string, operand: StridedOperand, size: number, words: string, rowWords: string): string => `#pragma unroll 4
    for (int i = thread; i < KEYS * ${words}; i += THREADS) {
      const int r = i / ${words}, c = i % ${words}, key = block * KEYS + r;
      ${name}Rows[r * ${rowWords} + c] = key < keys && c < ${size} ? ${name}[key * ${text.size64(operand.strides[2])} + c * ${text.size64(operand.strides[3])}] : 0.0f;
    }`;
  return `
  extern __shared__ __align__(1024) u8 memory[];
  float* const kRows = (float*)memory;
  float* const vRows = kRows + KEYS * K_ROW;
  const int queries = ${text.size(kernel.queries)}, keys = ${text.size(kernel.keys)}, heads = ${text.size(kernel.heads)}, thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  ${causal ? `const int offset = ${text.size(kernel.causalOffset)};` : ""}
  /* Blocks that see most keys come first. */
  const int pairs = heads * ${text.size(kernel.batch)}, b0 = blockIdx.x % pairs / heads, b1 = blockIdx.x % heads;
  const int firstQuery = (gridDim.x / pairs - 1 - blockIdx.x / pairs) * QUERIES, warpRow = firstQuery + warp * 16, row = warpRow + lane / 4;
  const int visible = ${causal ? "max(0, min(keys, min(firstQuery + QUERIES, queries) + offset))" : "keys"}, blocks = (visible + KEYS - 1) / KEYS;
  const float* const q = ${at(q, "b1")};
  const float* const k = ${at(kernel.k, kvHead)};
  const float* const v = ${at(kernel.v, kvHead)};
  float query[HEAD / 8][4], scores[KEYS / 2], sums[VALUE / 2] = {}, most[2] = {NOTHING, NOTHING}, total[2] = {}, rescale[2];
  #pragma unroll
  for (int i = 0; i < HEAD / 8; i++) {
    #pragma unroll
    for (int e = 0; e < 4; e++) {
      const int r = row + e % 2 * 8, c = i * 8 + e / 2 * 4 + lane % 4;
      query[i][e] = r < queries && c < ${headSize} ? q[r * ${text.size64(q.strides[2])} + c * ${text.size64(q.strides[3])}] : 0.0f;
    }
  }
    ${softmaxText(text, kernel)}
  for (int block = 0; block < blocks; block++) {
    __syncthreads();
    ${copy("k", kernel.k, headSize, "HEAD", "K_ROW")}
    ${copy("v", kernel.v, valueSize, "VALUE", "V_ROW")}
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < KEYS / 2; i++) scores[i] = 0;
    #pragma unroll
    for (int i = 0; i < HEAD / 8; i++) {
      u32 a[4], aLow[4];
      #pragma unroll
      for (int e = 0; e < 4; e++) split(query[i][e], a[e], aLow[e]);
      #pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
        const float* const from = kRows + (j * 8 + lane / 4) * K_ROW + i * 8 + lane % 4;
        multiplyPrecisely(*(float(*)[4])&scores[j * 4], a, aLow, from[0], from[4]);
      }
    }
    softmax(block);
    #pragma unroll
    for (int i = 0; i < VALUE / 2; i++) sums[i] *= rescale[i / 2 % 2];
    #pragma unroll
    for (int i = 0; i < KEYS / 8; i++) {
      u32 a[4], aLow[4];
      #pragma unroll
      for (int e = 0; e < 4; e++) split(scores[i * 4 + e % 2 * 2 + e / 2], a[e], aLow[e]);
      #pragma unroll
      for (int j = 0; j < VALUE / 8; j++) {
        const float* const from = vRows + (i * 8 + lane % 4 * 2) * V_ROW + j * 8 + lane / 4;
        multiplyPrecisely(*(float(*)[4])&sums[j * 4], a, aLow, from[0], from[V_ROW]);
      }
    }
  }
    ${finishText(roundUp(valueSize) / 2)}
    ${PLAIN_ACCESS}
  storeFragment<VALUE / 8, false, 0>(sums, ${text.pointer(output.buffer)} + b0 * ${text.size64(output.strides[0])} + b1 * ${text.size64(output.strides[1])} + ${text.size64(output.offset ?? 0)}, ${text.size64(output.strides[2])}, warpRow, 0, queries, ${valueSize}, access);
`;
}
