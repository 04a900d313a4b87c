export { errnoName, libc, nativeFunction, type NativeFunction, viewMemory } from "./koffi.ts";
export * from "./memory.ts";
export * from "./mapped-file.ts";
