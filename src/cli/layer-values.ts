/**
 * Which values of the imported model a kernel's result may be. Passes keep the names of values they leave alone; what
 * they make anew is found through the kernel's origin nodes, possibly turned (channels last) or reshaped.
 */
import { Tensor } from "../base/index.ts";
import type { Graph, Node } from "../ir/index.ts";
import { MappedFile } from "../native/index.ts";
import { importModel } from "../onnx/index.ts";
import { type HostValue, interpret } from "../reference/index.ts";
import type { Feeds } from "../runtime/index.ts";

export interface Candidates {
  /** Values of the model, by name. */
  readonly names: readonly string[];
  /** The one candidate has the very name: there is no doubt that it is meant. */
  readonly exact: boolean;
}

export class ModelValues {
  private readonly graph: Graph;
  private readonly values = new Set<string>();
  private readonly nodes = new Map<string, Node>();

  constructor(graph: Graph) {
    this.graph = graph;
    for (const node of graph.nodes) {
      if (node.name !== "") this.nodes.set(node.name, node);
      for (const output of node.outputs) if (output) this.values.add(output.name);
    }
  }

  /** @param origins names of the model's nodes in the kernel */
  candidates(value: string, origins: readonly string[]): Candidates {
    if (this.values.has(value)) return { names: [value], exact: true };
    const nodes = new Set([...prefixes(value), ...origins].flatMap((name) => this.nodes.get(name) ?? []));
    const results = [...nodes].flatMap((node) => node.outputs).filter((output) => output !== undefined);
    return { names: [...new Set([...prefixes(value).filter((name) => this.values.has(name)), ...results.map((output) => output.name)])], exact: false };
  }

  /**
   * Runs the model on the reference operators.
   * @param double in double precision; the values are given in single precision all the same
   * @returns the values of these names
   */
  compute(feeds: Feeds, names: ReadonlySet<string>, double = false): Map<string, HostValue> {
    const kept = new Map<string, HostValue>();
    interpret(this.graph, feeds, {
      double,
      onNode: (node, results) => {
        for (const [i, output] of node.outputs.entries()) if (output && names.has(output.name)) kept.set(output.name, double ? narrow(results[i]) : results[i]);
      },
    });
    return kept;
  }
}

function narrow(value: HostValue): HostValue {
  return value instanceof Tensor && value.type === "float64" ? new Tensor("float32", Float32Array.from(value.data as Float64Array), value.dims) : value;
}

/** The model's outputs by the reference operators in double precision, given in single precision. */
export function referenceOutputs(model: string, feeds: Feeds): Record<string, HostValue> {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  try {
    const results = interpret(imported.graph, feeds, { double: true });
    return Object.fromEntries(imported.graph.outputs.map((output, i) => [output.name, narrow(results[i])]));
  } finally {
    imported.close();
  }
}

/** `a.b.c` → `a.b`, `a`: passes name what they make after the node it came from. */
function prefixes(name: string): string[] {
  const found: string[] = [];
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) found.push(name.slice(0, dot));
  return found;
}

/** The tensor in every way it may lie in a result of these dims: reshaped, or its axes permuted. */
export function* arrangements(tensor: Tensor, dims: readonly number[]): Generator<Tensor> {
  const { data } = tensor;
  if (Array.isArray(data) || data.length !== tensor.size || tensor.size !== dims.reduce((product, dim) => product * dim, 1)) return;
  yield tensor.reshape(dims);
  if (tensor.dims.length !== dims.length || dims.length > 5) return;
  for (const permutation of permutations(dims.length)) {
    const fits = permutation.every((axis, i) => tensor.dims[axis] === dims[i]);
    if (fits && !permutation.every((axis, i) => axis === i)) yield transpose(tensor, permutation, dims);
  }
}

function permutations(rank: number): number[][] {
  if (rank === 0) return [[]];
  return permutations(rank - 1).flatMap((rest) => Array.from({ length: rank }, (_, at) => [...rest.slice(0, at), rank - 1, ...rest.slice(at)]));
}

function transpose(tensor: Tensor, permutation: readonly number[], dims: readonly number[]): Tensor {
  const result = Tensor.zeros(tensor.type, dims);
  const from = tensor.data as Float32Array;
  const to = result.data as Float32Array;
  const strides = tensor.dims.map((_, axis) => tensor.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1));
  const steps = permutation.map((axis) => strides[axis]!);
  const index = new Array<number>(dims.length).fill(0);
  let source = 0;
  for (let i = 0; i < to.length; i++) {
    to[i] = from[source]!;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      source += steps[axis]!;
      if (++index[axis]! < dims[axis]!) break;
      source -= steps[axis]! * dims[axis]!;
      index[axis] = 0;
    }
  }
  return result;
}
