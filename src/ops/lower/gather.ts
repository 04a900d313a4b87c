/**
 * Reads at indices that the data decides: Gather, GatherElements, GatherND; and tensors made from positions alone:
 * Range, EyeLike, OneHot, Trilu, ConstantOfShape, Shape, Size.
 * Indices are brought into range, so that no input can make a kernel read outside its buffers.
 */
import { castTo, constant, type Dim, dimValue, type Expr, i64, mul as dimMul, type Node, op, scalarTypeOf, select, sub as dimSub, type TensorConstant } from "../../ir/index.ts";
import { Tensor } from "../../base/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, inputDtype, loadScalar, normalizeAxis, numberAttribute, outputDims, outputType } from "./operand.ts";

/** Negative indices count from the end; what is outside is clamped. */
export function safeIndex(raw: Expr, dim: Dim): Expr {
  const index = castTo("i64", raw);
  const wrapped = select(op("lt", index, i64(0)), op("add", index, dimValue(dim)), index);
  return op("max", op("min", wrapped, dimValue(dimSub(dim, 1))), i64(0));
}

const notString = (node: Node): boolean => inputDtype(node) !== "string";

const gather: Lowering = {
  kind: "view",
  supports: notString,
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const axis = normalizeAxis(numberAttribute(node, "axis", 0), dims.length);
    const indexRank = inputDims(node, 1).length;
    const at = safeIndex(load(1, index.slice(axis, axis + indexRank)), dims[axis]!);
    return load(0, [...index.slice(0, axis), at, ...index.slice(axis + indexRank)]);
  },
};

const gatherElements: Lowering = {
  kind: "view",
  supports: notString,
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const axis = normalizeAxis(numberAttribute(node, "axis", 0), dims.length);
    const at = safeIndex(load(1, index), dims[axis]!);
    return load(0, index.map((e, i) => (i === axis ? at : e)));
  },
};

/** indices [...batch, ...outer, depth]: the last dimension names a position in the dimensions after the batch. */
const gatherNd: Lowering = {
  kind: "view",
  supports: (node) => notString(node) && typeof inputDims(node, 1).at(-1) === "number",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const indexDims = inputDims(node, 1);
    const batch = numberAttribute(node, "batch_dims", 0);
    const depth = indexDims.at(-1) as number;
    const outer = index.slice(0, indexDims.length - 1);
    const at = Array.from({ length: depth }, (_, k) => safeIndex(load(1, [...outer, i64(k)]), dims[batch + k]!));
    return load(0, [...index.slice(0, batch), ...at, ...index.slice(indexDims.length - 1)]);
  },
};

const range: Lowering = {
  kind: "pointwise",
  element(node, _output, index, load) {
    const start = loadScalar(node, 0, load);
    const step = op("mul", castTo(start.type, index[0]!), loadScalar(node, 2, load));
    return op("add", start, step);
  },
};

const eyeLike: Lowering = {
  kind: "pointwise",
  element(node, _output, [row, column]) {
    const type = outputType(node);
    const diagonal = op("add", row!, i64(numberAttribute(node, "k", 0)));
    return select(op("eq", column!, diagonal), constant(type, 1), constant(type, 0));
  },
};

const oneHot: Lowering = {
  kind: "pointwise",
  supports: (node) => inputDtype(node, 2) !== "string",
  element(node, _output, index, load) {
    const axis = normalizeAxis(numberAttribute(node, "axis", -1), index.length);
    const depth = dimValue(outputDims(node)[axis]!);
    const raw = castTo("i64", load(0, index.filter((_, i) => i !== axis)));
    const at = select(op("lt", raw, i64(0)), op("add", raw, depth), raw);
    return select(op("eq", at, index[axis]!), load(2, [i64(1)]), load(2, [i64(0)]));
  },
};

const trilu: Lowering = {
  kind: "pointwise",
  supports: notString,
  element(node, _output, index, load) {
    const row = index.at(-2)!;
    const column = index.at(-1)!;
    const known = node.inputs[1]?.elements?.[0];
    const offset = hasInput(node, 1) ? (known === undefined ? loadScalar(node, 1, load) : dimValue(known)) : i64(0);
    const diagonal = op("add", row, offset);
    const isKept = op(numberAttribute(node, "upper", 1) !== 0 ? "ge" : "le", column, diagonal);
    return select(isKept, load(0, index), constant(outputType(node), 0));
  },
};

const constantOfShape: Lowering = {
  kind: "pointwise",
  supports: (node) => (node.attributes["value"] as TensorConstant | undefined)?.dtype !== "string",
  element(node) {
    const value = node.attributes["value"] as TensorConstant | undefined;
    if (!value || value.dtype === "string") return constant("f32", 0);
    const tensor = Tensor.fromBytes(value.dtype, value.constant.bytes, [1]);
    return constant(scalarTypeOf(value.dtype), tensor.data[0] as number | bigint);
  },
};

const shape: Lowering = {
  kind: "pointwise",
  supports: (node) => inputDims(node, 0).length <= 16,
  element(node, _output, index) {
    const dims = inputDims(node, 0);
    const clamp = (at: number): number => Math.min(Math.max(normalizeAxis(at, dims.length), 0), dims.length);
    const kept = dims.slice(clamp(numberAttribute(node, "start", 0)), clamp(numberAttribute(node, "end", dims.length)));
    return kept.map(dimValue).reduceRight<Expr>((rest, dim, i) => select(op("eq", index[0]!, i64(i)), dim, rest), i64(0));
  },
};

const size: Lowering = { kind: "pointwise", element: (node) => dimValue(dimMul(...inputDims(node, 0))) };

export const GATHERS: readonly (readonly [OpKey, Lowering])[] = [
  ["Gather", gather],
  ["GatherElements", gatherElements],
  ["GatherND", gatherNd],
  ["Range", range],
  ["EyeLike", eyeLike],
  ["OneHot", oneHot],
  ["Trilu", trilu],
  ["ConstantOfShape", constantOfShape],
  ["Shape", shape],
  ["Size", size],
];
