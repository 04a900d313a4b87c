/**
 * Attention with warp-wide products, for compute capability 8.0 and later: a block has 16 queries per warp, held in
 * registers; blocks of keys and values are copied one ahead. Scores never leave the registers.
 * Source: Dao, "FlashAttention-2", 2023.
 */
import { type AttentionKernel, type Bindings, ceilDiv, type Dim, evaluate, mul, type StridedOperand } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel, CudaTactic } from "../contract.ts";
import { type AttentionShape, attentionShape, describeAttention } from "./attention-shape.ts";
import { PLAIN_ACCESS } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { outputForm } from "./output-text.ts";
import { AMPERE, BASE } from "./prelude.ts";
import { warpProduct } from "./products.ts";
import { finishText, NOTHING, packText, softmaxText } from "./softmax-text.ts";
import { isAligned } from "./tensor-map.ts";

interface Parameters {
  /** 16 queries each. */
  readonly warps: number;
  /** Keys in a block. */
  readonly keys: number;
}

const CANDIDATES: readonly Parameters[] = [{ warps: 4, keys: 64 }, { warps: 8, keys: 64 }, { warps: 4, keys: 32 }];

export function ampereAttentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  const shape = attentionShape(kernel);
  if (!shape) return [];
  return CANDIDATES.filter((p) => sharedBytes(shape, p) <= arch.sharedBytesPerBlock).map((p) => ({
    name: tacticName(p),
    estimate: estimate(kernel, p, arch, optimum),
    compile: () => attentionText(kernel, shape, p),
  }));
}

function tacticName({ warps, keys }: Parameters): string {
  return `mma attention ${16 * warps}x${keys}`;
}

function estimate(kernel: AttentionKernel, p: Parameters, arch: CudaArch, optimum: Bindings): number {
  const at = (dim: Dim): number => evaluate(dim, optimum);
  const blocks = at(kernel.batch) * at(kernel.heads) * Math.ceil(at(kernel.queries) / (16 * p.warps));
  const keys = Math.ceil(at(kernel.keys) / p.keys) * (p.keys + 24);
  return Math.ceil(blocks / arch.multiprocessors) * keys * p.warps * 0.22 + 350;
}

function sharedBytes({ headPanels, valuePanels }: AttentionShape, { warps, keys }: Parameters): number {
  return 128 * (16 * warps * headPanels + 2 * keys * (headPanels + valuePanels));
}

function attentionText(kernel: AttentionKernel, shape: AttentionShape, p: Parameters): CudaKernel {
  const text = new KernelText(kernel.output.buffer);
  const body = bodyText(text, kernel, shape, p);
  const queries = 16 * p.warps;
  return {
    ...describeAttention(kernel),
    source: `${BASE}${AMPERE}${NOTHING}${warpProduct([shape.element, shape.element])}${outputForm(shape.element).store}
constexpr int KEYS = ${p.keys}, QUERIES = ${queries}, THREADS = ${32 * p.warps}, K_BYTES = ${p.keys * shape.headPanels * 128}, STAGE_BYTES = ${p.keys * (shape.headPanels + shape.valuePanels) * 128};

extern "C" __global__ void __launch_bounds__(${32 * p.warps}) attention(${text.declarations}) {${body}}
`,
    launch: {
      entry: "attention",
      grid: [mul(ceilDiv(kernel.queries, queries), kernel.heads, kernel.batch), 1, 1],
      block: 32 * p.warps, sharedBytes: sharedBytes(shape, p), tensorMaps: [],
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: tacticName(p),
  };
}

function bodyText(text: KernelText, kernel: AttentionKernel, shape: AttentionShape, p: Parameters): string {
  const causal = kernel.causalOffset !== undefined;
  const [headSteps, valueBlocks] = [Math.ceil(shape.headSize / 16), Math.ceil(shape.valueSize / 32) * 4];
  const kvHead = kernel.headsPerKv === 1 ? "b1" : `b1 / ${kernel.headsPerKv}`;
  const { output } = kernel;
  const at = (operand: StridedOperand, head: string): string => `(const u16*)${text.pointer(operand.buffer)} + b0 * ${text.size64(operand.strides[0])} + (${head}) * ${text.size64(operand.strides[1])} + ${text.size64(operand.offset ?? 0)}`;
  const aligned = isAligned(output.buffer, [...output.strides.slice(0, 3), output.offset ?? 0], 2);
  const copy = (operand: StridedOperand, size: number, panels: number): string => `${text.size64(operand.strides[2])}, ${size}, ${panels}`;
  return `
  extern __shared__ __align__(1024) u8 memory[];
  const u32 sharedQ = sharedAddress(memory), stages = sharedQ + ${16 * p.warps * shape.headPanels * 128};
  const int queries = ${text.size(kernel.queries)}, keys = ${text.size(kernel.keys)}, heads = ${text.size(kernel.heads)}, thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  ${causal ? `const int offset = ${text.size(kernel.causalOffset)};` : ""}
  /* Blocks that see most keys come first. */
  const int pairs = heads * ${text.size(kernel.batch)}, b0 = blockIdx.x % pairs / heads, b1 = blockIdx.x % heads;
  const int firstQuery = (gridDim.x / pairs - 1 - blockIdx.x / pairs) * QUERIES, warpRow = firstQuery + warp * 16, row = warpRow + lane / 4;
  const int visible = ${causal ? "max(0, min(keys, min(firstQuery + QUERIES, queries) + offset))" : "keys"}, blocks = (visible + KEYS - 1) / KEYS;
  const u16* const q = ${at(kernel.q, "b1")};
  const u16* const k = ${at(kernel.k, kvHead)};
  const u16* const v = ${at(kernel.v, kvHead)};
  /* Rows [first, first + count) in panels of 128 bytes, chunks swizzled by the row; zeros beyond the operand. */
  const auto copyRows = [&](u32 to, const u16* from, int first, int limit, int count, i64 stride, int size, int panels) {
    for (int i = thread; i < count * panels * 8; i += THREADS) {
      const int chunk = i % (panels * 8), r = i / (panels * 8), bytes = first + r < limit ? max(0, min(16, (size - chunk * 8) * 2)) : 0;
      copyAsync16(to + (chunk / 8 * count + r) * 128 + ((chunk % 8 ^ (r & 7)) << 4), bytes > 0 ? from + (first + r) * stride + chunk * 8 : from, bytes);
    }
  };
  const auto load = [&](int block) {
    if (block < blocks) {
      const u32 to = stages + block % 2 * STAGE_BYTES;
      copyRows(to, k, block * KEYS, keys, KEYS, ${copy(kernel.k, shape.headSize, shape.headPanels)});
      copyRows(to + K_BYTES, v, block * KEYS, keys, KEYS, ${copy(kernel.v, shape.valueSize, shape.valuePanels)});
    }
    copyCommit();
  };
  const auto chunkAt = [](u32 from, int rows, int r, int chunk) -> u32 { return from + (chunk / 8 * rows + r) * 128 + ((chunk % 8 ^ (r & 7)) << 4); };
  copyRows(sharedQ, q, firstQuery, queries, QUERIES, ${copy(kernel.q, shape.headSize, shape.headPanels)});
  load(0);
  copyWait<0>();
  __syncthreads();
  u32 query[${headSteps}][4], weights[KEYS / 16][4];
  float scores[KEYS / 2], sums[${valueBlocks * 4}] = {}, most[2] = {NOTHING, NOTHING}, total[2] = {}, rescale[2];
  #pragma unroll
  for (int i = 0; i < ${headSteps}; i++) loadMatrix4(query[i], chunkAt(sharedQ, QUERIES, warp * 16 + lane % 16, i * 2 + lane / 16));
    ${softmaxText(text, kernel)}
    ${packText(shape.element)}
  for (int block = 0; block < blocks; block++) {
    load(block + 1);
    copyWait<1>();
    __syncthreads();
    const u32 stageK = stages + block % 2 * STAGE_BYTES, stageV = stageK + K_BYTES;
    #pragma unroll
    for (int i = 0; i < KEYS / 2; i++) scores[i] = 0;
    #pragma unroll
    for (int i = 0; i < ${headSteps}; i++) {
      #pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        u32 key[4];
        loadMatrix4(key, chunkAt(stageK, KEYS, j * 16 + lane / 16 * 8 + lane % 8, i * 2 + lane / 8 % 2));
        multiply(*(float(*)[4])&scores[j * 8], query[i], key[0], key[1]);
        multiply(*(float(*)[4])&scores[j * 8 + 4], query[i], key[2], key[3]);
      }
    }
    softmax(block);
    pack();
    #pragma unroll
    for (int i = 0; i < ${valueBlocks * 4}; i++) sums[i] *= rescale[i / 2 % 2];
    #pragma unroll
    for (int i = 0; i < KEYS / 16; i++) {
      #pragma unroll
      for (int j = 0; j < ${valueBlocks / 2}; j++) {
        u32 value[4];
        loadMatrix4Transposed(value, chunkAt(stageV, KEYS, i * 16 + lane % 16, j * 2 + lane / 16));
        multiply(*(float(*)[4])&sums[j * 8], weights[i], value[0], value[1]);
        multiply(*(float(*)[4])&sums[j * 8 + 4], weights[i], value[2], value[3]);
      }
    }
    __syncthreads();
  }
  copyWait<0>();
    ${finishText(valueBlocks * 4)}
    ${PLAIN_ACCESS}
  storeFragment<${valueBlocks}, ${aligned}, 0>(sums, (u16*)${text.pointer(output.buffer)} + b0 * ${text.size64(output.strides[0])} + b1 * ${text.size64(output.strides[1])} + ${text.size64(output.offset ?? 0)}, ${text.size64(output.strides[2])}, warpRow, 0, queries, ${shape.valueSize}, access);
`;
}
