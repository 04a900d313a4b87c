/**
 * A function under construction: instructions over virtual registers, labels, constants, frame memory; `finish` allocates
 * registers and makes the code. Functions follow System V: up to six integer parameters, a result in rax.
 *
 * Registers are 64-bit for general instructions and the instruction set's whole vector for vector ones, unless the
 * mnemonic says otherwise: `mov.d`, `cmp.b`; `vaddps.y`, `vmovups.x`.
 */
import { assert } from "../../base/index.ts";
import { allocate } from "./allocator.ts";
import { assemble, type Item } from "./assembler.ts";
import { frameOf, savedRegisters } from "./function-frame.ts";
import { type Instruction, isRegister, type Label, makeInstruction, type Mem, type Operand as PlainOperand, type PoolConstant } from "./operands.ts";
import { ARGUMENT_REGISTERS, type Condition, GP, type Isa, negate, RAX, RDX, type RegClass, type VReg } from "./registers.ts";

export type { Condition, Isa, Label, Mem, PoolConstant, VReg };
export { AVX2, AVX512, isaOf, type RegClass } from "./registers.ts";
export { mem } from "./operands.ts";

/** A label stands for its address. */
export type Operand = PlainOperand | Label;

export interface FinishedFunction {
  /** To be placed at a multiple of 64 bytes; constants lie behind the instructions. */
  readonly code: Uint8Array;
  readonly entry: 0;
  readonly frameBytes: number;
  /** Virtual registers that live in the frame or are made again at each use. */
  readonly spills: number;
  /** The instructions as text, Intel syntax. */
  listing(): string;
}

/** Where Linux takes the arguments of a system call. */
const SYSCALL_REGISTERS: readonly VReg[] = [GP[7]!, GP[6]!, RDX, GP[10]!, GP[8]!, GP[9]!];
const LOOP_ALIGNMENT = 16;

export class FunctionBuilder {
  readonly isa: Isa;
  readonly name: string;
  readonly params: readonly VReg[];
  readonly #items: Item[] = [];
  readonly #registers: VReg[] = [];
  readonly #constants = new Map<string, PoolConstant>();
  readonly #end: Label;
  #labels = 0;
  #finished = false;

  constructor(isa: Isa, name: string, parameterCount: number) {
    assert(parameterCount <= ARGUMENT_REGISTERS.length, `function ${name} with ${parameterCount} parameters; at most 6`);
    this.isa = isa;
    this.name = name;
    this.#end = this.label("return");
    this.params = ARGUMENT_REGISTERS.slice(0, parameterCount).map((_, i) => this.gp(`param${i}`));
    this.params.forEach((param, i) => this.emit("mov", param, ARGUMENT_REGISTERS[i]!));
  }

  gp(name = "r"): VReg { return this.#register("gp", name); }
  vec(name = "v"): VReg { return this.#register("vec", name); }
  /** A k register on AVX-512, a vector of all-ones or all-zeros lanes on AVX2. */
  mask(name = "m"): VReg { return this.#register(this.isa.name === "avx512" ? "mask" : "vec", name); }

  #register(regClass: RegClass, name: string): VReg {
    const register: VReg = { class: regClass, id: this.#registers.length, name };
    this.#registers.push(register);
    return register;
  }

  label(name = "l"): Label {
    return { kind: "label", name: `.${name}${this.#labels}`, id: this.#labels++ };
  }

  bind(label: Label): void {
    this.#items.push(label);
  }

  /** Any instruction of the table. Shifts by a register, two-operand imul by a number and `mov` of any number are written in the forms that exist. */
  emit(mnemonic: string, ...operands: readonly Operand[]): void {
    const plain = operands.map((operand) => (typeof operand === "object" && "kind" in operand ? { label: operand } : operand));
    if (operands.length === 2 && this.#emitInOtherWords(mnemonic, plain[0]!, plain[1]!)) return;
    this.#items.push(makeInstruction(this.isa, mnemonic, plain));
  }

  #emitInOtherWords(mnemonic: string, to: PlainOperand, from: PlainOperand): boolean {
    if (!isRegisterOperand(to)) return false;
    if (mnemonic === "mov" && typeof from === "number" && from >= 0 && from < 2 ** 32) return this.#push("mov.d", [to, from]);
    const [name, suffix] = mnemonic.split(".") as [string, string?];
    const rest = suffix === undefined ? "" : `.${suffix}`;
    if (name === "imul" && typeof from === "number") return this.#push(mnemonic, [to, to, from]);
    if (!isRegisterOperand(from)) return false;
    if (SHIFTS.has(name)) return this.#push(`${name}x${rest}`, [to, to, from]);
    if (name !== "rol" && name !== "ror") return false;
    this.#push("mov", [GP[1]!, from]);
    return this.#push(mnemonic, [to, GP[1]!]);
  }

  #push(mnemonic: string, operands: readonly PlainOperand[]): true {
    this.#items.push(makeInstruction(this.isa, mnemonic, operands));
    return true;
  }

  /** AVX-512 only: lanes outside `mask` become zero, or keep what the destination (a register or memory) has. */
  emitMasked(mnemonic: string, mask: VReg, zeroing: boolean, ...operands: readonly PlainOperand[]): void {
    assert(mask.class === "mask", `${mnemonic}: masked instructions take a mask register (AVX-512)`);
    this.#items.push(makeInstruction(this.isa, mnemonic, operands, mask, zeroing));
  }

  jump(condition: Condition | "always", target: Label): void {
    this.#items.push({ kind: "jump", condition, target });
  }

  /** Constant bytes behind the code; equal ones once. Aligned to their size, up to a vector, unless said otherwise. */
  constant(bytes: Uint8Array, alignment = alignmentOf(bytes.length)): Mem {
    const key = `${alignment}:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")}`;
    let constant = this.#constants.get(key);
    if (constant === undefined) {
      constant = { kind: "constant", bytes: bytes.slice(), alignment };
      this.#constants.set(key, constant);
    }
    return { constant };
  }

  /** Memory in the frame, undefined at first. */
  stackSlot(bytes: number, alignment = alignmentOf(bytes)): Mem {
    return { slot: { kind: "slot", bytes, alignment } };
  }

  comment(text: string): void {
    this.#items.push({ kind: "comment", text });
  }

  /** What follows begins at a multiple of `bytes`, a power of two up to 64. */
  align(bytes: number): void {
    this.#items.push({ kind: "align", bytes });
  }

  /** Counts up from `from` by `step` while index < to (signed). The body may not change the index, nor `to`. */
  loop(from: VReg | number, to: VReg | number, step: number, body: (index: VReg) => void): void {
    if (typeof from === "number" && typeof to === "number" && from >= to) return;
    const index = this.gp("index");
    const top = this.label("loop");
    const done = this.label("done");
    this.emit("mov", index, from);
    if (typeof from !== "number" || typeof to !== "number") {
      this.emit("cmp", index, to);
      this.jump("ge", done);
    }
    this.align(LOOP_ALIGNMENT);
    this.bind(top);
    body(index);
    this.emit("add", index, step);
    this.emit("cmp", index, to);
    this.jump("lt", top);
    this.bind(done);
  }

  /** Tests the flags set by the instruction before. */
  ifElse(condition: Condition, then: () => void, otherwise?: () => void): void {
    const not = this.label("else");
    const done = this.label("endif");
    this.jump(negate(condition), not);
    then();
    if (otherwise) this.jump("always", done);
    this.bind(not);
    if (!otherwise) return;
    otherwise();
    this.bind(done);
  }

  /** Division of 64-bit integers, truncating. The divisor must not be 0, nor the quotient 2^63. */
  divide(dividend: VReg, divisor: VReg, signed = true): { quotient: VReg; remainder: VReg } {
    this.emit("mov", RAX, dividend);
    if (signed) this.emit("cqo");
    else this.emit("xor.d", RDX, RDX);
    this.emit(signed ? "idiv" : "div", divisor);
    const [quotient, remainder] = [this.gp("quotient"), this.gp("remainder")];
    this.emit("mov", quotient, RAX);
    this.emit("mov", remainder, RDX);
    return { quotient, remainder };
  }

  /** Calls a System V function with up to six integer arguments. Vectors and masks that live across it go to the frame. */
  call(target: VReg, ...args: readonly (VReg | number)[]): VReg {
    return this.#invoke("call", [target], ARGUMENT_REGISTERS, args);
  }

  /** A Linux system call. @returns its result, negative on failure */
  syscall(number: VReg | number, ...args: readonly (VReg | number)[]): VReg {
    return this.#invoke("syscall", [], SYSCALL_REGISTERS, args, number);
  }

  #invoke(mnemonic: string, operands: readonly VReg[], places: readonly VReg[], args: readonly (VReg | number)[], rax?: VReg | number): VReg {
    assert(args.length <= places.length, `${mnemonic} with ${args.length} arguments; at most 6`);
    args.forEach((argument, i) => this.emit("mov", places[i]!, argument));
    if (rax !== undefined) this.emit("mov", RAX, rax);
    if (mnemonic === "call") this.emit("vzeroupper");
    this.#items.push({ ...makeInstruction(this.isa, mnemonic, operands), uses: places.slice(0, args.length) });
    const result = this.gp("result");
    this.emit("mov", result, RAX);
    return result;
  }

  /** Leaves the function, with `value` as its result when given. */
  ret(value?: VReg | number): void {
    if (value !== undefined) this.emit("mov", RAX, value);
    this.jump("always", this.#end);
  }

  finish(): FinishedFunction {
    assert(!this.#finished, `function ${this.name} is finished twice`);
    this.#finished = true;
    const last = this.#items[this.#items.length - 1];
    if (last?.kind === "jump" && last.target === this.#end && last.condition === "always") this.#items.pop();
    const { items, registers, spills } = allocate([...this.#items, this.#end], this.#registers, this.isa);
    const saved = savedRegisters(items, registers);
    const frame = frameOf(items, saved.length);
    const instruction = (mnemonic: string, ...operands: PlainOperand[]): Instruction => makeInstruction(this.isa, mnemonic, operands);
    const usesVectors = items.some((item) => item.kind === "instruction" && item.operands.some((operand) => isRegisterOperand(operand) && operand.class === "vec"));
    const whole: Item[] = [
      ...saved.map((register) => instruction("push", register)),
      ...frame.enter(instruction),
      ...items,
      ...(usesVectors ? [instruction("vzeroupper")] : []),
      ...frame.leave(instruction),
      ...saved.toReversed().map((register) => instruction("pop", register)),
      instruction("ret"),
    ];
    const { code, listing } = assemble(whole, { isa: this.isa, registers, slotOffset: frame.slotOffset });
    return { code, entry: 0, frameBytes: frame.bytes, spills, listing };
  }
}

const SHIFTS: ReadonlySet<string> = new Set(["shl", "shr", "sar"]);

function isRegisterOperand(operand: PlainOperand): operand is VReg {
  return typeof operand === "object" && isRegister(operand);
}

/** The largest power of two up to 64 that is no larger than the size. */
function alignmentOf(bytes: number): number {
  return Math.max(1, Math.min(64, 2 ** Math.floor(Math.log2(Math.max(bytes, 1)))));
}
