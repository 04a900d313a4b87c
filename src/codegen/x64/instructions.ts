/**
 * What an instruction is: the parsed form of the rows in `instructions-integer.ts` and `instructions-vector.ts`.
 *
 * A row is one line: `mnemonic  encoding  roles  operands  [memory scale]  [flags]`.
 *
 * encoding  `l` (legacy), `v` (VEX), `e` (EVEX) or `ve` (both), then `.`-separated: mandatory prefix (np 66 f3 f2), opcode
 *           map (0f 38 3a), W (w0, w1; wi1: 0 in VEX and 1 in EVEX; ws: set for 64-bit operands), L where operands do not
 *           give it (l0, l1), and last the opcode, with `/n` for an opcode extension or `+r` for a register in it.
 * roles     one letter per operand: R modrm.reg, M modrm.rm, V vvvv, I immediate, O in the opcode, 4 immediate bits 7:4,
 *           C a register the instruction implies (cl); `-` when there are no operands.
 * operands  access (`=` written, `+` read and written, `~` read for bits above the result only, else read), then the
 *           register kind, then `m` and the bytes of memory allowed there.
 *           v the width of the emission; h, q, o a half, a quarter, an eighth of it; x, y, z 16, 32, 64 bytes;
 *           k mask; t tile; r general of the emitted size, r1 r2 r4 r8 of a fixed one; `mv`, `mh`, `mq`, `mo`: memory that wide;
 *           `m`: memory of any size; g + width + element: vector-indexed memory; i1 i4 immediates of so many bytes,
 *           iz one as wide as the operands; one: the number 1; cl: register cl.
 * scale     EVEX disp8*N: full, half, quarter, eighth of the width, then the broadcast element's bytes if any; nX: X bytes;
 *           ns: the emitted size.
 * flags     byte: the 8-bit form is the opcode with bit 0 clear. zero: equal sources make the result independent of them.
 *           sib: memory needs a SIB byte. clearsmask: the write mask is cleared. vnni: VEX only where AVX-VNNI is meant.
 *           needsmask. selects: the mask chooses between sources and keeps nothing of the destination. merge: 8- and 16-bit writes keep the rest of the register. name=X: the EVEX form's own name.
 *           implicit reads `<a,b` and writes `>a,b` of general registers.
 *
 * Source: Intel SDM vol. 2, chapters 2 to 6; Intel AMX in vol. 2, chapter 3.
 */
import { assert } from "../../base/index.ts";
import { CONDITION_CODES, CONDITION_NAMES, GP, type RegClass } from "./registers.ts";
import { INTEGER_ROWS } from "./instructions-integer.ts";
import { vectorRows } from "./instructions-vector.ts";

/** Sizes are bytes; negative ones are relative: -n is the emission's width over n, `SIZED` the emission's general size. */
export const SIZED = -16;

export interface OperandSpec {
  readonly role: "R" | "M" | "V" | "I" | "O" | "4" | "C";
  readonly reads: boolean;
  readonly writes: boolean;
  /** Read only for bits above the result: not a read when it is the destination too. */
  readonly upper: boolean;
  readonly class: RegClass | undefined;
  readonly regBytes: number;
  /** 0: no memory allowed; undefined: memory without a size. */
  readonly memBytes: number | undefined;
  /** Width of the index vector, for vector-indexed memory. */
  readonly indexBytes: number;
  /** Bytes of an immediate; 0 when there is none, `SIZED` for one as wide as the operand. */
  readonly immBytes: number;
  readonly one: boolean;
}

export interface Form {
  readonly mnemonic: string;
  /** The assembler's name; EVEX forms may have their own. */
  readonly name: string;
  readonly evexName: string;
  readonly vex: boolean;
  readonly evex: boolean;
  readonly legacy: boolean;
  /** 0 none, 1 66, 2 f3, 3 f2. */
  readonly prefix: number;
  /** 0 one-byte opcodes, 1 0f, 2 0f38, 3 0f3a. */
  readonly map: number;
  readonly vexW: number;
  readonly evexW: number;
  readonly wBySize: boolean;
  /** -1: from the width. */
  readonly l: number;
  readonly opcode: number;
  readonly extension: number;
  readonly operands: readonly OperandSpec[];
  /** disp8*N: positive bytes, negative relative to the width, `SIZED` the emitted size. */
  readonly scale: number;
  readonly broadcastBytes: number;
  /** Whether the emission's vector width matters. */
  readonly wide: boolean;
  readonly byteForm: boolean;
  readonly zeroIdiom: boolean;
  readonly sib: boolean;
  readonly clearsMask: boolean;
  readonly needsMask: boolean;
  readonly merge: boolean;
  /** The mask chooses between the sources; lanes of the destination are never kept. */
  readonly selects: boolean;
  readonly vnni: boolean;
  readonly lock: boolean;
  /** Numbers of general registers read and written without being named. */
  readonly implicitReads: readonly number[];
  readonly implicitWrites: readonly number[];
}

const RELATIVE: Readonly<Record<string, number>> = { v: -1, h: -2, q: -4, o: -8, x: 16, y: 32, z: 64 };
const SCALES: Readonly<Record<string, number>> = { full: -1, half: -2, quarter: -4, eighth: -8 };
const PREFIXES: Readonly<Record<string, number>> = { np: 0, "66": 1, f3: 2, f2: 3 };
const MAPS: Readonly<Record<string, number>> = { "0f": 1, "38": 2, "3a": 3 };

const NO_OPERAND: Omit<OperandSpec, "role" | "reads" | "writes" | "upper"> = {
  class: undefined, regBytes: 0, memBytes: 0, indexBytes: 0, immBytes: 0, one: false,
};

function parseOperand(text: string, role: string): OperandSpec {
  const access = /^[=+~]/.exec(text)?.[0] ?? "";
  const kind = text.slice(access.length);
  const base = {
    ...NO_OPERAND,
    role: role as OperandSpec["role"],
    reads: access !== "=",
    writes: access === "=" || access === "+",
    upper: access === "~",
  };
  if (kind === "one") return { ...base, one: true };
  if (kind === "cl") return { ...base, class: "gp", regBytes: 1 };
  const immediate = /^i(\d|z)$/.exec(kind);
  if (immediate) return { ...base, immBytes: immediate[1] === "z" ? SIZED : Number(immediate[1]) };
  const gather = /^g([vhqxyz])(\d)$/.exec(kind);
  if (gather) return { ...base, memBytes: Number(gather[2]), indexBytes: RELATIVE[gather[1]!]! };
  const parts = /^(?:(r\d?|[vhqoxyzkt]))?(?:m(\d+|[vhqo])?)?$/.exec(kind);
  assert(parts, `operand ${text} of the instruction table`);
  const [, register, memory] = parts;
  const hasMemory = kind.includes("m");
  const relative = register === undefined || register[0] === "r" ? -1 : (RELATIVE[register] ?? -1);
  const sized = register === undefined || register === "r";
  return {
    ...base,
    class: registerClass(register),
    regBytes: registerBytes(register),
    memBytes: !hasMemory ? 0 : memory === undefined ? (register === undefined ? undefined : sized ? SIZED : relative) : (RELATIVE[memory] ?? Number(memory)),
  };
}

function registerClass(kind: string | undefined): RegClass | undefined {
  if (kind === undefined) return undefined;
  if (kind[0] === "r") return "gp";
  return kind === "k" ? "mask" : kind === "t" ? "tile" : "vec";
}

function registerBytes(kind: string | undefined): number {
  if (kind === undefined) return 0;
  if (kind === "r") return SIZED;
  if (kind[0] === "r") return Number(kind[1]);
  return RELATIVE[kind] ?? 8;
}

function parseScale(text: string): { scale: number; broadcastBytes: number } {
  if (text === "ns") return { scale: SIZED, broadcastBytes: 0 };
  const fixed = /^n(\d+)$/.exec(text);
  if (fixed) return { scale: Number(fixed[1]), broadcastBytes: 0 };
  const [, name, element] = /^([a-z]+)(\d*)$/.exec(text)!;
  return { scale: SCALES[name!]!, broadcastBytes: Number(element || 0) };
}

const isScale = (text: string): boolean => /^(ns|n\d+|(full|half|quarter|eighth)\d?)$/.test(text);

function registerNumbers(tokens: readonly string[], sign: string): readonly number[] {
  const token = tokens.find((text) => text.startsWith(sign));
  return token === undefined ? [] : token.slice(1).split(",").map((name) => GP.findIndex((register) => register.name === name));
}

function parseRow(row: string): Form {
  const [mnemonic, encoding, roles, ...rest] = row.trim().split(/\s+/) as [string, string, string, ...string[]];
  const [space, ...fields] = encoding.split(".") as [string, ...string[]];
  const [, opcode, extension] = /^([0-9a-f]{2,6})(?:\/(\d)|\+r)?$/.exec(fields[fields.length - 1]!)!;
  const modifiers = fields.slice(0, -1);
  const operandText = roles === "-" ? [] : rest[0]!.split(",");
  const flags = roles === "-" ? rest : rest.slice(1);
  const w = modifiers.find((field) => field[0] === "w") ?? "w0";
  const l = modifiers.find((field) => field[0] === "l");
  const operands = operandText.map((text, i) => parseOperand(text, roles[i]!));
  const scaleToken = flags.find(isScale);
  const wide = operands.some((spec) => spec.regBytes < 0 && spec.regBytes > SIZED || (spec.memBytes ?? 0) < 0 && spec.memBytes !== SIZED || spec.indexBytes < 0);
  const absolute = operands.reduce((bytes, spec) => (spec.class === "vec" ? Math.max(bytes, spec.regBytes) : bytes), 0);
  const name = /^[^.]*/.exec(mnemonic)![0];
  return {
    mnemonic,
    name: flags.find((flag) => flag.startsWith("as="))?.slice(3) ?? name,
    evexName: flags.find((flag) => flag.startsWith("name="))?.slice(5) ?? name,
    legacy: space === "l",
    vex: space.includes("v"),
    evex: space.includes("e"),
    prefix: PREFIXES[modifiers.find((field) => field in PREFIXES) ?? "np"]!,
    map: MAPS[modifiers.find((field) => field in MAPS) ?? ""] ?? 0,
    vexW: w === "w1" ? 1 : 0,
    evexW: w === "w1" || w === "wi1" ? 1 : 0,
    wBySize: w === "ws" || space === "l" && operands.some((spec) => spec.regBytes === SIZED || spec.memBytes === SIZED),
    l: l !== undefined ? Number(l[1]) : wide ? -1 : absolute === 64 ? 2 : absolute === 32 ? 1 : 0,
    opcode: Number.parseInt(opcode!, 16),
    extension: extension === undefined ? -1 : Number(extension),
    operands,
    ...(scaleToken === undefined ? { scale: 1, broadcastBytes: 0 } : parseScale(scaleToken)),
    wide,
    byteForm: flags.includes("byte"),
    zeroIdiom: flags.includes("zero"),
    sib: flags.includes("sib"),
    clearsMask: flags.includes("clearsmask"),
    needsMask: flags.includes("needsmask"),
    merge: flags.includes("merge"),
    selects: flags.includes("selects"),
    vnni: flags.includes("vnni"),
    lock: false,
    implicitReads: registerNumbers(flags, "<"),
    implicitWrites: registerNumbers(flags, ">"),
  };
}

/** Instructions that may have a lock prefix on their memory forms. */
const LOCKABLE = ["add", "sub", "and", "or", "xor", "inc", "dec", "neg", "not", "xadd", "cmpxchg"];

function conditional(row: string): string[] {
  return CONDITION_NAMES.map((name, code) => row.replace("CC", name).replace("*", code.toString(16)));
}

function buildTable(): ReadonlyMap<string, readonly Form[]> {
  const table = new Map<string, Form[]>();
  const add = (form: Form): void => {
    const forms = table.get(form.mnemonic);
    if (forms) forms.push(form);
    else table.set(form.mnemonic, [form]);
  };
  for (const block of [INTEGER_ROWS, vectorRows()]) {
    for (const line of block.split("\n")) {
      if (line.trim() === "" || line.trim().startsWith("#")) continue;
      for (const row of line.includes("CC") ? conditional(line) : [line]) add(parseRow(row));
    }
  }
  for (const mnemonic of LOCKABLE) {
    for (const form of table.get(mnemonic)!) {
      if (form.operands[0]!.role === "M") add({ ...form, mnemonic: `lock ${mnemonic}`, lock: true });
    }
  }
  for (const [alias, code] of Object.entries(CONDITION_CODES)) {
    for (const stem of ["cmov", "set"]) table.set(stem + alias, table.get(stem + CONDITION_NAMES[code])!);
  }
  table.set("movsxd", table.get("movsx.d")!);
  return table;
}

/** Every instruction: mnemonic to its forms, in the order in which they are tried. */
export const INSTRUCTIONS = buildTable();

const SIZE_SUFFIXES: Readonly<Record<string, number>> = { b: 1, w: 2, d: 4, q: 8 };
const WIDTH_SUFFIXES: Readonly<Record<string, number>> = { x: 16, y: 32, z: 64 };

export interface Mnemonic {
  readonly forms: readonly Form[];
  /** General operand size in bytes. */
  readonly size: number;
  /** Vector width in bytes; 0 when the mnemonic does not say. */
  readonly width: number;
}

const resolved = new Map<string, Mnemonic>();

/** Splits a mnemonic such as `vaddps.x` or `mov.d` into instruction, width and size. */
export function resolveMnemonic(text: string): Mnemonic {
  let mnemonic = resolved.get(text);
  if (mnemonic === undefined) {
    mnemonic = parseMnemonic(text);
    resolved.set(text, mnemonic);
  }
  return mnemonic;
}

function parseMnemonic(text: string): Mnemonic {
  const whole = INSTRUCTIONS.get(text);
  if (whole) return { forms: whole, size: 8, width: 0 };
  const dot = text.lastIndexOf(".");
  const forms = INSTRUCTIONS.get(text.slice(0, dot));
  const suffix = text.slice(dot + 1);
  assert(dot > 0 && forms, `no instruction ${text} in the table`);
  const size = SIZE_SUFFIXES[suffix];
  const width = WIDTH_SUFFIXES[suffix];
  assert(size !== undefined || width !== undefined, `suffix of ${text}: b, w, d, q for general sizes, x, y, z for vector widths`);
  return { forms, size: size ?? 8, width: width ?? 0 };
}

/** The bytes a relative size stands for. */
export function bytesOf(relative: number, width: number, size: number): number {
  if (relative >= 0) return relative;
  return relative === SIZED ? size : width / -relative;
}
