export { schedule } from "./scheduler.ts";
export * from "./plan.ts";
export * from "./profiles.ts";
export * from "./memory.ts";
export type { Storage, View } from "./view.ts";
export { PROCESSOR_KERNELS, type TargetKernels } from "./target-kernels.ts";
