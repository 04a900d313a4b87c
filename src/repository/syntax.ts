/** What a configuration file says before anything is known of its fields: names, values and the lines they stand on. */
import { UserError } from "../base/index.ts";

export interface ScalarSyntax {
  readonly kind: "scalar";
  readonly text: string;
  /** Whether it was written as a string. */
  readonly quoted: boolean;
  readonly line: number;
}

export interface MessageSyntax {
  readonly kind: "message";
  readonly fields: readonly FieldSyntax[];
  readonly line: number;
}

export interface ListSyntax {
  readonly kind: "list";
  readonly items: readonly ValueSyntax[];
  readonly line: number;
}

export type ValueSyntax = ScalarSyntax | MessageSyntax | ListSyntax;

export interface FieldSyntax {
  readonly name: string;
  readonly value: ValueSyntax;
  readonly line: number;
}

/** A file as parsed; in `"text"` a map is a repeated message of key and value, in `"json"` (and YAML) an object. */
export interface ParsedFile {
  readonly dialect: "text" | "json";
  readonly file: string;
  readonly root: MessageSyntax;
}

export function configError(file: string, line: number, what: string): UserError {
  return new UserError("config-invalid", `${file}:${line}: ${what}`);
}
