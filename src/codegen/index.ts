/** Kernels to machine code, one target per folder. */
export { type PeakName, attentionTactics, bandTactics, compilePeak, convTactics, matmulTactics } from "./x64/contraction/index.ts";
export { type Isa, isaOf } from "./x64/index.ts";
export { compileLoop } from "./x64/loop/index.ts";
export { compileSequential } from "./x64/sequential/index.ts";
export { archName, type CudaArch, type CudaKernel, cudaTactics, HOPPER, PRELUDE } from "./cuda/index.ts";
