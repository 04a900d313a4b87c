/** Machine code for x86-64: functions over virtual registers, and what they are made of. */
export { assemble, type Assembly, type Item, type Jump } from "./assembler.ts";
export * from "./function.ts";
export { GP, MASK, negate, RAX, RCX, RDX, RSI, RDI, RSP, TMM, VEC } from "./registers.ts";
