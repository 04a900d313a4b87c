/**
 * Editing a graph node by node. A sweep visits the nodes in order; what a rule emits is placed before the node it
 * looks at, so a rule stands at the last node of what it replaces and the order stays topological.
 *
 * Invariants: users are exact at any moment, dead nodes leave at once with what only they read; values that are graph
 * outputs keep their names. Of a branch, values of outer graphs are only read: their producers are never touched.
 */
import { type AttributeValue, captures, type Dim, dimKey, type Graph, makeNode, type Node, replaceUses, subgraphsOf, symbolsOf, Value } from "../ir/index.ts";
import { inferNode, isDataDependent } from "../ops/index.ts";

export interface EmitOptions {
  readonly domain?: string;
  /** Names of the model's nodes the new one stands for; those of the node under the sweep by default. */
  readonly origins?: readonly string[];
  /** How many outputs it has; 1 by default. */
  readonly outputs?: number;
}

/** Looks at one node; answers whether it changed something. */
export type Rule = (node: Node, editor: Editor) => boolean;

export class Editor {
  readonly graph: Graph;
  private readonly users = new Map<Value, Set<Node>>();
  private readonly dead = new Set<Node>();
  private readonly own = new Set<Node>();
  private placed: Node[] = [];
  private current: Node | undefined;
  private readonly names: Set<string>;

  constructor(graph: Graph) {
    this.graph = graph;
    for (const node of graph.nodes) this.note(node);
    this.names = new Set(graph.nodes.flatMap((node) => node.outputs.map((value) => value?.name ?? "")));
  }

  /** Applies the rule to every node once; answers how often it changed something. */
  sweep(rule: Rule): number {
    let changes = 0;
    this.placed = [];
    for (const node of this.graph.nodes) {
      if (this.dead.has(node)) continue;
      this.current = node;
      if (rule(node, this)) changes++;
      if (!this.dead.has(node)) this.placed.push(node);
    }
    this.current = undefined;
    this.graph.nodes = this.placed.filter((node) => !this.dead.has(node));
    return changes;
  }

  usersOf(value: Value): readonly Node[] {
    return [...(this.users.get(value) ?? [])];
  }

  isOutput(value: Value): boolean {
    return this.graph.outputs.includes(value);
  }

  /** Whether exactly one node reads the value, and no caller. */
  isOnlyUse(value: Value): boolean {
    return (this.users.get(value)?.size ?? 0) === 1 && !this.isOutput(value) && !this.isOuter(value);
  }

  private isOuter(value: Value): boolean {
    return value.producer !== undefined && !this.own.has(value.producer);
  }

  /** A new node before the one under the sweep, its types inferred; answers its first output. */
  emit(op: string, inputs: readonly (Value | undefined)[], attributes: Record<string, AttributeValue> = {}, options: EmitOptions = {}): Value {
    return this.emitNode(op, inputs, attributes, options).outputs[0]!;
  }

  emitNode(op: string, inputs: readonly (Value | undefined)[], attributes: Record<string, AttributeValue> = {}, options: EmitOptions = {}): Node {
    const base = this.current?.name || this.current?.outputs[0]?.name || op;
    const outputs = Array.from({ length: options.outputs ?? 1 }, () => new Value(this.freshName(`${base}.${op}`)));
    const trimmed = [...inputs];
    while (trimmed.length > 0 && trimmed.at(-1) === undefined) trimmed.pop();
    const node = makeNode({ op, domain: options.domain ?? "", name: base, inputs: trimmed, outputs, attributes, origins: options.origins ?? this.current?.origins ?? [] });
    this.place(node);
    inferNode(node);
    return node;
  }

  /** Places a node that was made elsewhere. */
  place(node: Node): void {
    this.note(node);
    this.placed.push(node);
  }

  /** Reads `by` wherever `from` was read, in subgraphs too. An output of the graph keeps its value and name. */
  replace(from: Value, by: Value): void {
    if (from === by) return;
    keepDataSymbols(from, by);
    if (this.isOutput(from)) {
      this.takeOver(from, by);
      return;
    }
    this.redirect(from, by);
    this.buryUnused(from.producer);
  }

  /** Replaces what a node's only output says, merging origins into the new producer. */
  replaceNode(node: Node, by: Value): boolean {
    const output = node.outputs[0]!;
    if (by.producer && by.producer !== node) by.producer.origins = [...new Set([...by.producer.origins, ...node.origins])];
    this.replace(output, by);
    return true;
  }

  /** Changes an input of a node in place. */
  setInput(node: Node, index: number, value: Value | undefined): void {
    const before = node.inputs[index];
    node.inputs[index] = value;
    if (value) this.usersIn(value).add(node);
    if (before && !node.inputs.includes(before)) {
      this.users.get(before)?.delete(node);
      this.buryUnused(before.producer);
    }
  }

  /** `by` becomes known under the output's value; where it cannot (an input, a constant, another output), it is copied. */
  private takeOver(from: Value, by: Value): void {
    const old = from.producer;
    const producer = by.producer;
    const canRename = producer && !this.isOutput(by) && !this.graph.inputs.includes(by) && !by.constant && (this.placed.includes(producer) || this.graph.nodes.includes(producer));
    if (old) old.outputs = old.outputs.map((value) => (value === from ? undefined : value));
    if (canRename) {
      producer.outputs = producer.outputs.map((value) => (value === by ? from : value));
      from.producer = producer;
      from.elements = by.elements;
      this.redirect(by, from);
    } else {
      const copy = makeNode({ op: "Identity", name: old?.name ?? "", inputs: [by], outputs: [from], origins: old?.origins ?? [] });
      this.place(copy);
      from.elements = by.elements;
    }
    this.buryUnused(old);
  }

  private redirect(from: Value, by: Value): void {
    for (const user of this.users.get(from) ?? []) {
      user.inputs = user.inputs.map((input) => (input === from ? by : input));
      for (const subgraph of subgraphsOf(user)) replaceUses(subgraph, from, by);
      this.usersIn(by).add(user);
    }
    this.users.delete(from);
  }

  private buryUnused(node: Node | undefined): void {
    if (!node || this.dead.has(node) || !this.own.has(node) || node.outputs.some((value) => value && (this.isOutput(value) || (this.users.get(value)?.size ?? 0) > 0))) return;
    this.bury(node);
  }

  /** Takes a node out, and those that only served it. */
  private bury(node: Node): void {
    this.dead.add(node);
    const read = new Set([...node.inputs, ...subgraphsOf(node).flatMap((subgraph) => [...captures(subgraph)])]);
    for (const value of read) {
      if (!value) continue;
      this.users.get(value)?.delete(node);
      this.buryUnused(value.producer);
    }
  }

  /** Takes out a node whose results others make by now. */
  discard(node: Node): void {
    this.bury(node);
  }

  /** Removes every node whose results nobody reads. */
  removeDead(): number {
    const before = this.dead.size;
    for (const node of [...this.graph.nodes].reverse()) this.buryUnused(node);
    this.graph.nodes = this.graph.nodes.filter((node) => !this.dead.has(node));
    return this.dead.size - before;
  }

  private note(node: Node): void {
    this.own.add(node);
    for (const input of node.inputs) if (input) this.usersIn(input).add(node);
    for (const subgraph of subgraphsOf(node)) for (const value of captures(subgraph)) this.usersIn(value).add(node);
  }

  private usersIn(value: Value): Set<Node> {
    let users = this.users.get(value);
    if (!users) this.users.set(value, (users = new Set()));
    return users;
  }

  private freshName(hint: string): string {
    let name = hint;
    for (let i = 2; this.names.has(name); i++) name = `${hint}_${i}`;
    this.names.add(name);
    return name;
  }
}

/** Sizes that data decides keep the symbols that other values use by now; what is computed from symbols makes none. */
function keepDataSymbols(from: Value, by: Value): void {
  if (from.dims?.length !== by.dims?.length) return;
  by.dims = by.dims?.map((dim, i) => (isDataDependent(dim) && isSymbol(from.dims![i]!) ? from.dims![i]! : dim));
}

const isSymbol = (dim: Dim): boolean => symbolsOf(dim).has(dimKey(dim));
