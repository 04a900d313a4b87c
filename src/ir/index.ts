export * from "./graph.ts";
export * from "./dim.ts";
export * from "./loop.ts";
export * from "./kernel.ts";
