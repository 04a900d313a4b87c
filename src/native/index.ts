export { addressOf, errnoName, libc, nativeFunction, type NativeFunction, viewMemory } from "./koffi.ts";
export * from "./memory.ts";
export * from "./mapped-file.ts";
export * from "./spill-file.ts";
export * from "./cpu.ts";
export * from "./cpu-budget.ts";
export * from "./threads.ts";
export * from "./wake-pipe.ts";
export { at, type Label, StubAssembler, type Register } from "./stub-assembler.ts";
