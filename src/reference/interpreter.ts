/**
 * Runs a whole graph on the reference operators: the oracle of every other way to run it, and constant folding.
 *
 * Invariant: a value lives from its producer to its last reader in the same graph; subgraphs read values of outer
 * frames and free none of them.
 */
import { assert, type DType, Tensor, UnsupportedError, UserError } from "../base/index.ts";
import { type AttributeValue, type Bindings, captures, type ConstantData, type Dim, DimExpr, dimKey, evaluate, Graph, type Node, subgraphsOf, symbolsOf, type TensorConstant, type Value } from "../ir/index.ts";
import { REFERENCE_OPERATORS } from "./catalogue.ts";
import type { HostValue, ReferenceAttributes, ReferenceContext } from "./contract.ts";

export type Feeds = ReadonlyMap<Value, HostValue> | Readonly<Record<string, HostValue>>;

export interface InterpretOptions {
  /** Start of the random numbers; the same seed gives the same results. */
  readonly seed?: number;
  /** Values of dimension symbols, beside those that the shapes of the feeds give. */
  readonly bindings?: Bindings;
  /** Single-precision tensors are taken, computed and given in double precision: how far rounding alone carries a result. */
  readonly double?: boolean;
  /** Sees each node's results as they are made. */
  onNode?(node: Node, results: readonly HostValue[]): void;
}

/** What all frames of one run share. */
interface Run {
  readonly bindings: Map<string, number>;
  readonly random: () => number;
  readonly double: boolean;
  readonly onNode: ((node: Node, results: readonly HostValue[]) => void) | undefined;
}

/** The values of one graph while it runs. */
interface Frame {
  readonly values: Map<Value, HostValue>;
  readonly outer: Frame | undefined;
}

/** Uniform numbers in [0, 1): mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The graph's outputs in order. */
export function interpret(graph: Graph, feeds: Feeds, options: InterpretOptions = {}): HostValue[] {
  const run: Run = { bindings: new Map(options.bindings), random: randomNumbers(options.seed ?? 0), double: options.double ?? false, onNode: options.onNode };
  const inputs = graph.inputs.map((input) => {
    const fed = feeds instanceof Map ? (feeds as ReadonlyMap<Value, HostValue>) : undefined;
    const known = fed ? fed.has(input) : Object.hasOwn(feeds, input.name);
    if (!known && input.kind !== "optional" && !input.constant) throw new UserError("input-invalid", `Input "${input.name}" has no value; the graph takes ${graph.inputs.map((other) => `"${other.name}"`).join(", ")}.`);
    return known ? (fed ? fed.get(input) : (feeds as Readonly<Record<string, HostValue>>)[input.name]) : input.constant ? constantTensor(input) : undefined;
  });
  return runGraph(graph, inputs, undefined, run);
}

/** One node on given inputs, for constant folding. @throws UnsupportedError where there is no such operator */
export function evaluateNode(node: Node, inputs: readonly HostValue[], options: InterpretOptions = {}): HostValue[] {
  const run: Run = { bindings: new Map(options.bindings), random: randomNumbers(options.seed ?? 0), double: options.double ?? false, onNode: undefined };
  return runNode(node, inputs, { values: new Map(), outer: undefined }, run);
}

/** Whether a reference exists for the node's operator. */
export function hasReference(node: Pick<Node, "op" | "domain">): boolean {
  return Object.hasOwn(REFERENCE_OPERATORS, keyOf(node));
}

const keyOf = (node: Pick<Node, "op" | "domain">): string => (node.domain ? `${node.domain}.${node.op}` : node.op);

function runGraph(graph: Graph, inputs: readonly HostValue[], outer: Frame | undefined, run: Run): HostValue[] {
  const frame: Frame = { values: new Map(), outer };
  graph.inputs.forEach((input, i) => { define(frame, input, run.double ? widen(inputs[i]) : inputs[i], run); });
  const dying = lastReads(graph);
  for (const node of graph.nodes) {
    const results = runNode(node, node.inputs.map((input) => (input ? read(frame, input, run) : undefined)), frame, run);
    node.outputs.forEach((output, i) => { if (output) define(frame, output, results[i], run); });
    run.onNode?.(node, results);
    for (const value of dying.get(node) ?? []) frame.values.delete(value);
  }
  return graph.outputs.map((output) => read(frame, output, run));
}

function runNode(node: Node, inputs: readonly HostValue[], frame: Frame, run: Run): HostValue[] {
  const operator = Object.hasOwn(REFERENCE_OPERATORS, keyOf(node)) ? REFERENCE_OPERATORS[keyOf(node)] : undefined;
  if (!operator) throw new UnsupportedError("unknown-operator", `${keyOf(node)} "${node.name}": there is no such operator here.`);
  const context: ReferenceContext = {
    outputCount: node.outputs.length,
    wanted: node.outputs.map((output) => output !== undefined),
    runGraph: (graph, values) => runGraph(graph, values, frame, run),
    random: run.random,
  };
  const attributes = attributesOf(node, run.bindings);
  return run.double ? operator(inputs, widenAttributes(attributes), context).map(widen) : operator(inputs, attributes, context);
}

/** For each node, the values of this graph that nobody reads after it. */
function lastReads(graph: Graph): Map<Node, Value[]> {
  const last = new Map<Value, Node>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output) last.set(output, node);
    for (const input of node.inputs) if (input) last.set(input, node);
    for (const subgraph of subgraphsOf(node)) for (const value of captures(subgraph)) last.set(value, node);
  }
  for (const output of graph.outputs) last.delete(output);
  const dying = new Map<Node, Value[]>();
  for (const [value, node] of last) {
    const list = dying.get(node);
    if (list) list.push(value);
    else dying.set(node, [value]);
  }
  return dying;
}

function define(frame: Frame, value: Value, content: HostValue, run: Run): void {
  frame.values.set(value, content);
  if (content instanceof Tensor) bindSymbols(value, content, run.bindings);
}

/** A dimension that is a symbol alone takes the tensor's size, unless it has one. */
function bindSymbols(value: Value, tensor: Tensor, bindings: Map<string, number>): void {
  value.dims?.forEach((dim, axis) => {
    const [name, ...others] = symbolsOf(dim);
    const size = tensor.dims[axis];
    if (name !== undefined && others.length === 0 && dimKey(dim) === name && size !== undefined && !bindings.has(name)) bindings.set(name, size);
  });
}

function read(frame: Frame, value: Value, run: Run): HostValue {
  for (let at: Frame | undefined = frame; at; at = at.outer) if (at.values.has(value)) return at.values.get(value);
  if (value.constant) return run.double ? widen(constantTensor(value)) : constantTensor(value);
  if (value.elements) return shapeTensor(value, run.bindings);
  throw new Error(`Bug in sinter: value "${value.name}" is read before it has been made`);
}

/** A value that is known only as dimension expressions. */
function shapeTensor(value: Value, bindings: Bindings): Tensor {
  const elements = (value.elements ?? []).map((dim) => evaluate(dim, bindings));
  return new Tensor(value.dtype ?? "int64", elements, value.dims?.length === 0 ? [] : [elements.length]);
}

/** The tensor of a constant value: a view of its bytes where they are aligned. */
export function constantTensor(value: Value): Tensor {
  assert(value.constant && value.dtype && value.dims, `constant "${value.name}" has data, type and dims`);
  return tensorOf(value.dtype, value.dims.map((dim) => {
    assert(typeof dim === "number", `constant "${value.name}" has known dims`);
    return dim;
  }), value.constant);
}

function tensorOf(dtype: DType, dims: readonly number[], constant: ConstantData): Tensor {
  if (dtype === "string") return new Tensor("string", [...(constant.strings ?? [])], dims);
  return Tensor.fromBytes(dtype, constant.bytes, dims);
}

/** What a folded node's result is stored as. */
export function hostValueToConstant(tensor: Tensor): ConstantData {
  return Array.isArray(tensor.data) ? { bytes: new Uint8Array(0), strings: tensor.data } : { bytes: tensor.bytes };
}

function attributesOf(node: Node, bindings: Bindings): ReferenceAttributes {
  return Object.fromEntries(Object.entries(node.attributes).map(([name, value]) => [name, attributeOf(value, bindings)]));
}

function attributeOf(value: AttributeValue, bindings: Bindings): ReferenceAttributes[string] {
  if (isTensorConstant(value)) return tensorOf(value.dtype, value.dims, value.constant);
  if (hasSymbols(value)) return value.map((dim) => evaluate(dim, bindings));
  return value as ReferenceAttributes[string];
}

/** A single-precision tensor, or those of a sequence, in double precision. */
function widen(value: HostValue): HostValue {
  if (value === undefined) return undefined;
  if (!(value instanceof Tensor)) return { sequence: value.sequence.map(widen) };
  return value.type === "float32" ? new Tensor("float64", Float64Array.from(value.data as Float32Array), value.dims) : value;
}

/** Attributes that name single precision as the type of a result (ONNX TensorProto.DataType 1) name double (11). */
function widenAttributes(attributes: ReferenceAttributes): ReferenceAttributes {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => {
    if ((name === "to" || name === "dtype") && value === 1) return [name, 11];
    return [name, value instanceof Tensor ? (widen(value) as Tensor) : value];
  }));
}

function isTensorConstant(value: AttributeValue): value is TensorConstant {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Graph);
}

function hasSymbols(value: AttributeValue): value is readonly Dim[] {
  return Array.isArray(value) && value.some((item) => item instanceof DimExpr);
}
