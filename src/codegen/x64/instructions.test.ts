/** Every row of the instruction table, with random registers and addresses, against the system's assembler. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { instructionText } from "./assembly-text.ts";
import { Encoder } from "./encoder.ts";
import { bytesOf, type Form, INSTRUCTIONS, type OperandSpec, SIZED } from "./instructions.ts";
import { type Instruction, isMemory, type Mem, needsEvex, type Operand } from "./operands.ts";
import { AVX2, AVX512, GP, type Isa, MASK, TMM, VEC, type VReg } from "./registers.ts";

let state = 12345;
function random(count: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return (state >>> 10) % count;
}
function pick<T>(list: readonly T[]): T {
  return list[random(list.length)]!;
}

interface Variant {
  readonly form: Form;
  readonly isa: Isa;
  readonly width: number;
  readonly size: number;
  readonly memory: boolean;
  readonly broadcast: boolean;
  readonly masked: boolean;
}

/** Sizes of general operands an instruction comes in. */
function sizesOf(form: Form): number[] {
  if (!form.operands.some((spec) => spec.regBytes === SIZED || spec.memBytes === SIZED)) return [8];
  if (["push", "pop"].includes(form.name)) return [8];
  if (form.name === "bswap" || form.name === "movnti" || !form.legacy) return [4, 8];
  return form.byteForm && form.opcode !== 0x83 ? [1, 2, 4, 8] : [2, 4, 8];
}

function widthsOf(form: Form, masked: boolean, broadcast: boolean): number[] {
  if (!form.wide) return [form.l === 2 ? 64 : 32];
  const least = WIDER_THAN_16.test(form.name) ? 32 : 16;
  return [16, 32, 64].filter((width) => width >= least && (!needsEvex(form, width, masked, broadcast) || form.evex));
}

/** Instructions that have no 128-bit form. */
const WIDER_THAN_16 = /^(vbroadcastsd|vbroadcast[fi]32x2|vbroadcast[fi](32x4|64x2)|v(insert|extract)[fi](32x4|64x2)|vperm(ps|pd|d|q)|vshuf[fi](32x4|64x2))$/;

function variantsOf(form: Form): Variant[] {
  const variants: Variant[] = [];
  const hasMemory = form.operands.some((spec) => spec.memBytes !== 0);
  const hasRegister = form.operands.every((spec) => spec.class !== undefined || spec.immBytes !== 0 || spec.one);
  const maskable = form.evex && !UNMASKED.test(form.name);
  for (const isa of form.vnni ? [AVX2, AVX512] : [AVX512]) {
    for (const masked of form.needsMask ? [true] : maskable ? [false, true] : [false]) {
      for (const memory of form.lock ? [true] : hasMemory ? (hasRegister ? [false, true] : [true]) : [false]) {
        for (const broadcast of memory && form.broadcastBytes > 0 ? [false, true] : [false]) {
          if (isa === AVX2 && (masked || broadcast)) continue;
          for (const width of widthsOf(form, masked, broadcast)) {
            if (isa === AVX2 && width === 64) continue;
            for (const size of sizesOf(form)) variants.push({ form, isa, width, size, memory, broadcast, masked });
          }
        }
      }
    }
  }
  return variants;
}

/** EVEX instructions without write mask. */
const UNMASKED = /^(v(u)?comis[sd]|vmovs?[dq]|vmov[lh]ps|vmov(hl|lh)ps|vmovnt\w+|vcvt\w*(2si|2usi)|vcvtu?si2s[sd]|vp?(insr|extr)\w+|vinsertps|vextractps|vpmovm2.|vpmov.2m|vps(l|r)ldq|vpsadbw)$|^vmovs[sd]$|^vmovd$|^vmovq$/;

function immediate(form: Form, spec: OperandSpec, size: number): number | bigint {
  if (spec.one) return 1;
  const bytes = Math.min(spec.immBytes === SIZED ? size : spec.immBytes, size);
  if (bytes === 8) return 0x1234_5678_9abc_def0n + BigInt(random(1000));
  if (!form.legacy) return random(8);
  if (bytes === 1) return 2 + random(90);
  return 2 ** (8 * bytes - 1) - 1 - random(100);
}

function address(spec: OperandSpec, unit: number, broadcast: boolean, sib: boolean, indexVectors: readonly VReg[]): Mem {
  const disp = pick([0, 0, 1, -1, 127, -128, 128, -129, 4096, -70000, unit, 127 * unit, -128 * unit, 128 * unit, -129 * unit]);
  const base = pick(GP);
  const index = pick(GP.filter((register) => register.name !== "rsp"));
  const scale = pick([1, 2, 4, 8] as const);
  if (spec.indexBytes !== 0) return { base, index: pick(indexVectors), scale, disp };
  const flags = broadcast ? { broadcast: true } : {};
  switch (random(sib ? 2 : 4)) {
    case 0: return { base, index, scale, disp, ...flags };
    case 1: return { base, disp, ...flags };
    case 2: return { index, scale: pick([2, 4, 8] as const), disp, ...flags };
    default: return { base, ...flags };
  }
}

function registerFor(spec: OperandSpec, _form: Form, used: Set<VReg>, high: boolean): VReg {
  const choices = { gp: GP, vec: high ? VEC : VEC.slice(0, 16), mask: MASK, tile: TMM }[spec.class!];
  // Gathers and tile products want distinct registers; the rest does not mind.
  for (;;) {
    if (spec.role === "C") return GP[1]!;
    const register = pick(choices);
    if (used.has(register)) continue;
    used.add(register);
    return register;
  }
}

function makeRandom(variant: Variant): Instruction {
  const { form, width, size, memory, broadcast, masked } = variant;
  const used = new Set<VReg>([GP[4]!]);
  const onlyVex = !form.evex || variant.isa === AVX2;
  const unit = broadcast ? form.broadcastBytes : Math.max(1, bytesOf(form.scale, width, size));
  const operands = form.operands.map((spec): Operand => {
    if (spec.immBytes !== 0 || spec.one) return immediate(form, spec, size);
    if (spec.memBytes !== 0 && (memory || spec.class === undefined)) {
      const place = address(spec, unit, broadcast, form.sib, onlyVex ? VEC.slice(0, 16) : VEC);
      if (place.index?.class === "vec") used.add(place.index);
      return place;
    }
    return registerFor(spec, form, used, !onlyVex && random(2) === 0);
  });
  const mask = masked ? MASK[1 + random(7)] : undefined;
  const zeroing = masked && !form.needsMask && form.operands[0]!.writes && form.operands[0]!.class !== "mask" && !isMemory(operands[0]!) && random(2) === 0;
  return { kind: "instruction", form, operands, width, size, mask, zeroing };
}

const missing = ["as", "objdump"].filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);

/** Bytes and text of each instruction of a section. */
function disassemble(object: string, section: string): { bytes: string; text: string }[] {
  const output = execFileSync("objdump", ["-d", "-M", "intel", "--insn-width=16", "-j", section, object], { encoding: "utf8", maxBuffer: 2 ** 28 });
  const lines: { bytes: string; text: string }[] = [];
  for (const line of output.split("\n")) {
    const match = /^\s*[0-9a-f]+:\t([0-9a-f ]+?)\s*\t(.*)$/.exec(line);
    if (match) lines.push({ bytes: match[1]!.replaceAll(" ", ""), text: match[2]!.trim().replace(/\s+/g, " ") });
  }
  return lines;
}

test("every row encodes what the system assembler encodes", { skip: missing.length > 0 ? `no ${missing.join(" and no ")} here (install binutils)` : false }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-as-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const cases: { text: string; bytes: string; variant: Variant }[] = [];
  for (const forms of new Set(INSTRUCTIONS.values())) {
    for (const form of forms) {
      const variants = variantsOf(form);
      assert.ok(variants.length > 0, `${form.mnemonic} has no variant`);
      const repeats = Math.max(2, Math.ceil(12 / variants.length));
      for (const variant of variants) {
        for (let i = 0; i < repeats; i++) {
          const encoder = new Encoder({ isa: variant.isa, registers: [], slotOffset: () => 0 });
          const instruction = makeRandom(variant);
          encoder.instruction(instruction);
          const vexPrefix = form.vnni && !encoder.usesEvex(instruction) ? "{vex} " : "";
          const text = vexPrefix + instructionText(encoder, instruction, () => "constant");
          cases.push({ text, bytes: Buffer.from(encoder.bytes.subarray(0, encoder.length)).toString("hex"), variant });
        }
      }
    }
  }
  const source = [".intel_syntax noprefix", ".section .text.theirs,\"ax\"", ...cases.map(({ text }) => text), ""].join("\n");
  const [file, object] = [join(folder, "rows.s"), join(folder, "rows.o")];
  writeFileSync(file, source);
  const assembled = spawnSync("as", ["-o", object, file], { encoding: "utf8" });
  const where = assembled.stderr.split("\n").filter((line) => line.includes("Error")).slice(0, 20)
    .map((line) => `${line.replace(/^.*Error: /, "")} <- ${cases[Number(/:(\d+):/.exec(line)![1]) - 3]?.text}`);
  assert.equal(assembled.status, 0, `as refuses what the table allows:\n${where.join("\n")}`);
  const theirs = disassemble(object, ".text.theirs");
  assert.equal(theirs.length, cases.length, "one line per instruction");
  const different = cases.flatMap(({ text, bytes }, i) => (theirs[i]!.bytes === bytes ? [] : [{ text, bytes, theirs: theirs[i]! }]));
  const ours = different.length === 0 ? new Map<string, string>() : readBack(folder, different.map(({ bytes }) => bytes));
  const wrong = different.filter(({ bytes, theirs }) => ours.get(bytes) !== theirs.text);
  t.diagnostic(`${INSTRUCTIONS.size} mnemonics, ${cases.length} instructions, ${different.length - wrong.length} encoded otherwise with the same meaning`);
  assert.deepEqual(wrong.slice(0, 20).map(({ text, bytes, theirs }) => `${text}: ours ${bytes} (${ours.get(bytes)}), theirs ${theirs.bytes} (${theirs.text})`), []);
});

/** What encodings mean, each padded so that a wrong one cannot swallow the next. */
function readBack(folder: string, encodings: readonly string[]): Map<string, string> {
  const [file, object] = [join(folder, "ours.s"), join(folder, "ours.o")];
  writeFileSync(file, encodings.map((bytes) => `.section .text.e,"ax"\n.byte ${bytes.match(/../g)!.map((byte) => `0x${byte}`).join(",")}`).join("\n") + "\n");
  execFileSync("as", ["-o", object, file]);
  return new Map(disassemble(object, ".text.e").map(({ bytes, text }) => [bytes, text]));
}
