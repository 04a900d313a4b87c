/**
 * The graph IR: nodes over typed values, in the manner of ONNX.
 *
 * What the importer hands over is canonical: every node has the semantics of its operator at opset 25, whatever the
 * file's opset was. Nodes stand in topological order; each value has one producer (SSA). Subgraphs (If, Loop, Scan)
 * use values of outer graphs directly.
 *
 * A *shape operand* is a value without producer and constant, no graph input, that carries only `elements`: dimension
 * expressions, evaluated when a shape is bound. Passes put them where Reshape, Expand, Slice and the like read shapes.
 *
 * Domain "" is ai.onnx; "com.microsoft" are onnxruntime's contrib operators; "sinter" are our own, made by passes.
 */
import type { DType } from "../base/index.ts";
import { elementCount } from "../base/index.ts";
import type { Dim } from "./dim.ts";

/** Element bytes of a constant: a view into the mapped model or into memory a pass made; never changed. */
export interface ConstantData {
  /** Little-endian packed elements; strings are in `strings`. */
  readonly bytes: Uint8Array;
  readonly strings?: readonly string[];
}

export type ValueKind = "tensor" | "sequence" | "optional" | "map";

let nextId = 0;

export class Value {
  readonly id: number = nextId++;
  name: string;
  kind: ValueKind = "tensor";
  /** Element type; of a sequence or optional, that of its tensors. Undefined while unknown. */
  dtype: DType | undefined;
  /** Undefined while the rank is unknown. */
  dims: readonly Dim[] | undefined;
  producer: Node | undefined;
  constant: ConstantData | undefined;
  /**
   * For small integer tensors (rank 0 or 1) that shape arithmetic made: each element as a dimension expression.
   * Filled by shape inference; lets passes fold Shape-Gather-Concat-Reshape chains with symbolic dims.
   */
  elements: readonly Dim[] | undefined;

  constructor(name: string, dtype?: DType, dims?: readonly Dim[]) {
    this.name = name;
    this.dtype = dtype;
    this.dims = dims;
  }
}

export type AttributeValue =
  | number // INT (safe range) and FLOAT
  | bigint // INT outside the safe range
  | string
  | readonly number[] // INTS, FLOATS
  | readonly string[]
  | TensorConstant // TENSOR; sparse tensors are expanded by the importer
  | Graph
  | readonly Graph[]
  | readonly Dim[]; // made by passes: e.g. `shape` of a folded Reshape

export interface TensorConstant {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly constant: ConstantData;
}

export interface Node {
  op: string;
  domain: string;
  name: string;
  /** Undefined where an optional input is absent. */
  inputs: (Value | undefined)[];
  /** Undefined where an optional output is not wanted. */
  outputs: (Value | undefined)[];
  attributes: Record<string, AttributeValue>;
  /** Names of the model's own nodes this one stands for: itself at import, several after fusion. */
  origins: readonly string[];
}

export class Graph {
  name: string;
  inputs: Value[] = [];
  outputs: Value[] = [];
  /** Topologically ordered. */
  nodes: Node[] = [];

  constructor(name: string) {
    this.name = name;
  }

  /** Appends a node and makes it the producer of its outputs. */
  append(node: Omit<Node, "domain" | "name" | "attributes" | "origins"> & Partial<Node>): Node {
    const made = makeNode(node);
    this.nodes.push(made);
    return made;
  }
}

/** A node with defaults filled in, set as producer of its outputs; the caller places it in a graph. */
export function makeNode(node: Pick<Node, "op" | "inputs" | "outputs"> & Partial<Node>): Node {
  const made: Node = {
    op: node.op,
    domain: node.domain ?? "",
    name: node.name ?? "",
    inputs: node.inputs,
    outputs: node.outputs,
    attributes: node.attributes ?? {},
    origins: node.origins ?? (node.name ? [node.name] : []),
  };
  for (const output of made.outputs) if (output) output.producer = made;
  return made;
}

let nextConstant = 0;

/** A constant value; `bytes` are not copied. */
export function constantValue(dtype: DType, dims: readonly number[], bytes: Uint8Array, name?: string): Value {
  const value = new Value(name ?? `const_${nextConstant++}`, dtype, dims);
  value.constant = { bytes };
  if ((dtype === "int64" || dtype === "int32") && dims.length <= 1 && elementCount(dims) <= 64) value.elements = smallIntegers(dtype, bytes);
  return value;
}

function smallIntegers(dtype: "int64" | "int32", bytes: Uint8Array): readonly number[] | undefined {
  const copy = new Uint8Array(bytes);
  const items = dtype === "int64" ? [...new BigInt64Array(copy.buffer)].map(Number) : [...new Int32Array(copy.buffer)];
  return items.every(Number.isSafeInteger) ? items : undefined;
}

export function int64Constant(items: readonly number[], dims: readonly number[] = [items.length], name?: string): Value {
  return constantValue("int64", dims, new Uint8Array(BigInt64Array.from(items.map(BigInt)).buffer), name);
}

export function float32Constant(items: readonly number[] | Float32Array, dims: readonly number[] = [items.length], name?: string): Value {
  const array = Float32Array.from(items);
  return constantValue("float32", dims, new Uint8Array(array.buffer), name);
}

/** The nodes that read each value, subgraphs included, and whether it is a graph output. */
export function usersOf(graph: Graph): Map<Value, Node[]> {
  const users = new Map<Value, Node[]>();
  const note = (value: Value | undefined, node: Node): void => {
    if (!value) return;
    const list = users.get(value);
    if (list) list.push(node);
    else users.set(value, [node]);
  };
  for (const node of graph.nodes) {
    for (const input of node.inputs) note(input, node);
    for (const subgraph of subgraphsOf(node)) for (const value of captures(subgraph)) note(value, node);
  }
  return users;
}

export function subgraphsOf(node: Node): Graph[] {
  return Object.values(node.attributes).flatMap((value) => (value instanceof Graph ? [value] : Array.isArray(value) && value[0] instanceof Graph ? (value as Graph[]) : []));
}

/** Values a subgraph uses but does not define: those of outer graphs. */
export function captures(graph: Graph): Set<Value> {
  const defined = new Set<Value>(graph.inputs);
  const used = new Set<Value>();
  for (const node of graph.nodes) {
    for (const input of node.inputs) if (input) used.add(input);
    for (const subgraph of subgraphsOf(node)) for (const value of captures(subgraph)) used.add(value);
    for (const output of node.outputs) if (output) defined.add(output);
  }
  for (const output of graph.outputs) used.add(output);
  return new Set([...used].filter((value) => !defined.has(value) && !value.constant));
}

/** Makes every reader of `from` read `to`, graph outputs and subgraphs included. */
export function replaceUses(graph: Graph, from: Value, to: Value): void {
  for (const node of graph.nodes) {
    node.inputs = node.inputs.map((input) => (input === from ? to : input));
    for (const subgraph of subgraphsOf(node)) replaceUses(subgraph, from, to);
  }
  graph.outputs = graph.outputs.map((output) => (output === from ? to : output));
}
