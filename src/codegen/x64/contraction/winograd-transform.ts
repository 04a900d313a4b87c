/**
 * The transforms of Winograd's minimal filtering F(m x m, 3 x 3), one dimension at a time, on vectors of channels.
 *
 * An output tile of m x m pixels is A^T [ (G g G^T) . (B^T d B) ] A: `d` the input tile of (m + 2) x (m + 2), `g` the
 * filter, the dot a product per element. Points of interpolation: 0, 1, -1 and infinity for m = 2; 2 and -2 besides
 * for m = 4. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", sections 4.1 and 4.3.
 */
import type { FunctionBuilder, Mem, VReg } from "../function.ts";
import type { KernelWriter } from "./writer.ts";

export type WinogradSize = 2 | 4;

/** G: (m + 2) x 3. */
const FILTER: Readonly<Record<WinogradSize, readonly (readonly [number, number, number])[]>> = {
  2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
  4: [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
};

/** G g G^T for the 9 taps of a filter from `at` on; row-major into `to`. */
export function transformFilter(size: WinogradSize, taps: Float32Array, at: number, to: Float64Array): void {
  const g = FILTER[size];
  for (const [i, [a, b, c]] of g.entries()) {
    const [left, middle, right] = [0, 1, 2].map((x) => a * taps[at + x]! + b * taps[at + 3 + x]! + c * taps[at + 6 + x]!) as [number, number, number];
    for (const [j, [d, e, f]] of g.entries()) to[i * g.length + j] = d * left + e * middle + f * right;
  }
}

export class WinogradTransform {
  readonly #f: FunctionBuilder;
  readonly #lanes: number;
  readonly #size: WinogradSize;

  constructor(w: KernelWriter, size: WinogradSize) {
    this.#f = w.f;
    this.#lanes = w.lanes;
    this.#size = size;
  }

  /** B^T d */
  input(d: readonly VReg[]): VReg[] {
    const [d0, d1, d2, d3] = d as [VReg, VReg, VReg, VReg];
    if (this.#size === 2) return [this.#sub(d0, d2), this.#add(d1, d2), this.#sub(d2, d1), this.#sub(d1, d3)];
    const [d4, d5] = d.slice(4) as [VReg, VReg];
    const [even, odd] = [this.#fma(d4, d2, -4), this.#fma(d3, d1, -4)];
    const [near, far] = [this.#sub(d4, d2), this.#sub(d3, d1)];
    return [
      this.#fma(this.#fma(d4, d2, -5), d0, 4), this.#add(even, odd), this.#sub(even, odd),
      this.#fma(near, far, 2), this.#fma(near, far, -2), this.#fma(this.#fma(d5, d3, -5), d1, 4),
    ];
  }

  /** A^T m */
  output(m: readonly VReg[]): VReg[] {
    const [m0, m1, m2, m3] = m as [VReg, VReg, VReg, VReg];
    const [sum, difference] = [this.#add(m1, m2), this.#sub(m1, m2)];
    if (this.#size === 2) return [this.#add(m0, sum), this.#sub(difference, m3)];
    const [m4, m5] = m.slice(4) as [VReg, VReg];
    const [sum2, difference2] = [this.#add(m3, m4), this.#sub(m3, m4)];
    return [
      this.#add(this.#add(m0, sum), sum2), this.#fma(difference, difference2, 2),
      this.#fma(sum, sum2, 4), this.#add(this.#fma(difference, difference2, 8), m5),
    ];
  }

  #add(a: VReg, b: VReg): VReg { return this.#result("vaddps", a, b); }
  #sub(a: VReg, b: VReg): VReg { return this.#result("vsubps", a, b); }

  /** a + b * factor */
  #fma(a: VReg, b: VReg, factor: number): VReg {
    const sum = this.#result("vmovaps", a);
    this.#f.emit("vfmadd231ps", sum, b, this.#constant(factor));
    return sum;
  }

  #result(mnemonic: string, ...operands: VReg[]): VReg {
    const register = this.#f.vec();
    this.#f.emit(mnemonic, register, ...operands);
    return register;
  }

  #constant(value: number): Mem {
    return this.#f.constant(new Uint8Array(new Float32Array(this.#lanes).fill(value).buffer), 4 * this.#lanes);
  }
}
