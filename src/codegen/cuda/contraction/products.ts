/**
 * Matrix products as device functions, one per shape and element type.
 * Sources: PTX ISA 9.0, 9.7.15 (wgmma), 9.7.14 (mma); fragments hold, per block of eight columns, elements
 * (row, column), (row, column + 1), (row + 8, column), (row + 8, column + 1) with row = lane / 4, column = 2 (lane % 4).
 */
import { type Element, ELEMENTS, type Operands } from "./elements.ts";

export interface WarpgroupProduct {
  readonly name: string;
  readonly operands: Operands;
  readonly columns: number;
  /** A from registers instead of shared memory (16-bit elements: four words). */
  readonly aInRegisters?: boolean;
  /** B lies with its columns contiguous; 16-bit elements only. */
  readonly bColumnsContiguous?: boolean;
}

const PTX_SUM = { float: "f32", int: "s32" } as const;

const list = (count: number, item: (i: number) => string, separator = ","): string => Array.from({ length: count }, (_, i) => item(i)).join(separator);

/** `void name(sums, a, b, accumulate)`: 64 rows by `columns`, one step of the reduction (32 bytes of a row). */
export function warpgroupProduct(p: WarpgroupProduct): string {
  const [left, right] = p.operands.map((type) => ELEMENTS[type]) as [Element, Element];
  const { bytes, sum } = left;
  const count = p.columns / 2;
  const first = count;
  const a = p.aInRegisters ? `{${list(4, (i) => `%${first + i}`)}}` : `%${first}`;
  const b = first + (p.aInRegisters ? 4 : 1);
  // Signs of the operands, which integers do not have, and orders, which only halves have.
  const orders = bytes === 2 ? `${p.aInRegisters ? "" : ", 0"}, ${p.bColumnsContiguous ? 1 : 0}` : "";
  const flags = sum === "int" ? "" : `, 1, 1${orders}`;
  const inputs = p.aInRegisters ? `${list(4, (i) => `"r"(a[${i}])`)}, "l"(b)` : `"l"(a), "l"(b)`;
  return `
__device__ __forceinline__ void ${p.name}(${sum} (&d)[${count}], ${p.aInRegisters ? "const u32 (&a)[4]" : "u64 a"}, u64 b, int accumulate) {
  asm volatile("{\\n.reg .pred p;\\nsetp.ne.b32 p, %${b + 1}, 0;\\n"
    "wgmma.mma_async.sync.aligned.m64n${p.columns}k${32 / bytes}.${PTX_SUM[sum]}.${left.ptx}.${right.ptx} "
    "{${list(count, (i) => `%${i}`)}}, ${a}, %${b}, p${flags};\\n}"
    : ${list(count, (i) => `"+${sum === "int" ? "r" : "f"}"(d[${i}])`)}
    : ${inputs}, "r"(accumulate));
}
`;
}

/** \`void multiply(sums, a, b)\`: 16 rows by 8 columns on one warp; a step of 32 bytes of a row (16 for float32). */
export function warpProduct([left, right]: Operands): string {
  const { ptx, bytes, sum } = ELEMENTS[left];
  const [type, register] = [PTX_SUM[sum], sum === "int" ? "r" : "f"];
  return `
__device__ __forceinline__ void multiply(${sum} (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k${32 / bytes}.row.col.${type}.${ptx}.${ELEMENTS[right].ptx}.${type} {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
    : ${list(4, (i) => `"+${register}"(d[${i}])`)} : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
`;
}

/**
 * `split(x, high, low)`: the nearest number that tf32 holds, and the nearest to what is left. The unit would cut both
 * towards zero, and errors of one sign add up over a long reduction.
 */
export const SPLIT = `
__device__ __forceinline__ void split(float x, u32& high, u32& low) {
  high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  low = (__float_as_uint(x - __uint_as_float(high)) + 0x1000u) & 0xffffe000u;
}
`;
