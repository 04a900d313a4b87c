/** Candidate ways to run a convolution by minimal filtering: how large the output tiles, how many of them at a time. */
import { type Bindings, type ConstantLookup, type ConvKernel, evaluate, type Tactic } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import type { ConvShape } from "./conv-shape.ts";
import { paddedPitch } from "./copy.ts";
import { stepCycles } from "./matmul-tactics.ts";
import { WinogradGenerator, type WinogradParameters, winogradTacticName } from "./winograd.ts";
import type { WinogradSize } from "./winograd-transform.ts";
import { fitsWinograd, packWinograd, winogradElements } from "./winograd-weights.ts";

const TILES_AVX512: readonly (readonly [number, number])[] = [[6, 4], [8, 3], [12, 2]];
const TILES_AVX2: readonly (readonly [number, number])[] = [[6, 2], [4, 2]];
/** Most bytes of transformed input tiles: they stay in the second-level cache beside the products. */
const TRANSFORMED_BYTES: readonly number[] = [256 * 1024, 640 * 1024];
/** Units of work wanted, for several threads. */
const WANTED_UNITS = 4;
/** Cycles per vector of a transformed tile's element: load, transform, store, and back. */
const TRANSFORM_CYCLES = 2.5;

export function winogradTactics(kernel: ConvKernel, shape: ConvShape, isa: Isa, constants: ConstantLookup, optimum: Bindings): Tactic[] {
  if (!fitsWinograd(shape)) return [];
  const lanes = isa.vectorBytes / 4;
  const plainBytes = 4 * 9 * shape.channels * shape.outChannels;
  const tactics = new Map<string, Tactic>();
  for (const p of candidates(shape, isa, optimum)) {
    const packed = packWinograd(kernel, shape, constants, p.size);
    if (!packed) return [];
    const name = winogradTacticName(p, lanes);
    tactics.set(name, { name, estimate: estimate(shape, p, optimum, lanes), extraWeightBytes: packed.sizeBytes - plainBytes, compile: () => new WinogradGenerator(kernel, shape, packed, isa, p).compile() });
  }
  return [...tactics.values()];
}

function tilesOf(shape: ConvShape, size: WinogradSize, optimum: Bindings): number {
  return evaluate(shape.batch, optimum) * Math.ceil(evaluate(shape.outHeight, optimum) / size) * Math.ceil(evaluate(shape.outWidth, optimum) / size);
}

function* candidates(shape: ConvShape, isa: Isa, optimum: Bindings): Generator<WinogradParameters> {
  const lanes = isa.vectorBytes / 4;
  for (const size of [2, 4] as const) {
    const all = Math.max(1, tilesOf(shape, size, optimum));
    for (const bytes of TRANSFORMED_BYTES) {
      const most = Math.max(1, Math.floor(bytes / (winogradElements(size) * paddedPitch(shape.channels))));
      const blocks = Math.ceil(all / most);
      const tiles = Math.ceil(all / blocks);
      for (const [rows, vectors] of isa.name === "avx512" ? TILES_AVX512 : TILES_AVX2) {
        const groups = Math.ceil(shape.outChannels / (vectors * lanes));
        for (const parts of new Set([1, Math.min(groups, Math.ceil(WANTED_UNITS / blocks))])) yield { size, tiles, rows, vectors, blockGroups: Math.ceil(groups / parts) };
      }
    }
  }
}

function estimate(shape: ConvShape, p: WinogradParameters, optimum: Bindings, lanes: number): number {
  const elements = winogradElements(p.size);
  const blocks = Math.ceil(tilesOf(shape, p.size, optimum) / p.tiles);
  const groups = Math.ceil(shape.outChannels / (p.vectors * lanes));
  const rowTiles = Math.ceil(p.tiles / p.rows);
  const height = p.tiles / rowTiles;
  const products = groups * elements * rowTiles * (shape.channels * stepCycles(height, p.vectors, lanes, false) + height * p.vectors + 20);
  const transforms = p.tiles * elements * (TRANSFORM_CYCLES / lanes) * (shape.channels * Math.ceil(groups / p.blockGroups) + shape.outChannels);
  return blocks * (products + transforms);
}
