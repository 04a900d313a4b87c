/**
 * Integer arithmetic in general registers, for indices, sizes and conditions. Operands are registers or numbers;
 * numbers fold. Values are kept canonical: i32 sign-extended to 64 bits, u32 zero-extended, bool 0 or 1.
 */
import type { DType } from "../../../base/index.ts";
import type { FunctionBuilder, Mem, VReg } from "../function.ts";
import type { ScalarOp, ScalarType } from "../../loop-ir.ts";
import type { Gp } from "./scope.ts";

const OPS: ReadonlySet<ScalarOp> = new Set(["add", "sub", "mul", "min", "max", "neg", "abs", "div", "mod", "rem", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "bitAnd", "bitOr", "bitXor", "bitNot"]);
const SIGNED = { eq: "e", ne: "ne", lt: "l", le: "le", gt: "g", ge: "ge" } as const;
const UNSIGNED = { eq: "e", ne: "ne", lt: "b", le: "be", gt: "a", ge: "ae" } as const;

const fits32 = (value: number): boolean => Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 31;

export class GpCode {
  private readonly f: FunctionBuilder;

  constructor(f: FunctionBuilder) {
    this.f = f;
  }

  /** Whether `operate` has it; division of unsigned values is left to others. */
  static has(op: ScalarOp, type: ScalarType): boolean {
    if ((op === "div" || op === "mod" || op === "rem") && type !== "i64" && type !== "i32") return false;
    return OPS.has(op) && type !== "u64";
  }

  constant(value: number | bigint): Gp {
    const number = Number(value);
    if (fits32(number) && Number.isSafeInteger(number)) return number;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true);
    const register = this.f.gp("constant");
    this.f.emit("mov", register, this.f.constant(bytes, 8));
    return register;
  }

  toRegister(value: Gp): VReg {
    if (typeof value !== "number") return value;
    const register = this.f.gp();
    this.assign(register, value);
    return register;
  }

  assign(into: VReg, value: Gp): void {
    if (value === 0) this.f.emit("xor", into, into);
    else if (typeof value === "number" && !fits32(value)) this.f.emit("mov", into, this.constant(value));
    else this.f.emit("mov", into, value);
  }

  /** A fresh register that may be changed. */
  copy(value: Gp): VReg {
    const register = this.f.gp();
    this.assign(register, value);
    return register;
  }

  private binary(mnemonic: string, a: Gp, b: Gp): VReg {
    const result = this.copy(a);
    this.f.emit(mnemonic, result, typeof b === "number" && !fits32(b) ? this.toRegister(b) : b);
    return result;
  }

  add(a: Gp, b: Gp): Gp {
    if (typeof a === "number" && typeof b === "number") return a + b;
    if (b === 0) return a;
    if (a === 0) return b;
    return typeof a === "number" ? this.binary("add", b, a) : this.binary("add", a, b);
  }

  sub(a: Gp, b: Gp): Gp {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return b === 0 ? a : this.binary("sub", a, b);
  }

  mul(a: Gp, b: Gp): Gp {
    if (typeof a === "number" && typeof b === "number") return a * b;
    if (typeof a === "number") return this.mul(b, a);
    if (b === 0) return 0;
    if (b === 1) return a;
    if (typeof b === "number" && Number.isInteger(Math.log2(b))) return this.binary("shl", a, Math.log2(b));
    if (typeof b === "number") {
      const result = this.f.gp();
      if (!fits32(b)) return this.binary("imul", a, this.toRegister(b));
      this.f.emit("imul", result, a, b);
      return result;
    }
    return this.binary("imul", a, b);
  }

  /** base + value * scale, scale a power of two up to 8. */
  addScaled(base: VReg, value: Gp, scale: number): VReg {
    if (typeof value === "number") return this.toRegister(this.add(base, value * scale));
    const result = this.f.gp("address");
    this.f.emit("lea", result, { base, index: value, scale: scale as 1 | 2 | 4 | 8 });
    return result;
  }

  compare(a: Gp, b: Gp): void {
    this.f.emit("cmp", this.toRegister(a), typeof b === "number" && !fits32(b) ? this.toRegister(b) : b);
  }

  test(condition: Gp): void {
    const register = this.toRegister(condition);
    this.f.emit("test", register, register);
  }

  operate(op: ScalarOp, type: ScalarType, args: readonly Gp[]): Gp {
    const [a, b] = args as [Gp, Gp];
    switch (op) {
      case "add": case "or": case "bitOr": if (type === "bool" || op !== "add") return this.binary("or", a, b); return this.narrow(type, this.add(a, b));
      case "sub": return this.narrow(type, this.sub(a, b));
      case "mul": return type === "bool" ? this.binary("and", a, b) : this.narrow(type, this.mul(a, b));
      case "and": case "bitAnd": return this.binary("and", a, b);
      case "xor": case "bitXor": return this.binary("xor", a, b);
      case "not": return this.binary("xor", a, 1);
      case "bitNot": return type === "bool" ? this.binary("xor", a, 1) : this.narrow(type, this.binary("xor", a, -1));
      case "neg": return this.narrow(type, this.sub(0, a));
      case "abs": return this.narrow(type, this.extreme("max", "i64", a, this.sub(0, a)));
      case "min": case "max": return this.extreme(op, type, a, b);
      case "div": return this.narrow(type, this.divide(a, b));
      case "mod": case "rem": return this.remainder(op, type, a, b);
      case "eq": case "ne": case "lt": case "le": case "gt": case "ge": return this.condition(op, type, a, b);
      default: throw new Error(`Bug in sinter: ${op} in general registers`);
    }
  }

  private narrow(type: ScalarType, value: Gp): Gp {
    if (typeof value === "number") return type === "i32" ? value | 0 : type === "u32" ? value >>> 0 : value;
    if (type !== "i32" && type !== "u32") return value;
    const result = this.f.gp();
    this.f.emit(type === "i32" ? "movsxd" : "mov.d", result, value);
    return result;
  }

  private extreme(op: "min" | "max", type: ScalarType, a: Gp, b: Gp): Gp {
    if (typeof a === "number" && typeof b === "number") return op === "min" ? Math.min(a, b) : Math.max(a, b);
    const result = this.copy(a);
    const other = this.toRegister(b);
    this.f.emit("cmp", result, other);
    const isUnsigned = type === "u32";
    this.f.emit(op === "min" ? (isUnsigned ? "cmova" : "cmovg") : isUnsigned ? "cmovb" : "cmovl", result, other);
    return result;
  }

  private condition(op: keyof typeof SIGNED, type: ScalarType, a: Gp, b: Gp): Gp {
    this.compare(a, b);
    const result = this.f.gp();
    this.f.emit(`set${(type === "u32" ? UNSIGNED : SIGNED)[op]}`, result);
    this.f.emit("movzx.b", result, result);
    return result;
  }

  /** Truncating. Through double precision, which is exact below 2^53. */
  private divide(a: Gp, b: Gp): Gp {
    if (typeof a === "number" && typeof b === "number") return b === 0 ? 0 : Math.trunc(a / b);
    const x = this.f.vec();
    const y = this.f.vec();
    const result = this.f.gp();
    this.f.emit("vxorps", x, x, x);
    this.f.emit("vxorps", y, y, y);
    this.f.emit("vcvtsi2sd", x, x, this.toRegister(a));
    this.f.emit("vcvtsi2sd", y, y, this.toRegister(b));
    this.f.emit("vdivsd", x, x, y);
    this.f.emit("vcvttsd2si", result, x);
    return result;
  }

  private remainder(op: "mod" | "rem", type: ScalarType, a: Gp, b: Gp): Gp {
    const rest = this.sub(a, this.mul(this.divide(a, b), b));
    if (op === "rem" || typeof rest === "number") return this.narrow(type, rest);
    const divisor = this.toRegister(b);
    const moved = this.toRegister(this.add(rest, divisor));
    const signs = this.toRegister(this.binary("xor", rest, divisor));
    const result = this.copy(rest);
    const isZero = this.f.label();
    this.test(rest);
    this.f.jump("e", isZero);
    this.f.emit("test", signs, signs);
    this.f.emit("cmovs", result, moved);
    this.f.bind(isZero);
    return this.narrow(type, result);
  }

  select(condition: Gp, then: Gp, otherwise: Gp): Gp {
    const result = this.copy(then);
    const other = this.toRegister(otherwise);
    this.test(condition);
    this.f.emit("cmove", result, other);
    return result;
  }

  cast(from: ScalarType, to: ScalarType, value: Gp): Gp {
    if (to === "bool" && from !== "bool") return this.condition("ne", "i64", value, 0);
    return from === to || to === "i64" || to === "u64" || from === "bool" ? value : this.narrow(to, value);
  }

  load(dtype: DType, place: Mem): VReg {
    const result = this.f.gp();
    this.f.emit(LOADS[dtype]!, result, place);
    return result;
  }
}

/** Instruction that widens an element to a 64-bit register. */
const LOADS: Readonly<Partial<Record<DType, string>>> = {
  int64: "mov", uint64: "mov", int32: "movsxd", uint32: "mov.d", int16: "movsx.w", uint16: "movzx.w", int8: "movsx.b", uint8: "movzx.b", bool: "movzx.b",
};
