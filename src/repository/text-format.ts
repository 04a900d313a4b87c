/**
 * Protocol buffers' text format, in which `config.pbtxt` is written: tokens, then fields. It knows no schema.
 * Source: protobuf.dev, "Text Format Language Specification". Extensions and `Any` are refused: ModelConfig has neither.
 */
import { configError, type FieldSyntax, type ParsedFile, type ScalarSyntax, type ValueSyntax } from "./syntax.ts";

interface Token {
  readonly kind: "name" | "number" | "string" | "punctuation" | "end";
  readonly text: string;
  readonly line: number;
}

/** Messages may lie in one another this deep; ModelConfig needs 7. */
const MAX_DEPTH = 32;
const TOKEN = /[ \t\r\n\f\v]+|#[^\n]*|([A-Za-z_][A-Za-z0-9_]*)|([0-9.][A-Za-z0-9_.]*(?:(?<=[eE])[+-][0-9]+)?)|("(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')|([{}[\]<>:;,-])/y;
const CLOSING: Readonly<Record<string, string>> = { "{": "}", "<": ">" };

/** @throws UserError "config-invalid" with file and line */
export function parseTextFormat(text: string, file: string): ParsedFile {
  const parser = new Parser(tokenize(text, file), file);
  return { dialect: "text", file, root: { kind: "message", fields: parser.fields("", 0), line: 1 } };
}

function tokenize(text: string, file: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) throw configError(file, line, describeStray(text, at));
    const [all, name, number, string, punctuation] = match;
    if (name !== undefined) tokens.push({ kind: "name", text: name, line });
    else if (number !== undefined) tokens.push({ kind: "number", text: number, line });
    else if (string !== undefined) tokens.push({ kind: "string", text: string, line });
    else if (punctuation !== undefined) tokens.push({ kind: "punctuation", text: punctuation, line });
    else for (const character of all) if (character === "\n") line++;
  }
  tokens.push({ kind: "end", text: "the end of the file", line });
  return tokens;
}

function describeStray(text: string, at: number): string {
  const character = text[at]!;
  if (character === '"' || character === "'") return "this string has no end on its line; close it with the quotation mark it began with.";
  return `unexpected character ${JSON.stringify(character)}; expected a field's name, a value or a bracket.`;
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #file: string;
  #at = 0;

  constructor(tokens: readonly Token[], file: string) {
    this.#tokens = tokens;
    this.#file = file;
  }

  /** Fields up to the closing bracket, or to the end of the file when `close` is empty. */
  fields(close: string, depth: number): FieldSyntax[] {
    const fields: FieldSyntax[] = [];
    for (;;) {
      const token = this.#next();
      if (token.kind === "end" && close !== "") throw this.#error(token, `a message has no end: expected "${close}".`);
      if (token.kind === "end" || (close !== "" && token.text === close)) return fields;
      if (token.kind !== "name") throw this.#error(token, `expected a field's name, got ${shown(token)}.`);
      fields.push({ name: token.text, line: token.line, value: this.#fieldValue(token, depth) });
      if (this.#is(";") || this.#is(",")) this.#at++;
    }
  }

  #fieldValue(name: Token, depth: number): ValueSyntax {
    const colon = this.#is(":");
    if (colon) this.#at++;
    const token = this.#peek();
    const isMessage = token.text in CLOSING && token.kind === "punctuation";
    if (!colon && !isMessage && token.text !== "[") throw this.#error(token, `expected ":" or "{" after "${name.text}", got ${shown(token)}.`);
    return this.#value(depth);
  }

  #value(depth: number): ValueSyntax {
    const token = this.#next();
    if (depth >= MAX_DEPTH) throw this.#error(token, `more than ${MAX_DEPTH} messages in one another.`);
    if (token.kind === "punctuation" && token.text in CLOSING) return { kind: "message", fields: this.fields(CLOSING[token.text]!, depth + 1), line: token.line };
    if (token.text === "[" && token.kind === "punctuation") return { kind: "list", items: this.#items(depth), line: token.line };
    return this.#scalar(token);
  }

  #items(depth: number): ValueSyntax[] {
    const items: ValueSyntax[] = [];
    if (this.#is("]")) {
      this.#at++;
      return items;
    }
    for (;;) {
      items.push(this.#value(depth + 1));
      const token = this.#next();
      if (token.text === "]") return items;
      if (token.text !== ",") throw this.#error(token, `expected "," or "]" in a list, got ${shown(token)}.`);
    }
  }

  #scalar(token: Token): ScalarSyntax {
    const { line } = token;
    if (token.text === "-" && token.kind === "punctuation") {
      const value = this.#next();
      if (value.kind !== "number" && value.kind !== "name") throw this.#error(value, `expected a number after "-", got ${shown(value)}.`);
      return { kind: "scalar", text: `-${value.text}`, quoted: false, line };
    }
    if (token.kind === "string") {
      let text = this.#unquote(token);
      while (this.#peek().kind === "string") text += this.#unquote(this.#next());
      return { kind: "scalar", text, quoted: true, line };
    }
    if (token.kind === "name" || token.kind === "number") return { kind: "scalar", text: token.text, quoted: false, line };
    throw this.#error(token, `expected a value, got ${shown(token)}.`);
  }

  #unquote(token: Token): string {
    const inner = token.text.slice(1, -1);
    if (!inner.includes("\\")) return inner;
    const bytes: number[] = [];
    for (let at = 0; at < inner.length; ) {
      const match = /^\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|([abfnrtv\\'"?]))/.exec(inner.slice(at));
      if (inner[at] === "\\" && !match) throw this.#error(token, `unknown escape "${inner.slice(at, at + 2)}" in a string.`);
      const [whole, hex, short, long, octal, letter] = match ?? [];
      const codePoint = short ?? long;
      if (hex !== undefined || octal !== undefined) bytes.push(hex === undefined ? Number.parseInt(octal!, 8) & 255 : Number.parseInt(hex, 16));
      else bytes.push(...Buffer.from(codePoint !== undefined ? this.#character(codePoint, token) : letter !== undefined ? ESCAPES[letter]! : String.fromCodePoint(inner.codePointAt(at)!)));
      at += whole?.length ?? String.fromCodePoint(inner.codePointAt(at)!).length;
    }
    return Buffer.from(bytes).toString("utf8");
  }

  #character(hex: string, token: Token): string {
    const code = Number.parseInt(hex, 16);
    if (code > 0x10ffff) throw this.#error(token, `\\U${hex} is no character.`);
    return String.fromCodePoint(code);
  }

  #is(text: string): boolean {
    const token = this.#peek();
    return token.kind === "punctuation" && token.text === text;
  }

  #peek(): Token {
    return this.#tokens[this.#at]!;
  }

  #next(): Token {
    const token = this.#peek();
    if (token.kind !== "end") this.#at++;
    return token;
  }

  #error(token: Token, what: string): Error {
    return configError(this.#file, token.line, what);
  }
}

const ESCAPES: Readonly<Record<string, string>> = { a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\", "'": "'", '"': '"', "?": "?" };

function shown(token: Token): string {
  return token.kind === "end" ? token.text : `"${token.text.length > 40 ? `${token.text.slice(0, 40)}…` : token.text}"`;
}
