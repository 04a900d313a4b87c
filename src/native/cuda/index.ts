export { openGpu } from "./cuda-gpu.ts";
export * from "./gpu.ts";
export { type CudaCompiler, openCudaCompiler } from "./nvrtc.ts";
export { compileMany } from "./compile-many.ts";
