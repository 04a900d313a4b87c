/**
 * Attention on Hopper that never stores scores: a block has 64 queries per consumer warpgroup; a producer brings blocks
 * of keys and values through rings of stages. Scores and results stay in registers, with a running maximum and sum per query.
 *
 * Within a warpgroup, the scores of the next keys are multiplied while the last weights meet their values, and the
 * softmax runs under that product. Two warpgroups take turns to issue products, so that one's exponentials hide behind
 * the other's products. Keys that no query of the block sees are not visited.
 * Source: Shah et al., "FlashAttention-3", 2024, algorithms 1 and 2.
 */
import { add, type AttentionKernel, type Bindings, ceilDiv, type Dim, dimEqual, type Epilogue, evaluate, mul, product, type StridedOperand } from "../../../ir/index.ts";
import { type CudaArch, type CudaKernel, type CudaTactic, hasWarpgroups } from "../contract.ts";
import { pairText, PLAIN_FINISH } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { mappedLoad } from "./mapped-load.ts";
import { storeFunctions } from "./output-text.ts";
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

type Half = "float16" | "bfloat16";
/** Elements of one swizzled row of shared memory. */
const PANEL = 64;

interface Shape {
  readonly element: Half;
  /** Panels of a query or key, and of a value. */
  readonly headPanels: 1 | 2;
  readonly valuePanels: 1 | 2;
}

/** Undefined when elements are not 16-bit, rows not contiguous and aligned, or heads larger than 128. */
function shapeOf(kernel: AttentionKernel): Shape | undefined {
  const { q, k, v, output, headSize, valueSize } = kernel;
  const element = q.buffer.dtype;
  if (element !== "float16" && element !== "bfloat16") return undefined;
  if ([k, v, output].some(({ buffer }) => buffer.dtype !== element)) return undefined;
  if (typeof headSize !== "number" || typeof valueSize !== "number" || headSize > 2 * PANEL || valueSize > 2 * PANEL) return undefined;
  const mappable = ({ buffer, strides, offset = 0 }: StridedOperand): boolean => dimEqual(strides[3], 1) && isAligned(buffer, [...strides.slice(0, 3), offset], 2);
  if (![q, k, v].every(mappable) || !dimEqual(output.strides[3], 1)) return undefined;
  return { element, headPanels: headSize > PANEL ? 2 : 1, valuePanels: valueSize > PANEL ? 2 : 1 };
}

export function hopperAttentionTactics(kernel: AttentionKernel, arch: CudaArch, optimum: Bindings): CudaTactic[] {
  const shape = shapeOf(kernel);
  if (!hasWarpgroups(arch) || !shape) return [];
  const candidates = CANDIDATES.filter((p) => p.consumers < 3 || (shape.headPanels + shape.valuePanels === 2 && !kernel.mask));
  return candidates.map((p) => ({
    name: attentionTacticName(p),
    estimate: estimate(kernel, p, arch, optimum),
    compile: () => attentionText(kernel, shape, p),
  }));
}

function attentionTacticName(p: AttentionParameters): string {
  return `wgmma attention ${64 * p.consumers}x${p.keys} stages ${p.stages}`;
}

/** Rounds of blocks over the chip, each as long as its keys; larger blocks share more. */
function estimate(kernel: AttentionKernel, p: AttentionParameters, arch: CudaArch, optimum: Bindings): number {
  const at = (dim: Dim): number => evaluate(dim, optimum);
  const blocks = at(kernel.batch) * at(kernel.heads) * Math.ceil(at(kernel.queries) / (64 * p.consumers));
  const perChip = arch.multiprocessors * (p.consumers === 1 ? 2 : 1);
  const keys = Math.ceil(at(kernel.keys) / p.keys) * (p.keys + 16);
  return Math.ceil(blocks / perChip) * keys * (p.consumers === 1 ? 1.6 : 2) + 200;
}

/** Bytes of shared memory: queries, then stages of keys and values. */
function sizes(shape: Shape, p: AttentionParameters): { readonly q: number; readonly k: number; readonly v: number; readonly total: number } {
  const [q, k, v] = [64 * p.consumers * shape.headPanels * 128, p.keys * shape.headPanels * 128, p.keys * shape.valuePanels * 128];
  return { q, k, v, total: q + p.stages * (k + v) };
}

function attentionText(kernel: AttentionKernel, shape: Shape, p: AttentionParameters): CudaKernel {
  const text = new KernelText(kernel.output.buffer);
  const bytes = sizes(shape, p);
  const threads = 128 * (p.consumers + 1);
  const blocks = p.consumers === 1 && p.keys === 64 && shape.valuePanels === 1 ? 2 : 1;
  const body = bodyText(text, kernel, shape, p);
  const scores = product([kernel.batch, kernel.heads, kernel.queries, kernel.keys]);
  const elements = ({ buffer }: StridedOperand): Dim => product(buffer.dims);
  return {
    name: kernel.name,
    source: `${BASE}${HOPPER}
${warpgroupProduct({ name: "scoreProduct", element: shape.element, columns: p.keys })}
${warpgroupProduct({ name: "valueProduct", element: shape.element, columns: shape.valuePanels * PANEL, aInRegisters: true, bColumnsContiguous: true })}
${storeFunctions(shape.element)}
#define NOTHING __int_as_float(0xff800000) /* minus infinity */
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
    flops: mul(2 * ((kernel.headSize as number) + (kernel.valueSize as number)), scores),
    bytes: mul(2, add(elements(kernel.q), elements(kernel.k), elements(kernel.v), elements(kernel.output))),
    scratchBytes: 0,
    tactic: attentionTacticName(p),
  };
}

function bodyText(text: KernelText, kernel: AttentionKernel, shape: Shape, p: AttentionParameters): string {
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

function producerText(text: KernelText, kernel: AttentionKernel, shape: Shape, p: AttentionParameters): string {
  const kvHead = kernel.headsPerKv === 1 ? "b1" : `b1 / ${kernel.headsPerKv}`;
  const load = (operand: StridedOperand, heads: Dim, head: string, size: Dim, rows: Dim, box: number): ReturnType<typeof mappedLoad> => mappedLoad(text, {
    source: text.pointer(operand.buffer), element: shape.element, inner: size, outer: rows, outerStride: operand.strides[2],
    batch: [kernel.batch, heads], batchStrides: [operand.strides[0], operand.strides[1]], offset: operand.offset ?? 0, box: [PANEL, box],
  }, ["b0", head]);
  const kvHeads = kernel.headsPerKv === 1 ? kernel.heads : ceilDiv(kernel.heads, kernel.headsPerKv);
  const q = load(kernel.q, kernel.heads, "b1", kernel.headSize, kernel.queries, 64 * p.consumers);
  const k = load(kernel.k, kvHeads, kvHead, kernel.headSize, kernel.keys, p.keys);
  const v = load(kernel.v, kvHeads, kvHead, kernel.valueSize, kernel.keys, p.keys);
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

function consumerText(text: KernelText, kernel: AttentionKernel, shape: Shape, p: AttentionParameters): string {
  const sums = (shape.valuePanels * PANEL) / 2;
  const pack = shape.element === "float16" ? "f16x2_of" : "bf16x2_of";
  const turns = p.consumers === 2;
  const { output } = kernel;
  const at = [`b0 * ${text.size64(output.strides[0])}`, `b1 * ${text.size64(output.strides[1])}`, text.size64(output.offset ?? 0)].join(" + ");
  const aligned = isAligned(output.buffer, [...output.strides.slice(0, 3), output.offset ?? 0], 2);
  const next = "stage + 1 == STAGES ? 0 : stage + 1";
  return `${p.consumers > 1 ? `\n    registersGrow<${p.consumers === 2 ? 240 : 160}>();` : ""}
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, row = firstQuery + (warpgroup - 1) * 64 + warp * 16 + lane / 4;
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
    const auto pack = [&] {
      #pragma unroll
      for (int i = 0; i < KEYS / 16; i++) {
        #pragma unroll
        for (int e = 0; e < 4; e++) weights[i][e] = ${pack}(scores[i * 8 + e * 2], scores[i * 8 + e * 2 + 1]);
      }
    };
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
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
      const float inverse = total[half] > 0 ? 1.0f / total[half] : 0.0f;
      #pragma unroll
      for (int i = 0; i < ${sums}; i += 4) { sums[i + half * 2] *= inverse; sums[i + half * 2 + 1] *= inverse; }
    }
    ${PLAIN_FINISH}
    storeFragment<${sums / 4}, ${aligned}, 0>(sums, (u16*)${text.pointer(output.buffer)} + ${at}, ${text.size64(output.strides[2])}, row - lane / 4, 0, queries, ${text.size(kernel.valueSize)}, fetch, finish);`;
}

/**
 * \`softmax(block)\`: scores to weights 2^(score - most), with the new maximum and sum; \`rescale\` is what earlier sums are to be
 * multiplied by. Scores are in units of log2(e) / scale unless a mask is added.
 */
function softmaxText(text: KernelText, kernel: AttentionKernel): string {
  const factor = kernel.scale * Math.LOG2E;
  const causal = kernel.causalOffset !== undefined;
  const scaled = kernel.mask !== undefined || factor <= 0;
  const mask = kernel.mask ? maskText(text, kernel, kernel.mask) : "";
  const add = !scaled ? "" : `#pragma unroll
      for (int i = 0; i < KEYS / 2; i += 2) {
        const float2 m = ${kernel.mask ? "maskAt(min(row + i / 2 % 2 * 8, queries - 1), block * KEYS + i / 4 * 8 + lane % 4 * 2)" : "float2{0, 0}"};
        scores[i] = fmaf(scores[i], ${float(factor)}, m.x * ${float(Math.LOG2E)});
        scores[i + 1] = fmaf(scores[i + 1], ${float(factor)}, m.y * ${float(Math.LOG2E)});
      }`;
  const scale = scaled ? "1.0f" : float(factor);
  return `const auto softmax = [&](int block) {
      ${mask}
      ${add}
      if (block * KEYS + KEYS > ${causal ? "min(keys, firstQuery + (warpgroup - 1) * 64 + warp * 16 + offset + 1)" : "keys"}) {
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
          const int column = block * KEYS + i / 4 * 8 + lane % 4 * 2 + i % 2;
          if (column >= keys${causal ? " || column > row + i / 2 % 2 * 8 + offset" : ""}) scores[i] = NOTHING;
        }
      }
      #pragma unroll
      for (int half = 0; half < 2; half++) {
        float high = most[half];
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i += 4) high = fmaxf(high, fmaxf(scores[i + half * 2], scores[i + half * 2 + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        const float base = high == NOTHING ? 0.0f : high * ${scale};
        rescale[half] = fastExp2(fmaf(most[half], ${scale}, -base));
        most[half] = high;
        float sum = 0;
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i += 4) {
          #pragma unroll
          for (int e = 0; e < 2; e++) {
            scores[i + half * 2 + e] = fastExp2(fmaf(scores[i + half * 2 + e], ${scale}, -base));
            sum += scores[i + half * 2 + e];
          }
        }
        total[half] = fmaf(total[half], rescale[half], sum);
      }
    };`;
}

/** `maskAt(row, column)`: what is added to two neighbouring scores. */
function maskText(text: KernelText, kernel: AttentionKernel, mask: Epilogue): string {
  const pair = pairText(text, mask, { indices: ["b0", "b1", "row"], columns: kernel.keys });
  return `const auto maskAt = [&](int row, int column) -> float2 {
        ${pair.place}
        struct { ${pair.fields.join(" ")} } fetched;
        ${pair.fetch.replaceAll("\n", "\n        ")}
        ${pair.finish.replaceAll("\n", "\n        ")}
      };`;
}

function float(value: number): string {
  const text = String(Math.fround(value));
  return `${/[.e]/.test(text) ? text : `${text}.0`}f`;
}
