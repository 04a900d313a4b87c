/** The same configuration as YAML, of which JSON is a part: a document to the tree that the schema is bound to. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { configError, type FieldSyntax, type ParsedFile, type ValueSyntax } from "./syntax.ts";

const MAX_DEPTH = 32;

/** @throws UserError "config-invalid" with file and line */
export function parseYaml(text: string, file: string): ParsedFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, version: "1.2", schema: "core", uniqueKeys: true, prettyErrors: false });
  const problem = document.errors[0];
  if (problem) throw configError(file, lines.linePos(problem.pos[0]).line, `${problem.message}.`);
  const lineOf = (node: Node): number => (node.range ? lines.linePos(node.range[0]).line : 1);
  const root: ValueSyntax = document.contents === null ? { kind: "message", fields: [], line: 1 } : toSyntax(document.contents, file, lineOf, 0);
  if (root.kind !== "message") throw configError(file, root.line, "expected fields and their values, as in `max_batch_size: 8`.");
  return { dialect: "json", file, root };
}

function toSyntax(node: Node, file: string, lineOf: (node: Node) => number, depth: number): ValueSyntax {
  const line = lineOf(node);
  if (depth > MAX_DEPTH) throw configError(file, line, `more than ${MAX_DEPTH} values in one another.`);
  if (isAlias(node)) throw configError(file, line, "aliases are not read; write the value out.");
  if (isMap(node)) {
    const fields = node.items.map(({ key, value }): FieldSyntax => {
      if (!isScalar(key)) throw configError(file, line, "a field's name must be plain text.");
      const at = lineOf(key);
      return { name: String(key.value), line: at, value: value ? toSyntax(value as Node, file, lineOf, depth + 1) : { kind: "scalar", text: "", quoted: false, line: at } };
    });
    return { kind: "message", fields, line };
  }
  if (isSeq(node)) return { kind: "list", items: node.items.map((item) => toSyntax(item as Node, file, lineOf, depth + 1)), line };
  if (!isScalar(node)) throw configError(file, line, "a value of an unknown kind.");
  const quoted = typeof node.value === "string" && node.type !== "PLAIN";
  return { kind: "scalar", text: node.value === null ? "" : String(node.value), quoted, line };
}
