export * from "./dtype.ts";
export * from "./errors.ts";
export * from "./tensor.ts";
export * from "./float.ts";
export * from "./protobuf.ts";
export * from "./protobuf-writer.ts";
export * from "./precision.ts";
