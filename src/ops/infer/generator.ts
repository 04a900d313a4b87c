/** Operators that make tensors from numbers: fills, ranges, windows, random values, spectra, matrices. */
import { add, ceilDiv, type Dim, floorDiv, max, type Node, sub, type TensorConstant } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { numbersConstant } from "./constant.ts";
import { axisIn, dataDim, dataDims, dimsOf, forAll, knownNumbers, numberOf, numbersOf, type Rules, setOutput, typeAttribute, typeOf } from "./rule.ts";

const constantOfShape: InferRule = (node, context) => {
  const dtype = (node.attributes["value"] as TensorConstant | undefined)?.dtype ?? "float32";
  const length = dimsOf(node, 0)?.[0];
  const dims = node.inputs[0]?.elements ?? (typeof length === "number" ? dataDims(node, 0, length, context) : undefined);
  setOutput(node, 0, dtype, dims);
};

const range: InferRule = (node, context) => {
  const items = [0, 1, 2].map((input): Dim | undefined => node.inputs[input]?.elements?.[0]);
  const [start, limit, step] = items;
  setOutput(node, 0, typeOf(node, 0), [rangeLength(start, limit, step) ?? constantRange(node) ?? dataDim(node, 0, 0, context)]);
};

export function rangeLength(start: Dim | undefined, limit: Dim | undefined, step: Dim | undefined): Dim | undefined {
  if (start === undefined || limit === undefined || typeof step !== "number" || step === 0) return undefined;
  const span = step > 0 ? ceilDiv(sub(limit, start), step) : ceilDiv(sub(start, limit), -step);
  return typeof span === "number" ? Math.max(0, span) : start === 0 && step > 0 ? span : max(0, span);
}

function constantRange(node: Node): number | undefined {
  const [start, limit, step] = [0, 1, 2].map((input) => numbersConstant(node.inputs[input])?.[0]);
  return start === undefined || limit === undefined || !step ? undefined : Math.max(0, Math.ceil((limit - start) / step));
}

const like = (absent: "input" | "float32"): InferRule => (node) => setOutput(node, 0, typeAttribute(node, "dtype", absent === "input" ? typeOf(node, 0) : "float32"), dimsOf(node, 0));

const random: InferRule = (node) => setOutput(node, 0, typeAttribute(node, "dtype", "float32"), numbersOf(node, "shape"));

const multinomial: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, typeAttribute(node, "dtype", "int32"), dims && [dims[0]!, numberOf(node, "sample_size", 1)]);
};

const windowFunction: InferRule = (node, context) => {
  setOutput(node, 0, typeAttribute(node, "output_datatype", "float32"), [node.inputs[0]?.elements?.[0] ?? dataDim(node, 0, 0, context)]);
};

const melWeights: InferRule = (node, context) => {
  const [bins, size] = [node.inputs[0]?.elements?.[0], node.inputs[1]?.elements?.[0]];
  const rows = size === undefined ? dataDim(node, 0, 0, context) : add(floorDiv(size, 2), 1);
  setOutput(node, 0, typeAttribute(node, "output_datatype", "float32"), [rows, bins ?? dataDim(node, 0, 1, context)]);
};

/** [..., signal, 1 or 2] to [..., length (or its first half), 2]; one-sided inverses give real numbers. */
const dft: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const axisInput = node.inputs[2];
  const axis = axisInput ? knownNumbers(axisInput)?.[0] : -2;
  if (!dims || axis === undefined) return setOutput(node, 0, typeOf(node, 0), dims && dataDims(node, 0, dims.length, context));
  const at = axisIn(node, axis, dims.length);
  const oneSided = numberOf(node, "onesided", 0) !== 0;
  const isInverse = numberOf(node, "inverse", 0) !== 0;
  const given = node.inputs[1] ? node.inputs[1].elements?.[0] ?? dataDim(node, 0, at, context) : oneSided && isInverse ? add(dims[at]!, dims[at]!, -2) : dims[at]!;
  const length = oneSided && !isInverse ? add(floorDiv(given, 2), 1) : given;
  setOutput(node, 0, typeOf(node, 0), dims.map((dim, i) => (i === at ? length : i === dims.length - 1 ? (oneSided && isInverse ? 1 : 2) : dim)));
};

const stft: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const step = node.inputs[1]?.elements?.[0];
  const size = node.inputs[3]?.elements?.[0] ?? dimsOf(node, 2)?.[0];
  if (!dims) return setOutput(node, 0, typeOf(node, 0), undefined);
  const frames = typeof step === "number" && size !== undefined ? add(floorDiv(sub(dims[1]!, size), step), 1) : dataDim(node, 0, 1, context);
  const bins = size === undefined ? dataDim(node, 0, 2, context) : numberOf(node, "onesided", 1) !== 0 ? add(floorDiv(size, 2), 1) : size;
  setOutput(node, 0, typeOf(node, 0), [dims[0]!, frames, bins, 2]);
};

const determinant: InferRule = (node) => setOutput(node, 0, typeOf(node, 0), dimsOf(node, 0)?.slice(0, -2));

const imageDecoder: InferRule = (node, context) => {
  const channels = node.attributes["pixel_format"] === "Grayscale" ? 1 : 3;
  setOutput(node, 0, "uint8", [dataDim(node, 0, 0, context), dataDim(node, 0, 1, context), channels]);
};

export const GENERATOR: Rules = {
  ...forAll("EyeLike RandomNormalLike RandomUniformLike Bernoulli", like("input")),
  ...forAll("RandomNormal RandomUniform", random),
  ...forAll("HannWindow HammingWindow BlackmanWindow", windowFunction),
  ConstantOfShape: constantOfShape, Range: range, Multinomial: multinomial, MelWeightMatrix: melWeights, DFT: dft, STFT: stft, Det: determinant, ImageDecoder: imageDecoder,
};
