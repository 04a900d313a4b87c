/**
 * GraphProto to graph: names become values, local functions are inlined at their calls, constants become constant
 * values, and each node its canonical form. Values are declared before nodes are read, so that the order of nodes in
 * the file does not matter; they are sorted at the end.
 *
 * Scopes follow ONNX: a subgraph sees the values of the graphs around it; a function body sees its parameters only.
 */
import { UserError } from "../base/index.ts";
import { constantValue, Graph, makeNode, type Node, type TensorConstant, Value } from "../ir/index.ts";
import { bindAttribute, type AttributeContext, type Binding, type Bindings } from "./attributes.ts";
import { checkAttributeType, checkNode } from "./check-node.ts";
import { constantOfNode } from "./constant-node.ts";
import { CONTRIB, KEPT_CONTRIB } from "./contrib/index.ts";
import type { ExternalData } from "./external-data.ts";
import type { Problems } from "./problems.ts";
import type { FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto } from "./proto.ts";
import { sortNodes } from "./node-order.ts";
import { Rewriter } from "./rewriter.ts";
import { ML_OPERATORS, SCHEMAS } from "./schema.ts";
import { readConstant, readSparse } from "./tensor-data.ts";
import { applyInputType, applyStatedType, type DimNames } from "./types.ts";
import { upgradeNode } from "./upgrades/index.ts";

const ML_DOMAIN = "ai.onnx.ml";

/** Calls of functions within functions; ONNX forbids recursion. */
const MAX_CALL_DEPTH = 50;
/** Nodes of a model after inlining. */
const MAX_NODES = 2_000_000;

export interface BuilderOptions {
  readonly problems: Problems;
  readonly external: ExternalData;
  readonly functions: readonly FunctionProto[];
  readonly dimNames: DimNames;
}

/** The names one body of nodes sees, and what holds for its nodes. */
interface Scope {
  readonly values: Map<string, Value>;
  readonly parent: Scope | undefined;
  readonly opsets: ReadonlyMap<string, number>;
  readonly bindings: Bindings;
  /** Before the names of nodes and values of inlined bodies. */
  readonly prefix: string;
  readonly calls: readonly string[];
  /** Values that some node reads or that leave the body. */
  readonly wanted: Set<Value>;
}

export class GraphBuilder {
  /** Inputs that have a default value in the file and became constants. */
  readonly defaultedInputs: string[] = [];
  private readonly options: BuilderOptions;
  private readonly functions: ReadonlyMap<string, FunctionProto>;
  private readonly nodeNames = new Set<string>();
  private nodeCount = 0;

  constructor(options: BuilderOptions) {
    this.options = options;
    this.functions = new Map(options.functions.map((made) => [functionKey(made.domain, made.name, made.overload), made]));
  }

  /** The model's own graph. */
  build(proto: GraphProto, opsets: ReadonlyMap<string, number>): Graph {
    return this.graph(proto, { values: new Map(), parent: undefined, opsets, bindings: new Map(), prefix: "", calls: [], wanted: new Set() });
  }

  private graph(proto: GraphProto, scope: Scope): Graph {
    const graph = new Graph(proto.name);
    const isMain = scope.parent === undefined && scope.calls.length === 0;
    this.declareInitializers(proto, scope);
    for (const input of proto.inputs) this.declareInput(graph, input, scope, isMain);
    this.declareOutputs(proto.nodes, scope, typesByName([...proto.valueInfo, ...proto.outputs]));
    const outputs = proto.outputs.map((output) => this.graphOutput(output, proto.name, scope));
    graph.outputs = outputs.filter((value) => value !== undefined);
    this.noteWanted(proto.nodes, graph.outputs, scope);
    this.addNodes(proto.nodes, scope, graph.nodes);
    const cycle = sortNodes(graph);
    if (cycle) this.options.problems.add(`Graph "${proto.name}" has a cycle: ${cycle.slice(0, 8).map((node) => `"${node.name}"`).join(" needs ")}${cycle.length > 8 ? ` … (${cycle.length} nodes)` : ""}.`);
    return graph;
  }

  private declareInitializers(proto: GraphProto, scope: Scope): void {
    for (const tensor of proto.initializers) {
      this.declareConstant(tensor.name, scope, () => readConstant(tensor, this.options.external));
    }
    for (const sparse of proto.sparseInitializers) {
      const name = sparse.values?.name ?? "";
      this.declareConstant(name, scope, () => readSparse(sparse, this.options.external, name));
    }
  }

  /** A tensor that cannot be read still defines its name, so that it is reported once and not at each reader. */
  private declareConstant(name: string, scope: Scope, read: () => TensorConstant): void {
    let value = new Value(scope.prefix + name);
    this.attempt(() => { value = constantOf(read(), scope.prefix + name); });
    this.declare(value, name, scope);
  }

  private declareInput(graph: Graph, input: ValueInfoProto, scope: Scope, isMain: boolean): void {
    if (scope.values.get(input.name)?.constant) {
      if (isMain) this.defaultedInputs.push(input.name);
      return;
    }
    const value = new Value(scope.prefix + input.name);
    this.attempt(() => (isMain ? applyInputType : applyStatedType)(value, input.type, this.options.dimNames));
    this.declare(value, input.name, scope);
    graph.inputs.push(value);
  }

  private declareOutputs(nodes: readonly NodeProto[], scope: Scope, types: ReadonlyMap<string, TypeProto>): void {
    for (const node of nodes) {
      for (const name of node.outputs) {
        if (!name) continue;
        const value = new Value(scope.prefix + name);
        const type = types.get(name);
        if (type) this.attempt(() => applyStatedType(value, type, this.options.dimNames));
        this.declare(value, name, scope);
      }
    }
  }

  private declare(value: Value, name: string, scope: Scope): void {
    if (scope.values.has(name)) this.options.problems.add(`Value "${name}" is defined more than once in the same graph.`);
    scope.values.set(name, value);
  }

  private graphOutput(output: ValueInfoProto, graphName: string, scope: Scope): Value | undefined {
    const value = lookUp(output.name, scope);
    if (!value) this.options.problems.add(`Graph "${graphName}": output "${output.name}" is not defined by any node, input or initializer.`);
    return value;
  }

  private noteWanted(nodes: readonly NodeProto[], outputs: readonly Value[], scope: Scope): void {
    for (const output of outputs) scope.wanted.add(output);
    for (const name of namesRead(nodes)) {
      const value = scope.values.get(name);
      if (value) scope.wanted.add(value);
    }
  }

  private addNodes(nodes: readonly NodeProto[], scope: Scope, into: Node[]): void {
    nodes.forEach((node, i) => this.addNode(node, i, scope, into));
  }

  private addNode(proto: NodeProto, index: number, scope: Scope, into: Node[]): void {
    const name = this.uniqueName(scope.prefix + (proto.name || `${proto.op}_${index}`));
    const label = `${proto.op} "${name}"`;
    if (++this.nodeCount > MAX_NODES) throw new UserError("limit-exceeded", `The model has more than ${MAX_NODES} nodes once its functions are inlined.`);
    this.attempt(() => {
      const attributes = this.bindAttributes(proto, label, scope);
      const inputs = proto.inputs.map((input) => this.resolve(input, label, scope));
      const outputs = proto.outputs.map((output) => (output ? scope.values.get(output) : undefined));
      const called = this.functions.get(functionKey(proto.domain, proto.op, proto.overload));
      if (called) this.inline(called, name, inputs, outputs, attributes, scope, into);
      else if (proto.domain === "" && proto.op === "Constant") setConstant(outputs[0], constantOfNode(attributes, label));
      else this.addOperator(proto, name, trimmed(inputs), outputs, attributes, scope, into);
    });
  }

  private resolve(name: string, label: string, scope: Scope): Value | undefined {
    if (name === "") return undefined;
    const value = lookUp(name, scope);
    if (value) return value;
    this.options.problems.add(`${label}: input "${name}" is not defined by any node, input or initializer.`);
    return new Value(name);
  }

  private bindAttributes(proto: NodeProto, label: string, scope: Scope): Map<string, Binding> {
    const context: AttributeContext = {
      external: this.options.external,
      bindings: scope.bindings,
      label,
      buildGraph: (graph) => this.graph(graph, { ...scope, values: new Map(), parent: scope, wanted: new Set() }),
    };
    const bound = new Map<string, Binding>();
    for (const attribute of proto.attributes) {
      const binding = bindAttribute(attribute, context);
      if (binding) bound.set(attribute.name, binding);
    }
    return bound;
  }

  private addOperator(proto: NodeProto, name: string, inputs: (Value | undefined)[], outputs: (Value | undefined)[], bound: ReadonlyMap<string, Binding>, scope: Scope, into: Node[]): void {
    const { problems } = this.options;
    const label = `${proto.op} "${name}"`;
    const domain = proto.domain === "" && !SCHEMAS.has(proto.op) && CONTRIB.has(proto.op) ? "com.microsoft" : proto.domain;
    const refusal = this.refusal(proto, domain, scope);
    if (refusal) {
      problems.addUnknown(`${label}: ${refusal}`);
      return;
    }
    const opset = scope.opsets.get(domain) ?? 1;
    const attributes = Object.fromEntries([...bound].map(([key, binding]) => [key, binding.make()]));
    if (domain === "" && opset >= 7) {
      for (const [key, { type }] of bound) {
        const problem = checkAttributeType(proto.op, key, type);
        if (problem) problems.add(`${label}: ${problem}.`);
      }
    }
    const node = makeNode({ op: proto.op, domain, name, inputs, outputs: this.keptOutputs(proto, outputs, scope), attributes });
    const rewriter = new Rewriter(node, opset, (value) => scope.wanted.has(value));
    this.canonicalise(node, rewriter);
    this.nodeCount += rewriter.nodes.length;
    for (const made of rewriter.nodes) {
      if (made.domain === "com.microsoft" && !KEPT_CONTRIB.has(made.op)) problems.addUnknown(`${label}: this form of com.microsoft's ${made.op} is not one Sinter takes`);
      if (made.domain === "") for (const problem of checkNode(made)) problems.add(`${label}: ${problem}.`);
      into.push(made);
    }
  }

  /** Why the operator cannot be taken; undefined when it can. */
  private refusal(proto: NodeProto, domain: string, scope: Scope): string | undefined {
    if (domain === "com.microsoft") return CONTRIB.has(proto.op) ? undefined : "com.microsoft has no such operator that Sinter knows";
    if (domain === ML_DOMAIN) return ML_OPERATORS.has(proto.op) ? undefined : `the domain "${domain}" has no such operator that Sinter knows; it knows ${[...ML_OPERATORS].join(", ")}`;
    if (domain !== "") return `the domain "${domain}" is not one of Sinter's`;
    if (!SCHEMAS.has(proto.op)) return "ai.onnx has no such operator";
    if (!scope.opsets.has("")) throw new UserError("model-invalid", `${proto.op} "${proto.name}": the model states no opset for ai.onnx.`);
    return undefined;
  }

  private canonicalise(node: Node, rewriter: Rewriter): void {
    if (node.domain === "") {
      upgradeNode(node, rewriter);
      return;
    }
    const rewrite = node.domain === ML_DOMAIN ? undefined : CONTRIB.get(node.op);
    if (rewrite?.(node, rewriter) !== "replaced") rewriter.nodes.push(node);
  }

  /** Optional outputs that nothing reads are dropped. */
  private keptOutputs(proto: NodeProto, outputs: readonly (Value | undefined)[], scope: Scope): (Value | undefined)[] {
    const schema = proto.domain === "" ? SCHEMAS.get(proto.op) : undefined;
    if (!schema || schema.maxOutputs === Number.POSITIVE_INFINITY) return [...outputs];
    const first = Math.max(1, schema.minOutputs);
    return trimmed(outputs.map((output, i) => (i < first || (output && scope.wanted.has(output)) ? output : undefined)));
  }

  private inline(called: FunctionProto, name: string, inputs: readonly (Value | undefined)[], outputs: readonly (Value | undefined)[], attributes: ReadonlyMap<string, Binding>, caller: Scope, into: Node[]): void {
    const key = functionKey(called.domain, called.name, called.overload);
    if (caller.calls.includes(key)) throw new UserError("model-invalid", `Function "${called.name}" calls itself, by way of node "${name}".`);
    if (caller.calls.length >= MAX_CALL_DEPTH) throw new UserError("limit-exceeded", `Functions call one another more than ${MAX_CALL_DEPTH} deep, at node "${name}".`);
    const opsets = called.opsets.size > 0 ? called.opsets : caller.opsets;
    const scope: Scope = { values: new Map(), parent: undefined, opsets, bindings: this.callBindings(called, name, attributes), prefix: `${name}/`, calls: [...caller.calls, key], wanted: new Set() };
    called.inputs.forEach((input, i) => {
      const value = inputs[i];
      if (value) scope.values.set(input, value);
    });
    const absent = new Set(called.inputs.filter((_, i) => !inputs[i]));
    const nodes = called.nodes.map((node) => (node.inputs.some((input) => absent.has(input)) ? { ...node, inputs: node.inputs.map((input) => (absent.has(input) ? "" : input)) } : node));
    this.declareOutputs(nodes, scope, typesByName(called.valueInfo));
    const passed = this.bindOutputs(called, name, outputs, scope, caller);
    this.noteWanted(nodes, [], scope);
    this.addNodes(nodes, scope, into);
    for (const [from, to] of passed) into.push(makeNode({ op: "Identity", name: `${name}/Identity`, inputs: [from], outputs: [to], origins: [name] }));
  }

  private callBindings(called: FunctionProto, name: string, attributes: ReadonlyMap<string, Binding>): Bindings {
    const bindings = new Map<string, Binding>();
    const context: AttributeContext = { external: this.options.external, bindings: new Map(), label: `Function "${called.name}"`, buildGraph: () => { throw new UserError("model-invalid", `Function "${called.name}": a graph cannot be an attribute's default.`); } };
    for (const attribute of called.defaults) {
      const binding = bindAttribute(attribute, context);
      if (binding) bindings.set(attribute.name, binding);
    }
    for (const [key, binding] of attributes) bindings.set(key, binding);
    for (const required of called.attributes) {
      if (!bindings.has(required)) this.options.problems.add(`${called.name} "${name}": required attribute "${required}" of the function is missing.`);
    }
    return bindings;
  }

  /**
   * Makes the body write the caller's values. An output that the body does not make (a parameter handed through, a
   * constant) needs a copy: those are answered.
   */
  private bindOutputs(called: FunctionProto, name: string, outputs: readonly (Value | undefined)[], scope: Scope, caller: Scope): [Value, Value][] {
    const made = new Set(called.nodes.flatMap((node) => node.outputs));
    const bound = new Set<string>();
    const passed: [Value, Value][] = [];
    called.outputs.forEach((output, i) => {
      const value = outputs[i];
      const inner = scope.values.get(output);
      if (!inner && value && caller.wanted.has(value)) this.options.problems.add(`Function "${called.name}": output "${output}" is not defined in its body, called by "${name}".`);
      if (!value || !inner) return;
      if (made.has(output) && !bound.has(output)) {
        bound.add(output);
        value.kind = inner.kind;
        value.dtype ??= inner.dtype;
        value.dims ??= inner.dims;
        scope.values.set(output, value);
        if (caller.wanted.has(value)) scope.wanted.add(value);
      } else passed.push([scope.values.get(output)!, value]);
    });
    for (const [from] of passed) scope.wanted.add(from);
    return passed;
  }

  private uniqueName(name: string): string {
    let unique = name;
    for (let i = 2; this.nodeNames.has(unique); i++) unique = `${name}_${i}`;
    this.nodeNames.add(unique);
    return unique;
  }

  /** Notes a problem of one tensor or node and goes on, so that all are reported. */
  private attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof UserError) || !this.options.problems.take(error)) throw error;
    }
  }
}

function functionKey(domain: string, name: string, overload: string): string {
  return `${domain}\0${name}\0${overload}`;
}

function lookUp(name: string, scope: Scope): Value | undefined {
  for (let at: Scope | undefined = scope; at; at = at.parent) {
    const value = at.values.get(name);
    if (value) return value;
  }
  return undefined;
}

function typesByName(list: readonly ValueInfoProto[]): Map<string, TypeProto> {
  return new Map(list.map(({ name, type }) => [name, type]));
}

/** Every name that the nodes read, those of their subgraphs included. */
function namesRead(nodes: readonly NodeProto[], into = new Set<string>()): Set<string> {
  for (const node of nodes) {
    for (const input of node.inputs) into.add(input);
    for (const attribute of node.attributes) {
      for (const graph of attribute.g ? [attribute.g, ...attribute.graphs] : attribute.graphs) {
        namesRead(graph.nodes, into);
        for (const output of graph.outputs) into.add(output.name);
      }
    }
  }
  return into;
}

function trimmed(values: readonly (Value | undefined)[]): (Value | undefined)[] {
  const list = [...values];
  while (list.length > 0 && list.at(-1) === undefined) list.pop();
  return list;
}

function constantOf(tensor: TensorConstant, name: string): Value {
  const value = constantValue(tensor.dtype, tensor.dims, tensor.constant.bytes, name);
  value.constant = tensor.constant;
  return value;
}

/** Makes an already declared value constant. */
function setConstant(value: Value | undefined, tensor: TensorConstant): void {
  if (!value) return;
  const made = constantOf(tensor, value.name);
  value.dtype = made.dtype;
  value.dims = made.dims;
  value.constant = made.constant;
  value.elements = made.elements;
}
