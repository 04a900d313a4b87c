/**
 * A small assembler for the few routines the runtime itself needs (processor identification, the program walker):
 * baseline x86-64 integer instructions, physical registers, 32-bit jumps. Kernels are not made with it: the compiler
 * has an assembler of its own, which a server does not load.
 *
 * Source: Intel SDM vol. 2, chapters 2 (encoding) and 3-5 (opcodes).
 */
import { assert } from "../base/index.ts";

export const REGISTERS = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
export type Register = (typeof REGISTERS)[number];

/** `[base + offset]` */
export interface Address {
  readonly base: Register;
  readonly offset: number;
}

export function at(base: Register, offset = 0): Address {
  return { base, offset };
}

export type Label = { readonly name: string; position: number };

/** Conditions of jcc, by their code. */
const CONDITIONS = { below: 2, aboveOrEqual: 3, equal: 4, notEqual: 5, belowOrEqual: 6, above: 7, less: 12, greater: 15 } as const;
export type Condition = keyof typeof CONDITIONS;

/** Arithmetic of the form `op r, r/m`: opcode of that form, and the number of the immediate form. */
const ARITHMETIC = { add: [0x03, 0], or: [0x0b, 1], and: [0x23, 4], sub: [0x2b, 5], xor: [0x33, 6], cmp: [0x3b, 7] } as const;
export type Arithmetic = keyof typeof ARITHMETIC;

/** Operand size in bits. */
type Width = 32 | 64;

export class StubAssembler {
  readonly #bytes: number[] = [];
  readonly #references: { readonly position: number; readonly label: Label }[] = [];
  readonly #entries = new Map<string, number>();

  /** Starts a function at a 16-byte boundary. */
  entry(name: string): Label {
    while (this.#bytes.length % 16 !== 0) this.#bytes.push(0x90);
    this.#entries.set(name, this.#bytes.length);
    return this.bind(this.label(name));
  }

  label(name = ""): Label {
    return { name, position: -1 };
  }

  bind(label: Label): Label {
    assert(label.position < 0, `label ${label.name} bound twice`);
    label.position = this.#bytes.length;
    return label;
  }

  /** The code, and where in it each entry begins. */
  finish(): { readonly code: Uint8Array; readonly entries: ReadonlyMap<string, number> } {
    const code = Uint8Array.from(this.#bytes);
    const view = new DataView(code.buffer);
    for (const { position, label } of this.#references) {
      assert(label.position >= 0, `label ${label.name} never bound`);
      view.setInt32(position, label.position - position - 4, true);
    }
    return { code, entries: this.#entries };
  }

  load(to: Register, from: Address, width: Width = 64): void {
    this.#memory([0x8b], number(to), from, width);
  }

  store(to: Address, from: Register, width: Width = 64): void {
    this.#memory([0x89], number(from), to, width);
  }

  /** Stores a constant, sign-extended to 64 bits. */
  storeConstant(to: Address, value: number, width: Width = 64): void {
    this.#memory([0xc7], 0, to, width);
    this.#int32(value);
  }

  move(to: Register, from: Register, width: Width = 64): void {
    this.#registers([0x8b], number(to), number(from), width);
  }

  /** Loads a constant below 2^32, zero-extended. */
  constant(to: Register, value: number): void {
    this.#rex(0, number(to), false);
    this.#bytes.push(0xb8 + (number(to) & 7));
    this.#int32(value);
  }

  zero(register: Register): void {
    this.arithmetic("xor", register, register, 32);
  }

  lea(to: Register, address: Address): void {
    this.#memory([0x8d], number(to), address, 64);
  }

  arithmetic(operation: Arithmetic, to: Register, from: Register | Address | number, width: Width = 64): void {
    const [opcode, group] = ARITHMETIC[operation];
    if (typeof from === "number") {
      this.#registers([0x81], group, number(to), width);
      this.#int32(from);
    } else if (typeof from === "string") this.#registers([opcode], number(to), number(from), width);
    else this.#memory([opcode], number(to), from, width);
  }

  /** `op [address], constant` */
  arithmeticMemory(operation: Arithmetic, to: Address, value: number, width: Width = 64): void {
    this.#memory([0x81], ARITHMETIC[operation][1], to, width);
    this.#int32(value);
  }

  test(a: Register, b: Register, width: Width = 64): void {
    this.#registers([0x85], number(b), number(a), width);
  }

  shiftLeft(register: Register, count: number): void {
    this.#registers([0xc1], 4, number(register), 64);
    this.#bytes.push(count);
  }

  shiftRight(register: Register, count: number): void {
    this.#registers([0xc1], 5, number(register), 64);
    this.#bytes.push(count);
  }

  /** By the count in cl. */
  shiftRightByCl(register: Register): void {
    this.#registers([0xd3], 5, number(register), 64);
  }

  /** Atomically adds the register to memory; the register receives the old value. */
  fetchAdd(memory: Address, register: Register, width: Width = 64): void {
    this.#bytes.push(0xf0);
    this.#memory([0x0f, 0xc1], number(register), memory, width);
  }

  /** Atomically adds a constant to memory. */
  atomicAdd(memory: Address, value: number, width: Width = 64): void {
    this.#bytes.push(0xf0);
    this.arithmeticMemory("add", memory, value, width);
  }

  /** Atomically replaces memory by the register when it equals rax; rax receives the old value; flags tell. */
  compareExchange(memory: Address, register: Register, width: Width = 64): void {
    this.#bytes.push(0xf0);
    this.#memory([0x0f, 0xb1], number(register), memory, width);
  }

  /** Atomically swaps register and memory. */
  exchange(memory: Address, register: Register, width: Width = 64): void {
    this.#memory([0x87], number(register), memory, width);
  }

  jump(target: Label): void {
    this.#bytes.push(0xe9);
    this.#reference(target);
  }

  jumpIf(condition: Condition, target: Label): void {
    this.#bytes.push(0x0f, 0x80 + CONDITIONS[condition]);
    this.#reference(target);
  }

  call(target: Label): void {
    this.#bytes.push(0xe8);
    this.#reference(target);
  }

  /** Calls the function whose address lies in memory. */
  callMemory(address: Address): void {
    this.#memory([0xff], 2, address, 32);
  }

  push(...registers: readonly Register[]): void {
    for (const register of registers) this.#short(0x50, register);
  }

  /** Pops in reverse, so that it takes the same list as `push`. */
  pop(...registers: readonly Register[]): void {
    for (const register of [...registers].reverse()) this.#short(0x58, register);
  }

  ret(): void {
    this.#bytes.push(0xc3);
  }

  pause(): void {
    this.#bytes.push(0xf3, 0x90);
  }

  /** Clobbers rax, rcx, r11. */
  syscall(): void {
    this.#bytes.push(0x0f, 0x05);
  }

  /** Time-stamp counter in edx:eax. */
  rdtsc(): void {
    this.#bytes.push(0x0f, 0x31);
  }

  cpuid(): void {
    this.#bytes.push(0x0f, 0xa2);
  }

  xgetbv(): void {
    this.#bytes.push(0x0f, 0x01, 0xd0);
  }

  #short(opcode: number, register: Register): void {
    this.#rex(0, number(register), false);
    this.#bytes.push(opcode + (number(register) & 7));
  }

  #rex(reg: number, base: number, wide: boolean): void {
    const rex = 0x40 | (wide ? 8 : 0) | (reg > 7 ? 4 : 0) | (base > 7 ? 1 : 0);
    if (rex !== 0x40) this.#bytes.push(rex);
  }

  #registers(opcode: readonly number[], reg: number, rm: number, width: Width): void {
    this.#rex(reg, rm, width === 64);
    this.#bytes.push(...opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7));
  }

  #memory(opcode: readonly number[], reg: number, address: Address, width: Width): void {
    const base = number(address.base);
    this.#rex(reg, base, width === 64);
    this.#bytes.push(...opcode, 0x80 | ((reg & 7) << 3) | (base & 7));
    if ((base & 7) === 4) this.#bytes.push(0x24);
    this.#int32(address.offset);
  }

  #reference(label: Label): void {
    this.#references.push({ position: this.#bytes.length, label });
    this.#int32(0);
  }

  #int32(value: number): void {
    this.#bytes.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  }
}

function number(register: Register): number {
  return REGISTERS.indexOf(register);
}
