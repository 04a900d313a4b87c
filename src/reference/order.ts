/**
 * Operators that compare elements with each other: TopK and Unique; and the determinant.
 * Source: ONNX TopK-24, Unique-11 (equal values keep the order in which they stand).
 */
import { elementCount, Tensor } from "../base/index.ts";
import { intAttribute } from "./arguments.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { bigsOf, int64Tensor, isBig, newNumbers, numbersOf, pick, scalarAt, tensorAt, tensorOf } from "./elements.ts";
import { linesAlong, normalizeAxis, stridedTable, stridesOf } from "./strides.ts";

type Comparable = number | bigint | string;

/** Elements to compare: exact for 64-bit integers. */
function comparable(x: Tensor): ArrayLike<Comparable> {
  if (x.type === "string") return x.data as string[];
  return isBig(x.type) ? bigsOf(x) : numbersOf(x);
}

/** Ascending; NaN after everything, all NaN equal. */
function compare(a: Comparable, b: Comparable): number {
  if (a < b) return -1;
  if (a > b) return 1;
  const [noneA, noneB] = [Number.isNaN(a), Number.isNaN(b)];
  return noneA === noneB ? 0 : noneA ? 1 : -1;
}

const topK: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(intAttribute(attributes, "axis", -1), x.dims.length);
  const k = Math.min(scalarAt(inputs, 1, 0), x.dims[axis]!);
  const sign = intAttribute(attributes, "largest", 1) !== 0 ? -1 : 1;
  const values = comparable(x);
  const { table, count, length } = linesAlong(x.dims, [axis]);
  const dims = x.dims.map((size, i) => (i === axis ? k : size));
  const to = linesAlong(dims, [axis]).table;
  const from = new Int32Array(elementCount(dims));
  const indices = new BigInt64Array(from.length);
  const order = new Int32Array(length);
  for (let line = 0; line < count; line++) {
    const base = line * length;
    for (let i = 0; i < length; i++) order[i] = i;
    order.sort((i, j) => sign * compare(values[table[base + i]!]!, values[table[base + j]!]!) || i - j);
    for (let i = 0; i < k; i++) {
      from[to[line * k + i]!] = table[base + order[i]!]!;
      indices[to[line * k + i]!] = BigInt(order[i]!);
    }
  }
  return [pick(x, from, dims), new Tensor("int64", indices, dims)];
};

/** Groups equal slices of an axis (or elements): Y, where each first stood, which one each is, how many of each. */
const unique: ReferenceOperator = (inputs, attributes, context) => {
  const given = tensorAt(inputs, 0);
  const flat = attributes["axis"] === undefined;
  const x = flat ? given.reshape([given.size]) : given;
  const axis = flat ? 0 : normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  const size = x.dims[axis]!;
  const values = comparable(x);
  const { table } = linesAlong(x.dims, x.dims.map((_, i) => i).filter((i) => i !== axis));
  const width = size === 0 ? 0 : table.length / size;
  const bySlice = (a: number, b: number): number => {
    for (let i = 0; i < width; i++) {
      const order = compare(values[table[a * width + i]!]!, values[table[b * width + i]!]!);
      if (order !== 0) return order;
    }
    return 0;
  };
  const groups = groupSlices(size, bySlice, intAttribute(attributes, "sorted", 1) !== 0);
  const dims = x.dims.map((length, i) => (i === axis ? groups.firsts.length : length));
  const strides = stridesOf(x.dims);
  const picked = stridedTable(dims, strides.map((stride, i) => (i === axis ? 0 : stride)));
  const inner = strides[axis]!;
  for (let i = 0; i < picked.length; i++) picked[i] = picked[i]! + groups.firsts[Math.floor(i / inner) % groups.firsts.length]! * inner;
  return [pick(x, picked, dims), int64Tensor(groups.firsts), int64Tensor(groups.members), int64Tensor(groups.counts)].slice(0, context.outputCount);
};

interface Groups {
  /** The first member of each group. */
  readonly firsts: readonly number[];
  /** The group of each member. */
  readonly members: readonly number[];
  readonly counts: readonly number[];
}

function groupSlices(size: number, compareSlices: (a: number, b: number) => number, sorted: boolean): Groups {
  const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => compareSlices(a, b) || a - b);
  const groups: number[][] = [];
  order.forEach((slice, i) => {
    if (i > 0 && compareSlices(order[i - 1]!, slice) === 0) groups[groups.length - 1]!.push(slice);
    else groups.push([slice]);
  });
  if (!sorted) groups.sort((a, b) => a[0]! - b[0]!);
  const members = new Array<number>(size).fill(0);
  groups.forEach((group, g) => group.forEach((slice) => { members[slice] = g; }));
  return { firsts: groups.map((group) => group[0]!), members, counts: groups.map((group) => group.length) };
}

/** Gaussian elimination with row exchanges, on a matrix that is used up. */
function determinant(matrix: Float64Array, n: number): number {
  let result = 1;
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++) if (Math.abs(matrix[row * n + column]!) > Math.abs(matrix[pivot * n + column]!)) pivot = row;
    const value = matrix[pivot * n + column]!;
    if (value === 0) return 0;
    result *= pivot === column ? value : -value;
    for (let i = 0; pivot !== column && i < n; i++) [matrix[pivot * n + i], matrix[column * n + i]] = [matrix[column * n + i]!, matrix[pivot * n + i]!];
    for (let row = column + 1; row < n; row++) {
      const factor = matrix[row * n + column]! / value;
      for (let i = column; i < n; i++) matrix[row * n + i] = matrix[row * n + i]! - factor * matrix[column * n + i]!;
    }
  }
  return result;
}

const det: ReferenceOperator = (inputs) => {
  const x = tensorAt(inputs, 0);
  const n = x.dims[x.dims.length - 1]!;
  const dims = x.dims.slice(0, -2);
  const numbers = new Float64Array(numbersOf(x));
  const to = newNumbers(x.type, elementCount(dims));
  for (let i = 0; i < to.length; i++) to[i] = determinant(numbers.slice(i * n * n, (i + 1) * n * n), n);
  return [tensorOf(x.type, to, dims)];
};

export const orderOperators: ReferenceTable = { Det: det, TopK: topK, Unique: unique };
