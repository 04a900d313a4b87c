/**
 * Typed vector values: the operations of loop expressions on a group of lanes, as many as a vector has f32.
 *
 * f32, i32 and u32 take one register, 64-bit types two (low lanes first), bool a mask. Elements convert between their
 * storage type and their scalar type on load and store. What has no vector instruction goes through the frame, lane by
 * lane, and touches only active lanes.
 */
import { type DType, UnsupportedError } from "../../../base/index.ts";
import type { FunctionBuilder, Mem, VReg } from "../function.ts";
import { VectorMath } from "../math.ts";
import { type ReduceOp, type ScalarOp, type ScalarType, scalarTypeOf } from "../../loop-ir.ts";
import { constantBits } from "./constant-bits.ts";
import { LaneMemory } from "./lane-memory.ts";
import { isWide } from "./storage.ts";
import type { Gp } from "./scope.ts";

export type Vector = readonly VReg[];

const COMPARE_FLOAT: Readonly<Partial<Record<ScalarOp, number>>> = { eq: 0, lt: 0x11, le: 0x12, ne: 4, ge: 0x1d, gt: 0x1e };
const COMPARE_INT: Readonly<Partial<Record<ScalarOp, number>>> = { eq: 0, lt: 1, le: 2, ne: 4, ge: 5, gt: 6 };
const ROUNDINGS: Readonly<Partial<Record<ScalarOp, number>>> = { round: 8, floor: 9, ceil: 10, trunc: 11 };
const FLOAT_OPS: Readonly<Partial<Record<ScalarOp, string>>> = { add: "vaddp", sub: "vsubp", mul: "vmulp", div: "vdivp" };
const INT_OPS: Readonly<Partial<Record<ScalarOp, string>>> = { add: "vpadd", sub: "vpsub", shiftLeft: "vpsllv", shiftRight: "vpsrlv" };
const BIT_OPS: Readonly<Partial<Record<ScalarOp, string>>> = { bitAnd: "vpand", bitOr: "vpor", bitXor: "vpxor", and: "vpand", or: "vpor", xor: "vpxor" };
const MASK_OPS: Readonly<Partial<Record<ScalarOp, string>>> = { and: "kandw", bitAnd: "kandw", mul: "kandw", min: "kandw", or: "korw", bitOr: "korw", max: "korw", add: "korw", xor: "kxorw", bitXor: "kxorw", ne: "kxorw" };


export class Lanes {
  readonly f: FunctionBuilder;
  /** f32 lanes of a vector. */
  readonly count: number;
  readonly isWideIsa: boolean;
  /** Width suffixes of whole and half vectors. */
  readonly w: string;
  readonly h: string;
  readonly math: VectorMath;
  private readonly memory: LaneMemory;

  constructor(f: FunctionBuilder) {
    this.f = f;
    this.isWideIsa = f.isa.vectorBytes === 64;
    this.count = f.isa.vectorBytes / 4;
    this.w = this.isWideIsa ? ".z" : ".y";
    this.h = this.isWideIsa ? ".y" : ".x";
    this.math = new VectorMath(f);
    this.memory = new LaneMemory(this);
  }

  // ---- registers

  fresh(type: ScalarType): Vector {
    if (type === "bool") return [this.f.mask()];
    return isWide(type) ? [this.f.vec(), this.f.vec()] : [this.f.vec()];
  }

  assign(type: ScalarType, into: Vector, value: Vector): void {
    into.forEach((register, i) => {
      if (register === value[i]) return;
      this.f.emit(type === "bool" && this.isWideIsa ? "kmovw" : `vmovaps${this.w}`, register, value[i]!);
    });
  }

  emit(mnemonic: string, ...operands: readonly (VReg | Mem | number)[]): VReg {
    const result = this.f.vec();
    this.f.emit(mnemonic + this.w, result, ...operands);
    return result;
  }

  zero(): VReg {
    const result = this.f.vec();
    this.f.emit(`vxorps${this.w}`, result, result, result);
    return result;
  }

  high(register: VReg): VReg {
    const result = this.f.vec();
    this.f.emit(this.isWideIsa ? "vextractf64x4.z" : "vextractf128.y", result, register, 1);
    return result;
  }

  private join(low: VReg, high: VReg): VReg {
    const result = this.f.vec();
    this.f.emit(this.isWideIsa ? "vinsertf64x4.z" : "vinsertf128.y", result, low, high, 1);
    return result;
  }

  // ---- constants

  splat(type: ScalarType, value: number | bigint): Vector {
    if (type === "bool") return [this.maskOf(Number(value) !== 0)];
    const bits = constantBits(type, value);
    if (bits.every((byte) => byte === 0)) { const zero = this.zero(); return isWide(type) ? [zero, zero] : [zero]; }
    const place = this.f.constant(bits, bits.length);
    const register = this.emit(isWide(type) ? "vbroadcastsd" : "vbroadcastss", place);
    return isWide(type) ? [register, register] : [register];
  }

  private table(values: readonly number[]): Mem {
    return this.f.constant(new Uint8Array(Int32Array.from(values).buffer), this.f.isa.vectorBytes);
  }

  iota(): VReg {
    return this.emit("vmovups", this.table(Array.from({ length: this.count }, (_, i) => i)));
  }

  broadcast(type: ScalarType, value: Gp): Vector {
    if (typeof value === "number") return this.splat(type, value);
    if (type === "bool") return [this.maskFromGp(value)];
    const low = this.f.vec();
    this.f.emit(isWide(type) ? "vmovq" : "vmovd", low, value);
    const register = this.emit(isWide(type) ? "vpbroadcastq" : "vpbroadcastd", low);
    return isWide(type) ? [register, register] : [register];
  }

  firstToGp(type: ScalarType, value: Vector): VReg {
    const result = this.f.gp();
    if (type === "bool") {
      if (this.isWideIsa) this.f.emit("kmovw", result, value[0]!);
      else this.f.emit("vmovd", result, value[0]!);
      this.f.emit("and", result, 1);
    } else if (isWide(type)) this.f.emit("vmovq", result, value[0]!);
    else {
      this.f.emit("vmovd", result, value[0]!);
      if (type === "i32") this.f.emit("movsxd", result, result);
    }
    return result;
  }

  // ---- masks

  private maskOf(isTrue: boolean): VReg {
    const mask = this.f.mask();
    if (this.isWideIsa) this.f.emit(isTrue ? "kxnorw" : "kxorw", mask, mask, mask);
    else this.f.emit(isTrue ? "vpcmpeqd.y" : "vpxor.y", mask, mask, mask);
    return mask;
  }

  private maskFromGp(value: VReg): VReg {
    const bits = this.f.gp();
    this.f.emit("mov", bits, value);
    this.f.emit("neg", bits);
    const mask = this.f.mask();
    if (this.isWideIsa) this.f.emit("kmovw", mask, bits);
    else {
      const low = this.f.vec();
      this.f.emit("vmovd", low, bits);
      this.f.emit("vpbroadcastd.y", mask, low);
    }
    return mask;
  }

  /** Lanes below `count`, which may be more than there are. */
  tailMask(count: Gp): VReg {
    const limit = this.broadcast("i32", count)[0]!;
    return this.compare("lt", "i32", [this.iota()], [limit]);
  }

  both(mask: VReg, other: VReg | undefined): VReg {
    return other ? this.logic("and", [mask], [other]) : mask;
  }

  /** Lanes of `mask` (all when absent) where `condition` does not hold. */
  butNot(mask: VReg | undefined, condition: VReg): VReg {
    return this.logic("and", [this.not(condition)], [mask ?? this.maskOf(true)]);
  }

  not(mask: VReg): VReg {
    const result = this.f.mask();
    if (this.isWideIsa) this.f.emit("knotw", result, mask);
    else this.f.emit("vpxor.y", result, mask, this.maskOf(true));
    return result;
  }

  private logic(op: ScalarOp, a: Vector, b: Vector): VReg {
    const result = this.f.mask();
    if (this.isWideIsa) this.f.emit(MASK_OPS[op]!, result, a[0]!, b[0]!);
    else this.f.emit(`${({ kandw: "vpand", korw: "vpor", kxorw: "vpxor" } as const)[MASK_OPS[op] as "kandw"]}.y`, result, a[0]!, b[0]!);
    return result;
  }

  /** Masks of the two registers of a 64-bit type. */
  splitMask(mask: VReg): [VReg, VReg] {
    const high = this.f.mask();
    if (this.isWideIsa) {
      this.f.emit("kshiftrw", high, mask, 8);
      return [mask, high];
    }
    const low = this.f.mask();
    this.f.emit("vpmovsxdq.y", low, mask);
    this.f.emit("vpmovsxdq.y", high, this.high(mask));
    return [low, high];
  }

  joinMasks(low: VReg, high: VReg): VReg {
    const mask = this.f.mask();
    if (this.isWideIsa) this.f.emit("kunpckbw", mask, high, low);
    else this.f.emit("vpermq.y", mask, this.emit("vshufps", low, high, 0x88), 0xd8);
    return mask;
  }

  // ---- arithmetic

  operate(op: ScalarOp, type: ScalarType, args: readonly Vector[], isSecondNumber = false): Vector {
    const [a, b] = args as [Vector, Vector];
    if (op === "isNan" || op === "isInf") return [this.classify(op, type, a)];
    if (type === "bool") return [this.boolean(op, a, b)];
    if (COMPARE_INT[op] !== undefined) return [this.compare(op, type, a, b)];
    const isFloat = type === "f32" || type === "f64";
    if (isFloat && VectorMath.has(op)) {
      if (type === "f64") throw new UnsupportedError("unsupported", `${op} of float64 has no loop code; it runs as a reference step.`);
      return [this.math.call(op, a[0]!, b?.[0])];
    }
    if (!isFloat && (op === "div" || op === "mod" || op === "rem")) return this.divide(op, type, a, b);
    return a.map((_, i) => (isFloat ? this.float(op, type, a[i]!, b?.[i], isSecondNumber) : this.integer(op, type, a[i]!, b?.[i])));
  }

  private boolean(op: ScalarOp, a: Vector, b: Vector): VReg {
    if (op === "not" || op === "bitNot") return this.not(a[0]!);
    if (op === "eq") return this.not(this.logic("xor", a, b));
    if (op === "lt" || op === "gt") return this.logic("and", op === "lt" ? [this.not(a[0]!)] : a, op === "lt" ? b : [this.not(b[0]!)]);
    if (op === "le" || op === "ge") return this.logic("or", op === "le" ? [this.not(a[0]!)] : a, op === "le" ? b : [this.not(b[0]!)]);
    return this.logic(op, a, b);
  }

  private float(op: ScalarOp, type: ScalarType, a: VReg, b: VReg | undefined, isSecondNumber: boolean): VReg {
    const s = type === "f32" ? "s" : "d";
    const one = (): VReg => this.splat(type, 1)[0]!;
    if (FLOAT_OPS[op]) return this.emit(FLOAT_OPS[op] + s, a, b!);
    if (ROUNDINGS[op] !== undefined) return this.emit((this.isWideIsa ? "vrndscalep" : "vroundp") + s, a, ROUNDINGS[op]);
    switch (op) {
      case "sqrt": return this.emit(`vsqrtp${s}`, a);
      case "rsqrt": return this.emit(`vdivp${s}`, one(), this.emit(`vsqrtp${s}`, a));
      case "reciprocal": return this.emit(`vdivp${s}`, one(), a);
      case "neg": return this.emit(`vxorp${s}`, a, this.splat(type, -0)[0]!);
      case "abs": return this.emit(`vandnp${s}`, this.splat(type, -0)[0]!, a);
      case "min": case "max": return this.extreme(op, s, type, a, b!, isSecondNumber);
      case "sign": return this.floatSign(type, a);
      case "mod": case "rem": return this.floatRemainder(op, type, a, b!);
      default: throw new UnsupportedError("unsupported", `${op} of ${type} has no loop code; it runs as a reference step.`);
    }
  }

  /** NaN in either operand gives NaN: the instruction answers its second source when one is NaN. */
  private extreme(op: "min" | "max", s: string, type: ScalarType, a: VReg, b: VReg, isSecondNumber: boolean): VReg {
    if (isSecondNumber) return this.emit(`v${op}p${s}`, b, a);
    const result = this.emit(`v${op}p${s}`, a, b);
    const isNan = this.f.mask();
    this.f.emit(`vcmpp${s}${this.w}`, isNan, a, a, 3);
    return this.blendRegister(type, isNan, a, result);
  }

  private floatSign(type: ScalarType, a: VReg): VReg {
    const s = type === "f32" ? "s" : "d";
    const one = this.emit(`vorp${s}`, this.splat(type, 1)[0]!, this.emit(`vandp${s}`, a, this.splat(type, -0)[0]!));
    const isOther = this.f.mask();
    // Ordered and not equal: zero and NaN stay themselves.
    this.f.emit(`vcmpp${s}${this.w}`, isOther, a, this.zero(), 0x0c);
    return this.blendRegister(type, isOther, one, a);
  }

  private floatRemainder(op: "mod" | "rem", type: ScalarType, a: VReg, b: VReg): VReg {
    const s = type === "f32" ? "s" : "d";
    const quotient = this.float("trunc", type, this.emit(`vdivp${s}`, a, b), undefined, false);
    const rest = this.f.vec();
    this.f.emit(`vmovaps${this.w}`, rest, a);
    this.f.emit(`vfnmadd231p${s}${this.w}`, rest, quotient, b);
    if (op === "rem") return rest;
    const differs = this.emit(`vxorp${s}`, rest, b);
    const isMoved = this.f.mask();
    this.f.emit(`vcmpp${s}${this.w}`, isMoved, differs, this.zero(), 0x11);
    return this.blendRegister(type, isMoved, this.emit(`vaddp${s}`, rest, b), rest);
  }

  private integer(op: ScalarOp, type: ScalarType, a: VReg, b: VReg | undefined): VReg {
    const s = isWide(type) ? "q" : "d";
    if (BIT_OPS[op]) return this.emit(BIT_OPS[op], a, b!);
    if (op === "shiftRight" && (type === "i32" || type === "i64") && (s === "d" || this.isWideIsa)) return this.emit(`vpsrav${s}`, a, b!);
    if (INT_OPS[op]) return this.emit(INT_OPS[op] + s, a, b!);
    switch (op) {
      case "mul":
        if (s === "d") return this.emit("vpmulld", a, b!);
        return this.isWideIsa ? this.emit("vpmullq", a, b!) : this.wideMultiply(a, b!);
      case "neg": return this.emit(`vpsub${s}`, this.zero(), a);
      case "abs": return type === "u32" || type === "u64" ? a : s === "d" || this.isWideIsa ? this.emit(`vpabs${s}`, a) : this.blendWide(this.compareWide("lt", type, a, this.zero()), this.emit("vpsubq", this.zero(), a), a);
      case "bitNot": return this.emit("vpxor", a, this.splat(type, -1)[0]!);
      case "floor": case "ceil": case "round": case "trunc": return a;
      case "min": case "max":
        if (s === "d" || this.isWideIsa) return this.emit(`vp${op}${type[0] === "u" ? "u" : "s"}${s}`, a, b!);
        return this.blendWide(this.compareWide(op === "min" ? "lt" : "gt", type, a, b!), a, b!);
      case "sign": {
        const zero = this.zero();
        const positive = this.unit(type, this.compareRegister("gt", type, a, zero));
        return this.emit(`vpsub${s}`, positive, this.unit(type, this.compareRegister("lt", type, a, zero)));
      }
      default: throw new UnsupportedError("unsupported", `${op} of ${type} has no loop code; it runs as a reference step.`);
    }
  }

  private unit(type: ScalarType, mask: VReg): VReg {
    return isWide(type) ? this.blendWide(mask, this.splat(type, 1)[0]!, this.zero()) : this.blendRegister(type, mask, this.splat(type, 1)[0]!, this.zero());
  }

  /** Low 64 bits of the product from 32-bit halves. */
  private wideMultiply(a: VReg, b: VReg): VReg {
    const cross = this.emit("vpaddq", this.emit("vpmuludq", this.emit("vpsrlq", a, 32), b), this.emit("vpmuludq", a, this.emit("vpsrlq", b, 32)));
    return this.emit("vpaddq", this.emit("vpmuludq", a, b), this.emit("vpsllq", cross, 32));
  }

  /** Truncating division through double precision: exact for 32-bit values, and for 64-bit ones below 2^53. Division by 0 gives 0. */
  private divide(op: "div" | "mod" | "rem", type: ScalarType, a: Vector, b: Vector): Vector {
    const x = this.cast(type, "f64", a);
    const y = this.cast(type, "f64", b);
    const quotient = this.cast("f64", type, x.map((_, i) => this.float("trunc", "f64", this.emit("vdivpd", x[i]!, y[i]!), undefined, false)));
    if (op === "div") return quotient;
    const rest = a.map((_, i) => this.integer("sub", type, a[i]!, this.integer("mul", type, quotient[i]!, b[i]!)));
    if (op === "rem" || type === "u32" || type === "u64") return rest;
    const zero = isWide(type) ? [this.zero(), this.zero()] : [this.zero()];
    const signs = rest.map((r, i) => this.integer("bitXor", type, r, b[i]!));
    const moved = rest.map((r, i) => this.integer("add", type, r, b[i]!));
    const isMoved = this.logic("and", [this.compare("lt", type, signs, zero)], [this.compare("ne", type, rest, zero)]);
    return this.blend(type, isMoved, moved, rest);
  }

  // ---- comparison

  compare(op: ScalarOp, type: ScalarType, a: Vector, b: Vector): VReg {
    if (!isWide(type)) return this.compareRegister(op, type, a[0]!, b[0]!);
    return this.joinMasks(this.compareRegister(op, type, a[0]!, b[0]!), this.compareRegister(op, type, a[1]!, b[1]!));
  }

  private compareRegister(op: ScalarOp, type: ScalarType, a: VReg, b: VReg): VReg {
    const mask = this.f.mask();
    if (type === "f32" || type === "f64") {
      this.f.emit(`vcmpp${type === "f32" ? "s" : "d"}${this.w}`, mask, a, b, COMPARE_FLOAT[op]!);
      return mask;
    }
    const s = isWide(type) ? "q" : "d";
    if (!this.isWideIsa) return isWide(type) ? this.compareWide(op, type, a, b) : this.compareNarrow(op, type, a, b, s);
    this.f.emit(`vpcmp${type[0] === "u" ? "u" : ""}${s}${this.w}`, mask, a, b, COMPARE_INT[op]!);
    return mask;
  }

  private compareWide(op: ScalarOp, type: ScalarType, a: VReg, b: VReg): VReg {
    return this.isWideIsa ? this.compareRegister(op, type, a, b) : this.compareNarrow(op, type, a, b, "q");
  }

  /** AVX2 has equal and signed greater only. */
  private compareNarrow(op: ScalarOp, type: ScalarType, a: VReg, b: VReg, s: "d" | "q"): VReg {
    const mask = this.f.mask();
    if (op === "eq" || op === "ne") {
      this.f.emit(`vpcmpeq${s}.y`, mask, a, b);
      return op === "eq" ? mask : this.not(mask);
    }
    const sign = type[0] === "u" ? this.splat(s === "d" ? "u32" : "u64", s === "d" ? 0x80000000 : 1n << 63n)[0]! : undefined;
    const x = sign ? this.emit("vpxor", a, sign) : a;
    const y = sign ? this.emit("vpxor", b, sign) : b;
    const isSwapped = op === "lt" || op === "ge";
    this.f.emit(`vpcmpgt${s}.y`, mask, isSwapped ? y : x, isSwapped ? x : y);
    return op === "ge" || op === "le" ? this.not(mask) : mask;
  }

  private classify(op: "isNan" | "isInf", type: ScalarType, a: Vector): VReg {
    if (type !== "f32" && type !== "f64") return this.maskOf(false);
    const s = type === "f32" ? "s" : "d";
    const masks = a.map((register) => {
      const mask = this.f.mask();
      if (op === "isNan") this.f.emit(`vcmpp${s}${this.w}`, mask, register, register, 3);
      else this.f.emit(`vcmpp${s}${this.w}`, mask, this.emit(`vandnp${s}`, this.splat(type, -0)[0]!, register), this.splat(type, Number.POSITIVE_INFINITY)[0]!, 0);
      return mask;
    });
    return masks.length === 1 ? masks[0]! : this.joinMasks(masks[0]!, masks[1]!);
  }

  // ---- choice

  blend(type: ScalarType, mask: VReg, then: Vector, otherwise: Vector): Vector {
    if (type === "bool") return [this.logic("or", [this.logic("and", [mask], then)], [this.logic("and", [this.not(mask)], otherwise)])];
    if (!isWide(type)) return [this.blendRegister(type, mask, then[0]!, otherwise[0]!)];
    const masks = this.splitMask(mask);
    return then.map((register, i) => this.blendWide(masks[i]!, register, otherwise[i]!));
  }

  private blendRegister(type: ScalarType, mask: VReg, then: VReg, otherwise: VReg): VReg {
    if (isWide(type)) return this.blendWide(mask, then, otherwise);
    const result = this.f.vec();
    if (this.isWideIsa) this.f.emitMasked(`vblendmps${this.w}`, mask, false, result, otherwise, then);
    else this.f.emit("vblendvps.y", result, otherwise, then, mask);
    return result;
  }

  private blendWide(mask: VReg, then: VReg, otherwise: VReg): VReg {
    const result = this.f.vec();
    if (this.isWideIsa) this.f.emitMasked(`vblendmpd${this.w}`, mask, false, result, otherwise, then);
    else this.f.emit("vblendvpd.y", result, otherwise, then, mask);
    return result;
  }

  // ---- conversion

  cast(from: ScalarType, to: ScalarType, value: Vector): Vector {
    if (from === to) return value;
    if (to === "bool") return [this.compare("ne", from, value, this.splat(from, 0))];
    if (from === "bool") return this.blend(to, value[0]!, this.splat(to, 1), this.splat(to, 0));
    if (isWide(from) && isWide(to)) return this.castWide(from, to, value);
    if (isWide(to)) return this.widen(from, to, value[0]!);
    if (isWide(from)) return [this.narrow(from, to, value)];
    return [this.castNarrow(from, to, value[0]!)];
  }

  private castNarrow(from: ScalarType, to: ScalarType, x: VReg): VReg {
    if (from === "i32" && to === "f32") return this.emit("vcvtdq2ps", x);
    if (from === "f32" && to === "i32") return this.emit("vcvttps2dq", x);
    if (from === "u32" && to === "f32") return this.narrow("f64", "f32", this.widen("u32", "f64", x));
    if (from === "f32" && to === "u32") return this.narrow("i64", "i32", this.castWide("f64", "i64", this.widen("f32", "f64", x)));
    return x;
  }

  private widen(from: ScalarType, to: ScalarType, x: VReg): Vector {
    const each = (mnemonic: string): Vector => [this.emit(mnemonic, x), this.emit(mnemonic, this.high(x))];
    if (to === "f64") {
      if (from === "f32") return each("vcvtps2pd");
      if (from === "i32") return each("vcvtdq2pd");
      return this.castWide("i64", "f64", each("vpmovzxdq"));
    }
    if (from === "f32") return this.castWide("f64", to, each("vcvtps2pd"));
    return each(from === "u32" ? "vpmovzxdq" : "vpmovsxdq");
  }

  private narrow(from: ScalarType, to: ScalarType, x: Vector): VReg {
    if (from === "f64") {
      if (to === "f32") return this.join(this.emit("vcvtpd2ps", x[0]!), this.emit("vcvtpd2ps", x[1]!));
      if (to === "i32") return this.join(this.emit("vcvttpd2dq", x[0]!), this.emit("vcvttpd2dq", x[1]!));
      return this.narrow("i64", "i32", this.castWide("f64", "i64", x));
    }
    if (to === "f32") return this.isWideIsa && from === "i64" ? this.join(this.emit("vcvtqq2ps", x[0]!), this.emit("vcvtqq2ps", x[1]!)) : this.narrow("f64", "f32", this.castWide(from, "f64", x));
    if (this.isWideIsa) return this.join(this.emit("vpmovqd", x[0]!), this.emit("vpmovqd", x[1]!));
    return this.emit("vpermq", this.emit("vshufps", x[0]!, x[1]!, 0x88), 0xd8);
  }

  private castWide(from: ScalarType, to: ScalarType, x: Vector): Vector {
    if (from !== "f64" && to !== "f64") return x;
    if (this.isWideIsa) {
      const name = from === "f64" ? (to === "u64" ? "vcvttpd2uqq" : "vcvttpd2qq") : from === "u64" ? "vcvtuqq2pd" : "vcvtqq2pd";
      return x.map((register) => this.emit(name, register));
    }
    return this.memory.convertWide(from === "f64" ? "vcvttsd2si" : "vcvtsi2sd", x);
  }

  // ---- memory

  load(dtype: DType, place: Mem, mask?: VReg): Vector {
    return this.memory.load(dtype, place, mask);
  }

  store(dtype: DType, place: Mem, type: ScalarType, value: Vector, mask?: VReg): void {
    this.memory.store(dtype, place, this.cast(type, scalarTypeOf(dtype), value), mask);
  }

  loadBroadcast(dtype: DType, place: Mem): Vector {
    return this.memory.loadBroadcast(dtype, place);
  }

  /** @param offsets i32 elements from `place` per lane */
  gather(dtype: DType, place: Mem, offsets: VReg, mask?: VReg): Vector {
    return this.memory.gather(dtype, place, offsets, mask);
  }

  scatter(dtype: DType, place: Mem, offsets: VReg, type: ScalarType, value: Vector, mask?: VReg): void {
    this.memory.scatter(dtype, place, offsets, this.cast(type, scalarTypeOf(dtype), value), mask);
  }

  /** Stores lane 0. */
  storeFirst(dtype: DType, place: Mem, type: ScalarType, value: Vector): void {
    this.memory.storeFirst(dtype, place, this.cast(type, scalarTypeOf(dtype), value));
  }

  // ---- across lanes

  /** Combines all lanes; the result stands in every lane. */
  reduceLanes(op: ReduceOp, type: ScalarType, value: Vector): Vector {
    const name: ScalarOp = op === "sum" ? "add" : op === "prod" ? "mul" : op;
    if (type === "bool") return this.cast("i32", "bool", this.reduceLanes(op, "i32", this.cast("bool", "i32", value)));
    let total = isWide(type) ? this.operateOne(name, type, value[0]!, value[1]!) : value[0]!;
    for (const swapped of this.swaps(isWide(type))) total = this.operateOne(name, type, total, swapped(total));
    return isWide(type) ? [total, total] : [total];
  }

  private operateOne(op: ScalarOp, type: ScalarType, a: VReg, b: VReg): VReg {
    return type === "f32" || type === "f64" ? this.float(op, type, a, b, false) : this.integer(op, type, a, b);
  }

  /** Exchanges halves, quarters and so on of the vector. */
  private swaps(isPairs: boolean): ((x: VReg) => VReg)[] {
    const steps: ((x: VReg) => VReg)[] = this.isWideIsa
      ? [(x) => this.emit("vshuff64x2", x, x, 0x4e), (x) => this.emit("vshuff64x2", x, x, 0xb1)]
      : [(x) => this.emit("vperm2f128", x, x, 0x01)];
    steps.push((x) => this.emit("vshufpd", x, x, this.isWideIsa ? 0x55 : 0x5));
    if (!isPairs) steps.push((x) => this.emit("vshufps", x, x, 0xb1));
    return steps;
  }
}
