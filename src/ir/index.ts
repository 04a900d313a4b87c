export * from "./graph.ts";
export * from "./graph-json.ts";
export * from "./dim.ts";
export * from "./loop.ts";
export * from "./kernel.ts";
export * from "./expr.ts";
export * from "./interpret-loop.ts";
export * from "./print-kernel.ts";
