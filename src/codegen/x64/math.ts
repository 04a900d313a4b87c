/**
 * Elementary functions on f32 lanes.
 *
 * Error bounds against the exact value, in units of the last place of the result: exp 1, log 2, tanh 3, sigmoid 3,
 * erf 3, pow 2, sin 2, cos 2, tan 4, atan 3, asin 4, acos 4, sinh 4, cosh 3, asinh 4, acosh 4, atanh 4. Results below the
 * smallest normal number may lose bits. NaN gives NaN, infinities and zeros what IEEE 754 says.
 *
 * Range reduction of sin, cos and tan is exact enough for every float32: the argument is mantissa * 2^e, and a table
 * holds 2^e mod 2 pi in two doubles, so that nothing huge is ever subtracted (the idea of Payne and Hanek).
 */
import type { FunctionBuilder, Mem, VReg } from "./function.ts";
import { ATAN, COS, ERF, EXP, LN2_HIGH, LN2_LOW, LOG, LOG_ERFC, SIN, SINH, TANH, twoPiBits } from "./math-coefficients.ts";

export const MATH_FUNCTIONS = [
  "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "tanh", "erf", "sigmoid", "pow",
] as const;

export type MathFunction = (typeof MATH_FUNCTIONS)[number];

const NAMES: ReadonlySet<string> = new Set(MATH_FUNCTIONS);

/** Exponents from which the table of 2^e mod 2 pi starts; smaller arguments need no reduction. */
const FIRST_EXPONENT = 0;
const LAST_EXPONENT = 104;

export class VectorMath {
  private readonly f: FunctionBuilder;
  private readonly isWide: boolean;
  private readonly w: string;

  constructor(f: FunctionBuilder) {
    this.f = f;
    this.isWide = f.isa.vectorBytes === 64;
    this.w = this.isWide ? ".z" : ".y";
  }

  static has(name: string): name is MathFunction {
    return NAMES.has(name);
  }

  call(name: MathFunction, x: VReg, y?: VReg): VReg {
    return name === "pow" ? this.pow(x, y!) : this[name](x);
  }

  // ---- building blocks

  private op(mnemonic: string, ...operands: readonly (VReg | Mem | number)[]): VReg {
    const result = this.f.vec();
    this.f.emit(mnemonic + this.w, result, ...operands);
    return result;
  }

  private number(value: number): Mem {
    return this.constant(new Uint8Array(Float32Array.of(value).buffer));
  }

  private bits(value: number): Mem {
    return this.constant(new Uint8Array(Int32Array.of(value).buffer));
  }

  private double(value: number): Mem {
    return this.constant(new Uint8Array(Float64Array.of(value).buffer));
  }

  /** A constant as a memory operand: broadcast by the instruction on AVX-512, stored whole on AVX2. */
  private constant(element: Uint8Array): Mem {
    if (this.isWide) return { ...this.f.constant(element, element.length), broadcast: true };
    const whole = new Uint8Array(32);
    for (let i = 0; i < 32; i += element.length) whole.set(element, i);
    return this.f.constant(whole, 32);
  }

  private splat(value: number): VReg {
    return this.op("vbroadcastss", this.f.constant(new Uint8Array(Float32Array.of(value).buffer), 4));
  }

  private splatDouble(value: number): VReg {
    return this.op("vbroadcastsd", this.f.constant(new Uint8Array(Float64Array.of(value).buffer), 8));
  }

  private add(a: VReg, b: VReg | Mem): VReg { return this.op("vaddps", a, b); }
  private sub(a: VReg, b: VReg | Mem): VReg { return this.op("vsubps", a, b); }
  private mul(a: VReg, b: VReg | Mem): VReg { return this.op("vmulps", a, b); }
  private div(a: VReg, b: VReg | Mem): VReg { return this.op("vdivps", a, b); }

  private copy(x: VReg): VReg { return this.op("vmovaps", x); }

  /** a * b + c */
  private fma(a: VReg, b: VReg | Mem, c: VReg, suffix = "ps"): VReg {
    const result = this.copy(c);
    this.f.emit(`vfmadd231${suffix}${this.w}`, result, a, b);
    return result;
  }

  /** c - a * b */
  private fnma(a: VReg, b: VReg | Mem, c: VReg, suffix = "ps"): VReg {
    const result = this.copy(c);
    this.f.emit(`vfnmadd231${suffix}${this.w}`, result, a, b);
    return result;
  }

  /**
   * x / divisor, correctly rounded, by multiplications: a division takes as long as a dozen of them. The first correction
   * makes the quotient faithful, the second correct, the reciprocal being correctly rounded.
   * Source: Markstein, "Computation of elementary functions on the IBM RISC System/6000", 1990, theorem 8.5.
   * @param divisor a normal number; neither the quotient nor a remainder may leave the range of such
   */
  quotient(x: VReg, divisor: number): VReg {
    const [reciprocal, y] = [this.number(1 / divisor), this.number(divisor)];
    let quotient = this.mul(x, reciprocal);
    for (let i = 0; i < 2; i++) quotient = this.fma(this.fnma(quotient, y, x), reciprocal, quotient);
    return quotient;
  }

  private abs(x: VReg): VReg { return this.op("vandps", x, this.bits(0x7fffffff)); }
  private sign(x: VReg): VReg { return this.op("vandps", x, this.bits(-0x80000000)); }
  private withSign(magnitude: VReg, sign: VReg): VReg { return this.op("vxorps", magnitude, sign); }

  private compare(predicate: number, a: VReg, b: VReg | Mem, suffix = "ps"): VReg {
    const mask = this.f.mask();
    this.f.emit(`vcmp${suffix}${this.w}`, mask, a, b, predicate);
    return mask;
  }

  private lessThan(a: VReg, b: number): VReg { return this.compare(0x11, a, this.number(b)); }
  private greaterThan(a: VReg, b: number): VReg { return this.compare(0x1e, a, this.number(b)); }
  private equals(a: VReg, b: number): VReg { return this.compare(0, a, this.number(b)); }

  private blend(mask: VReg, then: VReg, otherwise: VReg, suffix = "ps"): VReg {
    const result = this.f.vec();
    if (this.isWide) this.f.emitMasked(`vblendm${suffix}.z`, mask, false, result, otherwise, then);
    else this.f.emit(`vblendv${suffix}.y`, result, otherwise, then, mask);
    return result;
  }

  private polynomial(x: VReg, coefficients: readonly number[]): VReg {
    let sum = this.splat(coefficients.at(-1)!);
    for (let i = coefficients.length - 2; i >= 0; i--) {
      // sum = sum * x + c
      const next = this.copy(sum);
      this.f.emit(`vfmadd213ps${this.w}`, next, x, this.number(coefficients[i]!));
      sum = next;
    }
    return sum;
  }

  private polynomialDouble(x: VReg, coefficients: readonly number[]): VReg {
    let sum = this.splatDouble(coefficients.at(-1)!);
    for (let i = coefficients.length - 2; i >= 0; i--) {
      const next = this.copy(sum);
      this.f.emit(`vfmadd213pd${this.w}`, next, x, this.double(coefficients[i]!));
      sum = next;
    }
    return sum;
  }

  private round(x: VReg, suffix = "ps"): VReg { return this.op(`vround${suffix}`, x, 8); }

  private high(x: VReg): VReg {
    const result = this.f.vec();
    this.f.emit(this.isWide ? "vextractf64x4.z" : "vextractf128.y", result, x, 1);
    return result;
  }

  private join(low: VReg, high: VReg): VReg {
    const result = this.f.vec();
    this.f.emit(this.isWide ? "vinsertf64x4.z" : "vinsertf128.y", result, low, high, 1);
    return result;
  }

  /** Applies a function of doubles to both halves of the lanes. */
  private inDouble(inputs: readonly VReg[], body: (halves: readonly VReg[], isHigh: boolean) => VReg): VReg {
    const part = (isHigh: boolean): VReg => {
      const halves = inputs.map((x) => this.op("vcvtps2pd", isHigh ? this.high(x) : x));
      return this.op("vcvtpd2ps", body(halves, isHigh));
    };
    return this.join(part(false), part(true));
  }

  // ---- exponential family

  exp(x: VReg): VReg {
    // The constant comes first, so that NaN passes through.
    const clamped = this.op("vmaxps", this.splat(-104), this.op("vminps", this.splat(89), x));
    const n = this.round(this.mul(clamped, this.number(Math.LOG2E)));
    const r = this.fnma(n, this.number(LN2_LOW), this.fnma(n, this.number(LN2_HIGH), clamped));
    const square = this.mul(r, r);
    const p = this.add(this.fma(square, this.polynomial(r, EXP), r), this.number(1));
    return this.scale(p, n);
  }

  /** p * 2^n for whole n in [-151, 129]. */
  private scale(p: VReg, n: VReg): VReg {
    if (this.isWide) return this.op("vscalefps", p, n);
    const whole = this.op("vcvtps2dq", n);
    const half = this.op("vpsrad", whole, 1);
    const power = (e: VReg): VReg => this.op("vpslld", this.op("vpaddd", e, this.bits(127)), 23);
    return this.mul(this.mul(p, power(half)), power(this.op("vpsubd", whole, half)));
  }

  log(x: VReg): VReg {
    const isTiny = this.lessThan(x, 1.17549435e-38);
    const scaled = this.blend(isTiny, this.mul(x, this.number(2 ** 23)), x);
    const offset = this.op("vpsubd", scaled, this.bits(0x3f400000));
    const exponent = this.op("vpsrad", offset, 23);
    const mantissa = this.op("vpsubd", scaled, this.op("vpslld", exponent, 23));
    const e = this.op("vcvtdq2ps", exponent);
    const lowered = this.blend(isTiny, this.sub(e, this.number(23)), e);
    const result = this.logOf(this.sub(mantissa, this.number(1)), lowered);
    return this.logEdges(x, result);
  }

  /** log((1 + f) * 2^e), f in [-0.25, 0.5]. */
  private logOf(f: VReg, e: VReg): VReg {
    const square = this.mul(f, f);
    const tail = this.fnma(square, this.number(0.5), this.mul(this.mul(square, f), this.polynomial(f, LOG)));
    const low = this.fma(e, this.number(LN2_LOW), tail);
    return this.fma(e, this.number(LN2_HIGH), this.add(f, low));
  }

  private logEdges(x: VReg, result: VReg): VReg {
    const infinite = this.blend(this.equals(x, Number.POSITIVE_INFINITY), x, result);
    const atZero = this.blend(this.equals(x, 0), this.splat(Number.NEGATIVE_INFINITY), infinite);
    // Not greater or equal, or unordered.
    return this.blend(this.compare(0x19, x, this.number(0)), this.splat(Number.NaN), atZero);
  }

  /** log(1 + y), accurate near 0: log(u) * y / (u - 1) for the rounded u = 1 + y (Kahan). */
  private log1p(y: VReg): VReg {
    const u = this.add(y, this.number(1));
    const corrected = this.mul(this.log(u), this.div(y, this.sub(u, this.number(1))));
    const isOne = this.equals(u, 1);
    const isInfinite = this.equals(u, Number.POSITIVE_INFINITY);
    return this.blend(isOne, y, this.blend(isInfinite, u, corrected));
  }

  tanh(x: VReg): VReg {
    const a = this.abs(x);
    const u = this.mul(x, x);
    const small = this.fma(this.mul(x, u), this.polynomial(u, TANH), x);
    const e = this.exp(this.add(a, a));
    const large = this.sub(this.splat(1), this.div(this.splat(2), this.add(e, this.number(1))));
    return this.blend(this.lessThan(a, 0.625), small, this.withSign(large, this.sign(x)));
  }

  sigmoid(x: VReg): VReg {
    const e = this.exp(this.op("vxorps", x, this.bits(-0x80000000)));
    return this.div(this.splat(1), this.add(e, this.number(1)));
  }

  erf(x: VReg): VReg {
    const a = this.abs(x);
    const u = this.mul(x, x);
    const small = this.mul(x, this.polynomial(u, ERF));
    const limited = this.op("vminps", this.splat(4), a);
    const large = this.sub(this.splat(1), this.exp(this.polynomial(limited, LOG_ERFC)));
    return this.blend(this.lessThan(a, 1), small, this.withSign(large, this.sign(x)));
  }

  sinh(x: VReg): VReg {
    const a = this.abs(x);
    const u = this.mul(x, x);
    const small = this.fma(this.mul(x, u), this.polynomial(u, SINH), x);
    const e = this.exp(this.mul(a, this.number(0.5)));
    const half = this.mul(e, this.number(0.5));
    const large = this.sub(this.mul(half, e), this.div(this.splat(0.5), this.mul(e, e)));
    return this.blend(this.lessThan(a, 1), small, this.withSign(large, this.sign(x)));
  }

  cosh(x: VReg): VReg {
    const e = this.exp(this.mul(this.abs(x), this.number(0.5)));
    const half = this.mul(e, this.number(0.5));
    return this.add(this.mul(half, e), this.div(this.splat(0.5), this.mul(e, e)));
  }

  asinh(x: VReg): VReg {
    const a = this.abs(x);
    const root = this.op("vsqrtps", this.fma(a, a, this.splat(1)));
    const near = this.log1p(this.add(a, this.div(this.mul(a, a), this.add(root, this.number(1)))));
    const far = this.add(this.log(a), this.number(Math.LN2));
    return this.withSign(this.blend(this.greaterThan(a, 1e9), far, near), this.sign(x));
  }

  acosh(x: VReg): VReg {
    const t = this.sub(x, this.number(1));
    const near = this.log1p(this.add(t, this.op("vsqrtps", this.mul(t, this.add(x, this.number(1))))));
    const far = this.add(this.log(x), this.number(Math.LN2));
    return this.blend(this.lessThan(x, 1), this.splat(Number.NaN), this.blend(this.greaterThan(x, 1e9), far, near));
  }

  atanh(x: VReg): VReg {
    const a = this.abs(x);
    const y = this.div(this.add(a, a), this.sub(this.splat(1), a));
    return this.withSign(this.mul(this.log1p(y), this.number(0.5)), this.sign(x));
  }

  // ---- trigonometry

  sin(x: VReg): VReg { return this.circular(x, "sin"); }
  cos(x: VReg): VReg { return this.circular(x, "cos"); }
  tan(x: VReg): VReg { return this.circular(x, "tan"); }

  private circular(x: VReg, name: "sin" | "cos" | "tan"): VReg {
    const { rest, quadrant } = this.reduce(x);
    const u = this.mul(rest, rest);
    const sin = this.fma(this.mul(rest, u), this.polynomial(u, SIN), rest);
    const cos = this.fma(this.mul(u, u), this.polynomial(u, COS), this.fnma(u, this.number(0.5), this.splat(1)));
    const turned = name === "cos" ? this.op("vpaddd", quadrant, this.bits(1)) : quadrant;
    // Bit 0 of the quadrant swaps sine and cosine, bit 1 negates.
    const isOdd = this.compare(4, this.op("vcvtdq2ps", this.op("vpand", turned, this.bits(1))), this.number(0));
    if (name === "tan") {
      const quotient = this.div(this.blend(isOdd, cos, sin), this.blend(isOdd, sin, cos));
      return this.withSign(quotient, this.op("vpslld", this.op("vpand", turned, this.bits(1)), 31));
    }
    const sign = this.op("vpslld", this.op("vpand", turned, this.bits(2)), 30);
    return this.withSign(this.blend(isOdd, cos, sin), sign);
  }

  /** x = quadrant * pi / 2 + rest, |rest| <= pi / 4. */
  private reduce(x: VReg): { rest: VReg; quadrant: VReg } {
    const exponent = this.op("vpsubd", this.op("vpsrld", this.abs(x), 23), this.bits(127 + 23));
    const index = this.op("vpmaxsd", this.op("vpminsd", exponent, this.bits(LAST_EXPONENT)), this.bits(FIRST_EXPONENT));
    // mantissa = x * 2^-index; two factors, since 2^-104 and x are both normal numbers.
    const down = this.op("vpslld", this.op("vpsubd", this.bitsRegister(127), index), 23);
    const mantissa = this.mul(x, down);
    const quadrants: VReg[] = [];
    const rest = this.inDouble([mantissa], ([m], isHigh) => {
      const at = isHigh ? this.high(index) : index;
      const { rest: r, turns } = this.reduceDouble(m!, at);
      quadrants.push(this.op("vcvtpd2dq", turns));
      return r;
    });
    return { rest, quadrant: this.join(quadrants[0]!, quadrants[1]!) };
  }

  private bitsRegister(value: number): VReg {
    return this.op("vbroadcastss", this.f.constant(new Uint8Array(Int32Array.of(value).buffer), 4));
  }

  private reduceDouble(m: VReg, index: VReg): { rest: VReg; turns: VReg } {
    const { high, low } = reductionTable();
    const big = this.op("vmulpd", m, this.gatherDouble(high, index));
    const small = this.op("vmulpd", m, this.gatherDouble(low, index));
    const turns = this.round(this.op("vmulpd", big, this.double(2 / Math.PI)), "pd");
    const first = this.fnma(turns, this.double(HALF_PI_HIGH), big, "pd");
    const second = this.fnma(turns, this.double(HALF_PI_LOW), first, "pd");
    return { rest: this.op("vaddpd", second, small), turns };
  }

  private gatherDouble(table: Uint8Array, index: VReg): VReg {
    const base = this.f.gp("table");
    this.f.emit("lea", base, this.f.constant(table, 64));
    const result = this.f.vec();
    this.f.emit(`vxorps${this.w}`, result, result, result);
    const all = this.f.mask();
    const place: Mem = { base, index, scale: 8 };
    if (this.isWide) {
      this.f.emit("kxnorw", all, all, all);
      this.f.emitMasked("vgatherdpd.z", all, false, result, place);
    } else {
      this.f.emit("vpcmpeqd.y", all, all, all);
      this.f.emit("vgatherdpd.y", result, place, all);
    }
    return result;
  }

  atan(x: VReg): VReg {
    const a = this.abs(x);
    const isLarge = this.greaterThan(a, 2.414213562373095);
    const isMiddle = this.greaterThan(a, 0.4142135623730951);
    const inverse = this.div(this.splat(-1), a);
    const turned = this.div(this.sub(a, this.number(1)), this.add(a, this.number(1)));
    const t = this.blend(isLarge, inverse, this.blend(isMiddle, turned, a));
    const zero = this.splat(0);
    const base = this.blend(isLarge, this.splat(Math.PI / 2), this.blend(isMiddle, this.splat(Math.PI / 4), zero));
    const u = this.mul(t, t);
    const value = this.add(base, this.fma(this.mul(t, u), this.polynomial(u, ATAN), t));
    return this.withSign(value, this.sign(x));
  }

  asin(x: VReg): VReg {
    const root = this.op("vsqrtps", this.mul(this.sub(this.splat(1), x), this.add(x, this.number(1))));
    return this.atan(this.div(x, root));
  }

  acos(x: VReg): VReg {
    const quotient = this.div(this.sub(this.splat(1), x), this.add(x, this.number(1)));
    const half = this.atan(this.op("vsqrtps", quotient));
    return this.add(half, half);
  }

  // ---- power

  /** |x|^y through double precision, then the sign of x where y is odd, NaN where it is no integer. */
  pow(x: VReg, y: VReg): VReg {
    const magnitude = this.inDouble([this.abs(x), y], ([a, b]) => this.expDouble(this.op("vmulpd", b!, this.logDouble(a!))));
    const isOne = this.equals(this.abs(x), 1);
    const positive = this.blend(isOne, this.splat(1), magnitude);
    const whole = this.op("vroundps", y, 11);
    const half = this.mul(y, this.number(0.5));
    const isOdd = this.compare(4, this.op("vroundps", half, 11), half);
    const sign = this.blend(isOdd, this.sign(x), this.splat(0));
    const signed = this.withSign(positive, sign);
    const isBroken = this.compare(4, whole, y);
    const result = this.blend(this.lessThan(x, 0), this.blend(isBroken, this.fractionalPower(x, positive), signed), this.blend(isBroken, positive, signed));
    const nan = this.add(x, y);
    const kept = this.blend(this.compare(3, x, y), nan, result);
    return this.blend(this.equals(y, 0), this.splat(1), this.blend(this.equals(x, 1), this.splat(1), kept));
  }

  /** A negative finite base has no fractional power; of minus infinity it is that of infinity. */
  private fractionalPower(x: VReg, positive: VReg): VReg {
    return this.blend(this.equals(x, Number.NEGATIVE_INFINITY), positive, this.splat(Number.NaN));
  }

  /** log of doubles that were float32: 0 gives -infinity. */
  private logDouble(x: VReg): VReg {
    const offset = this.op("vpsubq", x, this.quad(0x3fe80000n << 32n));
    const exponent = this.op("vpsrlq", this.op("vpaddq", offset, this.quad(1024n << 52n)), 52);
    const shift = this.op("vpsllq", this.op("vpsubq", exponent, this.quad(1024n)), 52);
    const mantissa = this.op("vpsubq", x, shift);
    // The exponent as a double: put into the mantissa of 2^52.
    const e = this.op("vsubpd", this.op("vorpd", exponent, this.quad(0x43300000n << 32n)), this.double(2 ** 52 + 1024));
    const s = this.op("vdivpd", this.op("vsubpd", mantissa, this.double(1)), this.op("vaddpd", mantissa, this.double(1)));
    const u = this.op("vmulpd", s, s);
    const p = this.polynomialDouble(u, Array.from({ length: 11 }, (_, k) => 2 / (2 * k + 1)));
    const value = this.fma(e, this.double(Math.LN2), this.op("vmulpd", s, p), "pd");
    const infinite = this.blend(this.compare(0, x, this.double(Number.POSITIVE_INFINITY), "pd"), x, value, "pd");
    return this.blend(this.compare(0, x, this.double(0), "pd"), this.splatDouble(Number.NEGATIVE_INFINITY), infinite, "pd");
  }

  private quad(value: bigint): Mem {
    return this.constant(new Uint8Array(BigInt64Array.of(BigInt.asIntN(64, value)).buffer));
  }

  /** exp of doubles whose results are to be float32; NaN passes. */
  private expDouble(x: VReg): VReg {
    const clamped = this.op("vmaxpd", this.splatDouble(-200), this.op("vminpd", this.splatDouble(200), x));
    const n = this.round(this.op("vmulpd", clamped, this.double(Math.LOG2E)), "pd");
    const r = this.fnma(n, this.double(1.9082149292705877e-10), this.fnma(n, this.double(0.6931471803691238), clamped, "pd"), "pd");
    let factorial = 1;
    const p = this.polynomialDouble(r, Array.from({ length: 12 }, (_, k) => { factorial *= Math.max(k, 1); return 1 / factorial; }));
    // 2^n: n + 1023 lands in the low bits of 1.5 * 2^52 + n, and moves to the exponent.
    const power = this.op("vpsllq", this.op("vaddpd", n, this.double(1.5 * 2 ** 52 + 1023)), 52);
    return this.op("vmulpd", p, power);
  }
}

const HALF_PI_HIGH = 1.5707963267341256;
const HALF_PI_LOW = 6.077100506506192e-11;

let tables: { readonly high: Uint8Array; readonly low: Uint8Array } | undefined;

/** 2^e mod 2 pi (in [-pi, pi]) for e from 0, as a double of 29 bits and the rest. Entry 0 is 1 itself. */
function reductionTable(): { readonly high: Uint8Array; readonly low: Uint8Array } {
  if (tables) return tables;
  const bits = 300;
  const one = 1n << BigInt(bits);
  const twoPi = twoPiBits(bits);
  const high: number[] = [];
  const low: number[] = [];
  for (let e = 0; e <= LAST_EXPONENT; e++) {
    let rest = e === 0 ? one : (one << BigInt(e)) % twoPi;
    if (rest > twoPi / 2n) rest -= twoPi;
    const cut = BigInt(bits - 27);
    const top = rest >> cut;
    high.push(Number(top) * 2 ** -27);
    low.push(Number(rest - (top << cut)) * 2 ** -bits);
  }
  tables = { high: new Uint8Array(Float64Array.from(high).buffer), low: new Uint8Array(Float64Array.from(low).buffer) };
  return tables;
}
