export * from "./engine.ts";
export type { AllocateOutput, Feeds, Results, StepTiming } from "./executor.ts";
export { allocateTensor, isNative } from "./native-tensors.ts";
