/** For tests: which instruction sets this machine can run. */
import { detectCpu } from "../../native/index.ts";
import { AVX2, AVX512, type Isa, isaOf } from "./registers.ts";

/** AVX2, and AVX-512 when the processor has it. */
export function runnableIsas(): readonly Isa[] {
  const best = isaOf(detectCpu().features);
  if (best === undefined) return [];
  return best.name === "avx512" ? [AVX2, AVX512] : [AVX2];
}
