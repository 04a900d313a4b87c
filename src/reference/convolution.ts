/**
 * Conv and its transposed, integer and quantized forms, of any spatial rank.
 * Sources: ONNX Conv-22, ConvTranspose-22, ConvInteger-10, QLinearConv-10, CausalConvWithState-27;
 * com.microsoft FusedConv.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import { activate } from "./activations.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { fromNumbers, intAttribute, intsAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";
import { type Image, imageOf, tensorOfImage } from "./layout.ts";
import { quantizeNumber } from "./rounding.ts";
import { tapsOf, type Window, windowOf } from "./window.ts";

/** Sums of products over the window; bias starts the sum. Result [N, M, output...]. */
function convolve(x: Image, w: Image, group: number, window: Window, bias: ArrayLike<number> | undefined): Image {
  const [batch, channels] = [x.dims[0]!, x.dims[1]!];
  const outputs = w.dims[0]!;
  const perGroup = outputs / group;
  const groupChannels = w.dims[1]!;
  const inSize = elementCount(window.input);
  const outSize = elementCount(window.output);
  const taps = tapsOf(window);
  const result = new Float64Array(batch * outputs * outSize);
  for (let n = 0; n < batch; n++) {
    for (let m = 0; m < outputs; m++) {
      const out = result.subarray((n * outputs + m) * outSize, (n * outputs + m + 1) * outSize);
      if (bias) out.fill(bias[m]!);
      const first = Math.floor(m / perGroup) * groupChannels;
      for (let c = 0; c < groupChannels; c++) {
        const base = (n * channels + first + c) * inSize;
        const image = x.numbers.subarray(base, base + inSize);
        for (let k = 0; k < taps.length; k++) {
          const { input, output } = taps[k]!;
          const weight = w.numbers[(m * groupChannels + c) * taps.length + k]!;
          for (let i = 0; i < input.length; i++) out[output[i]!]! += weight * image[input[i]!]!;
        }
      }
    }
  }
  return { numbers: result, dims: [batch, outputs, ...window.output] };
}

function convWindow(attributes: ReferenceAttributes, x: Image, w: Tensor): Window {
  return windowOf(attributes, x.dims.slice(2), w.dims.slice(2));
}

const plainImage = (tensor: Tensor): Image => ({ numbers: toNumbers(tensor), dims: tensor.dims });

function convNumbers(inputs: Parameters<ReferenceOperator>[0], attributes: ReferenceAttributes): Image {
  const x = imageOf(tensorInput(inputs, 0), attributes);
  const w = tensorInput(inputs, 1);
  const bias = optionalTensor(inputs, 2);
  return convolve(x, plainImage(w), intAttribute(attributes, "group", 1), convWindow(attributes, x, w), bias && toNumbers(bias));
}

const conv: ReferenceOperator = (inputs, attributes) => {
  const result = convNumbers(inputs, attributes);
  return [tensorOfImage(tensorInput(inputs, 0).type, result.numbers, result.dims, attributes)];
};

/** Conv, then an optional residual, then an activation. */
const fusedConv: ReferenceOperator = (inputs, attributes) => {
  const result = convNumbers(inputs, attributes);
  const residual = optionalTensor(inputs, 3);
  if (residual) {
    const image = imageOf(residual, { ...attributes, inputLayout: undefined });
    for (let i = 0; i < result.numbers.length; i++) result.numbers[i]! += image.numbers[i]!;
  }
  activate(result.numbers, attributes);
  return [tensorOfImage(tensorInput(inputs, 0).type, result.numbers, result.dims, attributes)];
};

/** Subtracts a zero point that is a scalar or has one value per slice of the first axis. */
function centred(tensor: Tensor, zeroPoint: Tensor | undefined, attributes?: ReferenceAttributes): Image {
  const image = attributes ? imageOf(tensor, attributes) : plainImage(tensor);
  if (!zeroPoint) return image;
  const zeros = toNumbers(zeroPoint);
  const slice = zeros.length === 1 ? image.numbers.length : image.numbers.length / zeros.length;
  return { dims: image.dims, numbers: image.numbers.map((value, i) => value - zeros[Math.floor(i / slice)]!) };
}

const convInteger: ReferenceOperator = (inputs, attributes) => {
  const x = centred(tensorInput(inputs, 0), optionalTensor(inputs, 2), attributes);
  const w = tensorInput(inputs, 1);
  const result = convolve(x, centred(w, optionalTensor(inputs, 3)), intAttribute(attributes, "group", 1), convWindow(attributes, x, w), undefined);
  return [tensorOfImage("int32", result.numbers, result.dims, attributes)];
};

/** x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias. */
const qLinearConv: ReferenceOperator = (inputs, attributes) => {
  const x = centred(tensorInput(inputs, 0), tensorInput(inputs, 2), attributes);
  const w = tensorInput(inputs, 3);
  const bias = optionalTensor(inputs, 8);
  const sums = convolve(x, centred(w, tensorInput(inputs, 5)), intAttribute(attributes, "group", 1), convWindow(attributes, x, w), bias && toNumbers(bias));
  const xScale = toNumbers(tensorInput(inputs, 1))[0]!;
  const wScale = toNumbers(tensorInput(inputs, 4));
  const yScale = toNumbers(tensorInput(inputs, 6))[0]!;
  const yZero = tensorInput(inputs, 7);
  const zero = toNumbers(yZero)[0]!;
  const channels = sums.dims[1]!;
  const size = elementCount(sums.dims.slice(2));
  const numbers = sums.numbers.map((sum, i) => {
    const channel = Math.floor(i / size) % channels;
    const multiplier = Math.fround(Math.fround(xScale * (wScale.length === 1 ? wScale[0]! : wScale[channel]!)) / yScale);
    return quantizeNumber(sum * multiplier, zero, yZero.type);
  });
  return [tensorOfImage(yZero.type, numbers, sums.dims, attributes)];
};

/** The forward window that a transposed convolution runs backwards: its input is our output. */
function transposedWindow(attributes: ReferenceAttributes, image: readonly number[], kernel: readonly number[]): Window {
  const rank = image.length;
  const ones = new Array<number>(rank).fill(1);
  const zeros = new Array<number>(rank).fill(0);
  const strides = intsAttribute(attributes, "strides") ?? ones;
  const dilations = intsAttribute(attributes, "dilations") ?? ones;
  const extra = intsAttribute(attributes, "output_padding") ?? zeros;
  const autoPad = stringAttribute(attributes, "auto_pad", "NOTSET");
  const pads = autoPad === "VALID" ? [...zeros, ...zeros] : intsAttribute(attributes, "pads") ?? [...zeros, ...zeros];
  const same = autoPad === "SAME_UPPER" || autoPad === "SAME_LOWER";
  let wanted = intsAttribute(attributes, "output_shape")?.slice(-rank);
  if (!wanted && same) wanted = image.map((size, axis) => size * strides[axis]!);
  const full = image.map((size, axis) => strides[axis]! * (size - 1) + extra[axis]! + (kernel[axis]! - 1) * dilations[axis]! + 1);
  if (!wanted) {
    const input = full.map((size, axis) => size - pads[axis]! - pads[axis + rank]!);
    return { input, kernel, output: image, strides, dilations, padsBegin: pads.slice(0, rank), padsEnd: pads.slice(rank) };
  }
  const totals = full.map((size, axis) => Math.max(size - wanted[axis]!, 0));
  const padsBegin = totals.map((total) => (autoPad === "SAME_UPPER" ? Math.floor(total / 2) : total - Math.floor(total / 2)));
  return { input: wanted, kernel, output: image, strides, dilations, padsBegin, padsEnd: totals.map((total, axis) => total - padsBegin[axis]!) };
}

const convTranspose: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const w = tensorInput(inputs, 1);
  const weights = toNumbers(w);
  const bias = optionalTensor(inputs, 2);
  const group = intAttribute(attributes, "group", 1);
  const window = transposedWindow(attributes, x.dims.slice(2), w.dims.slice(2));
  const [batch, channels] = [x.dims[0]!, x.dims[1]!];
  const perGroup = w.dims[1]!;
  const outputs = perGroup * group;
  const inSize = elementCount(window.output);
  const outSize = elementCount(window.input);
  const taps = tapsOf(window);
  const result = new Float64Array(batch * outputs * outSize);
  const biases = bias && toNumbers(bias);
  for (let n = 0; n < batch; n++) {
    for (let m = 0; m < outputs; m++) {
      const out = result.subarray((n * outputs + m) * outSize, (n * outputs + m + 1) * outSize);
      if (biases) out.fill(biases[m]!);
      const g = Math.floor(m / perGroup);
      for (let c = (g * channels) / group; c < ((g + 1) * channels) / group; c++) {
        const image = x.numbers.subarray((n * channels + c) * inSize, (n * channels + c + 1) * inSize);
        for (let k = 0; k < taps.length; k++) {
          const { input, output } = taps[k]!;
          const weight = weights[(c * perGroup + (m % perGroup)) * taps.length + k]!;
          for (let i = 0; i < input.length; i++) out[input[i]!]! += weight * image[output[i]!]!;
        }
      }
    }
  }
  return [tensorOfImage(source.type, result, [batch, outputs, ...window.input], attributes)];
};

/** Depthwise, looks only back; the state is what precedes the input, and then its last k - 1 columns. */
const causalConvWithState: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const x = toNumbers(source);
  const w = tensorInput(inputs, 1);
  const weights = toNumbers(w);
  const bias = optionalTensor(inputs, 2);
  const past = optionalTensor(inputs, 3);
  const biases = bias && toNumbers(bias);
  const before = past && toNumbers(past);
  const [batch, channels, length] = source.dims as readonly [number, number, number];
  const k = w.dims[2]!;
  const state = k - 1;
  const output = new Float64Array(x.length);
  const present = new Float64Array(batch * channels * state);
  const row = new Float64Array(state + length);
  for (let line = 0; line < batch * channels; line++) {
    const c = line % channels;
    row.fill(0);
    if (before) row.set(before.subarray(line * state, (line + 1) * state));
    row.set(x.subarray(line * length, (line + 1) * length), state);
    for (let t = 0; t < length; t++) {
      let sum = biases ? biases[c]! : 0;
      for (let i = 0; i < k; i++) sum += row[t + i]! * weights[c * k + i]!;
      output[line * length + t] = sum;
    }
    present.set(row.subarray(length), line * state);
  }
  if (stringAttribute(attributes, "activation", "none") !== "none") for (let i = 0; i < output.length; i++) output[i]! /= 1 + Math.exp(-output[i]!);
  return [fromNumbers(source.type, output, source.dims), fromNumbers(past?.type ?? source.type, present, [batch, channels, state])];
};

export const convolutionOperators: ReferenceTable = {
  Conv: conv,
  ConvTranspose: convTranspose,
  ConvInteger: convInteger,
  QLinearConv: qLinearConv,
  CausalConvWithState: causalConvWithState,
  "com.microsoft.FusedConv": fusedConv,
};
