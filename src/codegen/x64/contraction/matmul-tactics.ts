/**
 * Candidate ways to run a matrix multiplication, best estimate first.
 *
 * The estimate counts cycles: per reduction step of a register tile the slowest of multiplications, loads and the
 * latency of a short chain; copies; and the penalty of rows that fall on the same cache sets. It orders candidates and
 * decides at level 0; the tuner's clock decides above that.
 * Sources of the rates: AMD Software Optimization Guide for Zen 4, Intel Optimization Manual (Ice Lake server); both
 * do one 512-bit or two 256-bit multiplications per cycle at least.
 */
import type { Bindings, ConstantLookup, MatmulKernel, Tactic } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { blockMatmulTactics } from "./block-matmul.ts";
import { compileMatmul, matmulTacticName, type MatmulParameters } from "./matmul.ts";
import { clamp, even, type MatmulSizes, matmulSizes } from "./matmul-sizes.ts";
import { tileMatmulTactics } from "./matmul-tile-tactics.ts";
import { bytesOf, type Product } from "./products.ts";
import { type MatmulOperands, matmulOperands } from "./matmul-operands.ts";

/** Register tiles: most rows, vectors. */
const TILES_AVX512: readonly (readonly [number, number])[] = [[12, 2], [14, 2], [8, 3], [9, 3], [6, 4], [13, 2], [10, 2], [28, 1], [16, 1], [8, 2], [4, 4], [2, 8], [1, 8], [1, 4], [3, 6], [2, 4]];
const TILES_AVX2: readonly (readonly [number, number])[] = [[6, 2], [5, 2], [4, 2], [3, 4], [2, 4], [1, 8], [1, 4], [2, 6]];

/** Most bytes of B and of A that a block keeps in the second-level cache. */
const B_BLOCK_BYTES = 384 * 1024;
const A_BLOCK_BYTES = 256 * 1024;
/** Blocks wanted when there is work for them, so that several threads end together. */
const WANTED_BLOCKS = 16;
/** Multiplications below which a block is not worth being handed out. */
const BLOCK_WORK = 200_000;
/** Depth of reduction blocks when the reduction's length is not known, and as a candidate for long ones. */
const DEPTH = 512;

/** Empty when there is no product of these types on this instruction set. */
export function matmulTactics(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup, optimum: Bindings): Tactic[] {
  if (kernel.b.blocks) return blockMatmulTactics(kernel, isa, constants);
  const operands = matmulOperands(kernel, isa, constants);
  if (!operands) return [];
  const sizes = matmulSizes(kernel, operands.product, optimum);
  const lanes = isa.vectorBytes / 4;
  const known = new Map<string, Tactic>();
  for (const p of candidates(kernel, isa, operands, sizes)) {
    const name = matmulTacticName(p, lanes, operands.product.name);
    known.set(name, { name, estimate: estimate(kernel, p, sizes, lanes), compile: () => compileMatmul(kernel, isa, constants, p) });
  }
  return [...known.values(), ...tileMatmulTactics(kernel, isa, constants, optimum)].sort((a, b) => a.estimate - b.estimate);
}

function* candidates(kernel: MatmulKernel, isa: Isa, operands: MatmulOperands, sizes: MatmulSizes): Generator<MatmulParameters> {
  const lanes = isa.vectorBytes / 4;
  const { product } = operands;
  const tiles = isa.name === "avx512" ? TILES_AVX512 : TILES_AVX2;
  for (const [rows, vectors] of tiles) {
    for (const depth of depths(kernel, sizes)) {
      for (const copyA of copies(kernel, product)) {
        for (const b of operands.packed ? ["constant" as const] : moving(kernel, product)) {
          if (b === "direct" && rows * vectors + Math.min(rows, vectors) + 2 > (isa.name === "avx512" ? 32 : 16)) continue;
          yield { rows, vectors, ...(depth !== undefined && { depth }), copyA, b, unroll: 4, ...block(sizes, rows, vectors * lanes, depth ?? sizes.k, copyA) };
        }
      }
    }
  }
}

/** A static length can be done at once; a length bound at run time goes in blocks of a known depth. */
function depths(kernel: MatmulKernel, { k }: MatmulSizes): readonly (number | undefined)[] {
  if (typeof kernel.k !== "number") return [DEPTH];
  return k > DEPTH ? [undefined, DEPTH, DEPTH / 2] : [undefined];
}

function copies(kernel: MatmulKernel, product: Product): readonly boolean[] {
  const fillsWords = typeof kernel.k === "number" && kernel.k % product.perWord === 0 && product.name !== "pairs";
  const inPlace = kernel.a.columnStride === 1 && typeof kernel.a.rowStride === "number" && (fillsWords || product.perWord === 1);
  return inPlace ? [false, true] : [true];
}

function moving(kernel: MatmulKernel, product: Product): readonly ("direct" | "packed")[] {
  return kernel.b.columnStride === 1 && product.name === "float" ? ["direct", "packed"] : ["packed"];
}

function block(sizes: MatmulSizes, rows: number, columns: number, depth: number, copyA: boolean): Pick<MatmulParameters, "blockTiles" | "blockGroups"> {
  const groups = Math.max(1, Math.ceil(sizes.n / columns));
  const tiles = Math.max(1, Math.ceil(sizes.m / rows));
  let blockGroups = clamp(B_BLOCK_BYTES / (4 * columns * Math.max(1, depth)), groups);
  let blockTiles = copyA ? clamp(A_BLOCK_BYTES / (4 * rows * Math.max(1, depth)), tiles) : tiles;
  const work = sizes.m * sizes.n * sizes.k;
  const wanted = clamp((work * sizes.batch) / BLOCK_WORK, WANTED_BLOCKS);
  const count = (): number => sizes.batch * Math.ceil(groups / blockGroups) * Math.ceil(tiles / blockTiles);
  while (count() < wanted && (blockGroups > 1 || blockTiles > 1)) {
    if (blockTiles > 1 && (blockTiles * rows >= blockGroups * columns || blockGroups === 1)) blockTiles = Math.ceil(blockTiles / 2);
    else blockGroups = Math.ceil(blockGroups / 2);
  }
  return { blockTiles: even(tiles, blockTiles), blockGroups: even(groups, blockGroups) };
}

function estimate(kernel: MatmulKernel, p: MatmulParameters, sizes: MatmulSizes, lanes: number): number {
  const columns = p.vectors * lanes;
  const tiles = Math.max(1, Math.ceil(sizes.m / p.rows));
  const height = Math.max(1, Math.ceil(sizes.m / tiles));
  const last = sizes.m - (tiles - 1) * height;
  const groups = Math.ceil(sizes.n / columns);
  const blocksAcross = Math.ceil(groups / p.blockGroups);
  const blocksDown = Math.ceil(tiles / p.blockTiles);
  const passes = Math.ceil(sizes.k / (p.depth ?? Math.max(1, sizes.k)));
  const conflict = p.copyA || typeof kernel.a.rowStride !== "number" ? 1 : conflictFactor(bytesOf(kernel.a.buffer.dtype) * kernel.a.rowStride, height);
  const step = (rows: number): number => stepCycles(rows, p.vectors, lanes, p.b === "direct");
  const multiply = groups * sizes.k * conflict * ((tiles - 1) * step(height) + step(last));
  const finish = (groups * sizes.m * p.vectors * (2 + 2 * (passes - 1))) ;
  const copyA = p.copyA ? (blocksAcross * sizes.m * sizes.k * (kernel.a.columnStride === 1 ? 2 / lanes : 2)) : 0;
  const packB = p.b === "packed" ? (blocksDown * sizes.n * sizes.k * (kernel.b.columnStride === 1 ? 2 / lanes : 2)) : 0;
  return sizes.batch * (multiply + finish + copyA + packB + groups * tiles * passes * 20);
}

/** What a broadcast of A and a vector of B cost although the multiplications hide them, as measured. */
const BROADCAST_CYCLES = 0.04;
const VECTOR_CYCLES = 0.05;
/** Cycles in which the second-level cache gives one 64-byte line of B. */
const LINE_CYCLES = 2.2;

/** Cycles of one reduction step of a register tile. */
export function stepCycles(rows: number, vectors: number, lanes: number, directB: boolean): number {
  const wide = lanes / 16;
  const multiply = rows * vectors * wide;
  const embedded = vectors === 1 && lanes === 16;
  const loads = vectors * wide + (embedded ? rows : rows * 0.5);
  const latency = rows * vectors * wide < 4 ? 4 : 0;
  const hidden = (embedded ? 0 : BROADCAST_CYCLES * rows) + VECTOR_CYCLES * vectors * wide;
  return Math.max(multiply, loads, latency, vectors * wide * LINE_CYCLES) + hidden + (directB ? 0.3 : 0) + 0.2;
}

/** The price of rows read in place at a pitch that puts several of them on the same cache sets. */
export function conflictFactor(pitchBytes: number, rows: number): number {
  if (pitchBytes === 0) return 1;
  return rows / (4096 / gcd(pitchBytes, 4096)) > 6 ? 1.4 : 1;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
