/**
 * A loop of independent multiplications on registers: the processor's limit, which the reached speeds are compared with.
 */
import type { CompiledKernel } from "../../../ir/index.ts";
import { FunctionBuilder, type Isa } from "../function.ts";
import { multiplyWords, type Product, productOf } from "./products.ts";
import { Vectors } from "./vectors.ts";

/** Enough chains to cover latency times throughput on any processor. */
const CHAINS = 12;
const STEPS = 4096;
const UNROLL = 4;

/** Eight tiles of equal work, `flops` in all; undefined where the instruction set has no such product. */
export function compilePeak(isa: Isa, name: Product["name"]): CompiledKernel | undefined {
  const product = productNamed(name, isa);
  if (!product) return undefined;
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
