/**
 * Operators of ai.onnx.ml that onnxruntime's users meet beside ai.onnx: ArrayFeatureExtractor, LabelEncoder, TreeEnsemble.
 * Sources: ONNX ML operators ArrayFeatureExtractor-1, LabelEncoder-4, TreeEnsemble-5.
 */
import { assert, Tensor } from "../base/index.ts";
import { fromNumbers, intAttribute, numbersAttribute, tensorInput, toNumbers } from "./arguments.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { erf } from "./error-function.ts";

/** Columns of the last axis by their numbers. */
const arrayFeatureExtractor: ReferenceOperator = (inputs) => {
  const x = tensorInput(inputs, 0);
  const columns = [...toNumbers(tensorInput(inputs, 1))];
  const width = x.dims.at(-1) ?? 1;
  const rows = width === 0 ? 0 : x.size / width;
  const places = Array.from({ length: rows }, (_, row) => columns.map((column) => row * width + column)).flat();
  const dims = [...(x.dims.length > 1 ? x.dims.slice(0, -1) : [1]), columns.length];
  if (Array.isArray(x.data)) return [new Tensor("string", places.map((at) => String(x.data[at])), dims)];
  const numbers = toNumbers(x);
  return [fromNumbers(x.type, Float64Array.from(places, (at) => numbers[at]!), dims)];
};

type Label = string | number;

/** Labels under any of the attribute's spellings: keys_strings, keys_int64s, keys_floats, keys_tensor. */
function labelsOf(attributes: ReferenceAttributes, name: "keys" | "values"): { readonly labels: readonly Label[]; readonly type: Tensor["type"] } {
  const given = (["strings", "int64s", "floats"] as const).find((suffix) => attributes[`${name}_${suffix}`] !== undefined);
  if (given) return { labels: attributes[`${name}_${given}`] as readonly Label[], type: ({ strings: "string", int64s: "int64", floats: "float32" } as const)[given] };
  const tensor = attributes[`${name}_tensor`];
  assert(tensor instanceof Tensor, `attribute "${name}_tensor" is a tensor`);
  return { labels: labelsIn(tensor), type: tensor.type };
}

const labelsIn = (tensor: Tensor): Label[] => (Array.isArray(tensor.data) ? [...tensor.data] as string[] : [...toNumbers(tensor)]);

function defaultOf(attributes: ReferenceAttributes, type: Tensor["type"]): Label {
  const tensor = attributes["default_tensor"];
  if (tensor instanceof Tensor) return labelsIn(tensor)[0]!;
  if (type === "string") return (attributes["default_string"] as string | undefined) ?? "_Unused";
  return type === "float32" || type === "float64" ? Number(attributes["default_float"] ?? -0) : intAttribute(attributes, "default_int64", -1);
}

const labelEncoder: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const { labels: values, type } = labelsOf(attributes, "values");
  const byKey = new Map(labelsOf(attributes, "keys").labels.map((key, i) => [key, values[i]!]));
  const absent = defaultOf(attributes, type);
  const found = labelsIn(x).map((key) => byKey.get(key) ?? absent);
  return [type === "string" ? new Tensor("string", found.map(String), x.dims) : fromNumbers(type, Float64Array.from(found, Number), x.dims)];
};

// ---- trees ------------------------------------------------------------------------------------------------------

/** By nodes_modes: whether a feature takes the true branch at a split. 6 asks for membership in a set. */
const SPLITS: readonly ((x: number, split: number) => boolean)[] = [(x, s) => x <= s, (x, s) => x < s, (x, s) => x >= s, (x, s) => x > s, (x, s) => x === s, (x, s) => x !== s];
const MEMBER = 6;

interface Trees {
  readonly numbers: (name: string) => readonly number[];
  readonly tensor: (name: string) => Float64Array | undefined;
  /** By node: the set of a membership node. */
  readonly members: ReadonlyMap<number, ReadonlySet<number>>;
}

function treesOf(attributes: ReferenceAttributes): Trees {
  const numbers = (name: string): readonly number[] => numbersAttribute(attributes, name) ?? [];
  const tensor = (name: string): Float64Array | undefined => (attributes[name] instanceof Tensor ? toNumbers(attributes[name]) : undefined);
  const sets: number[][] = [[]];
  for (const value of tensor("membership_values") ?? []) {
    if (Number.isNaN(value)) sets.push([]);
    else sets.at(-1)!.push(value);
  }
  const nodes = [...(tensor("nodes_modes") ?? [])].flatMap((mode, node) => (mode === MEMBER ? [node] : []));
  return { numbers, tensor, members: new Map(nodes.map((node, i) => [node, new Set(sets[i] ?? [])])) };
}

/** The leaf that a row of features ends in. */
function leafOf(trees: Trees, root: number, row: Float64Array): number {
  const [modes, splits] = [trees.tensor("nodes_modes")!, trees.tensor("nodes_splits")!];
  const [features, tracks] = [trees.numbers("nodes_featureids"), trees.numbers("nodes_missing_value_tracks_true")];
  const ways = { true: [trees.numbers("nodes_trueleafs"), trees.numbers("nodes_truenodeids")], false: [trees.numbers("nodes_falseleafs"), trees.numbers("nodes_falsenodeids")] } as const;
  for (let node = root, steps = 0; steps <= modes.length; steps++) {
    const x = row[features[node]!]!;
    const holds = modes[node] === MEMBER ? trees.members.get(node)!.has(x) : SPLITS[modes[node]!]!(x, splits[node]!);
    const [isLeaf, next] = ways[holds || (Number.isNaN(x) && tracks[node] === 1) ? "true" : "false"];
    if (isLeaf[node]) return next[node]!;
    node = next[node]!;
  }
  assert(false, "a tree whose branches form a circle");
}

/** Values of x with erf(x) = y, by Newton's method. */
function inverseErf(y: number): number {
  let x = 0;
  for (let i = 0; i < 60; i++) x -= (erf(x) - y) / ((2 / Math.sqrt(Math.PI)) * Math.exp(-x * x));
  return x;
}

function softmax(row: readonly number[], keepsZeros: boolean): number[] {
  const largest = Math.max(...row);
  const powers = row.map((x) => (keepsZeros && x === 0 ? 0 : Math.exp(x - largest)));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => (sum === 0 ? 0 : x / sum));
}

/** By post_transform. */
const TRANSFORMS: readonly ((row: readonly number[]) => readonly number[])[] = [
  (row) => row, (row) => softmax(row, false), (row) => row.map((x) => 1 / (1 + Math.exp(-x))), (row) => softmax(row, true), (row) => row.map((x) => Math.SQRT2 * inverseErf(2 * x - 1)),
];

/** By aggregate_function: average, sum, least, largest of the trees' weights. */
const AGGREGATES: readonly ((weights: readonly number[], trees: number) => number)[] = [
  (weights, trees) => weights.reduce((a, b) => a + b, 0) / trees, (weights) => weights.reduce((a, b) => a + b, 0),
  (weights) => (weights.length === 0 ? 0 : Math.min(...weights)), (weights) => (weights.length === 0 ? 0 : Math.max(...weights)),
];

/** x [rows, features] → [rows, targets]. */
const treeEnsemble: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const [rows, width] = x.dims.length === 1 ? [1, x.dims[0]!] : (x.dims as readonly [number, number]);
  const trees = treesOf(attributes);
  const [roots, targets, weights] = [trees.numbers("tree_roots"), trees.numbers("leaf_targetids"), trees.tensor("leaf_weights")!];
  const count = intAttribute(attributes, "n_targets", 1);
  const [aggregate, transform] = [AGGREGATES[intAttribute(attributes, "aggregate_function", 1)]!, TRANSFORMS[intAttribute(attributes, "post_transform", 0)]!];
  const features = toNumbers(x);
  const results = Array.from({ length: rows }, (_, row) => {
    const leaves = roots.map((root) => leafOf(trees, root, features.subarray(row * width, (row + 1) * width)));
    return transform(Array.from({ length: count }, (__, target) => aggregate(leaves.flatMap((leaf) => (targets[leaf] === target ? [weights[leaf]!] : [])), roots.length)));
  });
  return [fromNumbers(x.type, Float64Array.from(results.flat()), [rows, count])];
};

export const machineLearningOperators: ReferenceTable = {
  "ai.onnx.ml.ArrayFeatureExtractor": arrayFeatureExtractor, "ai.onnx.ml.LabelEncoder": labelEncoder, "ai.onnx.ml.TreeEnsemble": treeEnsemble,
};
