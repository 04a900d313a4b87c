export * from "./engine.ts";
export type { Feeds, Results, StepTiming, ThreadSpan } from "./executor.ts";
