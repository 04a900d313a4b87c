/**
 * Matrix products of com.microsoft: fused, with block-quantized weights, and with integers.
 * Source: onnxruntime, ContribOperators.md.
 */
import { assert, elementCount, type Tensor } from "../base/index.ts";
import { activation } from "./activations.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, fromNumbers, intAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";
import { quantizeNumber, roundHalfEven } from "./rounding.ts";
import { broadcastShapes, broadcastTable } from "./strides.ts";

interface Matrix {
  readonly numbers: Float64Array;
  readonly dims: readonly number[];
}

/** Batched product with broadcast batch dims; operands of rank 2 or more. */
function multiply(a: Matrix, b: Matrix): Matrix {
  const [rows, depth] = a.dims.slice(-2) as [number, number];
  const columns = b.dims[b.dims.length - 1]!;
  assert(b.dims[b.dims.length - 2] === depth, `matrices [${a.dims}] and [${b.dims}] fit`);
  const batchDims = broadcastShapes([a.dims.slice(0, -2), b.dims.slice(0, -2)]);
  const atA = broadcastTable(a.dims.slice(0, -2), batchDims);
  const atB = broadcastTable(b.dims.slice(0, -2), batchDims);
  const batch = elementCount(batchDims);
  const result = new Float64Array(batch * rows * columns);
  for (let n = 0; n < batch; n++) {
    for (let i = 0; i < rows; i++) {
      const out = result.subarray((n * rows + i) * columns, (n * rows + i + 1) * columns);
      for (let k = 0; k < depth; k++) {
        const value = a.numbers[((atA ? atA[n]! : n) * rows + i) * depth + k]!;
        const from = ((atB ? atB[n]! : n) * depth + k) * columns;
        for (let j = 0; j < columns; j++) out[j]! += value * b.numbers[from + j]!;
      }
    }
  }
  return { numbers: result, dims: [...batchDims, rows, columns] };
}

/** Axes reordered: result axis i is source axis order[i]. */
function reordered(matrix: Matrix, order: readonly number[]): Matrix {
  const dims = order.map((axis) => matrix.dims[axis]!);
  const strides = matrix.dims.map((_, axis) => elementCount(matrix.dims.slice(axis + 1)));
  const numbers = new Float64Array(matrix.numbers.length);
  const index = new Array<number>(dims.length).fill(0);
  for (let flat = 0; flat < numbers.length; flat++) {
    numbers[flat] = matrix.numbers[order.reduce((sum, axis, i) => sum + index[i]! * strides[axis]!, 0)]!;
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis]! === dims[axis]!; axis--) index[axis] = 0;
  }
  return { numbers, dims };
}

const matrixOf = (tensor: Tensor): Matrix => ({ numbers: toNumbers(tensor), dims: tensor.dims });

/** transBatch: the first axis is the row axis; trans: the last two are swapped. */
function oriented(matrix: Matrix, transpose: boolean, batchTransposed: boolean): Matrix {
  const rank = matrix.dims.length;
  let result = matrix;
  if (batchTransposed && rank > 2) result = reordered(result, [...Array.from({ length: rank - 2 }, (_, i) => i + 1), 0, rank - 1]);
  if (transpose && rank > 1) result = reordered(result, [...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2]);
  return result;
}

/** Vectors take part as matrices of one row or column, which the result then loses. */
function multiplyAny(a: Matrix, b: Matrix): Matrix {
  const left = a.dims.length === 1 ? { numbers: a.numbers, dims: [1, ...a.dims] } : a;
  const right = b.dims.length === 1 ? { numbers: b.numbers, dims: [...b.dims, 1] } : b;
  const product = multiply(left, right);
  let dims = [...product.dims];
  if (b.dims.length === 1) dims = dims.slice(0, -1);
  if (a.dims.length === 1) dims.splice(dims.length - (b.dims.length === 1 ? 1 : 2), 1);
  return { numbers: product.numbers, dims };
}

const flag = (attributes: ReferenceAttributes, name: string): boolean => intAttribute(attributes, name, 0) !== 0;

const fusedMatMul: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const a = oriented(matrixOf(source), flag(attributes, "transA"), flag(attributes, "transBatchA"));
  const b = oriented(matrixOf(tensorInput(inputs, 1)), flag(attributes, "transB"), flag(attributes, "transBatchB"));
  const alpha = floatAttribute(attributes, "alpha", 1);
  const product = multiplyAny(a, b);
  return [fromNumbers(source.type, product.numbers.map((value) => value * alpha), product.dims)];
};

/** Adds a tensor that broadcasts to the product. */
function added(product: Matrix, tensor: Tensor | undefined, factor: number): Matrix {
  if (!tensor) return product;
  const numbers = toNumbers(tensor);
  const at = broadcastTable(tensor.dims, product.dims);
  return { dims: product.dims, numbers: product.numbers.map((value, i) => value + factor * numbers[at ? at[i]! : i]!) };
}

const fusedGemm: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const a = oriented(matrixOf(source), flag(attributes, "transA"), false);
  const b = oriented(matrixOf(tensorInput(inputs, 1)), flag(attributes, "transB"), false);
  const alpha = floatAttribute(attributes, "alpha", 1);
  const product = multiply(a, b);
  const sum = added({ dims: product.dims, numbers: product.numbers.map((value) => value * alpha) }, optionalTensor(inputs, 2), floatAttribute(attributes, "beta", 1));
  const name = stringAttribute(attributes, "activation", "");
  const parameter = (key: string): number | undefined => (attributes[key] === undefined ? undefined : floatAttribute(attributes, key, 0));
  const f = name === "" ? (x: number) => x : activation(name, parameter("activation_alpha"), parameter("activation_beta"));
  return [fromNumbers(source.type, sum.numbers.map(f), sum.dims)];
};

/** Scale and zero point per tensor, or per column of a matrix: (value - zero) * scale. */
function dequantized(matrix: Matrix, scale: Tensor | undefined, zero: Tensor | undefined): Matrix {
  const columns = matrix.dims[matrix.dims.length - 1]!;
  const reader = (tensor: Tensor | undefined, absent: number): ((i: number) => number) => {
    if (!tensor) return () => absent;
    const numbers = toNumbers(tensor);
    if (numbers.length === 1) return () => numbers[0]!;
    if (tensor.dims.length > 1 && numbers.length !== columns) {
      const rows = matrix.dims[matrix.dims.length - 2]!;
      return (i) => numbers[(Math.floor(i / (rows * columns)) * columns + (i % columns)) % numbers.length]!;
    }
    return (i) => numbers[i % columns]!;
  };
  const scales = reader(scale, 1);
  const zeros = reader(zero, 0);
  return { dims: matrix.dims, numbers: matrix.numbers.map((value, i) => (value - zeros(i)) * scales(i)) };
}

const matMulIntegerToFloat: ReferenceOperator = (inputs) => {
  const scaleA = tensorInput(inputs, 2);
  const a = dequantized(matrixOf(tensorInput(inputs, 0)), scaleA, optionalTensor(inputs, 4));
  const b = dequantized(matrixOf(tensorInput(inputs, 1)), tensorInput(inputs, 3), optionalTensor(inputs, 5));
  const product = added(multiplyAny(a, b), optionalTensor(inputs, 6), 1);
  return [fromNumbers(scaleA.type, product.numbers, product.dims)];
};

/** A is quantized to uint8 over its own range, which includes zero, before the product. */
const dynamicQuantizeMatMul: ReferenceOperator = (inputs) => {
  const source = tensorInput(inputs, 0);
  const x = toNumbers(source);
  const low = x.reduce((a, b) => Math.min(a, b), 0);
  const high = x.reduce((a, b) => Math.max(a, b), 0);
  const scale = Math.fround(high === low ? 1 : (high - low) / 255);
  const zero = Math.min(Math.max(roundHalfEven(-low / scale), 0), 255);
  const a = { dims: source.dims, numbers: x.map((value) => (quantizeNumber(Math.fround(value / scale), zero, "uint8") - zero) * scale) };
  const b = dequantized(matrixOf(tensorInput(inputs, 1)), tensorInput(inputs, 2), optionalTensor(inputs, 3));
  const product = added(multiplyAny(a, b), optionalTensor(inputs, 4), 1);
  return [fromNumbers(source.type, product.numbers, product.dims)];
};

/** a, a_scale, a_zero, b, b_scale, b_zero, c (int32), y_scale, y_zero; without y_scale the result is float32. */
const qGemm: ReferenceOperator = (inputs, attributes) => {
  const aScale = toNumbers(tensorInput(inputs, 1))[0]!;
  const a = oriented(dequantized(matrixOf(tensorInput(inputs, 0)), undefined, optionalTensor(inputs, 2)), flag(attributes, "transA"), false);
  const b = oriented(matrixOf(tensorInput(inputs, 3)), flag(attributes, "transB"), false);
  const centred = dequantized(b, undefined, optionalTensor(inputs, 5));
  const sums = added(multiply(a, centred), optionalTensor(inputs, 6), 1);
  const bScales = toNumbers(tensorInput(inputs, 4));
  const alpha = floatAttribute(attributes, "alpha", 1);
  const columns = sums.dims[1]!;
  const real = sums.numbers.map((value, i) => value * alpha * aScale * bScales[bScales.length === 1 ? 0 : i % columns]!);
  const outScale = optionalTensor(inputs, 7);
  if (!outScale) return [fromNumbers("float32", real, sums.dims)];
  const outZero = optionalTensor(inputs, 8);
  const zero = outZero ? toNumbers(outZero)[0]! : 0;
  const type = outZero?.type ?? tensorInput(inputs, 0).type;
  const scale = toNumbers(outScale)[0]!;
  return [fromNumbers(type, real.map((value) => quantizeNumber(value / scale, zero, type)), sums.dims)];
};

/** Element i of rows of packed `bits`-wide numbers, lowest bits first. */
function packedNumber(bytes: Uint8Array, rowBytes: number, row: number, i: number, bits: number): number {
  const perByte = 8 / bits;
  return (bytes[row * rowBytes + Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & (2 ** bits - 1);
}

/** a [..., K], b [N, blocks, blob], scales [N * blocks], zero points (packed or of a's type), g_idx, bias [N]. */
const matMulNBits: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const [depth, columns, bits, block] = ["K", "N", "bits", "block_size"].map((name) => intAttribute(attributes, name, name === "bits" ? 4 : 32)) as [number, number, number, number];
  const blocks = Math.ceil(depth / block);
  const bytes = tensorInput(inputs, 1).bytes;
  const scales = toNumbers(tensorInput(inputs, 2));
  const zeroAt = zeroPoints(optionalTensor(inputs, 3), blocks, bits);
  const group = optionalTensor(inputs, 4);
  const groups = group && group.size > 0 ? toNumbers(group) : undefined;
  const weights = new Float64Array(depth * columns);
  for (let n = 0; n < columns; n++) {
    for (let k = 0; k < depth; k++) {
      const at = groups ? groups[k]! : Math.floor(k / block);
      weights[k * columns + n] = (packedNumber(bytes, (blocks * block * bits) / 8, n, k, bits) - zeroAt(n, at)) * scales[n * blocks + at]!;
    }
  }
  const product = added(multiplyAny(matrixOf(source), { numbers: weights, dims: [depth, columns] }), optionalTensor(inputs, 5), 1);
  return [fromNumbers(source.type, product.numbers, product.dims)];
};

function zeroPoints(tensor: Tensor | undefined, blocks: number, bits: number): (n: number, block: number) => number {
  if (!tensor) return () => 2 ** (bits - 1);
  if (tensor.type === "uint8") return (n, block) => packedNumber(tensor.bytes, Math.ceil((blocks * bits) / 8), n, block, bits);
  const numbers = toNumbers(tensor);
  return (n, block) => numbers[n * blocks + block]!;
}

export const contribMatMulOperators: ReferenceTable = {
  "com.microsoft.FusedMatMul": fusedMatMul,
  "com.microsoft.FusedGemm": fusedGemm,
  "com.microsoft.MatMulIntegerToFloat": matMulIntegerToFloat,
  "com.microsoft.DynamicQuantizeMatMul": dynamicQuantizeMatMul,
  "com.microsoft.QGemm": qGemm,
  "com.microsoft.MatMulNBits": matMulNBits,
};
