/**
 * Attention on Hopper that never stores scores: a block has 64 queries per consumer warpgroup; a producer brings blocks
 * of keys and values through rings of stages. Scores and results stay in registers, with a running maximum and sum per query.
 *
 * Within a warpgroup, the scores of the next keys are multiplied while the last weights meet their values, and the
 * softmax runs under that product. Two warpgroups take turns to issue products, so that one's exponentials hide behind
 * the other's products. Keys that no query of the block sees are not visited.
 * Source: Shah et al., "FlashAttention-3", 2024, algorithms 1 and 2.
 */
import { type AttentionKernel, type Bindings, ceilDiv, type Dim, evaluate, mul, type StridedOperand } from "../../../ir/index.ts";
import { type CudaArch, type CudaKernel, type CudaTactic, hasWarpgroups } from "../contract.ts";
import { type AttentionShape, attentionShape, describeAttention, kvHeads, PANEL } from "./attention-shape.ts";
import { PLAIN_ACCESS } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { mappedLoad } from "./mapped-load.ts";
import { outputForm } from "./output-text.ts";
import { finishText, NOTHING, packText, softmaxText } from "./softmax-text.ts";
import { BASE, HOPPER } from "./prelude.ts";
import { warpgroupProduct } from "./products.ts";
import { isAligned } from "./tensor-map.ts";

export interface AttentionParameters {
  /** Consumer warpgroups, 64 queries each. */
  readonly consumers: 1 | 2 | 3;
  /** Keys in a block. */
  readonly keys: 64 | 128;
  readonly stages: number;
}

const CANDIDATES: readonly AttentionParameters[] = [
  { consumers: 1, keys: 64, stages: 2 },
  { consumers: 1, keys: 128, stages: 2 },
  { consumers: 2, keys: 64, stages: 2 },
  { consumers: 2, keys: 128, stages: 2 },
  { consumers: 3, keys: 64, stages: 4 },
  { consumers: 3, keys: 128, stages: 2 },
];

export function hopperAttentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  const shape = attentionShape(kernel);
  if (!hasWarpgroups(arch) || !shape) return [];
  const candidates = CANDIDATES.filter((p) => p.consumers < 3 || (shape.headPanels + shape.valuePanels === 2 && !kernel.mask));
  return candidates.map((p) => ({
    name: tacticName(p),
    estimate: estimate(kernel, shape, p, arch, optimum),
    compile: () => attentionText(kernel, shape, p),
  }));
}

function tacticName(p: AttentionParameters): string {
  return `wgmma attention ${64 * p.consumers}x${p.keys} stages ${p.stages}`;
}

/** Time of a block by the number of its warpgroups, in that of one alone; two blocks of one share a multiprocessor where they fit. */
const BLOCK_TIME = { 1: 1, 2: 1.12, 3: 1.43 } as const;
const SHARED_TIME = 1.16;

/** Rounds of blocks over the chip, each as long as its keys. */
function estimate(kernel: AttentionKernel, shape: AttentionShape, p: AttentionParameters, arch: CudaArch, optimum: Bindings): number {
  const at = (dim: Dim): number => evaluate(dim, optimum);
  const blocks = at(kernel.batch) * at(kernel.heads) * Math.ceil(at(kernel.queries) / (64 * p.consumers));
  const perMultiprocessor = blocksPerMultiprocessor(shape, p);
  const keys = Math.ceil(at(kernel.keys) / p.keys) * (p.keys + 16);
  return Math.ceil(blocks / arch.multiprocessors / perMultiprocessor) * keys * (perMultiprocessor === 2 ? SHARED_TIME : BLOCK_TIME[p.consumers]) + 250 + 30 * p.consumers;
}

/** By registers. */
function blocksPerMultiprocessor(shape: AttentionShape, p: AttentionParameters): 1 | 2 {
  return p.consumers === 1 && p.keys === 64 && shape.valuePanels === 1 ? 2 : 1;
}

/** Bytes of shared memory: queries, then stages of keys and values. */
function sizes(shape: AttentionShape, p: AttentionParameters): { readonly q: number; readonly k: number; readonly v: number; readonly total: number } {
  const [q, k, v] = [64 * p.consumers * shape.headPanels * 128, p.keys * shape.headPanels * 128, p.keys * shape.valuePanels * 128];
  return { q, k, v, total: q + p.stages * (k + v) };
}

function attentionText(kernel: AttentionKernel, shape: AttentionShape, p: AttentionParameters): CudaKernel {
  const text = new KernelText(kernel.output.buffer);
  const bytes = sizes(shape, p);
  const threads = 128 * (p.consumers + 1);
  const blocks = blocksPerMultiprocessor(shape, p);
  const body = bodyText(text, kernel, shape, p);
  return {
    ...describeAttention(kernel),
    source: `${BASE}${HOPPER}${NOTHING}
${warpgroupProduct({ name: "scoreProduct", operands: [shape.element, shape.element], columns: p.keys })}
${warpgroupProduct({ name: "valueProduct", operands: [shape.element, shape.element], columns: shape.valuePanels * PANEL, aInRegisters: true, bColumnsContiguous: true })}
${outputForm(shape.element).store}
constexpr int KEYS = ${p.keys}, QUERIES = ${64 * p.consumers}, STAGES = ${p.stages}, Q_BYTES = ${bytes.q}, K_BYTES = ${bytes.k}, V_BYTES = ${bytes.v};

template <int COUNT> __device__ __forceinline__ void settle(float (&d)[COUNT]) {
  #pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}

extern "C" __global__ void __launch_bounds__(${threads}, ${blocks}) attention(${text.declarations}) {${body}}
`,
    launch: {
      entry: "attention",
      grid: [mul(ceilDiv(kernel.queries, 64 * p.consumers), kernel.heads, kernel.batch), 1, 1],
      block: threads,
      sharedBytes: bytes.total + 8 * (1 + 4 * p.stages),
      tensorMaps: text.tensorMaps,
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: tacticName(p),
  };
}

function bodyText(text: KernelText, kernel: AttentionKernel, shape: AttentionShape, p: AttentionParameters): string {
  const causal = kernel.causalOffset !== undefined;
  return `
  extern __shared__ __align__(1024) u8 memory[];
  const u32 sharedQ = sharedAddress(memory), sharedK = sharedQ + Q_BYTES, sharedV = sharedK + STAGES * K_BYTES;
  const u32 fullQ = sharedV + STAGES * V_BYTES, fullK = fullQ + 8, emptyK = fullK + 8 * STAGES, fullV = emptyK + 8 * STAGES, emptyV = fullV + 8 * STAGES;
  const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const int queries = ${text.size(kernel.queries)}, keys = ${text.size(kernel.keys)}, heads = ${text.size(kernel.heads)};
  ${causal ? `const int offset = ${text.size(kernel.causalOffset)};` : ""}
  /* Blocks that see most keys come first. */
  const int pairs = heads * ${text.size(kernel.batch)}, b0 = blockIdx.x % pairs / heads, b1 = blockIdx.x % heads;
  const int firstQuery = (gridDim.x / pairs - 1 - blockIdx.x / pairs) * QUERIES;
  const int visible = ${causal ? "max(0, min(keys, min(firstQuery + QUERIES, queries) + offset))" : "keys"}, blocks = (visible + KEYS - 1) / KEYS;
  if (threadIdx.x == 0) {
    barrierInit(fullQ, 1);
    for (int s = 0; s < STAGES; s++) {
      barrierInit(fullK + 8 * s, 1);
      barrierInit(fullV + 8 * s, 1);
      barrierInit(emptyK + 8 * s, ${4 * p.consumers});
      barrierInit(emptyV + 8 * s, ${4 * p.consumers});
    }
    barrierInitDone();
  }
  __syncthreads();
  if (warpgroup == 0) {${producerText(text, kernel, shape, p)}
  } else {${consumerText(text, kernel, shape, p)}
  }
`;
}

function producerText(text: KernelText, kernel: AttentionKernel, shape: AttentionShape, p: AttentionParameters): string {
  const kvHead = kernel.headsPerKv === 1 ? "b1" : `b1 / ${kernel.headsPerKv}`;
  const load = (operand: StridedOperand, heads: Dim, head: string, size: Dim, rows: Dim, box: number): ReturnType<typeof mappedLoad> => mappedLoad(text, {
    source: text.pointer(operand.buffer), element: shape.element, inner: size, outer: rows, outerStride: operand.strides[2],
    batch: [kernel.batch, heads], batchStrides: [operand.strides[0], operand.strides[1]], offset: operand.offset ?? 0, box: [PANEL, box],
  }, ["b0", head]);
  const q = load(kernel.q, kernel.heads, "b1", kernel.headSize, kernel.queries, 64 * p.consumers);
  const k = load(kernel.k, kvHeads(kernel), kvHead, kernel.headSize, kernel.keys, p.keys);
  const v = load(kernel.v, kvHeads(kernel), kvHead, kernel.valueSize, kernel.keys, p.keys);
  const panels = (count: number, one: (panel: number) => string): string => Array.from({ length: count }, (_, i) => one(i)).join("\n        ");
  const ring = (name: string, loads: (to: string, barrier: string) => string): string => `
        barrierWait(empty${name} + 8 * stage, phase ^ 1);
        barrierExpect(full${name} + 8 * stage, ${name}_BYTES);
        ${loads(`shared${name} + stage * ${name}_BYTES`, `full${name} + 8 * stage`)}`;
  return `${p.consumers > 1 ? `\n    registersShrink<${p.consumers === 2 ? 24 : 32}>();` : ""}
    if (threadIdx.x == 0) {
      int stage = 0;
      u32 phase = 0;
      barrierExpect(fullQ, Q_BYTES);
      ${panels(shape.headPanels, (i) => q({ to: `sharedQ + ${i * 64 * p.consumers * 128}`, barrier: "fullQ" }, String(i * PANEL), "firstQuery"))}
      for (int block = 0; block < blocks; block++) {${ring("K", (to, barrier) => panels(shape.headPanels, (i) => k({ to: `${to} + ${i * p.keys * 128}`, barrier }, String(i * PANEL), "block * KEYS")))}${ring("V", (to, barrier) => panels(shape.valuePanels, (i) => v({ to: `${to} + ${i * p.keys * 128}`, barrier }, String(i * PANEL), "block * KEYS")))}
        if (++stage == STAGES) { stage = 0; phase ^= 1; }
      }
    }`;
}

function consumerText(text: KernelText, kernel: AttentionKernel, shape: AttentionShape, p: AttentionParameters): string {
  const sums = (shape.valuePanels * PANEL) / 2;
  const turns = p.consumers === 2;
  const { output } = kernel;
  const at = [`b0 * ${text.size64(output.strides[0])}`, `b1 * ${text.size64(output.strides[1])}`, text.size64(output.offset ?? 0)].join(" + ");
  const aligned = isAligned(output.buffer, [...output.strides.slice(0, 3), output.offset ?? 0], 2);
  const next = "stage + 1 == STAGES ? 0 : stage + 1";
  return `${p.consumers > 1 ? `\n    registersGrow<${p.consumers === 2 ? 240 : 160}>();` : ""}
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, warpRow = firstQuery + (warpgroup - 1) * 64 + warp * 16, row = warpRow + lane / 4;
    float scores[KEYS / 2], sums[${sums}] = {}, most[2] = {NOTHING, NOTHING}, total[2] = {}, rescale[2];
    u32 weights[KEYS / 16][4];
    const auto multiplyScores = [&](int stage) {
      const u32 q = sharedQ + (warpgroup - 1) * 8192, k = sharedK + stage * K_BYTES;
      productFence();
      #pragma unroll
      for (int i = 0; i < ${shape.headPanels * 4}; i++) scoreProduct(scores, matrixAt(q + i / 4 * QUERIES * 128 + i % 4 * 32, 16, 1024), matrixAt(k + i / 4 * KEYS * 128 + i % 4 * 32, 16, 1024), i > 0);
      productCommit();
    };
    const auto multiplyValues = [&](int stage) {
      productFence();
      #pragma unroll
      for (int i = 0; i < KEYS / 16; i++) valueProduct(sums, weights[i], matrixAt(sharedV + stage * V_BYTES + i * 2048, KEYS * 128, 1024), 1);
      productCommit();
    };
    ${softmaxText(text, kernel)}
    ${packText(shape.element)}
    ${turns ? "if (warpgroup == 2) namedArriveAt(1, 256);" : ""}
    if (blocks > 0) {
      int stage = 0;
      u32 phase = 0;
      barrierWait(fullQ, 0);
      barrierWait(fullK, 0);
      ${turns ? "namedSyncAt(warpgroup, 256);" : ""}
      multiplyScores(0);
      ${turns ? "namedArriveAt(3 - warpgroup, 256);" : ""}
      productWait<0>();
      settle(scores);
      if (lane == 0) barrierArrive(emptyK);
      softmax(0);
      pack();
      for (int block = 1; block < blocks; block++) {
        const int nextStage = ${next};
        const u32 nextPhase = nextStage == 0 ? phase ^ 1 : phase;
        barrierWait(fullK + 8 * nextStage, nextPhase);
        ${turns ? "namedSyncAt(warpgroup, 256);" : ""}
        multiplyScores(nextStage);
        barrierWait(fullV + 8 * stage, phase);
        multiplyValues(stage);
        ${turns ? "namedArriveAt(3 - warpgroup, 256);" : ""}
        productWait<1>();
        settle(scores);
        if (lane == 0) barrierArrive(emptyK + 8 * nextStage);
        softmax(block);
        productWait<0>();
        settle(sums);
        if (lane == 0) barrierArrive(emptyV + 8 * stage);
        pack();
        #pragma unroll
        for (int i = 0; i < ${sums}; i++) sums[i] *= rescale[i / 2 % 2];
        stage = nextStage;
        phase = nextPhase;
      }
      barrierWait(fullV + 8 * stage, phase);
      multiplyValues(stage);
      productWait<0>();
      settle(sums);
    }
    ${finishText(sums)}
    ${PLAIN_ACCESS}
    storeFragment<${sums / 4}, ${aligned}, 0>(sums, (u16*)${text.pointer(output.buffer)} + ${at}, ${text.size64(output.strides[2])}, warpRow, 0, queries, ${text.size(kernel.valueSize)}, access);`;
}
