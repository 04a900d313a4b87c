export * from "./bound-kernel.ts";
export * from "./cpu-device.ts";
export * from "./gpu-device.ts";
export * from "./other-shapes.ts";
export * from "./shape-ladder.ts";
export * from "./timing-cache.ts";
export * from "./tune.ts";
export { limitExtraWeights, type WeightChoice } from "./weight-budget.ts";
