export { openGpu } from "./cuda-gpu.ts";
export * from "./gpu.ts";
export { type CudaCompiler, openCudaCompiler } from "./nvrtc.ts";
export { type GpuReading, Nvml, type NvmlDevice } from "./nvml.ts";
export { compileMany } from "./compile-many.ts";
