/** Reductions over axes: Reduce*, ArgMax, ArgMin, losses. */
import type { Node } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { axisIn, dataDims, type Dims, dimsOf, forAll, knownNumbers, numberOf, type Rules, setOutput, stringOf, typeOf } from "./rule.ts";

/** The axes a Reduce* works on; undefined when they are not known. */
export function reducedAxes(node: Node, rank: number): readonly number[] | undefined {
  const given = node.inputs[1];
  const known = given ? knownNumbers(given) : [];
  if (!known) return undefined;
  if (known.length > 0) return known.map((axis) => axisIn(node, axis, rank));
  return numberOf(node, "noop_with_empty_axes", 0) !== 0 ? [] : Array.from({ length: rank }, (_, i) => i);
}

const reduce: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const axes = dims && reducedAxes(node, dims.length);
  const keeps = numberOf(node, "keepdims", 1) !== 0;
  const unknown = dims && !axes && keeps ? dataDims(node, 0, dims.length, context) : undefined;
  setOutput(node, 0, typeOf(node, 0), axes ? without(dims, axes, keeps) : unknown);
};

function without(dims: Dims, axes: readonly number[], keeps: boolean): Dims {
  return dims.flatMap((dim, i) => (axes.includes(i) ? (keeps ? [1] : []) : [dim]));
}

const arg: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, "int64", dims && without(dims, [axisIn(node, numberOf(node, "axis", 0), dims.length)], numberOf(node, "keepdims", 1) !== 0));
};

const loss: InferRule = (node) => {
  const labels = dimsOf(node, 1);
  setOutput(node, 0, typeOf(node, 0), stringOf(node, "reduction", "mean") === "none" ? labels : []);
  setOutput(node, 1, typeOf(node, 0), dimsOf(node, 0));
};

export const REDUCTION: Rules = {
  ...forAll("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare", reduce),
  ...forAll("ArgMax ArgMin", arg),
  ...forAll("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", loss),
};
