/** Machine code for x86-64: `FunctionBuilder` for single instructions, `Simd` for vectors on either instruction set. */
export { assemble, type Assembly, type Item, type Jump } from "./assembler.ts";
export * from "./function.ts";
export { GP, MASK, negate, RAX, RCX, RDX, RSI, RDI, RSP, TMM, VEC } from "./registers.ts";
