/**
 * The graph's text form, one node per line, for people and for tests of passes:
 * `%y: float32[batch, 128] = MatMul(%x, %w) {transB: 1}`. Constants of up to eight elements are shown where they are
 * used; larger ones stand as `const float32[768, 768] %name`. Subgraphs are indented below their node.
 */
import { type DType, elementCount, fromBfloat16Bits, fromFloat16Bits, viewArray } from "../base/index.ts";
import { dimKey, type Dim } from "./dim.ts";
import { type AttributeValue, type ConstantData, Graph, type Node, type TensorConstant, type Value } from "./graph.ts";

const SHOWN_ELEMENTS = 8;
const INDENT = "  ";

export function printGraph(graph: Graph): string {
  return `${graphLines(graph).join("\n")}\n`;
}

function graphLines(graph: Graph): string[] {
  const inputs = graph.inputs.map((value) => `%${value.name}: ${typeText(value)}`).join(", ");
  const body = graph.nodes.flatMap(nodeLines).map((line) => INDENT + line);
  return [`graph ${graph.name || "graph"}(${inputs}) {`, ...body, `${INDENT}return ${graph.outputs.map(useText).join(", ")}`, "}"];
}

/** A single node's text, without its subgraphs. */
export function printNode(node: Node): string {
  const outputs = node.outputs.map((output) => (output ? `%${output.name}: ${typeText(output)}` : "_")).join(", ");
  const inputs = node.inputs.map((input) => (input ? useText(input) : "_")).join(", ");
  const attributes = Object.entries(node.attributes).filter(([, value]) => !isGraphs(value)).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = attributes.map(([name, value]) => `${name}: ${attributeText(value)}`).join(", ");
  const op = node.domain ? `${node.domain}.${node.op}` : node.op;
  return `${outputs} = ${op}(${inputs})${text ? ` {${text}}` : ""}`;
}

function nodeLines(node: Node): string[] {
  const lines = [printNode(node)];
  for (const [name, value] of Object.entries(node.attributes)) {
    const graphs = value instanceof Graph ? [value] : isGraphs(value) ? (value as readonly Graph[]) : [];
    for (const graph of graphs) lines.push(...graphLines(graph).map((line, i) => INDENT + (i === 0 ? `${name} = ${line}` : line)));
  }
  return lines;
}

function isGraphs(value: AttributeValue): boolean {
  return value instanceof Graph || (Array.isArray(value) && value[0] instanceof Graph);
}

function typeText(value: Value): string {
  const type = `${value.dtype ?? "?"}${dimsText(value.dims)}`;
  return value.kind === "tensor" ? type : `${value.kind}(${type})`;
}

function dimsText(dims: readonly Dim[] | undefined): string {
  return dims ? `[${dims.map(dimKey).join(", ")}]` : "[?]";
}

function useText(value: Value): string {
  if (!value.constant || value.dtype === undefined) return `%${value.name}`;
  const dims = value.dims as readonly number[] | undefined;
  return elementsText(value.dtype, dims ?? [], value.constant) ?? `const ${typeText(value)} %${value.name}`;
}

function attributeText(value: AttributeValue): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map((item) => (typeof item === "string" ? JSON.stringify(item) : dimKey(item as Dim))).join(", ")}]`;
  const { dtype, dims, constant } = value as TensorConstant;
  return elementsText(dtype, dims, constant) ?? `${dtype}${dimsText(dims)}`;
}

/** The elements of a small constant, with its type unless that is int64 or float32; undefined for others. */
function elementsText(dtype: DType, dims: readonly number[], constant: ConstantData): string | undefined {
  const count = elementCount(dims);
  if (count > SHOWN_ELEMENTS || dims.length > 1) return undefined;
  const items = elementsOf(dtype, count, constant);
  if (!items) return undefined;
  const list = dims.length === 0 ? String(items[0]) : `[${items.join(", ")}]`;
  if (dtype === "int64" || dtype === "string") return list;
  return `${dtype} ${list}`;
}

function elementsOf(dtype: DType, count: number, constant: ConstantData): readonly (string | number | bigint)[] | undefined {
  if (dtype === "string") return constant.strings?.map((item) => JSON.stringify(item));
  const items = [...viewArray(dtype, constant.bytes)];
  if (items.length !== count) return undefined;
  if (dtype === "float16") return items.map((bits) => fromFloat16Bits(Number(bits)));
  if (dtype === "bfloat16") return items.map((bits) => fromBfloat16Bits(Number(bits)));
  return items;
}
