/** The few vector operations that contractions need besides their multiply-adds; the same text for both instruction sets. */
import type { FunctionBuilder, Mem, VReg } from "../function.ts";
import type { Size } from "./writer.ts";

export class Vectors {
  readonly #f: FunctionBuilder;
  readonly #lanes: number;
  readonly #wide: boolean;

  constructor(f: FunctionBuilder) {
    this.#f = f;
    this.#lanes = f.isa.vectorBytes / 4;
    this.#wide = f.isa.name === "avx512";
  }

  #result(mnemonic: string, ...operands: (VReg | Mem | number)[]): VReg {
    const register = this.#f.vec();
    this.#f.emit(mnemonic, register, ...operands);
    return register;
  }

  zero(name?: string): VReg {
    const register = this.#f.vec(name);
    this.#f.emit("vxorps", register, register, register);
    return register;
  }

  splat(value: number): VReg {
    return this.#result("vbroadcastss", this.#f.constant(new Uint8Array(Float32Array.of(value).buffer), 4));
  }

  load(place: Mem): VReg { return this.#result("vmovups", place); }
  store(place: Mem, value: VReg): void { this.#f.emit("vmovups", place, value); }
  add(a: VReg, b: VReg): VReg { return this.#result("vaddps", a, b); }
  sub(a: VReg, b: VReg): VReg { return this.#result("vsubps", a, b); }
  mul(a: VReg, b: VReg): VReg { return this.#result("vmulps", a, b); }
  div(a: VReg, b: VReg): VReg { return this.#result("vdivps", a, b); }
  /** The second where one is NaN. */
  max(a: VReg, b: VReg | Mem): VReg { return this.#result("vmaxps", a, b); }

  /** Lanes outside the mask are zero and their memory is not touched. */
  loadMasked(place: Mem, mask: VReg): VReg {
    const register = this.#f.vec();
    if (this.#wide) this.#f.emitMasked("vmovups", mask, true, register, place);
    else this.#f.emit("vmaskmovps", register, mask, place);
    return register;
  }

  storeMasked(place: Mem, value: VReg, mask: VReg): void {
    if (this.#wide) this.#f.emitMasked("vmovups", mask, false, place, value);
    else this.#f.emit("vmaskmovps", place, mask, value);
  }

  /** The first `count` lanes, 0 to all of them. */
  tailMask(count: Size): VReg {
    const f = this.#f;
    const mask = f.mask("tail");
    if (this.#wide) {
      const bits = f.gp("bits");
      f.emit("mov", bits, typeof count === "number" ? 2 ** count - 1 : -1);
      if (typeof count !== "number") f.emit("bzhi", bits, bits, count);
      f.emit("kmovw", mask, bits);
    } else if (typeof count === "number") {
      f.emit("vmovups", mask, this.#table((lane) => (lane < count ? -1 : 0)));
    } else {
      const limit = f.vec("limit");
      f.emit("vmovd", limit, count);
      f.emit("vpbroadcastd", limit, limit);
      f.emit("vpcmpgtd", mask, limit, this.#table((lane) => lane));
    }
    return mask;
  }

  #table(value: (lane: number) => number): Mem {
    return this.#f.constant(new Uint8Array(Int32Array.from({ length: this.#lanes }, (_, lane) => value(lane)).buffer), this.#f.isa.vectorBytes);
  }
}
