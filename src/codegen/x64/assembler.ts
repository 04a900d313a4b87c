/**
 * Code from instructions, labels and constants. Jumps begin short and grow to their near form only where they must;
 * constants lie behind the code, equal ones once.
 *
 * The code is position-independent and must lie at a multiple of 64 bytes, for the constants' alignment.
 */
import { assert } from "../../base/index.ts";
import { instructionText } from "./assembly-text.ts";
import { Encoder, type Placement } from "./encoder.ts";
import type { Instruction, Label, PoolConstant } from "./operands.ts";
import { CONDITION_CODES, CONDITION_NAMES, type Condition } from "./registers.ts";

export interface Jump {
  readonly kind: "jump";
  readonly condition: Condition | "always";
  readonly target: Label;
}

/** What code is made of, in order. */
export type Item = Instruction | Jump | Label | { readonly kind: "comment"; readonly text: string } | { readonly kind: "align"; readonly bytes: number };

/** A piece whose size depends on where it is; `at` counts encoded bytes before it. */
type Piece =
  | { readonly kind: "jump"; readonly at: number; readonly jump: Jump; bytes: number }
  | { readonly kind: "label"; readonly at: number; readonly label: Label; bytes: 0 }
  | { readonly kind: "align"; readonly at: number; readonly to: number; bytes: number };

export interface Assembly {
  readonly code: Uint8Array;
  /** Bytes before the constants. */
  readonly codeBytes: number;
  listing(): string;
}

const NOPS: readonly (readonly number[])[] = [
  [], [0x90], [0x66, 0x90], [0x0f, 0x1f, 0x00], [0x0f, 0x1f, 0x40, 0x00], [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00], [0x0f, 0x1f, 0x80, 0, 0, 0, 0], [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];

export function assemble(items: readonly Item[], placement: Placement): Assembly {
  const encoder = new Encoder(placement);
  const pieces: Piece[] = [];
  for (const item of items) {
    const at = encoder.length;
    switch (item.kind) {
      case "instruction": encoder.instruction(item); break;
      case "jump": pieces.push({ kind: "jump", at, jump: item, bytes: 2 }); break;
      case "label": pieces.push({ kind: "label", at, label: item, bytes: 0 }); break;
      case "align": pieces.push({ kind: "align", at, to: item.bytes, bytes: 0 }); break;
      case "comment": break;
    }
  }
  const labels = relax(pieces);
  const { code, codeBytes } = link(encoder, pieces, labels);
  return { code, codeBytes, listing: () => list(items, encoder) };
}

/** Sizes the pieces; jumps only ever grow, so that this ends. @returns final positions of labels */
function relax(pieces: readonly Piece[]): Map<Label, number> {
  const labels = new Map<Label, number>();
  for (let changed = true; changed; ) {
    changed = false;
    let added = 0;
    for (const piece of pieces) {
      if (piece.kind === "align") piece.bytes = -(piece.at + added) & (piece.to - 1);
      else if (piece.kind === "label") labels.set(piece.label, piece.at + added);
      added += piece.bytes;
    }
    added = 0;
    for (const piece of pieces) {
      added += piece.bytes;
      if (piece.kind !== "jump" || piece.bytes !== 2) continue;
      const target = labels.get(piece.jump.target);
      assert(target !== undefined, `label ${piece.jump.target.name} is never bound`);
      const distance = target - (piece.at + added);
      if (distance >= -128 && distance <= 127) continue;
      piece.bytes = piece.jump.condition === "always" ? 5 : 6;
      added += piece.bytes - 2;
      changed = true;
    }
  }
  return labels;
}

function link(encoder: Encoder, pieces: readonly Piece[], labels: ReadonlyMap<Label, number>): { code: Uint8Array; codeBytes: number } {
  const codeBytes = encoder.length + pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  const pool = layOutPool(encoder, codeBytes);
  const code = new Uint8Array(pool.end);
  const view = new DataView(code.buffer);
  let from = 0;
  let to = 0;
  let fixup = 0;
  const copyUntil = (end: number): void => {
    const moved = to - from;
    code.set(encoder.bytes.subarray(from, end), to);
    for (; fixup < encoder.fixups.length && encoder.fixups[fixup]!.position < end; fixup++) {
      const { position, from: next, target, addend } = encoder.fixups[fixup]!;
      const address = target.kind === "label" ? labels.get(target) : pool.offsets.get(target);
      assert(address !== undefined, "a label whose address is taken is never bound");
      view.setInt32(position + moved, address + addend - (next + moved), true);
    }
    to += end - from;
    from = end;
  };
  for (const piece of pieces) {
    copyUntil(piece.at);
    if (piece.kind === "jump") writeJump(code, to, piece.bytes, piece.jump, labels.get(piece.jump.target)!);
    else if (piece.kind === "align") writeNops(code, to, piece.bytes);
    to += piece.bytes;
  }
  copyUntil(encoder.length);
  for (const [constant, offset] of pool.offsets) code.set(constant.bytes, offset);
  return { code, codeBytes };
}

/** Constants behind the code, the most aligned first. */
function layOutPool(encoder: Encoder, codeBytes: number): { offsets: Map<PoolConstant, number>; end: number } {
  const constants = new Set<PoolConstant>();
  for (const { target } of encoder.fixups) if (target.kind === "constant") constants.add(target);
  const offsets = new Map<PoolConstant, number>();
  let end = codeBytes;
  for (const constant of [...constants].sort((a, b) => b.alignment - a.alignment)) {
    end = Math.ceil(end / constant.alignment) * constant.alignment;
    offsets.set(constant, end);
    end += constant.bytes.length;
  }
  return { offsets, end };
}

function writeJump(code: Uint8Array, at: number, bytes: number, { condition }: Jump, target: number): void {
  const distance = target - (at + bytes);
  const number = condition === "always" ? undefined : CONDITION_CODES[condition];
  if (bytes === 2) {
    code[at] = number === undefined ? 0xeb : 0x70 | number;
    code[at + 1] = distance & 255;
    return;
  }
  if (number === undefined) code[at] = 0xe9;
  else code.set([0x0f, 0x80 | number], at);
  new DataView(code.buffer).setInt32(at + bytes - 4, distance, true);
}

function writeNops(code: Uint8Array, at: number, bytes: number): void {
  for (let left = bytes; left > 0; ) {
    const nop = NOPS[Math.min(left, NOPS.length - 1)]!;
    code.set(nop, at + bytes - left);
    left -= nop.length;
  }
}

function list(items: readonly Item[], encoder: Encoder): string {
  const names = new Map<PoolConstant, string>();
  const constantName = (constant: PoolConstant): string => {
    let name = names.get(constant);
    if (name === undefined) names.set(constant, (name = `constant${names.size}`));
    return name;
  };
  const lines = items.map((item) => {
    switch (item.kind) {
      case "instruction": return `    ${instructionText(encoder, item, constantName)}`;
      case "jump": return `    ${item.condition === "always" ? "jmp" : `j${CONDITION_NAMES[CONDITION_CODES[item.condition]]}`} ${item.target.name}`;
      case "label": return `${item.name}:`;
      case "comment": return `    # ${item.text}`;
      case "align": return `    .p2align ${Math.log2(item.bytes)}`;
    }
  });
  for (const [constant, name] of names) lines.push(`${name}: ${Buffer.from(constant.bytes).toString("hex")}`);
  return lines.join("\n");
}
