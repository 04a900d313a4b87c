/** Machine code for x86-64: functions over virtual registers, and what they are made of. */
export * from "./function.ts";
export { GP, RAX, RCX, RDX } from "./registers.ts";
