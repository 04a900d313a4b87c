/** Instructions as text in Intel syntax, as the GNU assembler reads it: for listings, and to check every row against it. */
import { bytesOf } from "./instructions.ts";
import { type Instruction, isMemory, type Mem, memoryBytes, type Operand, type PoolConstant } from "./operands.ts";
import { registerName, type VReg } from "./registers.ts";
import type { Encoder } from "./encoder.ts";

const SIZE_NAMES: Readonly<Record<number, string>> = { 1: "byte", 2: "word", 4: "dword", 8: "qword", 16: "xmmword", 32: "ymmword", 64: "zmmword" };

/** @param constantName what stands for a constant of the pool */
export function instructionText(encoder: Encoder, instruction: Instruction, constantName: (constant: PoolConstant) => string): string {
  const { form } = instruction;
  const name = (form.lock ? "lock " : "") + (encoder.usesEvex(instruction) ? form.evexName : form.name);
  const operands = instruction.operands.map((operand, i) => operandText(encoder, instruction, operand, i, constantName));
  if (instruction.mask && operands.length > 0) {
    const zeroing = instruction.zeroing && form.operands[0]!.class !== "mask" && !isMemory(instruction.operands[0]!);
    operands[0] += ` {k${encoder.number(instruction.mask)}}${zeroing ? "{z}" : ""}`;
  }
  return operands.length === 0 ? name : `${name} ${operands.join(", ")}`;
}

function operandText(encoder: Encoder, instruction: Instruction, operand: Operand, i: number, constantName: (constant: PoolConstant) => string): string {
  const { form, width, size } = instruction;
  const spec = form.operands[i]!;
  if (typeof operand !== "object") return String(operand);
  if (!isMemory(operand)) {
    return registerName(operand.class, encoder.number(operand), bytesOf(spec.regBytes, width, size));
  }
  const bytes = memoryBytes(instruction, spec, operand.broadcast ?? false);
  const indexBytes = bytesOf(spec.indexBytes, width, size);
  const address = addressText(encoder, operand, indexBytes, constantName);
  const prefix = bytes === undefined ? "" : `${SIZE_NAMES[bytes]} ptr `;
  return `${prefix}[${address}]${operand.broadcast ? broadcastText(instruction) : ""}`;
}

/** How many lanes one element goes to: those of the memory operand, had it been whole. */
function broadcastText({ form, width }: Instruction): string {
  const whole = form.scale < 0 ? width / -form.scale : width;
  return `{1to${whole / form.broadcastBytes}}`;
}

function addressText(encoder: Encoder, place: Mem, indexBytes: number, constantName: (constant: PoolConstant) => string): string {
  const parts: string[] = [];
  const gp = (register: VReg): string => registerName("gp", encoder.number(register), 8);
  if (place.constant) parts.push(`rip + ${constantName(place.constant)}`);
  if (place.label) parts.push(`rip + ${place.label.name}`);
  if (place.base) parts.push(gp(place.base));
  if (place.slot) parts.push("rsp");
  if (place.index) {
    const name = place.index.class === "vec" ? registerName("vec", encoder.number(place.index), indexBytes) : gp(place.index);
    parts.push(`${name}*${place.scale ?? 1}`);
  }
  const disp = (place.disp ?? 0) + (place.slot ? encoder.placement.slotOffset(place.slot) : 0);
  if (parts.length === 0) return String(disp);
  const base = parts.join(" + ");
  return disp === 0 ? base : `${base} ${disp < 0 ? "-" : "+"} ${Math.abs(disp)}`;
}
