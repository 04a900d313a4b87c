/**
 * Candidate ways to run a matrix multiplication on AMX tiles. The estimate counts cycles as that of register tiles does,
 * so that both can be compared before the clock decides.
 * Source of the rates: Intel Optimization Manual, chapter 20 (Sapphire Rapids): a product of tiles takes a cycle per row of A.
 */
import type { Bindings, ConstantLookup, MatmulKernel, Tactic } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { type MatmulOperands, tileOperands } from "./matmul-operands.ts";
import { clamp, even, type MatmulSizes, matmulSizes } from "./matmul-sizes.ts";
import { compileTileMatmul, type TileMatmulParameters, tileMatmulTacticName } from "./matmul-tiles.ts";
import { reductionParts } from "./reduction-parts.ts";
import { GRID_COLUMNS, GRID_PITCH, GRID_ROWS, TILE_WORDS } from "./tiles.ts";

/** Most words of a part of the reduction, such that a column group's part of B fills some or most of the first-level cache. */
const DEPTHS = [512, 256];
/** Most bytes of A that a block keeps in the second-level cache, beside the columns of two groups. */
const A_BLOCK_BYTES = 1024 * 1024;
const GROUP_BYTES = 256 * 1024;
/** Most bytes of waiting sums: each is touched once in a part of the reduction. */
const SUMS_BYTES = 1024 * 1024;
/** Groups that a block's rows are read for, lest A come from far for few. */
const LEAST_GROUPS = 8;
const WANTED_BLOCKS = 16;
/** Words multiplied below which a block is not worth being handed out. */
const BLOCK_WORK = 1_000_000;
/** What a step costs when B comes from memory or a far cache, and when all operands are near. */
const FAR_STEP_CYCLES = 70;
const NEAR_STEP_CYCLES = 48;
/** Where a column group does not fit the first-level cache, the second level's bandwidth counts. */
const FIRST_LEVEL_BYTES = 40 * 1024;
const SPILL_FACTOR = 1.2;
/** Loading and storing sums around a part of the reduction; a row's way to the output. */
const PART_CYCLES = 100;
const ROW_CYCLES = 5;

/** Empty where there are no tiles for these types, or the reduction's length is not known. */
export function tileMatmulTactics(kernel: MatmulKernel, isa: Isa, constants: ConstantLookup, optimum: Bindings): Tactic[] {
  const operands = tileOperands(kernel, isa, constants);
  if (!operands || typeof kernel.k !== "number") return [];
  const sizes = matmulSizes(kernel, operands.product, optimum);
  return candidates(kernel, operands, sizes).map((p) => ({
    name: tileMatmulTacticName(p, operands.product),
    estimate: estimate(kernel, operands, p, sizes),
    compile: () => compileTileMatmul(kernel, isa, constants, p),
  }));
}

function candidates(kernel: MatmulKernel, operands: MatmulOperands, sizes: MatmulSizes): TileMatmulParameters[] {
  const isWhole = (kernel.k as number) % operands.product.perWord === 0 && kernel.a.columnStride === 1;
  return depths(sizes.k).flatMap((depth) => (isWhole ? [false, true] : [true]).map((copyA): TileMatmulParameters => ({
    ...(depth !== undefined && { depth }), copyA, ...block(sizes, depth),
  })));
}

/** Parts as even as whole steps allow. */
function depths(words: number): (number | undefined)[] {
  const steps = Math.floor(words / TILE_WORDS);
  const even = DEPTHS.filter((depth) => depth < words).map((depth) => Math.ceil(steps / Math.ceil((steps * TILE_WORDS) / depth)) * TILE_WORDS);
  return [...(4 * GRID_COLUMNS * words <= GROUP_BYTES ? [undefined] : []), ...new Set(even)];
}

/** A's part of the block stays in the second-level cache, while groups of columns pass by. */
function block(sizes: MatmulSizes, depth: number | undefined): Pick<TileMatmulParameters, "blockRows" | "blockGroups"> {
  const [rows, groups] = [Math.max(1, Math.ceil(sizes.m / GRID_ROWS)), Math.max(1, Math.ceil(sizes.n / GRID_COLUMNS))];
  const words = Math.max(1, depth ?? sizes.k);
  let blockRows = clamp(A_BLOCK_BYTES / (4 * GRID_ROWS * words), rows);
  let blockGroups = depth === undefined ? groups : clamp(SUMS_BYTES / (GRID_ROWS * GRID_PITCH * blockRows), groups);
  const wanted = clamp((sizes.batch * sizes.m * sizes.n * sizes.k) / BLOCK_WORK, WANTED_BLOCKS);
  const count = (): number => sizes.batch * Math.ceil(groups / blockGroups) * Math.ceil(rows / blockRows);
  while (count() < wanted && (blockGroups > 1 || blockRows > 1)) {
    if (blockGroups > LEAST_GROUPS || blockRows === 1) blockGroups = Math.ceil(blockGroups / 2);
    else if (blockRows >= blockGroups) blockRows = Math.ceil(blockRows / 2);
    else blockGroups = Math.ceil(blockGroups / 2);
  }
  return { blockRows: even(rows, blockRows), blockGroups: even(groups, blockGroups) };
}

function estimate(kernel: MatmulKernel, operands: MatmulOperands, p: TileMatmulParameters, sizes: MatmulSizes): number {
  const parts = reductionParts(sizes.k, p.depth);
  const steps = parts.reduce((sum, part) => sum + part.times * part.steps, 0);
  const passes = parts.reduce((sum, part) => sum + part.times, 0);
  const groupBytes = 4 * GRID_COLUMNS * Math.max(...parts.map((part) => part.steps * part.stepWords));
  const spill = sizes.m > GRID_ROWS && groupBytes > FIRST_LEVEL_BYTES ? SPILL_FACTOR : 1;
  const stepOf = (rows: number): number => Math.max(2 * rows, sizes.m > GRID_ROWS ? NEAR_STEP_CYCLES : FAR_STEP_CYCLES) * spill;
  const [whole, rest] = [Math.floor(sizes.m / GRID_ROWS), sizes.m % GRID_ROWS];
  const multiply = steps * (whole * stepOf(GRID_ROWS) + (rest > 0 ? stepOf(rest) : 0));
  const groups = Math.ceil(sizes.n / GRID_COLUMNS);
  const grids = whole + (rest > 0 ? 1 : 0);
  const copyA = p.copyA ? Math.ceil(groups / p.blockGroups) * sizes.m * sizes.k * (kernel.a.columnStride === 1 ? 1 / 8 : 2) : 0;
  const packB = operands.packed ? 0 : Math.ceil(Math.max(1, grids) / p.blockRows) * sizes.n * sizes.k * (kernel.b.columnStride === 1 ? 1 / 8 : 2);
  return sizes.batch * (groups * (multiply + grids * passes * PART_CYCLES + sizes.m * ROW_CYCLES) + copyA + packB);
}
