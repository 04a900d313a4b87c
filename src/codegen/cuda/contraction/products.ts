/**
 * Matrix products as device functions, one per shape and element type.
 * Sources: PTX ISA 9.0, 9.7.15 (wgmma), 9.7.14 (mma); fragments hold, per block of eight columns, elements
 * (row, column), (row, column + 1), (row + 8, column), (row + 8, column + 1) with row = lane / 4, column = 2 (lane % 4).
 */
import { ELEMENTS, type Multiplied } from "./elements.ts";

export interface WarpgroupProduct {
  readonly name: string;
  readonly element: Multiplied;
  readonly columns: number;
  /** A from registers instead of shared memory (16-bit elements: four words). */
  readonly aInRegisters?: boolean;
  /** B lies with its columns contiguous; 16-bit elements only. */
  readonly bColumnsContiguous?: boolean;
}

const list = (count: number, item: (i: number) => string, separator = ","): string => Array.from({ length: count }, (_, i) => item(i)).join(separator);

/** `void name(sums, a, b, accumulate)`: 64 rows by `columns`, one step of the reduction (32 bytes of a row). */
export function warpgroupProduct(p: WarpgroupProduct): string {
  const element = ELEMENTS[p.element];
  const count = p.columns / 2;
  const first = count;
  const a = p.aInRegisters ? `{${list(4, (i) => `%${first + i}`)}}` : `%${first}`;
  const b = first + (p.aInRegisters ? 4 : 1);
  const half = element.bytes === 2;
  const flags = `, 1, 1${half ? `${p.aInRegisters ? "" : ", 0"}, ${p.bColumnsContiguous ? 1 : 0}` : ""}`;
  const inputs = p.aInRegisters ? `${list(4, (i) => `"r"(a[${i}])`)}, "l"(b)` : `"l"(a), "l"(b)`;
  return `
__device__ __forceinline__ void ${p.name}(float (&d)[${count}], ${p.aInRegisters ? "const u32 (&a)[4]" : "u64 a"}, u64 b, int accumulate) {
  asm volatile("{\\n.reg .pred p;\\nsetp.ne.b32 p, %${b + 1}, 0;\\n"
    "wgmma.mma_async.sync.aligned.m64n${p.columns}k${32 / element.bytes}.f32.${element.ptx}.${element.ptx} "
    "{${list(count, (i) => `%${i}`)}}, ${a}, %${b}, p${flags};\\n}"
    : ${list(count, (i) => `"+f"(d[${i}])`)}
    : ${inputs}, "r"(accumulate));
}
`;
}

/** \`void multiply(sums, a, b)\`: 16 rows by 8 columns on one warp; a step of 32 bytes of a row (16 for float32). */
export function warpProduct(element: Multiplied): string {
  const { ptx, bytes } = ELEMENTS[element];
  const depth = 32 / bytes;
  return `
__device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k${depth}.row.col.f32.${ptx}.${ptx}.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
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
