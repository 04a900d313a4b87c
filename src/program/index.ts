export { openPool, type Pool, type PoolOptions } from "./pool.ts";
export { type AsyncRunOptions, Program, type RunOptions, type StepSpan, type StepSpec } from "./program.ts";
