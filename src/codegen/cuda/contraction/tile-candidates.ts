/**
 * Tiles worth trying for a product, and a model of their time, shared by matrix products and convolutions.
 *
 * The model counts a multiprocessor's cycles: rounds of tiles over the chip, each as long as the slower of its products
 * and its bytes, plus what a launch, a tile's end and a meeting of blocks cost. It orders candidates and decides at
 * level 0; above that the device's clock decides.
 * Rates: H100 whitepaper (4096 16-bit multiply-adds per cycle and multiprocessor over two, 132 multiprocessors).
 */
import type { CudaArch } from "../contract.ts";
import { type AmpereParameters, fitsAmpere } from "./matmul-ampere.ts";
import { fitsHopper, type HopperParameters } from "./matmul-hopper.ts";
import { STEP_BYTES } from "./problem.ts";

export interface ProductSizes {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  /** Bytes of a row of A. */
  readonly depthBytes: number;
}

interface HopperTile {
  readonly tile: readonly [number, number];
  readonly consumers: 1 | 2;
  readonly stages: number;
  readonly alternate?: true;
  readonly multicast?: true;
}

const HOPPER_TILES: readonly HopperTile[] = [
  { tile: [128, 256], consumers: 2, stages: 4 },
  { tile: [128, 256], consumers: 2, stages: 4, multicast: true },
  { tile: [256, 128], consumers: 2, stages: 4 },
  { tile: [256, 128], consumers: 2, stages: 4, multicast: true },
  { tile: [128, 192], consumers: 2, stages: 5 },
  { tile: [128, 128], consumers: 2, stages: 6 },
  { tile: [128, 128], consumers: 2, stages: 6, alternate: true },
  { tile: [64, 256], consumers: 2, stages: 5, alternate: true },
  { tile: [64, 192], consumers: 2, stages: 6, alternate: true },
  { tile: [64, 128], consumers: 2, stages: 8, alternate: true },
  { tile: [128, 64], consumers: 2, stages: 8 },
  { tile: [64, 128], consumers: 1, stages: 8 },
  { tile: [64, 64], consumers: 1, stages: 8 },
  { tile: [64, 32], consumers: 1, stages: 8 },
];

export function* hopperCandidates(arch: CudaArch, sizes: ProductSizes): Generator<HopperParameters> {
  for (const { tile, consumers, stages, alternate, multicast } of HOPPER_TILES) {
    const common = { tile, consumers, stages, group: 8, ...(alternate && { alternate }) };
    const whole: HopperParameters = { ...common, multicast: multicast ? 2 : 1, split: 1 };
    if (fitsHopper(whole)) yield whole;
    if (alternate || multicast || tile[1] > 128 || tile[0] > 128) continue;
    for (const split of [2, 4, 8] as const) {
      const p: HopperParameters = { ...common, multicast: 1, split };
      const blocks = tilesOf(tile, sizes) * split;
      if (fitsHopper(p) && blocks <= 2 * arch.multiprocessors && sizes.depthBytes / STEP_BYTES >= 2 * split) yield p;
    }
  }
}

const AMPERE_TILES: readonly AmpereParameters[] = [
  { tile: [128, 128], warps: [2, 2], stages: 3, group: 8 },
  { tile: [128, 128], warps: [2, 4], stages: 3, group: 8 },
  { tile: [128, 64], warps: [2, 2], stages: 4, group: 8 },
  { tile: [64, 128], warps: [2, 2], stages: 4, group: 8 },
  { tile: [64, 64], warps: [2, 2], stages: 4, group: 8 },
  { tile: [128, 32], warps: [4, 1], stages: 4, group: 8 },
  { tile: [32, 64], warps: [2, 2], stages: 5, group: 8 },
  { tile: [16, 64], warps: [1, 2], stages: 6, group: 8 },
];

export function ampereCandidates(arch: CudaArch): readonly AmpereParameters[] {
  return AMPERE_TILES.filter((p) => fitsAmpere(p, arch));
}

function tilesOf([rows, columns]: readonly [number, number], sizes: ProductSizes): number {
  return sizes.batch * Math.max(1, Math.ceil(sizes.rows / rows)) * Math.max(1, Math.ceil(sizes.columns / columns));
}

/** Bytes per cycle that a multiprocessor gets from the second-level cache. */
const CACHE_BYTES = 64;
/** Cycles of a launch, its barriers and its first bytes. */
const LAUNCH = 4600;
/** Cycles of a step that nothing else decides. */
const STEP = 180;
/** Consumers that take turns multiply half as many rows at once. */
const TURNS = 1.15;

/** Cycles of one step of a tile: products at `rate` 16-bit multiply-adds per cycle, or its bytes. */
function stepCycles([rows, columns]: readonly [number, number], rate: number): number {
  return Math.max((rows * columns * (STEP_BYTES / 2)) / rate, ((rows + columns) * STEP_BYTES) / CACHE_BYTES);
}

export function hopperEstimate(p: HopperParameters, sizes: ProductSizes, arch: CudaArch): number {
  const rounds = Math.ceil((tilesOf(p.tile, sizes) * p.split) / arch.multiprocessors);
  const steps = Math.ceil(sizes.depthBytes / STEP_BYTES / p.split);
  const step = Math.max(STEP, stepCycles(p.tile, 2048)) * (p.alternate ? TURNS : 1);
  const finish = p.tile[0] * p.tile[1] * (p.alternate ? 0.05 : 0.08);
  return LAUNCH + rounds * (steps * step + finish) + (p.split > 1 ? 2500 + 550 * p.split : 0);
}

export function ampereEstimate(p: AmpereParameters, sizes: ProductSizes, arch: CudaArch): number {
  const rate = arch.capability === 80 || arch.capability >= 90 ? 1024 : 512;
  const perMultiprocessor = Math.max(1, Math.min(2, Math.floor(arch.sharedBytesPerBlock / (p.stages * (p.tile[0] + p.tile[1]) * STEP_BYTES))));
  const rounds = Math.ceil(tilesOf(p.tile, sizes) / (arch.multiprocessors * perMultiprocessor)) * perMultiprocessor;
  const steps = Math.ceil(sizes.depthBytes / STEP_BYTES);
  return LAUNCH + rounds * (steps * Math.max(2 * STEP, 1.3 * stepCycles(p.tile, rate)) + p.tile[0] * p.tile[1] * 0.08);
}
