/**
 * Code for registers that live in the frame: each use reads the frame directly where the instruction can, else through
 * a register that lives for one instruction. Values that an instruction makes from constants alone are made again
 * where they are used, and never stored.
 */
import type { Item } from "./assembler.ts";
import { bytesOf } from "./instructions.ts";
import { type Instruction, isMemory, isRegister, makeInstruction, type Mem, type Operand, type StackSlot, visitRegisters } from "./operands.ts";
import type { Isa, VReg } from "./registers.ts";

/** Moves between whole registers of one class, without a mask: with equal registers they do nothing. */
const MOVES: ReadonlySet<string> = new Set(["vmovaps", "vmovapd", "vmovups", "vmovupd", "vmovdqa", "vmovdqu", "vmovdqu32", "vmovdqu64", "vmovdqa32", "vmovdqa64", "kmovq"]);
/** Loads of a whole vector, whose users may read the memory themselves. */
const WHOLE_LOADS = MOVES;

/** @param wholeBytes the instruction set's vector; a shorter move clears the rest of its register */
export function isPlainMove({ form, operands, mask, size, width }: Instruction, wholeBytes = width): boolean {
  if (operands.length !== 2 || mask !== undefined || !isRegister(operands[0]!) || !isRegister(operands[1]!)) return false;
  if (operands[0].class !== operands[1].class) return false;
  return form.name === "mov" ? size === 8 : MOVES.has(form.name) && (operands[0].class === "mask" || width === wholeBytes);
}

export class SpillRewriter {
  /** All virtual registers, those made here included. */
  readonly registers: VReg[];
  count = 0;
  readonly #firstTemporary: number;
  readonly #isa: Isa;

  constructor(registers: readonly VReg[], isa: Isa) {
    this.registers = [...registers];
    this.#firstTemporary = registers.length;
    this.#isa = isa;
  }

  /** Made here, alive for one instruction: never spilled again. */
  isTemporary(id: number): boolean {
    return id >= this.#firstTemporary;
  }

  rewrite(items: readonly Item[], spilled: readonly number[]): readonly Item[] {
    const homes = new Map<number, StackSlot | Instruction>();
    const definitions = soleDefinitions(items, new Set(spilled));
    for (const id of spilled) homes.set(id, this.#remade(definitions.get(id)) ?? this.#newSlot(this.registers[id]!));
    this.count += spilled.length;
    return items.flatMap((item) => (item.kind === "instruction" ? this.#instruction(item, homes) : [item]));
  }

  #newSlot({ class: regClass }: VReg): StackSlot {
    const bytes = regClass === "vec" ? this.#isa.vectorBytes : 8;
    return { kind: "slot", bytes, alignment: bytes };
  }

  /** The definition, when it can be repeated anywhere: it reads constants only and leaves the flags alone. */
  #remade(definition: Instruction | undefined): Instruction | undefined {
    if (definition === undefined || definition.mask) return undefined;
    const { form, operands } = definition;
    if (form.legacy && (form.name !== "mov" || definition.size < 4)) return undefined;
    let reads = 0;
    visitRegisters(definition, (_, isRead) => { reads += isRead ? 1 : 0; });
    const constant = operands.slice(1).every((operand) => typeof operand !== "object" || isRegister(operand) || operand.constant !== undefined);
    return reads === 0 && constant && isRegister(operands[0]!) ? definition : undefined;
  }

  #instruction(instruction: Instruction, homes: ReadonlyMap<number, StackSlot | Instruction>): Item[] {
    const spilled = new Map<VReg, { reads: boolean; writes: boolean }>();
    visitRegisters(instruction, (register, reads, writes) => {
      if (!homes.has(register.id)) return;
      const known = spilled.get(register);
      spilled.set(register, { reads: reads || (known?.reads ?? false), writes: writes || (known?.writes ?? false) });
    });
    if (spilled.size === 0) return [instruction];
    const before: Item[] = [];
    const after: Item[] = [];
    let changed = instruction;
    for (const [register, access] of spilled) {
      const home = homes.get(register.id)!;
      if (home === instruction) return [];
      const direct = this.#direct(changed, register, home, access);
      if (direct) { changed = direct; continue; }
      const temporary: VReg = { class: register.class, id: this.registers.length, name: register.name };
      this.registers.push(temporary);
      changed = substitute(changed, register, temporary);
      if (access.reads) before.push(this.#load(temporary, home));
      if (access.writes) after.push(this.#move(temporary.class, { slot: home as StackSlot }, temporary));
    }
    return [...before, changed, ...after];
  }

  #load(to: VReg, home: StackSlot | Instruction): Instruction {
    if (home.kind === "slot") return this.#move(to.class, to, { slot: home });
    return { ...home, operands: home.operands.map((operand) => (operand === home.operands[0] ? to : operand)) };
  }

  #move(regClass: VReg["class"], to: Operand, from: Operand): Instruction {
    return makeInstruction(this.#isa, regClass === "gp" ? "mov" : regClass === "mask" ? "kmovq" : "vmovups", [to, from]);
  }

  /** The instruction with the frame or the constant in the register's place; undefined when it cannot have that. */
  #direct(instruction: Instruction, register: VReg, home: StackSlot | Instruction, access: { reads: boolean; writes: boolean }): Instruction | undefined {
    const place = placeOf(home);
    if (place === undefined) return undefined;
    if (isPlainMove(instruction, this.#isa.vectorBytes) && home.kind === "slot") {
      const [to, from] = instruction.operands as [VReg, VReg];
      return this.#move(register.class, to === register ? place : to, from === register ? place : from);
    }
    const { form, operands } = instruction;
    if (access.writes || operands.some((operand) => typeof operand === "object" && isMemory(operand))) return undefined;
    const at = operands.indexOf(register);
    if (at < 0 || operands.lastIndexOf(register) !== at || instruction.mask === register) return undefined;
    const spec = form.operands[at]!;
    if (spec.memBytes === 0 || spec.memBytes === undefined || spec.indexBytes !== 0) return undefined;
    if (bytesOf(spec.memBytes, instruction.width, instruction.size) > this.#placeBytes(home)) return undefined;
    return { ...instruction, operands: operands.map((operand, i) => (i === at ? place : operand)) };
  }

  #placeBytes(home: StackSlot | Instruction): number {
    return home.kind === "slot" ? home.bytes : home.width;
  }
}

/** Memory that holds the value. */
function placeOf(home: StackSlot | Instruction): Mem | undefined {
  if (home.kind === "slot") return { slot: home };
  const source = home.operands[1];
  return WHOLE_LOADS.has(home.form.name) && typeof source === "object" && isMemory(source) ? source : undefined;
}

function substitute(instruction: Instruction, from: VReg, to: VReg): Instruction {
  const replace = (register: VReg | undefined): VReg | undefined => (register === from ? to : register);
  const operands = instruction.operands.map((operand): Operand => {
    if (typeof operand !== "object") return operand;
    if (isRegister(operand)) return operand === from ? to : operand;
    return operand.base === from || operand.index === from ? { ...operand, base: replace(operand.base), index: replace(operand.index) } : operand;
  });
  return { ...instruction, operands, mask: replace(instruction.mask) };
}

/** For registers written by one instruction only: that instruction. */
function soleDefinitions(items: readonly Item[], ids: ReadonlySet<number>): Map<number, Instruction> {
  const definitions = new Map<number, Instruction>();
  const several = new Set<number>();
  for (const item of items) {
    if (item.kind !== "instruction") continue;
    visitRegisters(item, ({ id }, reads, writes) => {
      if (!writes || !ids.has(id)) return;
      if (definitions.has(id) || reads) several.add(id);
      definitions.set(id, item);
    });
  }
  for (const id of several) definitions.delete(id);
  return definitions;
}
