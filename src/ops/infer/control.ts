/**
 * If, Loop, Scan, SequenceMap: their subgraphs are inferred with what is known of the values that enter them.
 * State that a loop carries keeps its shape only where the body gives it back unchanged; other sizes become symbols
 * that only the data decides.
 */
import { UserError } from "../../base/index.ts";
import { type Dim, dimEqual, Graph, type Node, type Value } from "../../ir/index.ts";
import type { InferContext, InferRule } from "../contract.ts";
import { dataDim, type Dims, dimsOf, knownNumbers, numberOf, numbersOf, require, type Rules, setOutput } from "./rule.ts";

export type InferGraph = (graph: Graph, context: InferContext) => void;

function subgraph(node: Node, name: string): Graph {
  const graph = node.attributes[name];
  require(node, graph instanceof Graph, () => `attribute "${name}" is missing; expected a graph.`);
  return graph;
}

/** Copies what is known of a value. */
function describe(to: Value, from: Value, dims = from.dims): void {
  to.kind = from.kind;
  if (from.dtype) to.dtype = from.dtype;
  to.dims = dims;
}

function setFrom(node: Node, output: number, value: Value, dims: Dims | undefined): void {
  const target = node.outputs[output];
  if (!target) return;
  target.kind = value.kind;
  setOutput(node, output, value.dtype, dims);
}

const conditional = (inferGraph: InferGraph): InferRule => (node, context) => {
  const inferBranch = (branch: Graph, isTaken: boolean): boolean => {
    try {
      inferGraph(branch, context);
      return true;
    } catch (error) {
      // A branch that the shapes rule out may be wrong for them.
      if (isTaken || !(error instanceof UserError)) throw error;
      return false;
    }
  };
  const branches = ["then_branch", "else_branch"].map((name) => subgraph(node, name));
  const known = knownNumbers(node.inputs[0])?.[0];
  const taken = known === undefined ? branches : [branches[known !== 0 ? 0 : 1]!];
  const sound = taken.filter((branch) => inferBranch(branch, taken.length === 1));
  for (const branch of taken) require(node, branch.outputs.length === node.outputs.length, () => `a branch has ${branch.outputs.length} outputs, the node ${node.outputs.length}.`);
  node.outputs.forEach((_, i) => {
    const values = (sound.length > 0 ? sound : taken).map((branch) => branch.outputs[i]!);
    setFrom(node, i, values[0]!, values.map((value) => value.dims).reduce((a, b) => unite(a, b, (axis) => dataDim(node, i, axis, context))));
  });
};

/** A shape that covers both. */
function unite(a: Dims | undefined, b: Dims | undefined, fresh: (axis: number) => Dim): Dims | undefined {
  if (!a || !b || a.length !== b.length) return undefined;
  return a.map((dim, i) => (dimEqual(dim, b[i]!) ? dim : fresh(i)));
}

/** Infers the body until the shapes that enter are those that leave; answers the carried values' shapes. */
function inferCarried(body: Graph, inputs: readonly Value[], results: readonly Value[], initial: readonly (Value | undefined)[], infer: () => void, fresh: (state: number, axis: number) => Dim): (Dims | undefined)[] {
  let dims = initial.map((value) => value?.dims);
  for (let round = 0; round < 4; round++) {
    inputs.forEach((input, i) => { if (initial[i]) describe(input, initial[i], dims[i]); });
    if (round > 0) forgetDims(body);
    infer();
    const left = results.map((value, i) => unite(dims[i], value.dims, (axis) => fresh(i, axis)));
    if (left.every((shape, i) => String(shape) === String(dims[i]))) return left;
    dims = left;
  }
  inputs.forEach((input) => { input.dims = undefined; });
  forgetDims(body);
  infer();
  return dims.map(() => undefined);
}

function forgetDims(graph: Graph): void {
  for (const node of graph.nodes) for (const output of node.outputs) if (output) [output.dims, output.elements] = [undefined, undefined];
}

const loop = (inferGraph: InferGraph): InferRule => (node, context) => {
  const body = subgraph(node, "body");
  const initial = node.inputs.slice(2);
  const [iteration, condition, ...states] = body.inputs;
  require(node, states.length === initial.length && body.outputs.length === node.outputs.length + 1, () => `the body takes ${states.length} states and gives ${body.outputs.length - 1} results; expected ${initial.length} and ${node.outputs.length}.`);
  if (iteration) [iteration.dtype, iteration.dims] = ["int64", []];
  if (condition) [condition.dtype, condition.dims] = ["bool", []];
  const carried = body.outputs.slice(1, 1 + initial.length);
  const dims = inferCarried(body, states, carried, initial, () => inferGraph(body, context), (i, axis) => dataDim(node, i, axis, context));
  carried.forEach((value, i) => setFrom(node, i, value, dims[i]));
  const trips = tripCount(node, body);
  body.outputs.slice(1 + initial.length).forEach((value, i) => {
    const output = initial.length + i;
    setFrom(node, output, value, value.dims && [trips ?? dataDim(node, output, 0, context), ...value.dims]);
  });
};

/** The trip count is certain when it is known and the body hands its condition through. */
function tripCount(node: Node, body: Graph): Dim | undefined {
  const limit = node.inputs[0]?.elements?.[0];
  const start = node.inputs[1] ? knownNumbers(node.inputs[1])?.[0] : 1;
  let condition = body.outputs[0];
  while (condition?.producer?.op === "Identity") condition = condition.producer.inputs[0];
  const keepsOn = condition === body.inputs[1] || (condition && knownNumbers(condition)?.[0] === 1);
  return limit !== undefined && start === 1 && keepsOn ? limit : undefined;
}

const scan = (inferGraph: InferGraph): InferRule => (node, context) => {
  const body = subgraph(node, "body");
  const scanned = numberOf(node, "num_scan_inputs", 1);
  const states = node.inputs.length - scanned;
  const axes = numbersOf(node, "scan_input_axes") ?? new Array<number>(scanned).fill(0);
  let length: Dim | undefined;
  for (let i = 0; i < scanned; i++) {
    const dims = dimsOf(node, states + i);
    const value = node.inputs[states + i];
    const input = body.inputs[states + i];
    if (!value || !input) continue;
    const axis = dims ? (axes[i]! + dims.length) % dims.length : 0;
    length ??= dims?.[axis];
    describe(input, value, dims?.filter((_, d) => d !== axis));
  }
  const results = body.outputs.slice(0, states);
  const dims = inferCarried(body, body.inputs.slice(0, states), results, node.inputs.slice(0, states), () => inferGraph(body, context), (i, axis) => dataDim(node, i, axis, context));
  results.forEach((value, i) => setFrom(node, i, value, dims[i]));
  const outputAxes = numbersOf(node, "scan_output_axes") ?? [];
  body.outputs.slice(states).forEach((value, i) => {
    const rank = (value.dims?.length ?? 0) + 1;
    const axis = ((outputAxes[i] ?? 0) + rank) % rank;
    const size = length ?? dataDim(node, states + i, axis, context);
    setFrom(node, states + i, value, value.dims && [...value.dims.slice(0, axis), size, ...value.dims.slice(axis)]);
  });
};

const sequenceMap = (inferGraph: InferGraph): InferRule => (node, context) => {
  const body = subgraph(node, "body");
  body.inputs.forEach((input, i) => {
    const value = node.inputs[i];
    if (!value) return;
    if (value.dtype) input.dtype = value.dtype;
    input.dims = value.kind === "sequence" ? undefined : value.dims;
  });
  inferGraph(body, context);
  node.outputs.forEach((output, i) => {
    if (!output) return;
    output.kind = "sequence";
    setOutput(node, i, body.outputs[i]?.dtype, undefined);
  });
};

/** Rules that need to infer subgraphs. */
export function controlRules(inferGraph: InferGraph): Rules {
  return { If: conditional(inferGraph), Loop: loop(inferGraph), Scan: scan(inferGraph), SequenceMap: sequenceMap(inferGraph) };
}
