export { schedule } from "./scheduler.ts";
export * from "./plan.ts";
export * from "./profiles.ts";
export * from "./memory.ts";
export type { NarrowTypes } from "./contractions.ts";
export type { Storage, View } from "./view.ts";
