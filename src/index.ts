/** Sinter's public API. */
export { build, type BuildOptions, type BuildProgress, type BuildReport, type BuildResult, type BuildStage } from "./compile.ts";
export { type DType, type ErrorCode, ERRORS, SinterError, Tensor, type TensorData, UnsupportedError, UserError } from "./base/index.ts";
export { Engine, type EngineOptions, ExecutionContext, type Feeds, type Results, type RunOptions, type ValueInfo } from "./runtime/index.ts";
export type { HostSequence, HostValue } from "./reference/contract.ts";
export type { Profile, ShapeRange } from "./schedule/index.ts";
export { VERSION } from "./version.ts";
