/**
 * A loop of independent multiplications on registers: the processor's limit, which the reached speeds are compared with.
 */
import type { CompiledKernel } from "../../../ir/index.ts";
import { FunctionBuilder, type Isa, mem } from "../function.ts";
import { multiplyWords, type Product, productOf, tileProductOf } from "./products.ts";
import { configureTiles, GRID_COLUMNS, GRID_ROWS, releaseTiles, TILE_ROW_BYTES, TILE_WORDS, tileFeatures, TileGrid } from "./tiles.ts";
import { Vectors } from "./vectors.ts";
import { KernelWriter } from "./writer.ts";

/** What is multiplied, and whether on AMX tiles. */
export type PeakName = Product["name"] | "bfloat tiles" | "bytes tiles";

/** Enough chains to cover latency times throughput on any processor. */
const CHAINS = 12;
const STEPS = 4096;
const UNROLL = 4;
/** Steps whose operands of a grid are multiplied over and over. */
const TILE_STEPS = 4;

/** Eight tiles of equal work, `flops` in all; undefined where the instruction set has no such product. */
export function compilePeak(isa: Isa, name: PeakName): CompiledKernel | undefined {
  const product = productNamed(name === "bfloat tiles" ? "bfloat" : name === "bytes tiles" ? "bytes" : name, isa);
  if (!product) return undefined;
  if (name === "bfloat tiles" || name === "bytes tiles") return compileTilePeak(name, isa, tileProductOf(product, isa));
  const f = new FunctionBuilder(isa, `${name} peak`, 4);
  const vectors = new Vectors(f);
  const sums = Array.from({ length: CHAINS }, () => vectors.zero());
  const [a, b] = [vectors.splat(1), vectors.splat(0)];
  f.loop(f.params[1]!, f.params[2]!, 1, () => {
    f.loop(0, STEPS, 1, () => {
      for (let u = 0; u < UNROLL; u++) for (const sum of sums) multiplyWords(f, product, sum, a, b);
    });
  });
  const { code } = f.finish();
  return {
    name: `${name} peak`, code, params: [], packed: [], tiles: 8, scratchBytes: 0,
    flops: 8 * STEPS * UNROLL * CHAINS * (isa.vectorBytes / 4) * 2 * product.perWord, bytes: 0, tactic: `${name} ${isa.name}`,
  };
}

/**
 * A grid's products over a few steps, over and over, with operands in the first-level cache. Their loads belong to the limit:
 * a processor short of power runs them at a quarter of the rate that it still gives to products of tiles it holds.
 */
function compileTilePeak(name: PeakName, isa: Isa, product: Product | undefined): CompiledKernel | undefined {
  if (!product) return undefined;
  const w = new KernelWriter(isa, `${name} peak`);
  const grid = new TileGrid(w, product, 2, 2);
  const rowBytes = TILE_STEPS * TILE_ROW_BYTES;
  const panelBytes = TILE_STEPS * TILE_WORDS * TILE_ROW_BYTES;
  const scratchBytes = GRID_ROWS * rowBytes + 2 * panelBytes;
  const ones = w.vectors.splat(1);
  w.f.loop(0, scratchBytes / w.vectorBytes, 1, (i) => w.vectors.store(mem(w.address(w.scratch, w.mul(i, w.vectorBytes))), ones));
  configureTiles(w, GRID_ROWS, TILE_WORDS);
  grid.zero();
  w.f.loop(w.tileBegin, w.tileEnd, 1, () => {
    w.f.loop(0, (STEPS * UNROLL) / TILE_STEPS, 1, () => {
      grid.multiply(w.address(w.scratch), rowBytes, w.address(w.scratch, GRID_ROWS * rowBytes), { pitch: TILE_ROW_BYTES, secondBytes: panelBytes }, TILE_STEPS);
    });
  });
  releaseTiles(w);
  const { code } = w.f.finish();
  return {
    name: `${name} peak`, code, params: [], packed: [], tiles: 8, scratchBytes,
    flops: 8 * STEPS * UNROLL * GRID_ROWS * GRID_COLUMNS * TILE_WORDS * product.perWord * 2, bytes: 0, tactic: `${name} ${isa.name}`, features: tileFeatures(product),
  };
}

function productNamed(name: Product["name"], isa: Isa): Product | undefined {
  switch (name) {
    case "float": return productOf("float32", "float32", isa, false);
    case "bfloat": return productOf("bfloat16", "bfloat16", isa, false);
    case "pairs": return productOf("uint8", "int8", isa, false);
    case "bytes": {
      const product = productOf("uint8", "int8", isa, true);
      return product?.name === "bytes" ? product : undefined;
    }
  }
}
