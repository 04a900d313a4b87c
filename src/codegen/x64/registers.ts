/**
 * Registers, virtual and physical, and the instruction sets that code is generated for.
 *
 * One type serves both: a register with a negative `id` is physical, and its number is `~id`. Virtual registers are
 * mutable variables; the allocator maps each to one physical register or to the frame.
 */

/** `mask` is a k register (AVX-512); on AVX2 masks are vectors whose lanes are all ones or all zeros. `tile`: AMX, physical only. */
export type RegClass = "gp" | "vec" | "mask" | "tile";

export interface VReg {
  readonly class: RegClass;
  readonly id: number;
  readonly name: string;
}

/** An instruction set; `vnni`, `bf16` and `amx` say which dot-product extensions may be used on top of it. */
export interface Isa {
  readonly name: "avx2" | "avx512";
  readonly vectorBytes: 32 | 64;
  readonly vnni: boolean;
  readonly bf16: boolean;
  readonly amx: boolean;
}

/** AVX2, FMA, F16C and BMI2 alone. */
export const AVX2: Isa = { name: "avx2", vectorBytes: 32, vnni: false, bf16: false, amx: false };
/** AVX-512 F, BW, VL and DQ alone. */
export const AVX512: Isa = { name: "avx512", vectorBytes: 64, vnni: false, bf16: false, amx: false };

/** The best instruction set for these processor features; undefined when even AVX2, FMA, F16C and BMI2 are not all there. */
export function isaOf(features: ReadonlySet<string>): Isa | undefined {
  const has = (...names: string[]): boolean => names.every((name) => features.has(name));
  if (!has("avx2", "fma", "f16c", "bmi2")) return undefined;
  if (!has("avx512f", "avx512bw", "avx512dq", "avx512vl")) return { ...AVX2, vnni: has("avxvnni") };
  return { ...AVX512, vnni: has("avx512vnni"), bf16: has("avx512bf16"), amx: has("amxtile", "amxbf16", "amxint8") };
}

function physical(regClass: RegClass, names: readonly string[]): readonly VReg[] {
  return names.map((name, index) => ({ class: regClass, id: ~index, name }));
}

function numbered(prefix: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}`);
}

/** General registers by their encoding. */
export const GP = physical("gp", ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", ...numbered("r", 16).slice(8)]);
export const VEC = physical("vec", numbered("zmm", 32));
export const MASK = physical("mask", numbered("k", 8));
/** AMX tile registers. They are not allocated: callers name them. */
export const TMM = physical("tile", numbered("tmm", 8));

export const RAX = GP[0]!;
export const RCX = GP[1]!;
export const RDX = GP[2]!;
export const RSP = GP[4]!;
export const RSI = GP[6]!;
export const RDI = GP[7]!;
export const R11 = GP[11]!;

/** Where System V passes the first six integer arguments. */
export const ARGUMENT_REGISTERS: readonly VReg[] = [RDI, RSI, RDX, RCX, GP[8]!, GP[9]!];
/** System V callee-saved registers the allocator may use: rbx, rbp, r12-r15. */
export const CALLEE_SAVED: readonly number[] = [3, 5, 12, 13, 14, 15];

const BYTE_NAMES = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
const OLD_NAMES = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];

/** The assembler's name of a physical register at a size in bytes. */
export function registerName(regClass: RegClass, index: number, bytes: number): string {
  switch (regClass) {
    case "mask": return `k${index}`;
    case "tile": return `tmm${index}`;
    case "vec": return `${bytes > 32 ? "z" : bytes > 16 ? "y" : "x"}mm${index}`;
    case "gp": {
      if (index >= 8) return `r${index}${bytes === 8 ? "" : bytes === 4 ? "d" : bytes === 2 ? "w" : "b"}`;
      if (bytes === 1) return BYTE_NAMES[index]!;
      return `${bytes === 8 ? "r" : bytes === 4 ? "e" : ""}${OLD_NAMES[index]!}`;
    }
  }
}

/** Jump conditions by their code: signed `lt`…, unsigned `b` (below)…, and the processor's own names for the same. */
export const CONDITION_CODES = {
  o: 0, no: 1, b: 2, ae: 3, eq: 4, ne: 5, be: 6, a: 7, s: 8, ns: 9, p: 10, np: 11, lt: 12, ge: 13, le: 14, gt: 15,
  c: 2, nc: 3, e: 4, z: 4, nz: 5, l: 12, g: 15,
} as const;

export type Condition = keyof typeof CONDITION_CODES;

/** The processor's name for each code. */
export const CONDITION_NAMES = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"] as const;

export function negate(condition: Condition): Condition {
  return CONDITION_NAMES[CONDITION_CODES[condition] ^ 1]!;
}
