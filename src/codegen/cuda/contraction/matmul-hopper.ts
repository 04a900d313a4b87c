/**
 * Products on Hopper: persistent blocks of one producer warpgroup, which has the tensor copy engine fill a ring of
 * stages in shared memory, and one or two consumer warpgroups, which multiply them with wgmma. Stages change hands
 * through pairs of barriers. Registers move from the producer to the consumers, whose sums take up to 128 each.
 *
 * Tiles are visited in groups of rows, so that the operands of tiles in flight stay in the second-level cache. Blocks of
 * a cluster either share columns (`multicast`: each loads half of B for both) or share one tile (`split`: each
 * reduces a part of the steps, and sums meet through distributed shared memory, without a workspace).
 * Sources: PTX ISA 9.0, 9.7.15; Colfax Research, "CUTLASS tutorial: efficient GEMM kernel designs with pipelining".
 */
import { ceilDiv, min, mul } from "../../../ir/index.ts";
import { outputText, splitBatch } from "./epilogue-text.ts";
import type { CudaArch, CudaKernel } from "../contract.ts";
import { ELEMENTS } from "./elements.ts";
import type { KernelText } from "./kernel-text.ts";
import { type Problem, STEP_BYTES, type StepBytes } from "./problem.ts";
import { isStoredWide, outputForm } from "./output-text.ts";
import { BASE, HOPPER } from "./prelude.ts";
import { warpgroupProduct } from "./products.ts";

export interface HopperParameters {
  /** Rows and columns of a block's tile: 64, 128 or 256 rows, a multiple of 32 columns up to 256. */
  readonly tile: readonly [number, number];
  /** Consumer warpgroups: side by side along the rows, or each with a tile of its own. */
  readonly consumers: 1 | 2;
  /**
   * Consumers take turns: one multiplies while the other finishes its tile. A turn begins when the other one's last stage
   * has come: a barrier tells two phases apart, not three.
   */
  readonly alternate?: boolean;
  readonly stages: number;
  /** Blocks that share columns of B. */
  readonly multicast: 1 | 2;
  /** Blocks that share one tile's reduction. */
  readonly split: 1 | 2 | 4 | 8;
  /** Tiles of rows that are visited before the next column of tiles. */
  readonly group: number;
}

/** How steps of A and B come to shared memory: statements that start the copies. */
export interface HopperLoads {
  /** Statements before a tile's first step. @param first C++ of the tile's first row */
  begin?(first: string): string;
  a(place: LoadPlace): string;
  b(place: LoadPlace): string;
  /** Bytes of the reduction that a step brings; `STEP_BYTES` when absent. */
  readonly stepBytes?: StepBytes;
  /** B lies with its columns contiguous: a step is boxes of 64 columns by 64 rows, one after another. */
  readonly bColumnsContiguous: boolean;
}

/** C++ expressions. */
export interface LoadPlace {
  readonly to: string;
  readonly barrier: string;
  readonly step: string;
  /** First row (of A) or column (of B). */
  readonly first: string;
  /** Blocks that receive the copy, when more than the own one. */
  readonly mask?: string;
}

/** Shared memory a block can have on compute capability 9.0. */
const SHARED_BYTES = 227 * 1024;
const BARRIER_BYTES = 16;

export function hopperTacticName(p: HopperParameters): string {
  return `wgmma ${p.tile[0]}x${p.tile[1]} stages ${p.stages}${p.alternate ? " alternate" : ""}${p.multicast > 1 ? " multicast" : ""}${p.split > 1 ? ` split ${p.split}` : ""}`;
}

/** A tile's sums as floats, rows padded so that a fragment meets no bank twice. */
function partialBytes({ tile }: HopperParameters): number {
  return tile[0] * (tile[1] + 8) * 4;
}

function ringBytes(p: HopperParameters, step: number = STEP_BYTES): number {
  const ring = p.stages * (p.tile[0] + p.tile[1]) * step;
  return p.split > 1 ? Math.max(ring, partialBytes(p)) : ring;
}

function sharedBytes(p: HopperParameters, step?: number): number {
  return ringBytes(p, step) + BARRIER_BYTES * p.stages;
}

export function fitsHopper(p: HopperParameters): boolean {
  return sharedBytes(p) <= SHARED_BYTES;
}

/** Parts of 64 rows that a consumer multiplies. */
function partsOf(p: HopperParameters): number {
  return p.tile[0] / 64 / (p.alternate ? 1 : p.consumers);
}

const sumOf = ({ operands }: Problem): string => ELEMENTS[operands[0]].sum;

/** Sums of more than 64 registers do not fit an even share. */
function movesRegisters(p: HopperParameters): boolean {
  return p.consumers === 2 && (partsOf(p) * p.tile[1]) / 2 > 64;
}

/** The kernel's text and how it is launched; `description` is what it does, whatever the text. */
export function hopperKernel(text: KernelText, problem: Problem, loads: HopperLoads, p: HopperParameters, arch: CudaArch): CudaKernel {
  const cluster = Math.max(p.multicast, p.split);
  const { stepBytes: step = STEP_BYTES } = loads;
  const threads = 128 * (1 + p.consumers);
  const product = warpgroupProduct({ name: "multiply", operands: problem.operands, columns: p.tile[1], bColumnsContiguous: loads.bColumnsContiguous });
  const tiles = mul(...problem.batch, ceilDiv(problem.rows, p.tile[0] * p.multicast), ceilDiv(problem.columns, p.tile[1]));
  const body = kernelBody(text, problem, loads, p);
  const blocks = p.split > 1 ? tiles : min(tiles, Math.floor(arch.multiprocessors / cluster));
  return {
    ...problem.description,
    source: `${BASE}${HOPPER}${product}${outputForm(problem.output.buffer.dtype).store}
constexpr int STAGES = ${p.stages}, A_BYTES = ${p.tile[0] * step}, STAGE_BYTES = ${(p.tile[0] + p.tile[1]) * step}, RING_BYTES = ${ringBytes(p, step)};

extern "C" __global__ void __launch_bounds__(${threads}, 1) ${cluster > 1 ? `__cluster_dims__(${cluster}, 1, 1) ` : ""}product(${text.declarations}) {${body}}
`,
    launch: {
      entry: "product",
      grid: [mul(blocks, cluster), 1, 1],
      block: threads,
      ...(cluster > 1 && { cluster: [cluster, 1, 1] as const }),
      sharedBytes: sharedBytes(p, step),
      tensorMaps: text.tensorMaps,
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: hopperTacticName(p),
  };
}

function kernelBody(text: KernelText, problem: Problem, loads: HopperLoads, p: HopperParameters): string {
  const cluster = Math.max(p.multicast, p.split);
  const sync = cluster > 1 ? "clusterSync();" : "__syncthreads();";
  return `
  extern __shared__ __align__(1024) u8 memory[];
  const u32 ring = sharedAddress(memory), full = ring + RING_BYTES, empty = full + 8 * STAGES;
  const int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const int rank = ${cluster > 1 ? "clusterRank()" : "0"};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      barrierInit(full + 8 * s, 1);
      barrierInit(empty + 8 * s, ${4 * (p.alternate ? 1 : p.consumers) * p.multicast});
    }
    barrierInitDone();
    ${text.tensorMaps.map((_, i) => `mapPrefetch(&map${i});`).join(" ")}
  }
  ${sync}
${tileText(text, problem, p)}
  if (warpgroup == 0) {${producerText(text, problem, loads, p)}
  } else {${consumerText(text, problem, loads, p)}
  }${p.split > 1 ? combineText(text, problem, p) : p.multicast > 1 ? `\n  ${sync}` : ""}
`;
}

/** Sizes, the part of the steps that is this block's, and the way from a tile's index to its place. */
function tileText(text: KernelText, problem: Problem, p: HopperParameters): string {
  const [height, width] = p.tile;
  const cluster = Math.max(p.multicast, p.split);
  const shared = p.multicast > 1;
  return `  const int rows = ${text.size(problem.rows)}, columns = ${text.size(problem.columns)}, steps = ${text.size(problem.steps)};
  const int down = (rows + ${height * p.multicast - 1}) / ${height * p.multicast}, across = (columns + ${width - 1}) / ${width};
  const int tiles = down * across * ${text.size(mul(...problem.batch))};
  const int firstStep = ${p.split > 1 ? `(int)((i64)steps * rank / ${p.split})` : "0"}, lastStep = ${p.split > 1 ? `(int)((i64)steps * (rank + 1) / ${p.split})` : "steps"};
  const int firstTile = blockIdx.x / ${cluster}, tileStep = gridDim.x / ${cluster};
  struct Tile { int batch, row, column; };
  const auto tileAt = [&](int index) -> Tile {
    const int batch = index / (down * across), rest = index % (down * across), group = rest / (${p.group} * across), inside = rest % (${p.group} * across);
    const int height = min(${p.group}, down - group * ${p.group});
    return Tile{batch, ${shared ? "(" : ""}(group * ${p.group} + inside % height)${shared ? ` * ${p.multicast} + rank)` : ""} * ${height}, inside / height * ${width}};
  };`;
}

function producerText(text: KernelText, problem: Problem, loads: HopperLoads, p: HopperParameters): string {
  const half = p.tile[1] / p.multicast;
  const place = { barrier: "barrier", step: "step" };
  const b = p.multicast > 1
    ? loads.b({ ...place, to: `to + A_BYTES + rank * ${half * (loads.stepBytes ?? STEP_BYTES)}`, first: `tile.column + rank * ${half}`, mask: "3" })
    : loads.b({ ...place, to: "to + A_BYTES", first: "tile.column" });
  return `${movesRegisters(p) ? "\n    registersShrink<40>();" : ""}
    if (threadIdx.x == 0) {
      int stage = 0;
      u32 phase = 0;
      for (int index = firstTile; index < tiles; index += tileStep) {
        const Tile tile = tileAt(index);
        ${splitBatch(text, problem.batch, "tile.batch")}
        ${loads.begin?.("tile.row") ?? ""}
        for (int step = firstStep; step < lastStep; step++) {
          const u32 to = ring + stage * STAGE_BYTES, barrier = full + 8 * stage;
          barrierWait(empty + 8 * stage, phase ^ 1);
          barrierExpect(barrier, STAGE_BYTES);
          ${loads.a({ ...place, to: "to", first: "tile.row" })}
          ${b}
          if (++stage == STAGES) { stage = 0; phase ^= 1; }
        }
      }
    }
    __syncwarp();`;
}

function consumerText(text: KernelText, problem: Problem, loads: HopperLoads, p: HopperParameters): string {
  const [, width] = p.tile;
  const parts = partsOf(p);
  const release = (stage: string): string => p.multicast > 1 ? `if (lane < 2) barrierArriveAt(empty + 8 * (${stage}), lane);` : `if (lane == 0) barrierArrive(empty + 8 * (${stage}));`;
  const { stepBytes: step = STEP_BYTES } = loads;
  const along = `16, ${8 * step}${step === STEP_BYTES ? "" : `, ${step}`}`;
  const b = loads.bColumnsContiguous ? "matrixAt(b + 2048 * k, 8192, 1024)" : `matrixAt(b + 32 * k, ${along})`;
  const own = p.alternate ? "" : `(warpgroup - 1) * ${parts * 64} + `;
  const row = (part: string): string => `${own}${part} * 64 + warp * 16`;
  const begin = p.alternate
    ? `for (int index = firstTile + (warpgroup - 1) * tileStep, turn = warpgroup - 1; index < tiles; index += 2 * tileStep, turn += 2) {
      int stage = turn * steps % STAGES;
      u32 phase = turn * steps / STAGES & 1;`
    : `int stage = 0;
    u32 phase = 0;
    for (int index = firstTile; index < tiles; index += tileStep) {`;
  return `${movesRegisters(p) ? "\n    registersGrow<232>();" : ""}
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    ${p.alternate ? "if (warpgroup == 2) namedArriveAt(1, 256);\n    " : ""}${begin}
      ${sumOf(problem)} d[${parts}][${width / 2}] = {};
      ${p.alternate ? "namedSyncAt(warpgroup, 256);" : ""}
      for (int step = firstStep; step < lastStep; step++) {
        const u32 a = ring + stage * STAGE_BYTES${p.alternate ? "" : ` + (warpgroup - 1) * ${parts * 64 * step}`}, b = ring + stage * STAGE_BYTES + A_BYTES;
        barrierWait(full + 8 * stage, phase);
        productFence();
        #pragma unroll
        for (int k = 0; k < ${step / 32}; k++) {
          #pragma unroll
          for (int part = 0; part < ${parts}; part++) multiply(d[part], matrixAt(a + part * ${64 * step} + 32 * k, ${along}), ${b}, 1);
        }
        productCommit();
        productWait<1>();
        if (step > firstStep) { ${release("stage == 0 ? STAGES - 1 : stage - 1")} }
        if (++stage == STAGES) { stage = 0; phase ^= 1; }
      }
      ${p.alternate ? "namedArriveAt(3 - warpgroup, 256);" : ""}
      productWait<0>();
      if (lastStep > firstStep) { ${release("stage == 0 ? STAGES - 1 : stage - 1")} }
      ${p.split > 1 ? partialText(problem, p, row) : storeText(text, problem, p, row)}
    }`;
}

function storeText(text: KernelText, problem: Problem, p: HopperParameters, row: (part: string) => string): string {
  const { output } = problem;
  return `const Tile tile = tileAt(index);
      ${splitBatch(text, problem.batch, "tile.batch")}
      ${outputText(text, problem, p.tile[1] / 8)}
      #pragma unroll
      for (int part = 0; part < ${partsOf(p)}; part++)
        storeFragment<${p.tile[1] / 8}, ${isStoredWide(output)}, 0>(d[part], out, ${text.size64(output.rowStride)}, tile.row + ${row("part")}, tile.column, rows, columns, access);`;
}

/** The block's part of the sums to its own shared memory, once every warpgroup has read the last stage. */
function partialText(problem: Problem, p: HopperParameters, row: (part: string) => string): string {
  const sum = sumOf(problem);
  return `namedSync<1, ${128 * p.consumers}>();
      ${sum}* partial = (${sum}*)memory;
      #pragma unroll
      for (int part = 0; part < ${partsOf(p)}; part++) {
        #pragma unroll
        for (int i = 0; i < ${p.tile[1] / 2}; i += 2)
          *(${sum}2*)(partial + (${row("part")} + lane / 4 + i / 2 % 2 * 8) * ${p.tile[1] + 8} + i / 4 * 8 + lane % 4 * 2) = ${sum}2{d[part][i], d[part][i + 1]};
      }`;
}

/** Every block of the cluster adds up some of the tile's rows. */
function combineText(text: KernelText, problem: Problem, p: HopperParameters): string {
  const [height, width] = p.tile;
  const { output } = problem;
  return `
  clusterSync();
  {
    const Tile tile = tileAt(firstTile);
    ${splitBatch(text, problem.batch, "tile.batch")}
    ${outputText(text, problem, p.tile[1] / 8)}
    for (int i = threadIdx.x; i < ${(height / p.split) * (width / 4)}; i += ${128 * (1 + p.consumers)}) {
      const int row = rank * ${height / p.split} + i / ${width / 4}, column = i % ${width / 4} * 4;
      ${sumOf(problem)}4 sum = {0, 0, 0, 0}, v;
      #pragma unroll
      for (int block = 0; block < ${p.split}; block++) {
        loadCluster(addressAt(ring + (row * ${width + 8} + column) * 4, block), v);
        sum.x += v.x; sum.y += v.y; sum.z += v.z; sum.w += v.w;
      }
      storeFour<${isStoredWide(output)}>(sum, out, ${text.size64(output.rowStride)}, tile.row + row, tile.column + column, rows, columns, access);
    }
  }
  clusterSync();`;
}

