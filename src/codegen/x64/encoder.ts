/**
 * Bytes of one instruction. Virtual registers are looked up in the allocator's assignment.
 *
 * VEX is used wherever it can say the same, so that code for 256 bits runs on AVX2: EVEX only for 512 bits, registers
 * 16 to 31, write masks and broadcasts. Its 8-bit displacements count in units of the memory operand.
 *
 * Source: Intel SDM vol. 2, 2.1 (legacy), 2.3 (VEX), 2.7 (EVEX).
 */
import { assert } from "../../base/index.ts";
import { bytesOf, type Form, type OperandSpec } from "./instructions.ts";
import { type Instruction, isMemory, type Label, type Mem, needsEvex, type Operand, type PoolConstant, type StackSlot } from "./operands.ts";
import type { Isa, VReg } from "./registers.ts";

const NO_REGISTER = -1;
const RSP_NUMBER = 4;
const LEGACY_PREFIXES = [0, 0x66, 0xf3, 0xf2] as const;

export interface Fixup {
  /** Where the 32-bit displacement lies. */
  readonly position: number;
  /** The position the processor counts from: the end of the instruction. */
  readonly from: number;
  readonly target: Label | PoolConstant;
  readonly addend: number;
}

/** Where virtual things ended up. */
export interface Placement {
  readonly isa: Isa;
  /** Physical number by virtual id. */
  readonly registers: ArrayLike<number>;
  /** Offset of a slot from rsp. */
  readonly slotOffset: (slot: StackSlot) => number;
}

/** Roles of one instruction's operands as numbers. */
interface Fields {
  reg: number;
  vvvv: number;
  rm: Operand | undefined;
  rmSpec: OperandSpec | undefined;
  immediate: number | bigint | undefined;
  immediateBytes: number;
}

export class Encoder {
  bytes = new Uint8Array(1024);
  length = 0;
  readonly fixups: Fixup[] = [];
  readonly placement: Placement;

  constructor(placement: Placement) {
    this.placement = placement;
  }

  number(register: VReg): number {
    return register.id < 0 ? ~register.id : this.placement.registers[register.id]!;
  }

  byte(value: number): void {
    if (this.length === this.bytes.length) {
      const grown = new Uint8Array(2 * this.length);
      grown.set(this.bytes);
      this.bytes = grown;
    }
    this.bytes[this.length++] = value;
  }

  #int32(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.byte((value >> shift) & 255);
  }

  #immediate(value: number | bigint, bytes: number): void {
    if (bytes <= 4 && typeof value === "number") {
      for (let i = 0; i < bytes; i++) this.byte(Math.floor(value / 2 ** (8 * i)) & 255);
      return;
    }
    const bits = BigInt.asUintN(64, BigInt(value));
    for (let i = 0n; i < bytes; i++) this.byte(Number((bits >> (8n * i)) & 255n));
  }

  instruction(instruction: Instruction): void {
    const fields = this.#fields(instruction);
    if (instruction.form.legacy) this.#legacy(instruction, fields);
    else if (this.usesEvex(instruction)) this.#evex(instruction, fields);
    else this.#vex(instruction, fields);
  }

  /** Whether this instruction, with the registers it got, is written with an EVEX prefix. */
  usesEvex({ form, operands, width, mask }: Instruction): boolean {
    if (form.legacy || !form.evex) return false;
    const broadcast = operands.some((operand) => typeof operand === "object" && isMemory(operand) && operand.broadcast === true);
    if (needsEvex(form, width, mask !== undefined, broadcast)) return true;
    if (form.vnni && this.placement.isa.name === "avx512") return true;
    return operands.some((operand) => this.#usesHigh(operand));
  }

  #usesHigh(operand: Operand): boolean {
    if (typeof operand !== "object") return false;
    const register = isMemory(operand) ? operand.index : operand;
    return register !== undefined && register.class === "vec" && this.number(register) >= 16;
  }

  #fields({ form, operands, size }: Instruction): Fields {
    const fields: Fields = { reg: Math.max(form.extension, 0), vvvv: 0, rm: undefined, rmSpec: undefined, immediate: undefined, immediateBytes: 0 };
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i]!;
      const spec = form.operands[i]!;
      switch (spec.role) {
        case "R": fields.reg = this.number(operand as VReg); break;
        case "V": fields.vvvv = this.number(operand as VReg); break;
        case "M": case "O": fields.rm = operand; fields.rmSpec = spec; break;
        case "4": fields.immediate = this.number(operand as VReg) << 4; fields.immediateBytes = 1; break;
        case "I":
          if (spec.one) break;
          fields.immediate = operand as number | bigint;
          fields.immediateBytes = Math.min(bytesOf(spec.immBytes, 0, size), Math.max(size, 1));
          break;
        case "C": break;
      }
    }
    return fields;
  }

  #legacy(instruction: Instruction, fields: Fields): void {
    const { form, size } = instruction;
    const { rm } = fields;
    const sized = form.wBySize;
    if (form.lock) this.byte(0xf0);
    if (sized && size === 2) this.byte(0x66);
    if (form.prefix > 0) this.byte(LEGACY_PREFIXES[form.prefix]!);
    const w = form.vexW === 1 || sized && size === 8 && !DEFAULTS_TO_64.has(form.name) ? 8 : 0;
    const { x, b } = this.#extensions(rm);
    const rex = w | (fields.reg >= 8 ? 4 : 0) | (x ? 2 : 0) | (b ? 1 : 0);
    if (rex !== 0 || this.#hasNewByteRegister(instruction)) this.byte(0x40 | rex);
    if (form.map === 1) this.byte(0x0f);
    const opcode = form.byteForm && size === 1 ? form.opcode & ~1 : form.opcode;
    if (form.operands.some((spec) => spec.role === "O")) {
      const code = form.byteForm === false && form.opcode === 0xb8 && size === 1 ? 0xb0 : opcode;
      this.byte(code + (this.number(rm as VReg) & 7));
    } else {
      this.#opcode(opcode);
      if (rm !== undefined) this.#modrm(instruction, fields, 1);
    }
    if (fields.immediate !== undefined) this.#immediate(fields.immediate, fields.immediateBytes);
  }

  #opcode(opcode: number): void {
    if (opcode > 0xff) this.byte(opcode >> 8);
    this.byte(opcode & 255);
  }

  /** spl, bpl, sil and dil exist only with a REX prefix. */
  #hasNewByteRegister({ form, operands, size }: Instruction): boolean {
    return operands.some((operand, i) => {
      const spec = form.operands[i]!;
      if (typeof operand !== "object" || isMemory(operand) || spec.class !== "gp" || spec.role === "C") return false;
      return bytesOf(spec.regBytes, 0, size) === 1 && this.number(operand) >= 4;
    });
  }

  /** Bit 3 of the index, and of the base or register, of modrm.rm. */
  #extensions(rm: Operand | undefined): { x: boolean; b: boolean } {
    if (typeof rm !== "object") return { x: false, b: false };
    if (!isMemory(rm)) return { x: false, b: (this.number(rm) & 8) !== 0 };
    return { x: rm.index !== undefined && (this.number(rm.index) & 8) !== 0, b: rm.base !== undefined && (this.number(rm.base) & 8) !== 0 };
  }

  #vex(instruction: Instruction, fields: Fields): void {
    const { form, size } = instruction;
    const { x, b } = this.#extensions(fields.rm);
    const w = form.wBySize ? (size === 8 ? 1 : 0) : form.vexW;
    const tail = ((~fields.vvvv & 15) << 3) | (this.#vectorLength(instruction) << 2) | form.prefix;
    const notR = fields.reg >= 8 ? 0 : 0x80;
    if (!x && !b && w === 0 && form.map === 1) {
      this.byte(0xc5);
      this.byte(notR | tail);
    } else {
      this.byte(0xc4);
      this.byte(notR | (x ? 0 : 0x40) | (b ? 0 : 0x20) | form.map);
      this.byte((w << 7) | tail);
    }
    this.#opcode(form.opcode);
    if (fields.rm !== undefined) this.#modrm(instruction, fields, 1);
    else if (form.operands.length > 0) this.byte(0xc0 | ((fields.reg & 7) << 3));
    if (fields.immediate !== undefined) this.#immediate(fields.immediate, 1);
  }

  #evex(instruction: Instruction, fields: Fields): void {
    const { form, size, mask, zeroing } = instruction;
    const { rm } = fields;
    const { x, b } = this.#extensions(rm);
    const memory = typeof rm === "object" && isMemory(rm) ? rm : undefined;
    const high = memory ? false : typeof rm === "object" && this.number(rm as VReg) >= 16;
    const vectorIndex = memory?.index?.class === "vec" ? this.number(memory.index) : 0;
    const w = form.wBySize ? (size === 8 ? 1 : 0) : form.evexW;
    this.byte(0x62);
    this.byte((fields.reg & 8 ? 0 : 0x80) | (x || high ? 0 : 0x40) | (b ? 0 : 0x20) | (fields.reg & 16 ? 0 : 0x10) | form.map);
    this.byte((w << 7) | ((~fields.vvvv & 15) << 3) | 4 | form.prefix);
    const upper = (fields.vvvv | vectorIndex) & 16 ? 0 : 8;
    const z = zeroing && mask !== undefined && form.operands[0]!.class !== "mask" && typeof instruction.operands[0] === "object" && !isMemory(instruction.operands[0]);
    this.byte((z ? 0x80 : 0) | (this.#vectorLength(instruction) << 5) | (memory?.broadcast ? 0x10 : 0) | upper | (mask ? this.number(mask) : 0));
    this.byte(form.opcode);
    this.#modrm(instruction, fields, this.#displacementUnit(instruction, memory));
    if (fields.immediate !== undefined) this.#immediate(fields.immediate, 1);
  }

  #displacementUnit({ form, width, size }: Instruction, memory: Mem | undefined): number {
    return memory?.broadcast ? form.broadcastBytes : bytesOf(form.scale, width, size);
  }

  #vectorLength({ form, width }: Instruction): number {
    if (form.l >= 0) return form.l;
    return width === 64 ? 2 : width === 32 ? 1 : 0;
  }

  #modrm({ form }: Instruction, fields: Fields, unit: number): void {
    const reg = (fields.reg & 7) << 3;
    const rm = fields.rm as VReg | Mem;
    if (!isMemory(rm)) {
      this.byte(0xc0 | reg | (this.number(rm) & 7));
      return;
    }
    const target = rm.constant ?? rm.label;
    if (target) this.#relative(reg, rm, target, fields.immediate === undefined ? 0 : fields.immediateBytes);
    else this.#indirect(form, reg, rm, unit);
  }

  #relative(reg: number, place: Mem, target: Label | PoolConstant, immediateBytes: number): void {
    assert(!place.base && !place.index, "a constant's address takes no base or index");
    this.byte(reg | 5);
    this.fixups.push({ position: this.length, from: this.length + 4 + immediateBytes, target, addend: place.disp ?? 0 });
    this.#int32(0);
  }

  #indirect(form: Form, reg: number, place: Mem, unit: number): void {
    const base = place.slot ? RSP_NUMBER : place.base ? this.number(place.base) : NO_REGISTER;
    const index = place.index ? this.number(place.index) : NO_REGISTER;
    const disp = (place.disp ?? 0) + (place.slot ? this.placement.slotOffset(place.slot) : 0);
    assert(Number.isInteger(disp) && disp >= -(2 ** 31) && disp < 2 ** 31, `displacement ${disp} does not fit 32 bits`);
    const needsSib = index !== NO_REGISTER || base === NO_REGISTER || (base & 7) === RSP_NUMBER || form.sib;
    assert(index !== RSP_NUMBER || place.index!.class === "vec", "rsp cannot be an index");
    const short = disp % unit === 0 && disp / unit >= -128 && disp / unit <= 127;
    const mode = base === NO_REGISTER || disp === 0 && (base & 7) !== 5 ? 0 : short ? 1 : 2;
    this.byte((mode << 6) | reg | (needsSib ? 4 : base & 7));
    if (needsSib) {
      const scale = Math.log2(place.scale ?? 1);
      this.byte((scale << 6) | ((index === NO_REGISTER ? 4 : index & 7) << 3) | (base === NO_REGISTER ? 5 : base & 7));
    }
    if (mode === 1) this.byte((disp / unit) & 255);
    else if (mode === 2 || base === NO_REGISTER) this.#int32(disp);
  }
}

/** 64-bit without a REX.W prefix. */
const DEFAULTS_TO_64: ReadonlySet<string> = new Set(["push", "pop", "call", "jmp"]);
