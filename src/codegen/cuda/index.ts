/** CUDA C++ for NVIDIA GPUs: the contract of its kernels, and the generators. */
export { archName, type CudaArch, type CudaKernel, HOPPER } from "./contract.ts";
export { PRELUDE } from "./prelude.ts";
export { cudaTactics } from "./tactics.ts";
