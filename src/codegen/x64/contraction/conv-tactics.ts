/**
 * Candidate ways to run a convolution, best estimate first: patches of pixels by vectors of channels, blocks that fit
 * the second-level cache. The estimate counts cycles of the register tile, as for matrix products.
 */
import { type Bindings, type ConstantLookup, type ConvKernel, evaluate, type Tactic } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import { compileConv, type ConvParameters, convTacticName, readsInPlace } from "./conv.ts";
import { type ConvOperands, convOperands } from "./conv-operands.ts";
import { type ConvShape, convShape, mergeGroups } from "./conv-shape.ts";
import { depthwiseTactics } from "./depthwise.ts";
import { bytesOf } from "./products.ts";
import { conflictFactor, stepCycles } from "./matmul-tactics.ts";
import { MOST_AHEAD_BYTES } from "./weights-ahead.ts";
import { winogradTactics } from "./winograd-tactics.ts";

/** Most pixels of a register tile, and vectors. */
const TILES_AVX512: readonly (readonly [number, number])[] = [[12, 2], [14, 2], [8, 3], [9, 3], [6, 4], [28, 1], [16, 1], [7, 4], [7, 2], [4, 4], [1, 8]];
const TILES_AVX2: readonly (readonly [number, number])[] = [[6, 2], [5, 2], [4, 2], [3, 4], [1, 8]];

/** Most bytes of the copied image and of the weights that a block keeps near. */
const IMAGE_BLOCK_BYTES = 256 * 1024;
const WEIGHT_BLOCK_BYTES = 384 * 1024;
const WANTED_BLOCKS = 8;
const BLOCK_WORK = 200_000;
/** What a line of weights that was not fetched ahead costs. */
const LATE_LINE_CYCLES = 4;
/** Columns of a block when the width is bound at run time. */
const DYNAMIC_COLUMNS = 56;

export interface ConvTacticOptions {
  /** Offer tactics that multiply less and store larger weights. */
  readonly fastConvolution?: boolean;
}

/** Sizes of channels are counted in words. Empty when the convolution is of a kind that is not generated, or its weights are not constant. */
export function convTactics(kernel: ConvKernel, isa: Isa, constants: ConstantLookup, optimum: Bindings, options: ConvTacticOptions = {}): Tactic[] {
  const given = convShape(kernel);
  if (!given) return [];
  const depthwise = depthwiseTactics(kernel, given, isa, constants, optimum);
  if (depthwise.length > 0) return depthwise;
  const shape = mergeGroups(given);
  const operands = convOperands(kernel, shape, isa, constants);
  if (!operands) return [];
  const lanes = isa.vectorBytes / 4;
  const tactics = new Map<string, Tactic>();
  for (const p of candidates(shape, operands, isa, optimum)) {
    const name = convTacticName(p, lanes, operands.product.name);
    tactics.set(name, { name, estimate: estimate(shape, operands, p, optimum, lanes), compile: () => compileConv(kernel, isa, constants, p) });
  }
  const fast = options.fastConvolution && operands.product.name === "float" && kernel.output.dtype === "float32" ? winogradTactics(kernel, shape, isa, constants, optimum) : [];
  return [...tactics.values(), ...fast].sort((a, b) => a.estimate - b.estimate);
}

function* candidates(shape: ConvShape, operands: ConvOperands, isa: Isa, optimum: Bindings): Generator<ConvParameters> {
  const lanes = isa.vectorBytes / 4;
  const tiles = isa.name === "avx512" ? TILES_AVX512 : TILES_AVX2;
  for (const [pixels, vectors] of tiles) {
    for (const copy of readsInPlace(shape, operands.product) ? [false, true] : [true]) {
      const patch = patchOf(shape, pixels);
      const block = blocks(shape, operands.words, patch, vectors * lanes, copy, optimum);
      yield { patch, vectors, copy, unroll: 4, ...block };
      if (shape.kernel[0] === 1 || groupBytes(shape, operands.words, vectors * lanes) <= MOST_AHEAD_BYTES) continue;
      for (const times of [1, 2]) yield { patch, vectors, copy, byRow: true, unroll: 4, ...block, blockGroups: block.blockGroups * times };
    }
  }
}

/** Weights of a column group: where they are more than can be fetched ahead, passes over rows of taps are offered. */
function groupBytes(shape: ConvShape, inputs: number, columns: number): number {
  return 4 * columns * shape.kernel[0] * shape.kernel[1] * inputs;
}

/** A row of pixels, or several whole rows where the image is narrow. */
function patchOf(shape: ConvShape, pixels: number): [number, number] {
  const { outHeight, outWidth } = shape;
  if (typeof outWidth !== "number" || outWidth === 0 || outWidth > pixels / 2) return [1, pixels];
  const rows = Math.floor(pixels / outWidth);
  return [typeof outHeight === "number" ? Math.max(1, Math.min(rows, outHeight)) : rows, outWidth];
}

function blocks(shape: ConvShape, inputs: number, patch: readonly [number, number], columns: number, copy: boolean, optimum: Bindings): Pick<ConvParameters, "block" | "blockGroups"> {
  const height = evaluate(shape.outHeight, optimum);
  const width = evaluate(shape.outWidth, optimum);
  const outputs = shape.outChannels / shape.groups;
  const depth = shape.kernel[0] * shape.kernel[1] * inputs;
  const groups = Math.ceil(outputs / columns);
  const down = Math.max(1, Math.ceil(height / patch[0]));
  let across = typeof shape.outWidth === "number" ? Math.max(1, Math.ceil(width / patch[1])) : Math.ceil(DYNAMIC_COLUMNS / patch[1]);
  let blockGroups = Math.max(1, Math.min(groups, Math.floor(WEIGHT_BLOCK_BYTES / (4 * columns * depth))));
  let rows = down;
  const bytes = (): number => copy ? ((rows * patch[0] - 1) * shape.stride[0] + shape.kernel[0] * shape.dilation[0]) * ((across * patch[1] - 1) * shape.stride[1] + shape.kernel[1] * shape.dilation[1]) * inputs * 4 : 0;
  while (bytes() > IMAGE_BLOCK_BYTES && rows > 1) rows = Math.ceil(rows / 2);
  while (bytes() > IMAGE_BLOCK_BYTES && across > 1) across = Math.ceil(across / 2);
  const work = height * width * outputs * depth * shape.groups * evaluate(shape.batch, optimum);
  const wanted = Math.min(WANTED_BLOCKS, Math.max(1, Math.floor(work / BLOCK_WORK)));
  const count = (): number => evaluate(shape.batch, optimum) * shape.groups * Math.ceil(groups / blockGroups) * Math.ceil(down / rows);
  while (count() < wanted && (rows > 1 || blockGroups > 1)) {
    if (rows > 1) rows = Math.ceil(rows / 2);
    else blockGroups = Math.ceil(blockGroups / 2);
  }
  return { block: [Math.ceil(down / Math.ceil(down / rows)), across], blockGroups: Math.ceil(groups / Math.ceil(groups / blockGroups)) };
}

function estimate(shape: ConvShape, { words: inputs, product }: ConvOperands, p: ConvParameters, optimum: Bindings, lanes: number): number {
  const height = evaluate(shape.outHeight, optimum);
  const width = evaluate(shape.outWidth, optimum);
  const outputs = shape.outChannels / shape.groups;
  const depth = shape.kernel[0] * shape.kernel[1] * inputs;
  const groups = Math.ceil(outputs / (p.vectors * lanes));
  const across = Math.max(1, Math.ceil(width / p.patch[1]));
  const down = Math.max(1, Math.ceil(height / p.patch[0]));
  const pixels = (height * width) / (across * down);
  const conflict = p.copy ? 1 : conflictFactor((shape.inputStrides[2] as number) * shape.stride[1] * bytesOf(product.a), pixels);
  const perPatch = (vectors: number): number => conflict * depth * stepCycles(Math.max(1, pixels), vectors, lanes, false) + 30 + pixels * Math.ceil(vectors) * 3;
  const wholeGroups = Math.floor(outputs / (p.vectors * lanes));
  const rest = outputs - wholeGroups * p.vectors * lanes;
  const restVectors = lanes === 16 ? Math.ceil(rest / 8) / 2 : Math.ceil(rest / lanes);
  const fetchedAhead = p.byRow || groupBytes(shape, inputs, p.vectors * lanes) <= MOST_AHEAD_BYTES;
  const weights = fetchedAhead ? 0 : (LATE_LINE_CYCLES * groups * groupBytes(shape, inputs, p.vectors * lanes)) / 64;
  const passes = p.byRow ? groups * (shape.kernel[0] - 1) * height * width * p.vectors * 2 : 0;
  const allGroups = wholeGroups * perPatch(p.vectors) + (rest > 0 ? perPatch(restVectors) : 0);
  const copies = p.copy ? Math.ceil(groups / p.blockGroups) * height * width * shape.stride[0] * shape.stride[1] * inputs * (shape.channelsFirst ? 2 : 2 / lanes) : 0;
  return evaluate(shape.batch, optimum) * shape.groups * (across * down * allGroups + copies + weights + passes);
}
