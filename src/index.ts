/** Sinter's public API. */
export { build, type BuildOptions, type BuildProgress, type BuildReport, type BuildResult, type BuildStage } from "./compile.ts";
export { type DType, type ErrorCode, ERRORS, SinterError, Tensor, type TensorData, UnsupportedError, UserError } from "./base/index.ts";
export { Engine, type EngineOptions, ExecutionContext, type Feeds, type Results, type RunOptions, type TensorResults, type ValueInfo } from "./runtime/index.ts";
export type { HostSequence, HostValue } from "./reference/contract.ts";
export type { Profile, ShapeRange } from "./schedule/index.ts";
export { VERSION } from "./version.ts";
export { calibrate, type CalibrateOptions } from "./calibrate.ts";
export { buildInt8, type Int8Options, type Int8Result } from "./mixed-precision.ts";
export { measureNoise } from "./layer-noise.ts";
export { type DataSet, type Entry, openData, type Sample } from "./data/index.ts";
export {
  type AccuracyReport, type Answer, type CalibrationCache, type Calibrator, CALIBRATORS, type LayerNoise, type Metric, metricNamed, readCache, type Scheme, writeCache,
} from "./quantize/index.ts";
export type { LayerPlan, QuantizationPlan } from "./passes/index.ts";
