/**
 * Sliding windows: convolutions and pools, channels-first or, with attribute `layout` "NHWC", channels-last.
 * Source: ONNX Conv-22, ConvTranspose-22, MaxPool-22, AveragePool-22.
 */
import type { DType } from "../../base/index.ts";
import { add, ceilDiv, type Dim, floorDiv, isNonNegative, isStatic, max, mul, type Node, product, sub } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { type Dims, dimsOf, dimsText, invalid, numberOf, numbersOf, require, type Rules, setOutput, stringOf, typeOf } from "./rule.ts";

const isLast = (node: Node): boolean => stringOf(node, "layout", "NCHW") === "NHWC";

interface Image { readonly batch: Dim; readonly channels: Dim; readonly spatial: Dims }

/** An image's dims by meaning, whatever their order. */
export function imageOf(node: Node, input = 0): Image | undefined {
  const dims = dimsOf(node, input);
  if (!dims) return undefined;
  require(node, dims.length >= 2, () => `input ${dimsText(dims)} is no image; expected [N, C, ...].`);
  const last = isLast(node) && stringOf(node, "inputLayout", "NHWC") === "NHWC";
  return last ? { batch: dims[0]!, channels: dims.at(-1)!, spatial: dims.slice(1, -1) } : { batch: dims[0]!, channels: dims[1]!, spatial: dims.slice(2) };
}

function imageDims(node: Node, batch: Dim, channels: Dim, spatial: Dims): Dims {
  return isLast(node) ? [batch, ...spatial, channels] : [batch, channels, ...spatial];
}

interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly auto: string;
}

function windowOf(node: Node, kernel: readonly number[]): Window {
  const rank = kernel.length;
  const list = (name: string, count: number, fill: number): readonly number[] => {
    const given = numbersOf(node, name);
    if (given) require(node, given.length === count, () => `attribute "${name}" has ${given.length} values; expected ${count} for a kernel of ${rank} dimensions.`);
    return given ?? new Array<number>(count).fill(fill);
  };
  return { kernel, strides: list("strides", rank, 1), dilations: list("dilations", rank, 1), pads: list("pads", 2 * rank, 0), auto: stringOf(node, "auto_pad", "NOTSET") };
}

function outputSize(window: Window, i: number, size: Dim, ceil: boolean): Dim {
  const stride = window.strides[i]!;
  const extent = (window.kernel[i]! - 1) * window.dilations[i]! + 1;
  if (window.auto.startsWith("SAME")) return ceilDiv(size, stride);
  const [begin, end] = window.auto === "VALID" ? [0, 0] : [window.pads[i]!, window.pads[i + window.kernel.length]!];
  const room = add(size, begin + end - extent);
  if (!ceil) return add(floorDiv(room, stride), 1);
  const count = add(ceilDiv(room, stride), 1);
  // The last window must start inside the input or its left padding.
  if (typeof count === "number" && typeof size === "number" && (count - 1) * stride >= size + begin) return count - 1;
  return count;
}

function windowed(node: Node, window: Window, spatial: Dims, ceil = false): Dims {
  require(node, spatial.length === window.kernel.length, () => `the kernel has ${window.kernel.length} dimensions, the input ${spatial.length} spatial ones.`);
  return spatial.map((size, i) => {
    const result = outputSize(window, i, size, ceil);
    require(node, typeof result !== "number" || result >= 0, () => `a window of ${window.kernel[i]} does not fit spatial dimension ${i} of size ${String(size)}.`);
    // Sizes are not below 0, whatever the symbols allow: without that, no comparison with them can be decided.
    return typeof result === "number" || isNonNegative(result) ? result : max(0, result);
  });
}

function convolution(dtype: (node: Node) => DType | undefined, weightsInput: number): InferRule {
  return (node) => {
    const image = imageOf(node);
    const weights = dimsOf(node, weightsInput);
    if (!image || !weights || !isStatic(weights.slice(2))) return setOutput(node, 0, dtype(node), undefined);
    const group = numberOf(node, "group", 1);
    require(node, weights.length === image.spatial.length + 2, () => `weights ${dimsText(weights)} do not fit an input with ${image.spatial.length} spatial dimensions.`);
    const wanted = mul(weights[1]!, group);
    if (typeof wanted === "number" && typeof image.channels === "number") require(node, wanted === image.channels, () => `weights ${dimsText(weights)} with group ${group} take ${wanted} channels; the input has ${String(image.channels)}.`);
    const window = windowOf(node, weights.slice(2) as number[]);
    setOutput(node, 0, dtype(node), imageDims(node, image.batch, weights[0]!, windowed(node, window, image.spatial)));
  };
}

const convTranspose: InferRule = (node) => {
  const image = imageOf(node);
  const weights = dimsOf(node, 1);
  if (!image || !weights || !isStatic(weights.slice(2))) return setOutput(node, 0, typeOf(node, 0), undefined);
  const window = windowOf(node, weights.slice(2) as number[]);
  const rank = window.kernel.length;
  const extra = numbersOf(node, "output_padding") ?? new Array<number>(rank).fill(0);
  const given = numbersOf(node, "output_shape");
  const spatial = image.spatial.map((size, i) => {
    if (given) return given[given.length - rank + i]!;
    const stride = window.strides[i]!;
    if (window.auto.startsWith("SAME")) return mul(size, stride);
    const pads = window.auto === "VALID" ? 0 : window.pads[i]! + window.pads[i + rank]!;
    return add(mul(sub(size, 1), stride), extra[i]! + (window.kernel[i]! - 1) * window.dilations[i]! + 1 - pads);
  });
  setOutput(node, 0, typeOf(node, 0), imageDims(node, image.batch, mul(weights[1]!, numberOf(node, "group", 1)), spatial));
};

const pool: InferRule = (node) => {
  const image = imageOf(node);
  const kernel = numbersOf(node, "kernel_shape") ?? invalid(node, 'attribute "kernel_shape" is missing.');
  const dims = image && imageDims(node, image.batch, image.channels, windowed(node, windowOf(node, kernel), image.spatial, numberOf(node, "ceil_mode", 0) !== 0));
  setOutput(node, 0, typeOf(node, 0), dims);
  setOutput(node, 1, "int64", dims);
};

const globalPool: InferRule = (node) => {
  const image = imageOf(node);
  setOutput(node, 0, typeOf(node, 0), image && imageDims(node, image.batch, image.channels, image.spatial.map(() => 1)));
};

const maxUnpool: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const kernel = numbersOf(node, "kernel_shape");
  if (!dims || !kernel) return setOutput(node, 0, typeOf(node, 0), undefined);
  const given = node.inputs[2] && (node.inputs[2].elements ?? dims.map((_, i) => context.dataSymbol(`${node.outputs[0]?.name}.${i}`)));
  const window = windowOf(node, kernel);
  const natural = dims.map((dim, i) => (i < 2 ? dim : add(mul(sub(dim, 1), window.strides[i - 2]!), kernel[i - 2]! - window.pads[i - 2]! - window.pads[i - 2 + kernel.length]!)));
  setOutput(node, 0, typeOf(node, 0), given ?? natural);
};

const roiPool: InferRule = (node) => {
  const [dims, rois] = [dimsOf(node, 0), dimsOf(node, 1)];
  const shape = numbersOf(node, "pooled_shape") ?? [numberOf(node, "output_height", 1), numberOf(node, "output_width", 1)];
  setOutput(node, 0, typeOf(node, 0), dims && rois && [rois[0]!, dims[1]!, ...shape]);
};

const gridSample: InferRule = (node) => {
  const [dims, grid] = [dimsOf(node, 0), dimsOf(node, 1)];
  setOutput(node, 0, typeOf(node, 0), dims && grid && [dims[0]!, dims[1]!, ...grid.slice(1, -1)]);
};

const affineGrid: InferRule = (node, context) => {
  const size = node.inputs[1]?.elements;
  const length = dimsOf(node, 1)?.[0];
  const rank = typeof length === "number" ? length : undefined;
  const dims = size ?? (rank === undefined ? undefined : Array.from({ length: rank }, (_, i) => context.dataSymbol(`${node.outputs[0]?.name}.${i}`)));
  setOutput(node, 0, typeOf(node, 0), dims && [dims[0]!, ...dims.slice(2), dims.length - 2]);
};

const col2Im: InferRule = (node, context) => {
  const [dims, length] = [dimsOf(node, 0), dimsOf(node, 1)?.[0]];
  const block = node.inputs[2]?.elements;
  const rank = typeof length === "number" ? length : undefined;
  if (!dims || rank === undefined) return setOutput(node, 0, typeOf(node, 0), undefined);
  const image = node.inputs[1]?.elements ?? Array.from({ length: rank }, (_, i) => context.dataSymbol(`${node.outputs[0]?.name}.${i + 2}`));
  const channels = block ? floorDiv(dims[1]!, product(block)) : context.dataSymbol(`${node.outputs[0]?.name}.1`);
  setOutput(node, 0, typeOf(node, 0), [dims[0]!, channels, ...image]);
};

export const WINDOW: Rules = {
  Conv: convolution((node) => typeOf(node, 0), 1),
  ConvInteger: convolution(() => "int32", 1),
  QLinearConv: convolution((node) => typeOf(node, 7), 3),
  DeformConv: convolution((node) => typeOf(node, 0), 1),
  "com.microsoft.FusedConv": convolution((node) => typeOf(node, 0), 1),
  ConvTranspose: convTranspose,
  MaxPool: pool, AveragePool: pool, LpPool: pool, "com.microsoft.QLinearAveragePool": pool,
  GlobalAveragePool: globalPool, GlobalMaxPool: globalPool, GlobalLpPool: globalPool, "com.microsoft.QLinearGlobalAveragePool": globalPool,
  MaxUnpool: maxUnpool, MaxRoiPool: roiPool, RoiAlign: roiPool, GridSample: gridSample, AffineGrid: affineGrid, Col2Im: col2Im,
};
