/**
 * Products with warp-wide instructions: mma on fragments from shared memory, which asynchronous copies fill several
 * stages ahead. Runs on compute capability 8.0 and later, for operands of any strides and alignment, and is therefore
 * also what is left on Hopper where the tensor copy engine cannot read an operand.
 *
 * A stage holds rows of 128 bytes, their 16-byte chunks swizzled by the row, so that fragments (eight rows of one chunk)
 * and copies meet no bank twice. Where chunks of a row do not lie together or aligned in memory, they are gathered
 * element by element. float32 is multiplied in three tf32 products of high and low parts, which keeps its precision.
 * Sources: PTX ISA 9.0, 9.7.14.5; Ootomo and Yokota, "Recovering single precision accuracy from tensor cores", 2022.
 */
import { ceilDiv, mul } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel } from "../contract.ts";
import { ELEMENTS } from "./elements.ts";
import { outputText, splitBatch } from "./epilogue-text.ts";
import type { KernelText } from "./kernel-text.ts";
import { isStoredWide, outputForm } from "./output-text.ts";
import { AMPERE, BASE } from "./prelude.ts";
import { type Problem, STEP_BYTES } from "./problem.ts";
import { SPLIT, warpProduct } from "./products.ts";

export interface AmpereParameters {
  /** Rows and columns of a block's tile. */
  readonly tile: readonly [number, number];
  /** Warps along rows and columns; a warp's part is a multiple of 16 rows and 32 columns. */
  readonly warps: readonly [number, number];
  readonly stages: number;
  readonly group: number;
}

/** One operand: rows of the tile (columns of B) by the reduction. C++ expressions. */
export interface GatheredOperand {
  /** Pointer to elements of the operand's C++ type. */
  readonly pointer: string;
  /** Chunks of 16 bytes along the reduction lie together and aligned. */
  readonly wide: boolean;
  /** Else words of 4 bytes do. */
  readonly words?: boolean;
  /** Neighbouring rows lie together, so that neighbouring threads should take them (when not wide). */
  readonly rowsTouch?: boolean;
  /** Statements that make what `at` needs of row `row` of the tile, in slot `i` of `count`. */
  declare(count: number): string;
  prepare(i: string, row: string): string;
  /** Element `k` of the reduction, of the row in slot `i`; after the statements `before`. */
  at(i: string, k: string): { readonly before?: string; readonly inside: string; readonly offset: string };
}

/** B with its columns contiguous and chunks of eight columns aligned; 16-bit elements. */
export interface ColumnsOperand {
  readonly pointer: string;
  offset(k: string, column: string): string;
}

export interface AmpereOperands {
  readonly a: GatheredOperand;
  readonly b: GatheredOperand | ColumnsOperand;
  /** Length of the reduction in elements. */
  readonly depth: string;
  /** Every chunk of eight or fewer elements lies within the reduction as a whole. */
  readonly wholeChunks: boolean;
}

export function ampereTacticName(p: AmpereParameters): string {
  return `mma ${p.tile[0]}x${p.tile[1]} warps ${p.warps[0]}x${p.warps[1]} stages ${p.stages}`;
}

function sharedBytes(p: AmpereParameters): number {
  return p.stages * (p.tile[0] + p.tile[1]) * STEP_BYTES;
}

export function fitsAmpere(p: AmpereParameters, arch: CudaArch): boolean {
  return sharedBytes(p) <= arch.sharedBytesPerBlock;
}

export function ampereKernel(text: KernelText, problem: Problem, operands: AmpereOperands, p: AmpereParameters): CudaKernel {
  const threads = 32 * p.warps[0] * p.warps[1];
  const body = kernelBody(text, problem, operands, p);
  const registers = (p.tile[0] * p.tile[1]) / threads;
  const blocks = registers >= 64 ? 1 : 2;
  return {
    ...problem.description,
    source: `${BASE}${AMPERE}${isPrecise(problem) ? SPLIT : ""}${warpProduct(problem.operands)}${outputForm(problem.output.buffer.dtype).store}
constexpr int STAGES = ${p.stages}, A_BYTES = ${p.tile[0] * STEP_BYTES}, STAGE_BYTES = ${(p.tile[0] + p.tile[1]) * STEP_BYTES}, THREADS = ${threads};

extern "C" __global__ void __launch_bounds__(${threads}, ${blocks}) product(${text.declarations}) {${body}}
`,
    launch: {
      entry: "product",
      grid: [mul(...problem.batch, ceilDiv(problem.rows, p.tile[0]), ceilDiv(problem.columns, p.tile[1])), 1, 1],
      block: threads,
      sharedBytes: sharedBytes(p),
      tensorMaps: [],
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: ampereTacticName(p),
  };
}

function kernelBody(text: KernelText, problem: Problem, operands: AmpereOperands, p: AmpereParameters): string {
  const [height, width] = p.tile;
  const parts = { rows: height / p.warps[0] / 16, columns: width / p.warps[1] / 8 };
  const { output } = problem;
  const { sum } = ELEMENTS[problem.operands[0]];
  return `
  extern __shared__ __align__(1024) u8 memory[];
  const u32 ring = sharedAddress(memory);
  const int rows = ${text.size(problem.rows)}, columns = ${text.size(problem.columns)}, steps = ${text.size(problem.steps)}, depth = ${operands.depth};
  const int down = (rows + ${height - 1}) / ${height}, across = (columns + ${width - 1}) / ${width};
  const int batch = blockIdx.x / (down * across), rest = blockIdx.x % (down * across), inside = rest % (${p.group} * across), group = rest / (${p.group} * across);
  const int groupHeight = min(${p.group}, down - group * ${p.group});
  const int firstRow = (group * ${p.group} + inside % groupHeight) * ${height}, firstColumn = inside / groupHeight * ${width};
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  ${splitBatch(text, problem.batch, "batch")}
  ${gatherText("a", operands.a, problem, p.tile[0], p, operands)}
  ${"declare" in operands.b ? gatherText("b", operands.b, problem, p.tile[1], p, operands) : columnsText(operands.b, p)}
  const auto load = [&](int step) {
    const u32 to = ring + step % STAGES * STAGE_BYTES;
    if (step < steps) { aLoad(to, step); bLoad(to + A_BYTES, step); }
    copyCommit();
  };
  ${sum} d[${parts.rows}][${parts.columns * 4}] = {};
  #pragma unroll
  for (int s = 0; s < STAGES - 1; s++) load(s);
  const int warpRow = warp / ${p.warps[1]} * ${parts.rows * 16}, warpColumn = warp % ${p.warps[1]} * ${parts.columns * 8};
  const auto chunkAt = [](u32 from, int row, int chunk) -> u32 { return from + row * ${STEP_BYTES} + ((chunk ^ (row & 7)) << 4); };
${isShort(problem, operands) ? "  #pragma unroll\n" : ""}  for (int step = 0; step < steps; step++) {
    copyWait<STAGES - 2>();
    __syncthreads();
    load(step + STAGES - 1);
    const u32 a = ring + step % STAGES * STAGE_BYTES, b = a + A_BYTES;
    #pragma unroll
    for (int k = 0; k < 4; k++) {
      u32 fa[${parts.rows}][4], fb[${parts.columns / 2}][4];
      #pragma unroll
      for (int i = 0; i < ${parts.rows}; i++) loadMatrix4(fa[i], chunkAt(a, warpRow + i * 16 + lane % 16, k * 2 + lane / 16));
      #pragma unroll
      for (int j = 0; j < ${parts.columns / 2}; j++) ${"declare" in operands.b
        ? "loadMatrix4(fb[j], chunkAt(b, warpColumn + j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));"
        : `{ const int column = warpColumn + j * 16 + lane / 16 * 8; loadMatrix4Transposed(fb[j], chunkAt(b + column / 64 * ${64 * STEP_BYTES}, k * 16 + lane % 16, column / 8 % 8)); }`}
      ${isPrecise(problem) ? preciseProducts(parts) : `#pragma unroll
      for (int i = 0; i < ${parts.rows}; i++) {
        #pragma unroll
        for (int j = 0; j < ${parts.columns}; j++) multiply(*(${sum}(*)[4])&d[i][j * 4], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
      }`}
    }
  }
  copyWait<0>();
  ${outputText(text, problem, parts.columns)}
  #pragma unroll
  for (int i = 0; i < ${parts.rows}; i++)
    storeFragment<${parts.columns}, ${isStoredWide(output)}, 0>(d[i], out, ${text.size64(output.rowStride)}, firstRow + warpRow + i * 16, firstColumn + warpColumn, rows, columns, access);
`;
}

/** Steps of which elements are gathered one by one are written out, so that where they lie is known to the compiler. */
function isShort({ steps }: Problem, { a }: AmpereOperands): boolean {
  return !a.wide && typeof steps === "number" && steps <= 4;
}

const isPrecise = ({ operands }: Problem): boolean => operands[0] === "float32";

/**
 * High and low parts of float32; the product of the low parts is below the precision. The unit adds with truncation, so
 * that a long reduction in it would drift towards zero: it adds up three products, and their sum is added with rounding.
 */
function preciseProducts(parts: { readonly rows: number; readonly columns: number }): string {
  const split = (name: string, count: number): string => `u32 ${name}Low[${count}][4];
      #pragma unroll
      for (int i = 0; i < ${count}; i++) {
        #pragma unroll
        for (int e = 0; e < 4; e++) split(__uint_as_float(${name}[i][e]), ${name}[i][e], ${name}Low[i][e]);
      }`;
  return `${split("fa", parts.rows)}
      ${split("fb", parts.columns / 2)}
      #pragma unroll
      for (int i = 0; i < ${parts.rows}; i++) {
        #pragma unroll
        for (int j = 0; j < ${parts.columns}; j++) {
          float s[4] = {};
          multiply(s, faLow[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
          multiply(s, fa[i], fbLow[j / 2][j % 2 * 2], fbLow[j / 2][j % 2 * 2 + 1]);
          multiply(s, fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
          #pragma unroll
          for (int e = 0; e < 4; e++) d[i][j * 4 + e] += s[e];
        }
      }`;
}

/** \`aLoad(to, step)\`: the operand's part of a stage. */
function gatherText(name: string, operand: GatheredOperand, problem: Problem, height: number, p: AmpereParameters, { wholeChunks }: AmpereOperands): string {
  const { bytes } = ELEMENTS[problem.operands[0]];
  const threads = 32 * p.warps[0] * p.warps[1];
  const count = (height * 8) / threads;
  const perChunk = 16 / bytes;
  const [rowOf, chunkOf] = !operand.rowsTouch ? ["(thread + i * THREADS) / 8", "thread % 8"]
    : height === threads ? ["thread", "i"] : [`(thread + i * THREADS) % ${height}`, `(thread + i * THREADS) / ${height}`];
  const wide = (): string => {
    const { before = "", inside, offset } = operand.at("i", "k");
    return `${before} const bool in = ${inside};
      copyAsync16(place, in ? (const void*)(${operand.pointer} + (${offset})) : (const void*)${operand.pointer}, in ? ${wholeChunks ? "16" : `min(16, (depth - k) * ${bytes})`} : 0);`;
  };
  const words = (): string => {
    const { before = "", inside, offset } = operand.at("i", "at");
    return `#pragma unroll
      for (int e = 0; e < 4; e++) { const int at = k + e * ${4 / bytes}; ${before} const bool in = ${inside}; copyAsync4(place + e * 4, in ? ${operand.pointer} + (${offset}) : ${operand.pointer}, in ? 4 : 0); }`;
  };
  const narrow = (): string => {
    const { before = "", inside, offset } = operand.at("i", "at");
    const unsigned = { 1: "u8", 2: "u16", 4: "u32" }[bytes]!;
    return `alignas(16) ${unsigned} values[${perChunk}];
      #pragma unroll
      for (int e = 0; e < ${perChunk}; e++) { const int at = k + e; ${before} values[e] = ${inside} ? ((const ${unsigned}*)${operand.pointer})[${offset}] : 0; }
      asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" :: "r"(place), "r"(((const u32*)values)[0]), "r"(((const u32*)values)[1]), "r"(((const u32*)values)[2]), "r"(((const u32*)values)[3]) : "memory");`;
  };
  return `${operand.declare(count)}
  #pragma unroll
  for (int i = 0; i < ${count}; i++) { const int row = ${rowOf}; ${operand.prepare("i", "row")} }
  const auto ${name}Load = [&](u32 to, int step) {
    #pragma unroll
    for (int i = 0; i < ${count}; i++) {
      const int row = ${rowOf}, chunk = ${chunkOf}, k = step * ${STEP_BYTES / bytes} + chunk * ${perChunk};
      const u32 place = to + row * ${STEP_BYTES} + ((chunk ^ (row & 7)) << 4);
      ${operand.wide ? wide() : operand.words ? words() : narrow()}
    }
  };`;
}

/** B with contiguous columns: panels of 64 columns, a row of the reduction after the other. */
function columnsText(operand: ColumnsOperand, p: AmpereParameters): string {
  const chunks = p.tile[1] / 8;
  const count = (64 * chunks) / (32 * p.warps[0] * p.warps[1]);
  return `const auto bLoad = [&](u32 to, int step) {
    #pragma unroll
    for (int i = 0; i < ${count}; i++) {
      const int row = (thread + i * THREADS) / ${chunks}, chunk = (thread + i * THREADS) % ${chunks}, k = step * 64 + row, column = firstColumn + chunk * 8;
      const bool in = k < depth && column < columns;
      copyAsync16(to + chunk / 8 * ${64 * STEP_BYTES} + row * ${STEP_BYTES} + ((chunk % 8 ^ (row & 7)) << 4), in ? ${operand.pointer} + (${operand.offset("k", "column")}) : ${operand.pointer}, in ? min(16, (columns - column) * 2) : 0);
    }
  };`;
}
