/**
 * How a contraction multiplies. Register tiles work on words, 32 bits that hold one, two or four neighbours of the
 * reduction; a step takes one word of A, in all lanes, and a vector of words of B, one per column:
 *
 * - `float`: one float32, multiply-add.
 * - `bfloat`: two bfloat16, VDPBF16PS. Sums are float32; denormals count as zero.
 * - `bytes`: four 8-bit integers, VPDPBUSD. A must be unsigned: where it is signed, its sign bits are flipped on the way to
 *   the register, which adds 128 to each element, and sums start at -128 times the column's sum of B.
 * - `pairs`: two differences from zero points as 16-bit integers, VPDPWSSD, or VPMADDWD where there is no VNNI. Sums of two
 *   products of 9-bit numbers fit 32 bits, so nothing saturates, and results are those of `bytes` on every processor.
 *
 * Source: Intel SDM vol. 2, VDPBF16PS, VPDPBUSD, VPDPWSSD, VPMADDWD.
 */
import { DTYPE_BITS, type DType } from "../../../base/index.ts";
import type { FunctionBuilder, Isa, Mem, VReg } from "../function.ts";

export type ProductName = "float" | "bfloat" | "bytes" | "pairs";

export interface Product {
  readonly name: ProductName;
  /** Elements of the reduction in a word. */
  readonly perWord: 1 | 2 | 4;
  readonly accumulator: "f32" | "i32";
  /** A's elements as they are stored: those of `pairs` are widened by a copy. */
  readonly a: DType;
  /** Whether A's sign bits are flipped. */
  readonly flips: boolean;
  /** Whether A may be an embedded broadcast of the multiplication. */
  readonly embeds: boolean;
}

export const FLOAT: Product = { name: "float", perWord: 1, accumulator: "f32", a: "float32", flips: false, embeds: true };

const isByte = (dtype: DType): boolean => dtype === "int8" || dtype === "uint8";

/**
 * The product of two operand types; undefined when there is none on this instruction set.
 * @param fitsBytes whether B is a constant whose differences from its zero point are 8-bit signed integers
 */
export function productOf(a: DType, b: DType, isa: Isa, fitsBytes: boolean): Product | undefined {
  if (a === "float32" && b === "float32") return FLOAT;
  if (a === "bfloat16" && b === "bfloat16") return isa.bf16 ? { name: "bfloat", perWord: 2, accumulator: "f32", a, flips: false, embeds: true } : undefined;
  if (!isByte(a) || !isByte(b)) return undefined;
  if (isa.vnni && fitsBytes) return { name: "bytes", perWord: 4, accumulator: "i32", a, flips: a === "int8", embeds: false };
  return { name: "pairs", perWord: 2, accumulator: "i32", a, flips: false, embeds: isa.vnni };
}

/** The same on tiles, which multiply signed bytes as they are; undefined where there are none for it. */
export function tileProductOf(product: Product, isa: Isa): Product | undefined {
  return isa.amx && (product.name === "bfloat" || product.name === "bytes") ? { ...product, flips: false } : undefined;
}

export function bytesOf(dtype: DType): number {
  return DTYPE_BITS[dtype] / 8;
}

/** What A's words are combined with in a register tile, held in a register for all steps. */
export function flipMask(f: FunctionBuilder, product: Product): VReg | undefined {
  if (!product.flips) return undefined;
  const mask = f.vec("flip");
  f.emit("vpbroadcastd", mask, f.constant(Uint8Array.of(0x80, 0x80, 0x80, 0x80), 4));
  return mask;
}

/** One word of A in all lanes. */
export function broadcastWord(f: FunctionBuilder, place: Mem, flip: VReg | undefined): VReg {
  const register = f.vec("a");
  if (flip === undefined) f.emit("vbroadcastss", register, place);
  else if (f.isa.name === "avx512") f.emit("vpxord", register, flip, { ...place, broadcast: true });
  else {
    f.emit("vpbroadcastd", register, place);
    f.emit("vpxor", register, register, flip);
  }
  return register;
}

/** sums += a * b in each lane; `width` is a suffix of mnemonics. `b` may be memory, an embedded broadcast only of products that embed. */
export function multiplyWords(f: FunctionBuilder, product: Product, sums: VReg, a: VReg, b: VReg | Mem, width = ""): void {
  switch (product.name) {
    case "float": return f.emit(`vfmadd231ps${width}`, sums, a, b);
    case "bfloat": return f.emit(`vdpbf16ps${width}`, sums, a, b);
    case "bytes": return f.emit(`vpdpbusd${width}`, sums, a, b);
    case "pairs": {
      if (f.isa.vnni) return f.emit(`vpdpwssd${width}`, sums, a, b);
      const products = f.vec("products");
      f.emit(`vpmaddwd${width}`, products, a, b);
      f.emit(`vpaddd${width}`, sums, sums, products);
    }
  }
}
