/**
 * Operands as kernel generators write them, one instruction with its operands, and which form of the table it takes.
 */
import { assert } from "../../base/index.ts";
import { bytesOf, type Form, type OperandSpec, resolveMnemonic, SIZED } from "./instructions.ts";
import { GP, type Isa, type VReg } from "./registers.ts";

/** A place in the code. */
export interface Label {
  readonly kind: "label";
  readonly name: string;
  readonly id: number;
}

/** Bytes that lie behind the code. */
export interface PoolConstant {
  readonly kind: "constant";
  readonly bytes: Uint8Array;
  readonly alignment: number;
}

/** Memory of the function's frame. */
export interface StackSlot {
  readonly kind: "slot";
  readonly bytes: number;
  readonly alignment: number;
}

/** base + index * scale + disp; `constant`, `slot` or `label` stand for the base. `broadcast`: one element for all lanes (AVX-512). */
export interface Mem {
  readonly base?: VReg | undefined;
  readonly index?: VReg | undefined;
  readonly scale?: 1 | 2 | 4 | 8 | undefined;
  readonly disp?: number | undefined;
  readonly constant?: PoolConstant | undefined;
  readonly slot?: StackSlot | undefined;
  readonly label?: Label | undefined;
  readonly broadcast?: boolean | undefined;
}

export type Operand = VReg | Mem | number | bigint;

export interface MemOptions {
  readonly index?: VReg | undefined;
  readonly scale?: 1 | 2 | 4 | 8 | undefined;
  readonly disp?: number | undefined;
  readonly broadcast?: boolean | undefined;
}

export function mem(base: VReg, options: MemOptions = {}): Mem {
  return { base, ...options };
}

export function isRegister(operand: Operand): operand is VReg {
  return typeof operand === "object" && "class" in operand;
}

export function isMemory(operand: Operand): operand is Mem {
  return typeof operand === "object" && !("class" in operand);
}

export interface Instruction {
  readonly kind: "instruction";
  readonly form: Form;
  readonly operands: readonly Operand[];
  /** Bytes of the vectors meant, and of general operands. */
  readonly width: number;
  readonly size: number;
  /** The EVEX write mask. */
  readonly mask: VReg | undefined;
  readonly zeroing: boolean;
  /** Physical registers a call or system call reads: its arguments. */
  readonly uses?: readonly VReg[];
}

/** Makes the instruction a mnemonic and operands stand for. @throws when no form of the table takes them */
export function makeInstruction(isa: Isa, text: string, operands: readonly Operand[], mask?: VReg, zeroing = false): Instruction {
  const { forms, size, width: named } = resolveMnemonic(text);
  const width = named === 0 ? isa.vectorBytes : named;
  const form = forms.find((candidate) => fits(candidate, operands, isa, width, size, mask !== undefined));
  assert(form, `no form of ${text} takes (${operands.map(describe).join(", ")})${mask ? " with a mask" : ""} on ${isa.name}`);
  return { kind: "instruction", form, operands: isIdiom(form, operands) ? overItself(operands) : operands, width, size, mask, zeroing };
}

/** An idiom's sources are not read, so that no register need be kept for them: the destination stands for them. */
function overItself(operands: readonly Operand[]): readonly Operand[] {
  return operands.map((operand) => (typeof operand === "object" ? operands[0]! : operand));
}

function describe(operand: Operand): string {
  return isRegister(operand) ? `${operand.class} ${operand.name}` : typeof operand === "object" ? `memory${operand.broadcast ? " broadcast" : ""}` : String(operand);
}

/** Whether the instruction can only be written with an EVEX prefix, whatever registers it gets. */
export function needsEvex(form: Form, width: number, masked: boolean, broadcast: boolean): boolean {
  return !form.legacy && (!form.vex || masked || broadcast || (form.wide ? width === 64 : form.l === 2));
}

function fits(form: Form, operands: readonly Operand[], isa: Isa, width: number, size: number, masked: boolean): boolean {
  if (form.operands.length !== operands.length || form.needsMask !== masked && form.needsMask) return false;
  const broadcast = operands.some((operand) => typeof operand === "object" && "broadcast" in operand && operand.broadcast === true);
  if (broadcast && form.broadcastBytes === 0) return false;
  if (needsEvex(form, width, masked, broadcast) && (!form.evex || isa.name === "avx2")) return false;
  if (form.byteForm && size === 1 && form.opcode === 0x83) return false;
  return operands.every((operand, i) => fitsOperand(form, form.operands[i]!, operand, size));
}

function fitsOperand(form: Form, spec: OperandSpec, operand: Operand, size: number): boolean {
  if (typeof operand !== "object") return fitsImmediate(form, spec, operand, size);
  if (isMemory(operand)) return spec.memBytes !== 0;
  return spec.class === operand.class && (spec.role !== "C" || operand.id === ~1);
}

function fitsImmediate(form: Form, spec: OperandSpec, value: number | bigint, size: number): boolean {
  if (spec.one) return Number(value) === 1;
  if (spec.immBytes === 0) return false;
  const bytes = Math.min(spec.immBytes === SIZED ? 8 : spec.immBytes, size);
  const signedOnly = form.legacy && (form.opcode === 0x83 || form.opcode === 0x6b || spec.immBytes === 4 && size === 8);
  const limit = 2n ** BigInt(8 * bytes - 1);
  const integer = BigInt(value);
  if (spec.immBytes === SIZED && size === 8 && integer === BigInt.asIntN(32, integer)) return false;
  return integer >= -limit && integer < (signedOnly ? limit : 2n * limit);
}

/** A register an instruction touches. */
export type Visit = (register: VReg, reads: boolean, writes: boolean) => void;

/** Calls `visit` for every register an instruction reads or writes, address registers and implied ones included. */
export function visitRegisters(instruction: Instruction, visit: Visit): void {
  const { form, operands, mask, zeroing } = instruction;
  const independent = isIdiom(form, operands);
  const destination = operands[0];
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i]!;
    if (typeof operand !== "object") continue;
    const spec = form.operands[i]!;
    if (isMemory(operand)) {
      if (operand.base) visit(operand.base, true, false);
      if (operand.index) visit(operand.index, true, false);
      continue;
    }
    const keeps = spec.writes && (mask !== undefined && !zeroing && !form.selects && operand.class !== "mask" || form.merge && instruction.size < 4);
    const ignored = independent && !keeps || spec.upper && operand === destination;
    const reads = (spec.reads && !ignored) || keeps;
    if (reads || spec.writes) visit(operand, reads, spec.writes);
  }
  if (mask) visit(mask, true, form.clearsMask);
  for (const register of instruction.uses ?? []) visit(register, true, false);
  for (const number of form.implicitReads) visit(GP[number]!, true, false);
  for (const number of form.implicitWrites) visit(GP[number]!, false, true);
}

/** Whether the result does not depend on what the source registers hold: `xor x, x`, vpternlog giving all zeros or ones. */
function isIdiom(form: Form, operands: readonly Operand[]): boolean {
  if (form.zeroIdiom) {
    const last = operands[operands.length - 1]!;
    return isRegister(last) && last === operands[operands.length - 2];
  }
  const truth = operands[3];
  return (truth === 0 || truth === 255) && form.name.startsWith("vpternlog") && isRegister(operands[2]!);
}

/** Bytes of memory an operand stands for; undefined when the instruction does not say. */
export function memoryBytes({ form, width, size }: Instruction, spec: OperandSpec, broadcast: boolean): number | undefined {
  if (broadcast) return form.broadcastBytes;
  return spec.memBytes === undefined ? undefined : bytesOf(spec.memBytes, width, size);
}

