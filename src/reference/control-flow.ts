/** If, Loop, Scan and SequenceMap: operators that run subgraphs. Sources: ONNX If-25, Loop-25, Scan-25, SequenceMap-17. */
import { assert, Tensor } from "../base/index.ts";
import { Graph } from "../ir/index.ts";
import type { HostSequence, HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { intAttribute, intsAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";
import { sliceAt, stack } from "./stacking.ts";

function graphAttribute(attributes: ReferenceAttributes, name: string): Graph {
  const graph = attributes[name];
  assert(graph instanceof Graph, `attribute "${name}" is a graph`);
  return graph;
}

function isTrue(value: HostValue): boolean {
  assert(value instanceof Tensor, "a condition is a tensor");
  return toNumbers(value)[0] !== 0;
}

const ifOperator: ReferenceOperator = (inputs, attributes, context) =>
  context.runGraph(graphAttribute(attributes, isTrue(inputs[0]) ? "then_branch" : "else_branch"), []);

/** Slices that an iteration gave, as one tensor; without iterations, a tensor of no elements from the graph's types. */
function stacked(slices: readonly HostValue[], axis: number, declared: Graph["outputs"][number] | undefined): Tensor {
  const tensors = slices.filter((slice) => slice instanceof Tensor);
  if (tensors.length > 0) return stack(tensors, axis);
  const dims = (declared?.dims ?? []).map((dim) => (typeof dim === "number" ? dim : 0));
  return Tensor.zeros(declared?.dtype ?? "float32", [0, ...dims]);
}

/** Trip count, condition, then carried values; the body takes (iteration, condition, ...carried). */
const loop: ReferenceOperator = (inputs, attributes, context) => {
  const body = graphAttribute(attributes, "body");
  const trips = optionalTensor(inputs, 0);
  const most = trips ? toNumbers(trips)[0]! : Number.POSITIVE_INFINITY;
  let condition = inputs[1] === undefined || isTrue(inputs[1]);
  let carried = inputs.slice(2);
  const scans: HostValue[][] = body.outputs.slice(1 + carried.length).map(() => []);
  for (let i = 0; i < most && condition; i++) {
    const results = context.runGraph(body, [new Tensor("int64", [i], []), new Tensor("bool", Uint8Array.of(1), []), ...carried]);
    condition = isTrue(results[0]);
    carried = results.slice(1, 1 + carried.length);
    scans.forEach((list, s) => list.push(results[1 + carried.length + s]));
  }
  return [...carried, ...scans.map((list, s) => stacked(list, 0, body.outputs[1 + carried.length + s]))];
};

/** States, then sequences of which each iteration sees one slice. */
const scan: ReferenceOperator = (inputs, attributes, context) => {
  const body = graphAttribute(attributes, "body");
  const scanned = intAttribute(attributes, "num_scan_inputs", 0);
  const states = inputs.length - scanned;
  const outputs = body.outputs.length - states;
  const list = (name: string, count: number): readonly number[] => intsAttribute(attributes, name) ?? new Array<number>(count).fill(0);
  const inAxes = list("scan_input_axes", scanned);
  const inDirections = list("scan_input_directions", scanned);
  const outAxes = list("scan_output_axes", outputs);
  const outDirections = list("scan_output_directions", outputs);
  const sources = Array.from({ length: scanned }, (_, s) => tensorInput(inputs, states + s));
  const axisOf = (s: number): number => (inAxes[s]! < 0 ? inAxes[s]! + sources[s]!.dims.length : inAxes[s]!);
  const length = sources[0]!.dims[axisOf(0)]!;
  let carried = inputs.slice(0, states);
  const results: HostValue[][] = Array.from({ length: outputs }, () => []);
  for (let i = 0; i < length; i++) {
    const slices = sources.map((source, s) => sliceAt(source, axisOf(s), inDirections[s] ? length - 1 - i : i));
    const values = context.runGraph(body, [...carried, ...slices]);
    carried = values.slice(0, states);
    results.forEach((all, s) => (outDirections[s] ? all.unshift(values[states + s]) : all.push(values[states + s])));
  }
  return [...carried, ...results.map((all, s) => stacked(all, outAxes[s]!, body.outputs[states + s]))];
};

const isSequence = (value: HostValue): value is HostSequence => value !== undefined && !(value instanceof Tensor);

/** Runs the body on each element of the first sequence, with the elements of other sequences and whole tensors. */
const sequenceMap: ReferenceOperator = (inputs, attributes, context) => {
  const body = graphAttribute(attributes, "body");
  const first = inputs[0];
  assert(isSequence(first), "the first input of SequenceMap is a sequence");
  const results: HostValue[][] = body.outputs.map(() => []);
  first.sequence.forEach((_, i) => {
    const values = context.runGraph(body, inputs.map((input) => (isSequence(input) ? input.sequence[i] : input)));
    values.forEach((value, o) => results[o]!.push(value));
  });
  return results.map((sequence) => ({ sequence }));
};

export const controlFlowOperators: ReferenceTable = { If: ifOperator, Loop: loop, Scan: scan, SequenceMap: sequenceMap };
