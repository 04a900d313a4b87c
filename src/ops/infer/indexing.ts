
import { type Dim, type Node, product } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { axisIn, dataDim, dimsOf, dimsText, forAll, numberOf, require, type Rules, sameAsInput, setOutput, typeOf } from "./rule.ts";

const gather: InferRule = (node) => {
  const [dims, indices] = [dimsOf(node, 0), dimsOf(node, 1)];
  if (!dims || !indices) return setOutput(node, 0, typeOf(node, 0), undefined);
  const axis = axisIn(node, numberOf(node, "axis", 0), dims.length);
  setOutput(node, 0, typeOf(node, 0), [...dims.slice(0, axis), ...indices, ...dims.slice(axis + 1)]);
};

const gatherElements: InferRule = (node) => {
  const [dims, indices] = [dimsOf(node, 0), dimsOf(node, 1)];
  if (dims && indices) require(node, dims.length === indices.length, () => `data ${dimsText(dims)} and indices ${dimsText(indices)} have different ranks.`);
  setOutput(node, 0, typeOf(node, 0), indices);
};

const gatherNd: InferRule = (node) => {
  const [dims, indices] = [dimsOf(node, 0), dimsOf(node, 1)];
  const depth = indices?.at(-1);
  if (!dims || !indices || typeof depth !== "number") return setOutput(node, 0, typeOf(node, 0), undefined);
  const batch = numberOf(node, "batch_dims", 0);
  require(node, depth >= 1 && batch + depth <= dims.length, () => `indices of depth ${depth} do not fit data ${dimsText(dims)} after ${batch} batch dimensions.`);
  setOutput(node, 0, typeOf(node, 0), [...indices.slice(0, -1), ...dims.slice(batch + depth)]);
};

const topK: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const k = node.inputs[1]?.elements?.[0];
  const axis = dims && axisIn(node, numberOf(node, "axis", -1), dims.length);
  if (dims && typeof k === "number" && typeof dims[axis!] === "number") require(node, k <= (dims[axis!] as number), () => `k is ${k}, but axis ${axis} has size ${String(dims[axis!])}.`);
  const result = dims?.map((dim, i) => (i === axis ? k ?? dataDim(node, 0, i, context) : dim));
  setOutput(node, 0, typeOf(node, 0), result);
  setOutput(node, 1, "int64", result);
};

const nonZero: InferRule = (node, context) => {
  const rank = dimsOf(node, 0)?.length;
  setOutput(node, 0, "int64", rank === undefined ? undefined : [Math.max(1, rank), dataDim(node, 0, 1, context)]);
};

const compress: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const axis = node.attributes["axis"];
  const count = dataDim(node, 0, typeof axis === "number" ? axis : 0, context);
  if (axis === undefined) return setOutput(node, 0, typeOf(node, 0), [count]);
  const at = dims && axisIn(node, Number(axis), dims.length);
  setOutput(node, 0, typeOf(node, 0), dims?.map((dim, i) => (i === at ? count : dim)));
};

const unique: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const axis = node.attributes["axis"];
  const count = dataDim(node, 0, 0, context);
  const at = axis === undefined || !dims ? undefined : axisIn(node, Number(axis), dims.length);
  setOutput(node, 0, typeOf(node, 0), axis === undefined ? [count] : dims?.map((dim, i) => (i === at ? count : dim)));
  setOutput(node, 1, "int64", [count]);
  const inverse: Dim | undefined = dims && (at === undefined ? product(dims) : dims[at]!);
  setOutput(node, 2, "int64", inverse === undefined ? undefined : [inverse]);
  setOutput(node, 3, "int64", [count]);
};

const oneHot: InferRule = (node, context) => {
  const indices = dimsOf(node, 0);
  const depth = node.inputs[1]?.elements?.[0];
  if (!indices) return setOutput(node, 0, typeOf(node, 2), undefined);
  const axis = axisIn(node, numberOf(node, "axis", -1), indices.length + 1);
  setOutput(node, 0, typeOf(node, 2), [...indices.slice(0, axis), depth ?? dataDim(node, 0, axis, context), ...indices.slice(axis)]);
};

const nonMaxSuppression: InferRule = (node, context) => {
  setOutput(node, 0, "int64", [dataDim(node, 0, 0, context), 3]);
};

const tfIdf: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  const indexes = node.attributes["ngram_indexes"] as readonly number[] | undefined;
  const width = indexes ? Math.max(-1, ...indexes) + 1 : undefined;
  setOutput(node, 0, "float32", dims && width !== undefined ? [...dims.slice(0, -1), width] : undefined);
};

const shape: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  if (!dims) return setOutput(node, 0, "int64", undefined);
  setOutput(node, 0, "int64", [shapeRange(node, dims.length).length]);
};

/** The axes that Shape answers for, `start` and `end` clamped to the rank. */
export function shapeRange(node: Node, rank: number): number[] {
  const clamp = (at: number): number => Math.max(0, Math.min(rank, at < 0 ? at + rank : at));
  const [start, end] = [clamp(numberOf(node, "start", 0)), clamp(numberOf(node, "end", rank))];
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}

const size: InferRule = (node) => setOutput(node, 0, "int64", []);

/** State [batch, ...] with `update` written at positions: the state's own shape. */
const keepsData = sameAsInput;

export const INDEXING: Rules = {
  ...forAll("ScatterElements ScatterND Scatter TensorScatter", keepsData),
  Gather: gather, GatherElements: gatherElements, GatherND: gatherNd, TopK: topK, NonZero: nonZero, Compress: compress, Unique: unique, OneHot: oneHot,
  NonMaxSuppression: nonMaxSuppression, TfIdfVectorizer: tfIdf, Shape: shape, Size: size,
};
