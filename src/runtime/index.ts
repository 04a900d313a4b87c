export * from "./engine.ts";
export type { AllocateOutput, Feeds, Results, StepTiming, TensorResults, ThreadSpan } from "./execution.ts";
export type { LayerSaturation, Saturation } from "./saturation.ts";
export { allocateTensor } from "./native-tensors.ts";
