export * from "./dim-table.ts";
export * from "./manifest.ts";
export * from "./layout.ts";
export * from "./write.ts";
export * from "./read.ts";
