/** Candidate ways to run a depthwise convolution in bands with the products beside it. */
import { assert } from "../../../base/index.ts";
import { type BandKernel, type Bindings, type ConstantLookup, evaluate, type Tactic } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { bandBytes, BandGenerator, type BandParameters, bandTacticName } from "./bands.ts";
import { type ConvShape, convShape } from "./conv-shape.ts";
import { depthwiseChoices, depthwiseOperands } from "./depthwise.ts";

const TILES_AVX512: readonly (readonly [number, number])[] = [[14, 2], [6, 4], [8, 3], [28, 1]];
const TILES_AVX2: readonly (readonly [number, number])[] = [[6, 2], [4, 2], [3, 4]];
/** Most bytes of a band: half of a second-level cache. */
const BAND_BYTES = 512 * 1024;
/** Bands wanted of an image, so that several threads end together. */
const WANTED_BANDS = 8;
/** Ways to run the convolution that are tried with each tile. */
const DEPTHWISE_CHOICES = 3;

export function bandTactics(kernel: BandKernel, isa: Isa, constants: ConstantLookup, optimum: Bindings): Tactic[] {
  const shape = convShape(kernel.depthwise);
  const operands = shape && depthwiseOperands(kernel.depthwise, shape, isa, constants);
  assert(shape && operands, `the convolution of "${kernel.name}" cannot be generated`);
  const lanes = isa.vectorBytes / 4;
  const tactics = new Map<string, Tactic>();
  const most = mostRows(kernel, shape, evaluate(shape.outHeight, optimum));
  for (const { p: depthwise, estimate } of depthwiseChoices(shape, isa, optimum).slice(0, DEPTHWISE_CHOICES)) {
    for (const [i, tile] of (isa.name === "avx512" ? TILES_AVX512 : TILES_AVX2).entries()) {
      for (const rows of new Set([most, Math.max(depthwise.lines, most >> 1)])) {
        const p: BandParameters = { rows, tile, depthwise };
        const name = bandTacticName(p, lanes);
        tactics.set(name, { name, estimate: estimate * (1 + i / 10) * (1 + 1 / rows), compile: () => new BandGenerator(kernel, shape, operands, isa, constants, p).compile() });
      }
    }
  }
  return [...tactics.values()].sort((a, b) => a.estimate - b.estimate);
}

/** Output rows of the largest band that is worth having. */
function mostRows(kernel: BandKernel, shape: ConvShape, height: number): number {
  let rows = Math.max(1, Math.ceil(height / WANTED_BANDS));
  while (rows > 1 && bandBytes(kernel, shape, rows).all > BAND_BYTES) rows--;
  return rows;
}
