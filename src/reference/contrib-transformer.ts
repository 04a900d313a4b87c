/**
 * Transformer operators of com.microsoft other than attention: GELU's spellings and normalisation with a residual.
 * Source: onnxruntime, ContribOperators.md.
 */
import type { Tensor } from "../base/index.ts";
import type { HostValue, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { erf } from "./error-function.ts";
import { floatAttribute, fromNumbers, intAttribute, optionalTensor, tensorInput, toNumbers } from "./arguments.ts";
import { broadcastReader, momentsOf } from "./normalization.ts";

const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
const fastGelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** f(x + bias), the bias along the last axis and optional. */
const withBias = (f: (x: number) => number): ReferenceOperator => (inputs) => {
  const x = tensorInput(inputs, 0);
  const bias = broadcastReader(optionalTensor(inputs, 1), x.dims, 0);
  return [fromNumbers(x.type, toNumbers(x).map((value, i) => f(value + bias(i))), x.dims)];
};

const quickGelu: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const alpha = floatAttribute(attributes, "alpha", 1.702);
  return [fromNumbers(x.type, toNumbers(x).map((value) => value / (1 + Math.exp(-alpha * value))), x.dims)];
};

interface Normalized { readonly numbers: Float64Array; readonly means: Float64Array; readonly inverses: Float64Array }

/** Normalises rows of the last axis; without `centre`, by the root of the mean square alone. */
function normalizeRows(numbers: Float64Array, size: number, epsilon: number, gamma: Tensor | undefined, beta: Tensor | undefined, centre: boolean): Normalized {
  const scale = gamma ? toNumbers(gamma) : undefined;
  const shift = beta ? toNumbers(beta) : undefined;
  const rows = numbers.length / size;
  const result = new Float64Array(numbers.length);
  const means = new Float64Array(rows);
  const inverses = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const { mean, variance } = momentsOf(numbers, row * size, size);
    const from = centre ? mean : 0;
    const inverse = 1 / Math.sqrt((centre ? variance : variance + mean * mean) + epsilon);
    means[row] = mean;
    inverses[row] = inverse;
    for (let i = 0; i < size; i++) result[row * size + i] = (numbers[row * size + i]! - from) * inverse * (scale ? scale[i]! : 1) + (shift ? shift[i]! : 0);
  }
  return { numbers: result, means, inverses };
}

/** input, skip, gamma, [beta,] bias; outputs Y, mean, inverse deviation, and the sum that was normalised. */
const skipNormalization = (centre: boolean): ReferenceOperator => (inputs, attributes, context) => {
  const x = tensorInput(inputs, 0);
  const skip = broadcastReader(tensorInput(inputs, 1), x.dims, 0);
  const bias = broadcastReader(optionalTensor(inputs, centre ? 4 : 3), x.dims, 0);
  const size = x.dims[x.dims.length - 1]!;
  const sum = toNumbers(x).map((value, i) => value + skip(i) + bias(i));
  const y = normalizeRows(sum, size, floatAttribute(attributes, "epsilon", 1e-12), tensorInput(inputs, 2), centre ? optionalTensor(inputs, 3) : undefined, centre);
  const rowDims = [...x.dims.slice(0, -1), 1];
  const results: HostValue[] = [fromNumbers(x.type, y.numbers, x.dims), fromNumbers("float32", y.means, rowDims), fromNumbers("float32", y.inverses, rowDims), fromNumbers(x.type, sum, x.dims)];
  return results.slice(0, context.outputCount);
};

const simplifiedLayerNormalization: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  const y = normalizeRows(toNumbers(x), x.dims[x.dims.length - 1]!, floatAttribute(attributes, "epsilon", 1e-5), tensorInput(inputs, 1), undefined, false);
  return [fromNumbers(x.type, y.numbers, x.dims)];
};

/** ids, segments, word, position and segment tables, gamma, beta, mask, position ids. */
const embedLayerNormalization: ReferenceOperator = (inputs, attributes, context) => {
  const ids = tensorInput(inputs, 0);
  const [batch, length] = ids.dims as readonly [number, number];
  const word = tensorInput(inputs, 2);
  const size = word.dims[1]!;
  const numbersAt = (index: number): Float64Array | undefined => {
    const tensor = optionalTensor(inputs, index);
    return tensor && toNumbers(tensor);
  };
  const [tokens, segments, words, positions, segmentTable] = [0, 1, 2, 3, 4].map(numbersAt);
  const mask = numbersAt(7);
  const given = optionalTensor(inputs, 8);
  const places = given && toNumbers(given);
  const sum = new Float64Array(batch * length * size);
  for (let row = 0; row < batch * length; row++) {
    const position = places ? places[given.dims[0] === 1 ? row % length : row]! : row % length;
    for (let i = 0; i < size; i++) {
      const segment = segments && segmentTable ? segmentTable[segments[row]! * size + i]! : 0;
      sum[row * size + i] = words![tokens![row]! * size + i]! + positions![position * size + i]! + segment;
    }
  }
  const y = normalizeRows(sum, size, floatAttribute(attributes, "epsilon", 1e-12), optionalTensor(inputs, 5), optionalTensor(inputs, 6), true);
  const lengths = Float64Array.from({ length: batch }, (_, b) => (mask && intAttribute(attributes, "mask_index_type", 1) !== 0 ? mask.subarray(b * length, (b + 1) * length).reduce((a, v) => a + v, 0) : 0));
  const dims = [batch, length, size];
  const results: HostValue[] = [fromNumbers(word.type, y.numbers, dims), fromNumbers("int32", lengths, [batch]), fromNumbers(word.type, sum, dims)];
  return results.slice(0, context.outputCount);
};

export const contribTransformerOperators: ReferenceTable = {
  "com.microsoft.Gelu": withBias(gelu),
  "com.microsoft.BiasGelu": withBias(gelu),
  "com.microsoft.FastGelu": withBias(fastGelu),
  "com.microsoft.QuickGelu": quickGelu,
  "com.microsoft.SkipLayerNormalization": skipNormalization(true),
  "com.microsoft.SkipSimplifiedLayerNormalization": skipNormalization(false),
  "com.microsoft.SimplifiedLayerNormalization": simplifiedLayerNormalization,
  "com.microsoft.EmbedLayerNormalization": embedLayerNormalization,
};
