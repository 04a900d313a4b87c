/**
 * Infers again what was not known when the model came: a shape that constant folding has made known since decides the
 * shapes after it. A size that stood as a symbol of its own becomes what it is wherever it was used.
 */
import { UserError } from "../base/index.ts";
import { type Dim, dimKey, type Graph, type Node, substitute, subgraphsOf, type Value } from "../ir/index.ts";
import { inferNode, isDataDependent } from "../ops/index.ts";

/** @returns how many values are better known now */
export function refineTypes(graph: Graph): number {
  const changed = new Set<Value>();
  for (const node of graph.nodes) {
    if (!mayImprove(node) || !(node.outputs.some(isVague) || node.inputs.some((value) => value && changed.has(value)))) continue;
    const known = new Map<string, Dim>();
    for (const value of refineNode(node, known)) changed.add(value);
    if (known.size > 0) replaceSymbols(graph, known, changed);
  }
  return changed.size;
}

/** What goes round a loop may change its size each time: that stays as it was inferred. */
function mayImprove(node: Node): boolean {
  return node.op === "If" || subgraphsOf(node).length === 0;
}

function isVague(value: Value | undefined): boolean {
  return value !== undefined && (value.dtype === undefined || !value.dims || value.dims.some(isDataDependent));
}

function refineNode(node: Node, known: Map<string, Dim>): Value[] {
  const values = node.outputs.filter((value) => value !== undefined);
  const before = values.map(({ dims, elements }) => ({ dims, elements }));
  const texts = values.map(describe);
  for (const value of values) if (value.dims?.some(isDataDependent)) value.dims = undefined;
  try {
    inferNode(node);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
  for (const [i, value] of values.entries()) {
    const { dims, elements } = before[i]!;
    value.elements ??= elements;
    if (!dims) continue;
    value.dims = value.dims?.length === dims.length ? dims.map((dim, axis) => better(dim, value.dims![axis]!, known)) : value.dims ?? dims;
  }
  return values.filter((value, i) => describe(value) !== texts[i]);
}

function better(before: Dim, now: Dim, known: Map<string, Dim>): Dim {
  if (!isDataDependent(before) || isDataDependent(now)) return before;
  if (typeof before !== "number") known.set(before.key, now);
  return now;
}

function describe(value: Value): string {
  return `${value.dtype} ${value.dims?.map(dimKey).join()} ${value.elements?.map(dimKey).join()}`;
}

function replaceSymbols(graph: Graph, known: ReadonlyMap<string, Dim>, changed: Set<Value>): void {
  const apply = (value: Value | undefined): void => {
    if (!value?.dims?.some(isDataDependent) && !value?.elements?.some(isDataDependent)) return;
    const before = describe(value);
    if (value.dims) value.dims = value.dims.map((dim) => substitute(dim, known));
    if (value.elements) value.elements = value.elements.map((dim) => substitute(dim, known));
    if (describe(value) !== before) changed.add(value);
  };
  for (const node of graph.nodes) {
    for (const value of [...node.inputs, ...node.outputs]) apply(value);
    for (const subgraph of subgraphsOf(node)) replaceSymbols(subgraph, known, changed);
  }
}
