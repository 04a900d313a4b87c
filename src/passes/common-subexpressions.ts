/** Nodes with equal operator, inputs and attributes give equal results: the later ones read the first. Equal small constants are one. */
import { DimExpr, type Node, subgraphsOf, type Value } from "../ir/index.ts";
import { isDataDependent } from "../ops/index.ts";
import type { Editor, Rule } from "./editor.ts";

const RANDOM = /^(Random\w*|Bernoulli|Multinomial)$/;

/** Done anew for each reader, inside its kernel: sharing the result would store it in four times the room. */
const CHEAP = new Set(["DequantizeLinear"]);

/** Constants above this many bytes are told apart by their memory, not their content. */
const MAX_COMPARED_BYTES = 512;

export function shareCommonSubexpressions(): Rule {
  const seen = new Map<string, Node>();
  return (node, editor) => {
    if (RANDOM.test(node.op) || CHEAP.has(node.op) || subgraphsOf(node).length > 0) return false;
    const key = keyOf(node);
    const first = key === undefined ? undefined : seen.get(key);
    if (!first) {
      if (key !== undefined) seen.set(key, node);
      return false;
    }
    return share(node, first, editor);
  };
}

function share(node: Node, first: Node, editor: Editor): boolean {
  let changed = false;
  node.outputs.forEach((output, i) => {
    const kept = first.outputs[i];
    if (!output || !kept || output.dims?.some(isDataDependent) || editor.isOutput(output) || editor.usersOf(output).length === 0) return;
    editor.replace(output, kept);
    changed = true;
  });
  if (changed) first.origins = [...new Set([...first.origins, ...node.origins])];
  return changed;
}

function keyOf(node: Node): string | undefined {
  const attributes = Object.entries(node.attributes).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => {
    const text = attributeText(value);
    return text === undefined ? undefined : `${name}=${text}`;
  });
  if (attributes.includes(undefined)) return undefined;
  return `${node.domain}.${node.op}/${node.outputs.map((output) => Number(output !== undefined)).join("")}(${node.inputs.map(valueKey).join(",")}){${attributes.join(",")}}`;
}

function attributeText(value: unknown): string | undefined {
  if (value instanceof DimExpr) return value.key;
  if (Array.isArray(value)) return `[${value.map((item) => (typeof item === "object" && !(item instanceof DimExpr) ? "?" : String(item))).join(",")}]`;
  return typeof value === "object" ? undefined : `${typeof value}:${String(value)}`;
}

function valueKey(value: Value | undefined): string {
  if (!value) return "_";
  if (!value.producer && value.elements) return `${value.dtype}[${value.dims?.map(String)}]<${value.elements.map(String)}>`;
  if (value.constant && !value.constant.strings && value.constant.bytes.length <= MAX_COMPARED_BYTES) return `${value.dtype}[${value.dims?.map(String)}]${Buffer.from(value.constant.bytes).toString("hex")}`;
  return `%${value.id}`;
}
