export * from "./engine.ts";
export type { Feeds, Results } from "./executor.ts";
