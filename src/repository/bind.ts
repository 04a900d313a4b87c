/**
 * Binds a parsed file to the schema: every field known, every value of its type, each fault with file and line. The result
 * is plain: snake_case names, numbers, strings, enum values by name; fields that were not given are absent.
 */
import type { ElementType, EnumType, FieldType, MapType, MessageType, ScalarType } from "./schema.ts";
import { configError, type FieldSyntax, type MessageSyntax, type ParsedFile, type ScalarSyntax, type ValueSyntax } from "./syntax.ts";

export type Plain = string | number | boolean | readonly Plain[] | { readonly [name: string]: Plain };
export type PlainMessage = { readonly [name: string]: Plain };

/** @throws UserError "config-invalid" with file and line */
export function bind(type: MessageType, parsed: ParsedFile): PlainMessage {
  return new Binder(parsed).message(type, parsed.root);
}

const RANGES: Readonly<Record<"int32" | "uint32" | "int64" | "uint64", readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1], uint32: [0, 2 ** 32 - 1], int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER], uint64: [0, Number.MAX_SAFE_INTEGER],
};
const BOOLEANS: Readonly<Record<string, boolean>> = { true: true, True: true, t: true, 1: true, false: false, False: false, f: false, 0: false };

class Binder {
  readonly #file: string;
  readonly #dialect: ParsedFile["dialect"];

  constructor({ file, dialect }: ParsedFile) {
    this.#file = file;
    this.#dialect = dialect;
  }

  message(type: MessageType, syntax: MessageSyntax): PlainMessage {
    const result: Record<string, Plain> = {};
    const lines = new Map<string, number>();
    for (const field of syntax.fields) {
      const name = this.#nameOf(field, type);
      const fieldType = type.fields[name]!;
      if (isEmpty(field.value) && this.#dialect === "json") continue;
      const before = result[name];
      const joins = typeof fieldType === "object" && (fieldType.kind === "repeated" || fieldType.kind === "map");
      if (before !== undefined && !joins) throw this.#error(field.line, `"${name}" is given twice; the first is on line ${lines.get(name)}.`);
      result[name] = this.#field(fieldType, field, before);
      lines.set(name, field.line);
    }
    for (const choice of type.choices) {
      const given = choice.filter((name) => name in result);
      if (given.length > 1) throw this.#error(lines.get(given[1]!)!, `${type.name} takes one of ${choice.join(", ")}; both "${given[0]}" and "${given[1]}" are given.`);
    }
    return result;
  }

  #nameOf(field: FieldSyntax, type: MessageType): string {
    if (Object.hasOwn(type.fields, field.name)) return field.name;
    const snake = field.name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (this.#dialect === "json" && Object.hasOwn(type.fields, snake)) return snake;
    const near = nearest(field.name, Object.keys(type.fields));
    throw this.#error(field.line, `unknown field "${field.name}" in ${type.name}${near ? `; did you mean "${near}"?` : `; it has ${Object.keys(type.fields).join(", ") || "none"}.`}`);
  }

  #field(type: FieldType, field: FieldSyntax, before: Plain | undefined): Plain {
    if (typeof type === "object" && type.kind === "repeated") {
      const items = field.value.kind === "list" ? field.value.items : [field.value];
      return [...((before as readonly Plain[] | undefined) ?? []), ...items.map((item) => this.#element(type.of, item, field.name))];
    }
    if (typeof type === "object" && type.kind === "map") return { ...(before as PlainMessage | undefined), ...this.#map(type, field) };
    return this.#element(type, field.value, field.name);
  }

  #map(type: MapType, field: FieldSyntax): PlainMessage {
    const result: Record<string, Plain> = {};
    for (const { key, value, line } of this.#entries(field)) {
      if (type.key === "uint64" && !/^\d+$/.test(key)) throw this.#error(line, `"${field.name}" has the key "${key}"; expected a whole number.`);
      result[key] = this.#element(type.value, value, field.name);
    }
    return result;
  }

  #entries(field: FieldSyntax): { readonly key: string; readonly value: ValueSyntax; readonly line: number }[] {
    const messages = field.value.kind === "list" ? field.value.items : [field.value];
    return messages.flatMap((item) => {
      if (item.kind !== "message") throw this.#error(item.line, `"${field.name}" takes keys and values${this.#dialect === "text" ? ": { key: \"name\" value: … }" : ""}.`);
      if (this.#dialect === "json") return item.fields.map(({ name, value, line }) => ({ key: name, value, line }));
      const [key, value] = ["key", "value"].map((name) => item.fields.find((entry) => entry.name === name)?.value);
      const stray = item.fields.find((entry) => entry.name !== "key" && entry.name !== "value");
      if (stray) throw this.#error(stray.line, `unknown field "${stray.name}" in an entry of "${field.name}"; it has key and value.`);
      return [{ key: key?.kind === "scalar" ? key.text : "", value: value ?? { kind: "message", fields: [], line: item.line }, line: item.line }];
    });
  }

  #element(type: ElementType, value: ValueSyntax, name: string): Plain {
    if (typeof type === "object" && type.kind === "message") {
      if (value.kind === "message") return this.message(type, value);
      throw this.#error(value.line, `"${name}" is a ${type.name}: write ${this.#dialect === "text" ? `${name} { … }` : "its fields"}.`);
    }
    if (value.kind !== "scalar") throw this.#error(value.line, `"${name}" takes ${typeof type === "object" ? `one of ${type.name}'s values` : `a ${type}`}, got a ${value.kind}.`);
    return typeof type === "object" ? this.#enum(type, value, name) : this.#scalar(type, value, name);
  }

  #enum(type: EnumType, value: ScalarSyntax, name: string): string {
    if (type.values.includes(value.text)) return value.text;
    const byNumber = /^\d+$/.test(value.text) ? type.values[Number(value.text)] : undefined;
    if (byNumber !== undefined && !value.quoted) return byNumber;
    const near = nearest(value.text, type.values);
    throw this.#error(value.line, `"${name}" is ${JSON.stringify(value.text)}; expected one of ${type.values.join(", ")}${near ? ` (did you mean ${near}?)` : ""}.`);
  }

  #scalar(type: ScalarType, value: ScalarSyntax, name: string): Plain {
    const wrong = (): Error => this.#error(value.line, `"${name}" is ${value.quoted ? JSON.stringify(value.text) : value.text}; expected a ${type}.`);
    if (type === "string") {
      if (!value.quoted && this.#dialect === "text") throw this.#error(value.line, `"${name}" is ${value.text}; expected a string in quotation marks.`);
      return value.text;
    }
    // Protobuf's JSON writes 64-bit numbers as strings.
    if (value.quoted && !(this.#dialect === "json" && type !== "bool")) throw wrong();
    if (type === "bool") {
      const truth = BOOLEANS[value.text];
      if (truth === undefined) throw wrong();
      return truth;
    }
    if (type === "float" || type === "double") {
      const number = floatOf(value.text);
      if (number === undefined) throw wrong();
      return number;
    }
    const number = /^-?(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(value.text) ? integerOf(value.text) : Number.NaN;
    const [least, most] = RANGES[type];
    if (!(number >= least && number <= most)) throw wrong();
    return number;
  }

  #error(line: number, what: string): Error {
    return configError(this.#file, line, what);
  }
}

function isEmpty(value: ValueSyntax): boolean {
  return value.kind === "scalar" && !value.quoted && value.text === "";
}

function integerOf(text: string): number {
  const digits = text.replace("-", "");
  const size = /^0[xX]/.test(digits) ? Number(digits) : /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return text.startsWith("-") ? -size : size;
}

function floatOf(text: string): number | undefined {
  if (/^-?(inf|infinity|nan)f?$/i.test(text)) return /nan/i.test(text) ? Number.NaN : text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return /^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fF]?$/.test(text) ? Number.parseFloat(text) : undefined;
}

/** The known name that differs least, if it differs by little. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const scored = known.map((name) => ({ name, distance: editDistance(word.toLowerCase().slice(0, 64), name.toLowerCase()) })).sort((a, b) => a.distance - b.distance);
  return scored[0] && scored[0].distance <= Math.max(2, word.length / 3) ? scored[0].name : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}
