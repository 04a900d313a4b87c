/**
 * Matrix products. Floats accumulate in double precision; 64-bit integers are exact.
 * Quantized products subtract their zero points first and are exact in double precision.
 */
import { assert, elementCount, newArray, Tensor } from "../base/index.ts";
import { floatAttribute, intAttribute } from "./arguments.ts";
import { throughInt64 } from "./cast.ts";
import type { HostValue, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { type BigArray, bigsOf, isBig, newNumbers, type NumberArray, numbersOf, tensorAt, tensorOf } from "./elements.ts";
import { transposed } from "./moving.ts";
import { quantizeNumber } from "./rounding.ts";
import { broadcastShapes, broadcastStrides, broadcastTable, stridedTable } from "./strides.ts";

/** A product of stacks of matrices, by numpy's rules. */
interface Product {
  /** Of the result as numpy gives it: axes that stood in for a vector's are gone. */
  readonly dims: readonly number[];
  /** Where each pair's matrices start. */
  readonly startsA: Int32Array;
  readonly startsB: Int32Array;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

function productOf(a: readonly number[], b: readonly number[]): Product {
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  const [m, k] = [left[left.length - 2]!, left[left.length - 1]!];
  const n = right[right.length - 1]!;
  assert(right[right.length - 2] === k, `matrices [${a}] and [${b}] multiply`);
  const [batchA, batchB] = [left.slice(0, -2), right.slice(0, -2)];
  const batch = broadcastShapes([batchA, batchB]);
  const starts = (own: readonly number[], size: number): Int32Array => stridedTable(batch, broadcastStrides(own, batch)).map((at) => at * size);
  return {
    dims: [...batch, ...(a.length === 1 ? [] : [m]), ...(b.length === 1 ? [] : [n])],
    startsA: starts(batchA, m * k), startsB: starts(batchB, k * n), m, k, n,
  };
}

/** Rows of the product go to `store` as they are made. */
function multiply({ startsA, startsB, m, k, n }: Product, a: NumberArray, b: NumberArray, store: (row: Float64Array, at: number) => void): void {
  const row = new Float64Array(n);
  for (let batch = 0; batch < startsA.length; batch++) {
    const [fromA, fromB] = [startsA[batch]!, startsB[batch]!];
    for (let i = 0; i < m; i++) {
      row.fill(0);
      for (let p = 0; p < k; p++) {
        const x = a[fromA + i * k + p]!;
        const base = fromB + p * n;
        for (let j = 0; j < n; j++) row[j] = row[j]! + x * b[base + j]!;
      }
      store(row, (batch * m + i) * n);
    }
  }
}

function multiplyBig(product: Product, a: BigArray, b: BigArray, to: BigArray): void {
  const { startsA, startsB, m, k, n } = product;
  for (let batch = 0; batch < startsA.length; batch++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0n;
        for (let p = 0; p < k; p++) sum += a[startsA[batch]! + i * k + p]! * b[startsB[batch]! + p * n + j]!;
        to[(batch * m + i) * n + j] = sum;
      }
    }
  }
}

const matmul: ReferenceOperator = (inputs) => {
  const [a, b] = [tensorAt(inputs, 0), tensorAt(inputs, 1)];
  const product = productOf(a.dims, b.dims);
  const count = elementCount(product.dims);
  if (isBig(a.type)) {
    const to = newArray(a.type, count) as BigArray;
    multiplyBig(product, bigsOf(a), bigsOf(b), to);
    return [new Tensor(a.type, to, product.dims)];
  }
  const to = newNumbers(a.type, count);
  multiply(product, numbersOf(a), numbersOf(b), (row, at) => to.set(row, at));
  return [tensorOf(a.type, to, product.dims)];
};

const gemm: ReferenceOperator = (inputs, attributes) => {
  const flip = (x: Tensor, name: string): Tensor => (intAttribute(attributes, name, 0) !== 0 ? transposed(x, [1, 0]) : x);
  const a = flip(tensorAt(inputs, 0), "transA");
  const b = flip(tensorAt(inputs, 1), "transB");
  const alpha = floatAttribute(attributes, "alpha", 1);
  const beta = floatAttribute(attributes, "beta", 1);
  const product = productOf(a.dims, b.dims);
  const c = inputs[2] instanceof Tensor ? inputs[2] : undefined;
  const added = c && numbersOf(c);
  const table = c && broadcastTable(c.dims, product.dims);
  const to = newNumbers(a.type, elementCount(product.dims));
  multiply(product, numbersOf(a), numbersOf(b), (row, at) => {
    for (let j = 0; j < row.length; j++) to[at + j] = alpha * row[j]! + (added ? beta * added[table ? table[at + j]! : at + j]! : 0);
  });
  return [tensorOf(a.type, to, product.dims)];
};

/** A scale or zero point for each element of a stack of matrices: one in all, or one per row (`along` -2) or column (-1). */
function perElement(value: HostValue, dims: readonly number[], along: -1 | -2): (i: number) => number {
  if (!(value instanceof Tensor)) return () => 0;
  const numbers = numbersOf(value);
  if (value.size === 1) return () => numbers[0]!;
  if (value.dims.length === 1) {
    const columns = dims[dims.length - 1]!;
    const size = numbers.length;
    return along === -1 ? (i) => numbers[i % columns]! : (i) => numbers[Math.floor(i / columns) % size]!;
  }
  const table = broadcastTable(value.dims, dims);
  return (i) => numbers[table ? table[i]! : i]!;
}

function centred(x: Tensor, zeroPoint: HostValue, along: -1 | -2): Float64Array {
  const numbers = new Float64Array(numbersOf(x));
  const zero = perElement(zeroPoint, x.dims, along);
  for (let i = 0; i < numbers.length; i++) numbers[i] = numbers[i]! - zero(i);
  return numbers;
}

const matmulInteger: ReferenceOperator = (inputs) => {
  const [a, b] = [tensorAt(inputs, 0), tensorAt(inputs, 1)];
  const product = productOf(a.dims, b.dims);
  const to = new Int32Array(elementCount(product.dims));
  multiply(product, centred(a, inputs[2], -2), centred(b, inputs[3], -1), (row, at) => to.set(row, at));
  return [new Tensor("int32", to, product.dims)];
};

/** a, its scale and zero point; b and its; the result's. */
const qLinearMatMul: ReferenceOperator = (inputs) => {
  const [a, b] = [tensorAt(inputs, 0), tensorAt(inputs, 3)];
  const product = productOf(a.dims, b.dims);
  const type = tensorAt(inputs, 7).type;
  const sums = new Float64Array(elementCount(product.dims));
  multiply(product, centred(a, inputs[2], -2), centred(b, inputs[5], -1), (row, at) => sums.set(row, at));
  const scaleA = perElement(inputs[1], product.dims, -2);
  const scaleB = perElement(inputs[4], product.dims, -1);
  const scale = perElement(inputs[6], product.dims, -2);
  const zero = perElement(inputs[7], product.dims, -2);
  const to = newNumbers(type, sums.length);
  for (let i = 0; i < sums.length; i++) to[i] = quantizeNumber(Math.fround((sums[i]! * scaleA(i) * scaleB(i)) / scale(i)), zero(i), type);
  return [tensorOf(type, to, product.dims)];
};

export const matmulOperators: ReferenceTable = { Gemm: gemm, MatMul: throughInt64(matmul), MatMulInteger: matmulInteger, QLinearMatMul: qLinearMatMul };
