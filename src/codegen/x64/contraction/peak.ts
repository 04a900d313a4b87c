/**
 * A loop of independent multiply-adds on registers: the processor's limit, which the reached speeds are compared with.
 */
import type { CompiledKernel } from "../../../ir/index.ts";
import { FunctionBuilder, type Isa } from "../function.ts";
import { Vectors } from "./vectors.ts";

/** Enough chains to cover latency times throughput on any processor. */
const CHAINS = 12;
const STEPS = 4096;
const UNROLL = 4;

/** Eight tiles of equal work, `flops` in all. */
export function compileFmaPeak(isa: Isa): CompiledKernel {
  const f = new FunctionBuilder(isa, "fma peak", 4);
  const vectors = new Vectors(f);
  const sums = Array.from({ length: CHAINS }, () => vectors.zero());
  const [a, b] = [vectors.splat(1), vectors.splat(0)];
  f.loop(f.params[1]!, f.params[2]!, 1, () => {
    f.loop(0, STEPS, 1, () => {
      for (let u = 0; u < UNROLL; u++) for (const sum of sums) f.emit("vfmadd231ps", sum, a, b);
    });
  });
  const { code } = f.finish();
  return {
    name: "fma peak", code, params: [], packed: [], tiles: 8, scratchBytes: 0,
    flops: 8 * STEPS * UNROLL * CHAINS * (isa.vectorBytes / 4) * 2, bytes: 0, tactic: `fma ${isa.name}`,
  };
}
