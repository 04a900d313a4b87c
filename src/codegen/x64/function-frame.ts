/**
 * The frame of a function: where slots lie, how it is entered and left.
 *
 * Slots are addressed from rsp, which stays where it is after the prologue. Alignment above what the caller
 * guarantees is made by rounding rsp down; the old value is kept in the frame.
 */
import { isCall } from "./allocator-liveness.ts";
import type { Item } from "./assembler.ts";
import { type Instruction, isMemory, mem, type Operand, type StackSlot } from "./operands.ts";
import { CALLEE_SAVED, GP, R11, RSP, type VReg } from "./registers.ts";

type Make = (mnemonic: string, ...operands: Operand[]) => Instruction;

export interface Frame {
  readonly bytes: number;
  readonly slotOffset: (slot: StackSlot) => number;
  enter(make: Make): Item[];
  leave(make: Make): Item[];
}

/** Callee-saved registers the code touches. */
export function savedRegisters(items: readonly Item[], registers: ArrayLike<number>): VReg[] {
  const used = new Set<number>();
  const note = (register: VReg | undefined): void => {
    if (register?.class === "gp") used.add(register.id < 0 ? ~register.id : registers[register.id]!);
  };
  for (const item of items) {
    if (item.kind !== "instruction") continue;
    for (const operand of item.operands) {
      if (typeof operand !== "object") continue;
      if (!isMemory(operand)) note(operand);
      else { note(operand.base); note(operand.index); }
    }
    for (const number of item.form.implicitWrites) used.add(number);
  }
  return CALLEE_SAVED.filter((number) => used.has(number)).map((number) => GP[number]!);
}

const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

export function frameOf(items: readonly Item[], pushes: number): Frame {
  const slots = new Set<StackSlot>();
  for (const item of items) {
    if (item.kind !== "instruction") continue;
    for (const operand of item.operands) if (typeof operand === "object" && isMemory(operand) && operand.slot) slots.add(operand.slot);
  }
  const offsets = new Map<StackSlot, number>();
  let size = 0;
  let alignment = items.some(isCall) ? 16 : 8;
  for (const slot of [...slots].sort((a, b) => b.alignment - a.alignment)) {
    size = roundUp(size, slot.alignment);
    offsets.set(slot, size);
    size += slot.bytes;
    alignment = Math.max(alignment, slot.alignment);
  }
  const slotOffset = (slot: StackSlot): number => offsets.get(slot)!;
  return alignment > 16 ? roundedFrame(size, alignment, slotOffset) : plainFrame(size, alignment, pushes, slotOffset);
}

/** rsp is 8 past a multiple of 16 at the entry; each push takes 8. */
function plainFrame(size: number, alignment: number, pushes: number, slotOffset: Frame["slotOffset"]): Frame {
  const above = 8 + 8 * pushes;
  const bytes = size === 0 && alignment === 8 ? 0 : roundUp(above + size, alignment) - above;
  return {
    bytes,
    slotOffset,
    enter: (make) => (bytes === 0 ? [] : [make("sub", RSP, bytes)]),
    leave: (make) => (bytes === 0 ? [] : [make("add", RSP, bytes)]),
  };
}

function roundedFrame(size: number, alignment: number, slotOffset: Frame["slotOffset"]): Frame {
  const saved = roundUp(size, 8);
  const bytes = roundUp(saved + 8, alignment);
  return {
    bytes,
    slotOffset,
    enter: (make) => [
      make("mov", R11, RSP),
      make("sub", RSP, bytes),
      make("and", RSP, -alignment),
      make("mov", mem(RSP, { disp: saved }), R11),
    ],
    leave: (make) => [make("mov", RSP, mem(RSP, { disp: saved }))],
  };
}
