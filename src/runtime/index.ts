export * from "./engine.ts";
export type { Feeds, Results, StepTiming } from "./execution.ts";
