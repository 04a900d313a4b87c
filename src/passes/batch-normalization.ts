/**
 * BatchNormalization in inference is a factor and an offset per channel. Both go into the weights and bias of the
 * Conv, ConvTranspose or MatMul before it, and so do Mul and Add by a constant per channel; elsewhere
 * BatchNormalization becomes Mul and Add.
 */
import { elementCount } from "../base/index.ts";
import type { Node, Value } from "../ir/index.ts";
import { floatConstant, numberOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { asTensor } from "./fold.ts";

/** y = x * factor + offset, per channel. */
interface Affine {
  readonly factor: Float64Array;
  readonly offset: Float64Array;
}

function floats(value: Value | undefined): Float32Array | undefined {
  const tensor = value?.dtype === "float32" ? asTensor(value) : undefined;
  return tensor?.data instanceof Float32Array ? tensor.data : undefined;
}

function affineOf(node: Node): Affine | undefined {
  const [scale, bias, mean, variance] = node.inputs.slice(1).map(floats);
  if (!scale || !bias || !mean || !variance) return undefined;
  const epsilon = numberOf(node, "epsilon", 1e-5);
  const factor = Float64Array.from(scale, (item, i) => item / Math.sqrt(variance[i]! + epsilon));
  return { factor, offset: Float64Array.from(bias, (item, i) => item - mean[i]! * factor[i]!) };
}

export const foldBatchNormalization: Rule = (node, editor) => {
  if (node.op !== "BatchNormalization" || node.domain !== "" || numberOf(node, "training_mode", 0) !== 0 || !node.inputs[0]?.dims) return false;
  const affine = affineOf(node);
  if (!affine) return false;
  const input = node.inputs[0];
  const folded = foldInto(input, affine, editor, node);
  if (folded) return editor.replaceNode(node, folded);
  const dims = [affine.factor.length, ...new Array<number>(input.dims!.length - 2).fill(1)];
  const scaled = editor.emit("Mul", [input, floatConstant("float32", affine.factor, dims)]);
  return editor.replaceNode(node, editor.emit("Add", [scaled, floatConstant("float32", affine.offset, dims)]));
};

/** Mul or Add with one number per channel of a Conv before it. */
export const foldChannelConstants: Rule = (node, editor) => {
  const [x, c] = node.inputs;
  if (node.domain !== "" || (node.op !== "Mul" && node.op !== "Add") || !x?.producer || !c?.constant || !isConvolution(x.producer)) return false;
  const channels = channelsOf(x.producer);
  const items = channels === undefined ? undefined : perChannel(c, x.dims!.length, channels);
  if (!items) return false;
  const affine = node.op === "Mul" ? { factor: items, offset: new Float64Array(items.length) } : { factor: new Float64Array(items.length).fill(1), offset: items };
  const folded = foldInto(x, affine, editor, node);
  return folded !== undefined && editor.replaceNode(node, folded);
};

/** A constant that varies over the channel axis only, one number per channel. */
function perChannel(value: Value, rank: number, channels: number): Float64Array | undefined {
  const dims = value.dims as readonly number[];
  const data = floats(value);
  if (!data || dims.length > rank) return undefined;
  if (data.length === 1) return new Float64Array(channels).fill(data[0]!);
  const full = [...new Array<number>(rank - dims.length).fill(1), ...dims];
  return full.every((dim, i) => dim === (i === 1 ? channels : 1)) ? Float64Array.from(data) : undefined;
}

const isConvolution = (node: Node): boolean => node.domain === "" && (node.op === "Conv" || node.op === "ConvTranspose") && node.attributes["layout"] === undefined;

function channelsOf(node: Node): number | undefined {
  const dims = node.inputs[1]?.dims;
  const [first, second] = [dims?.[0], dims?.[1]];
  if (typeof first !== "number" || typeof second !== "number") return undefined;
  return node.op === "Conv" ? first : second * numberOf(node, "group", 1);
}

/** The producer of `value` again with the affine map in its weights; undefined when it cannot take it. */
function foldInto(value: Value, affine: Affine, editor: Editor, root: Node): Value | undefined {
  const node = value.producer;
  if (!node || !editor.isOnlyUse(value)) return undefined;
  if (isConvolution(node)) return foldIntoConvolution(node, affine, editor, root);
  const isProduct = node.domain === "" && node.op === "MatMul" && value.dims?.length === 2 && root.op === "BatchNormalization";
  return isProduct ? foldIntoProduct(node, affine, editor, root) : undefined;
}

function foldIntoConvolution(node: Node, { factor, offset }: Affine, editor: Editor, root: Node): Value | undefined {
  const weights = floats(node.inputs[1]);
  const bias = node.inputs[2] ? floats(node.inputs[2]) : new Float32Array(factor.length);
  const dims = node.inputs[1]!.dims as readonly number[];
  if (!weights || !bias || channelsOf(node) !== factor.length) return undefined;
  const inner = elementCount(dims.slice(2));
  const perGroup = node.op === "Conv" ? factor.length : factor.length / numberOf(node, "group", 1);
  const groupSize = dims[0]! / numberOf(node, "group", 1);
  const channelAt = (i: number): number => {
    if (node.op === "Conv") return Math.floor(i / (inner * dims[1]!));
    const [row, column] = [Math.floor(i / (inner * dims[1]!)), Math.floor(i / inner) % dims[1]!];
    return Math.floor(row / groupSize) * perGroup + column;
  };
  const scaled = scaleRows(weights, inner, channelAt, factor);
  const moved = Float32Array.from(bias, (item, i) => item * factor[i]! + offset[i]!);
  return editor.emit(node.op, [node.inputs[0], floatConstant("float32", scaled, dims), floatConstant("float32", moved, [factor.length])], node.attributes, { origins: [...node.origins, ...root.origins] });
}

function scaleRows(weights: Float32Array, inner: number, channelAt: (i: number) => number, factor: Float64Array): Float32Array {
  const scaled = new Float32Array(weights.length);
  for (let start = 0; start < weights.length; start += inner) {
    const by = factor[channelAt(start)]!;
    for (let i = start; i < start + inner; i++) scaled[i] = weights[i]! * by;
  }
  return scaled;
}

function foldIntoProduct(node: Node, { factor, offset }: Affine, editor: Editor, root: Node): Value | undefined {
  const weights = floats(node.inputs[1]);
  const dims = node.inputs[1]?.dims as readonly number[] | undefined;
  if (!weights || dims?.length !== 2 || dims[1] !== factor.length) return undefined;
  const scaled = Float32Array.from(weights, (item, i) => item * factor[i % factor.length]!);
  const options = { origins: [...node.origins, ...root.origins] };
  const product = editor.emit("MatMul", [node.inputs[0], floatConstant("float32", scaled, dims)], {}, options);
  return editor.emit("Add", [product, floatConstant("float32", offset, [factor.length])], {}, options);
}
