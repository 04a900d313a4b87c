/**
 * What every contraction generator writes with: the function under construction, its parameter block, and sizes that
 * are numbers where the kernel is specialised and registers where they are bound at run time.
 *
 * State of outer loops lives in stack slots (`Local`) and is loaded where it is used, so that inner loops have the
 * registers to themselves.
 */
import type { Buffer, Dim, PackedData } from "../../../ir/index.ts";
import { type Condition, FunctionBuilder, type Isa, type Mem, mem, type VReg } from "../function.ts";
import { ParamTable } from "../loop/params.ts";
import { Vectors } from "./vectors.ts";

/** A size or index: known now, or in a general register. Registers handed over are not changed. */
export type Size = number | VReg;

/** A 64-bit variable in the frame. */
export interface Local {
  readonly slot: Mem;
}

export class KernelWriter {
  readonly f: FunctionBuilder;
  readonly vectors: Vectors;
  readonly table = new ParamTable();
  readonly packed: PackedData[] = [];
  readonly #placed = new Map<Buffer, Local>();
  /** f32 lanes of a vector, and its bytes. */
  readonly lanes: number;
  readonly vectorBytes: number;

  constructor(isa: Isa, name: string) {
    this.f = new FunctionBuilder(isa, name, 4);
    this.vectors = new Vectors(this.f);
    this.vectorBytes = isa.vectorBytes;
    this.lanes = isa.vectorBytes / 4;
  }

  get paramBlock(): VReg { return this.f.params[0]!; }
  get tileBegin(): VReg { return this.f.params[1]!; }
  get tileEnd(): VReg { return this.f.params[2]!; }
  get scratch(): VReg { return this.f.params[3]!; }

  /** The value of a dimension: a number, or loaded into a fresh register. */
  size(dim: Dim): Size {
    return typeof dim === "number" ? dim : this.#load(this.table.dim(dim));
  }

  /** Says that the buffer's address is in a variable, not among the parameters. */
  place(buffer: Buffer, address: Local): void {
    this.#placed.set(buffer, address);
  }

  /** A fresh register with the buffer's address. */
  pointer(buffer: Buffer): VReg {
    const placed = this.#placed.get(buffer);
    if (placed) return this.get(placed);
    return this.#load(this.table.pointer(buffer));
  }

  /** A fresh register with the address of packed constant data. */
  packedPointer(data: PackedData): VReg {
    let index = this.packed.findIndex((known) => known.key === data.key);
    if (index < 0) index = this.packed.push(data) - 1;
    return this.#load(this.table.packed(index));
  }

  #load(displacement: number): VReg {
    const register = this.f.gp();
    this.f.emit("mov", register, mem(this.paramBlock, { disp: displacement }));
    return register;
  }

  /** A fresh register with the value. */
  move(value: Size): VReg {
    const register = this.f.gp();
    this.f.emit("mov", register, value);
    return register;
  }

  local(value?: Size): Local {
    const variable = { slot: this.f.stackSlot(8, 8) };
    if (value !== undefined) this.set(variable, value);
    return variable;
  }

  get(variable: Local): VReg {
    const register = this.f.gp();
    this.f.emit("mov", register, variable.slot);
    return register;
  }

  set(variable: Local, value: Size): void {
    this.f.emit("mov", variable.slot, typeof value === "number" ? this.move(value) : value);
  }

  /** A number as it is, a register saved in the frame. */
  keep(size: Size): Local | number {
    return typeof size === "number" ? size : this.local(size);
  }

  /** A number as it is, a variable in a fresh register. */
  value(source: Local | number): Size {
    return typeof source === "number" ? source : this.get(source);
  }

  add(a: Size, b: Size): Size {
    if (typeof a === "number" && typeof b === "number") return a + b;
    if (typeof a === "number") return this.add(b, a);
    if (b === 0) return a;
    const sum = this.move(a);
    this.f.emit("add", sum, b);
    return sum;
  }

  sub(a: Size, b: Size): Size {
    if (typeof b === "number") return this.add(a, -b);
    const difference = this.move(a);
    this.f.emit("sub", difference, b);
    return difference;
  }

  mul(a: Size, b: Size): Size {
    if (typeof a === "number" && typeof b === "number") return a * b;
    if (typeof a === "number") return this.mul(b, a);
    if (b === 1) return a;
    if (b === 0) return 0;
    const product = this.move(a);
    if (typeof b === "number" && Number.isInteger(Math.log2(b))) this.f.emit("shl", product, Math.log2(b));
    else this.f.emit("imul", product, typeof b === "number" ? this.move(b) : b);
    return product;
  }

  min(a: Size, b: Size): Size {
    if (typeof a === "number" && typeof b === "number") return Math.min(a, b);
    const result = this.move(a);
    this.when("gt", result, b, () => this.f.emit("mov", result, b));
    return result;
  }

  max(a: Size, b: Size): Size {
    if (typeof a === "number" && typeof b === "number") return Math.max(a, b);
    const result = this.move(a);
    this.when("lt", result, b, () => this.f.emit("mov", result, b));
    return result;
  }

  /** base + sum of byte offsets, in a fresh register. */
  address(base: VReg, ...offsets: readonly Size[]): VReg {
    const result = this.move(base);
    let known = 0;
    for (const offset of offsets) {
      if (typeof offset === "number") known += offset;
      else this.f.emit("add", result, offset);
    }
    if (known !== 0) this.f.emit("add", result, known);
    return result;
  }

  /** Code for `a condition b`, signed. */
  when(condition: "lt" | "le" | "gt" | "ge" | "eq" | "ne", a: Size, b: Size, then: () => void, otherwise?: () => void): void {
    if (typeof a === "number" && typeof b === "number") {
      if (compare(condition, a, b)) then();
      else otherwise?.();
      return;
    }
    if (typeof a === "number") this.f.emit("cmp", this.move(a), b);
    else this.f.emit("cmp", a, b);
    this.f.ifElse(CONDITIONS[condition], then, otherwise);
  }

  /**
   * Cuts an index into mixed-radix digits, the first radix running fastest; the last digit takes what is left.
   * Radices of 1 give the digit 0.
   */
  split(index: Local, radices: readonly Dim[]): (Local | number)[] {
    const significant = radices.map((radix) => radix !== 1).lastIndexOf(true);
    let rest = index;
    return radices.map((radix, i) => {
      if (radix === 1) return 0;
      if (i === significant) return rest;
      const [quotient, remainder] = this.divide(this.get(rest), this.size(radix));
      rest = this.local(quotient);
      return this.local(remainder);
    });
  }

  /** Quotient and remainder of non-negative integers below 2^52: a double division is exact enough to truncate. */
  divide(a: VReg, b: Size): [quotient: VReg, remainder: VReg] {
    const { f } = this;
    const [x, y] = [f.vec("dividend"), f.vec("divisor")];
    const divisor = this.move(b);
    f.emit("vcvtsi2sd", x, x, a);
    f.emit("vcvtsi2sd", y, y, divisor);
    f.emit("vdivsd", x, x, y);
    const quotient = f.gp("quotient");
    f.emit("vcvttsd2si", quotient, x);
    return [quotient, this.sub(a, this.mul(quotient, divisor)) as VReg];
  }

  /** Runs `body(choice)` for the smallest of `choices` that is at least the value; the greatest is at least it. */
  choose(value: Local, choices: readonly number[], body: (choice: number) => void): void {
    const ascending = [...choices].sort((a, b) => a - b);
    const done = this.f.label("chosen");
    ascending.forEach((choice, i) => {
      const next = this.f.label("choice");
      if (i < ascending.length - 1) {
        this.f.emit("cmp", value.slot, choice);
        this.f.jump("gt", next);
      }
      body(choice);
      this.f.jump("always", done);
      this.f.bind(next);
    });
    this.f.bind(done);
  }

  /** Copies elements of `size` bytes from places `fromStep` bytes apart to places `toStep` bytes apart. Changes both registers. */
  copyElements(from: VReg, fromStep: Size, to: VReg, toStep: Size, count: Size, size = 4): void {
    const element = size === 4 || size === 8 ? this.f.vec("element") : this.f.gp("element");
    const move = { 1: "mov.b", 2: "mov.w", 4: "vmovss", 8: "vmovsd" }[size]!;
    this.f.loop(0, count, 1, () => {
      if (element.class === "gp") this.f.emit("xor", element, element);
      this.f.emit(move, element, mem(from));
      this.f.emit(move, mem(to), element);
      this.f.emit("add", from, fromStep);
      this.f.emit("add", to, toStep);
    });
  }

  /** Counts from `from` up to `to` by `step`; the index is in the frame. Sizes in registers are kept in the frame too. */
  count(from: Size, to: Size, step: Size, body: (index: Local) => void): void {
    const index = this.local(from);
    const end = typeof to === "number" ? to : this.local(to);
    const by = typeof step === "number" ? step : this.local(step);
    const top = this.f.label("count");
    const done = this.f.label("counted");
    this.f.bind(top);
    this.f.emit("cmp", this.get(index), typeof end === "number" ? end : end.slot);
    this.f.jump("ge", done);
    body(index);
    this.f.emit("add", index.slot, typeof by === "number" ? by : this.get(by));
    this.f.jump("always", top);
    this.f.bind(done);
  }
}

const CONDITIONS: Readonly<Record<"lt" | "le" | "gt" | "ge" | "eq" | "ne", Condition>> = { lt: "lt", le: "le", gt: "gt", ge: "ge", eq: "eq", ne: "ne" };

function compare(condition: keyof typeof CONDITIONS, a: number, b: number): boolean {
  switch (condition) {
    case "lt": return a < b;
    case "le": return a <= b;
    case "gt": return a > b;
    case "ge": return a >= b;
    case "eq": return a === b;
    case "ne": return a !== b;
  }
}
