/**
 * Reductions, running sums and softmax: a tensor seen as lines along the reduced axes.
 * Floats accumulate in double precision, 64-bit integers exactly. A reduction of nothing gives its neutral element.
 */
import { type DType, newArray, Tensor } from "../base/index.ts";
import { intAttribute, intsAttribute } from "./arguments.ts";
import { throughInt64 } from "./cast.ts";
import type { HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { type BigArray, bigsOf, isBig, newNumbers, numbersOf, tensorAt, tensorOf } from "./elements.ts";
import { type Lines, linesAlong, normalizeAxis } from "./strides.ts";
import { integersAt } from "./moving.ts";

interface Reduction {
  readonly start: (type: DType) => number;
  readonly step: (sum: number, x: number) => number;
  readonly end?: (sum: number, count: number) => number;
  readonly big?: { readonly start: (type: DType) => bigint; readonly step: (sum: bigint, x: bigint) => bigint; readonly end?: (sum: bigint, count: bigint) => bigint };
}

const INTEGER_BITS: Readonly<Partial<Record<DType, number>>> = { int8: 8, uint8: 8, int16: 16, uint16: 16, int32: 32, uint32: 32, int64: 64, uint64: 64, bool: 1 };

/** The least number a type has; minus infinity for floats. */
function lowest(type: DType): bigint | number {
  const bits = INTEGER_BITS[type];
  if (bits === undefined) return Number.NEGATIVE_INFINITY;
  return type.startsWith("int") ? -(2n ** BigInt(bits - 1)) : 0n;
}

function highest(type: DType): bigint | number {
  const bits = INTEGER_BITS[type];
  if (bits === undefined) return Number.POSITIVE_INFINITY;
  return 2n ** BigInt(type.startsWith("int") ? bits - 1 : bits) - 1n;
}

const zero = (): number => 0;
const add = (sum: number, x: number): number => sum + x;
const addBig = { start: () => 0n, step: (sum: bigint, x: bigint) => sum + x };

const REDUCTIONS = {
  ReduceSum: { start: zero, step: add, big: addBig },
  ReduceMean: { start: zero, step: add, end: (sum, count) => sum / count, big: { ...addBig, end: (sum, count) => (count === 0n ? 0n : sum / count) } },
  ReduceProd: { start: () => 1, step: (sum, x) => sum * x, big: { start: () => 1n, step: (sum, x) => sum * x } },
  ReduceMax: { start: (type) => Number(lowest(type)), step: Math.max, big: { start: (type) => BigInt(lowest(type)), step: (a, b) => (a > b ? a : b) } },
  ReduceMin: { start: (type) => Number(highest(type)), step: Math.min, big: { start: (type) => BigInt(highest(type)), step: (a, b) => (a < b ? a : b) } },
  ReduceL1: { start: zero, step: (sum, x) => sum + Math.abs(x), big: { start: () => 0n, step: (sum, x) => sum + (x < 0n ? -x : x) } },
  ReduceL2: { start: zero, step: (sum, x) => sum + x * x, end: Math.sqrt },
  ReduceSumSquare: { start: zero, step: (sum, x) => sum + x * x, big: { start: () => 0n, step: (sum, x) => sum + x * x } },
  ReduceLogSum: { start: zero, step: add, end: Math.log },
} satisfies Record<string, Reduction>;

/** The axes to reduce; undefined when the operator is to do nothing. */
function axesOf(inputs: readonly HostValue[], attributes: ReferenceAttributes, rank: number): number[] | undefined {
  const given = integersAt(inputs, 1) ?? intsAttribute(attributes, "axes") ?? [];
  if (given.length > 0) return [...new Set(given.map((axis) => normalizeAxis(axis, rank)))].sort((a, b) => a - b);
  return intAttribute(attributes, "noop_with_empty_axes", 0) !== 0 ? undefined : Array.from({ length: rank }, (_, axis) => axis);
}

function reducedDims(dims: readonly number[], axes: readonly number[], attributes: ReferenceAttributes): number[] {
  const keep = intAttribute(attributes, "keepdims", 1) !== 0;
  return keep ? dims.map((size, axis) => (axes.includes(axis) ? 1 : size)) : dims.filter((_, axis) => !axes.includes(axis));
}

/** Without axes and with `noop_with_empty_axes`, each element is a line of its own. */
const reduction = (reduce: (x: Tensor, lines: Lines, dims: readonly number[]) => Tensor, noopIsIdentity: boolean): ReferenceOperator => (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axes = axesOf(inputs, attributes, x.dims.length);
  if (!axes && noopIsIdentity) return [x];
  return [reduce(x, linesAlong(x.dims, axes ?? []), axes ? reducedDims(x.dims, axes, attributes) : x.dims)];
};

const fold = ({ start, step, end, big }: Reduction) => (x: Tensor, { table, count, length }: Lines, dims: readonly number[]): Tensor => {
  if (big && isBig(x.type)) {
    const from = bigsOf(x);
    const to = newArray(x.type, count) as BigArray;
    for (let line = 0; line < count; line++) {
      let sum = big.start(x.type);
      for (let i = line * length; i < (line + 1) * length; i++) sum = big.step(sum, from[table[i]!]!);
      to[line] = big.end ? big.end(sum, BigInt(length)) : sum;
    }
    return new Tensor(x.type, to, dims);
  }
  const from = numbersOf(x);
  const to = newNumbers(x.type, count);
  for (let line = 0; line < count; line++) {
    let sum = start(x.type);
    for (let i = line * length; i < (line + 1) * length; i++) sum = step(sum, from[table[i]!]!);
    to[line] = end ? end(sum, length) : sum;
  }
  return tensorOf(x.type, to, dims);
};

/** Relative to the greatest, so that no exponential overflows. */
function logSumExp(x: Tensor, { table, count, length }: Lines, dims: readonly number[]): Tensor {
  const from = numbersOf(x);
  const to = newNumbers(x.type, count);
  for (let line = 0; line < count; line++) {
    let most = Number.NEGATIVE_INFINITY;
    for (let i = line * length; i < (line + 1) * length; i++) most = Math.max(most, from[table[i]!]!);
    const shift = Number.isFinite(most) ? most : 0;
    let sum = 0;
    for (let i = line * length; i < (line + 1) * length; i++) sum += Math.exp(from[table[i]!]! - shift);
    to[line] = shift + Math.log(sum);
  }
  return tensorOf(x.type, to, dims);
}

/** The place of the greatest (or least); of equal ones the first, or the last. NaN counts as greatest and least. */
const arg = (better: (a: number | bigint, b: number | bigint) => boolean): ReferenceOperator => (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  const last = intAttribute(attributes, "select_last_index", 0) !== 0;
  const from: ArrayLike<number | bigint> = isBig(x.type) ? bigsOf(x) : numbersOf(x);
  const { table, count, length } = linesAlong(x.dims, [axis]);
  const to = new BigInt64Array(count);
  for (let line = 0; line < count; line++) {
    let best = 0;
    for (let i = 1; i < length; i++) {
      const [value, held] = [from[table[line * length + i]!]!, from[table[line * length + best]!]!];
      if (Number.isNaN(held) && !last) break;
      if (better(value, held) || Number.isNaN(value) || (last && value === held)) best = i;
    }
    to[line] = BigInt(best);
  }
  return [new Tensor("int64", to, reducedDims(x.dims, [axis], attributes))];
};

/** CumSum and CumProd. */
const running = (neutral: number, step: (a: number, b: number) => number, big: (a: bigint, b: bigint) => bigint): ReferenceOperator => (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(integersAt(inputs, 1)?.[0] ?? 0, x.dims.length);
  const lines = linesAlong(x.dims, [axis]);
  const exclusive = intAttribute(attributes, "exclusive", 0) !== 0;
  const reverse = intAttribute(attributes, "reverse", 0) !== 0;
  if (isBig(x.type)) {
    const to = newArray(x.type, x.size) as BigArray;
    scanLines<bigint>(lines, bigsOf(x), to, BigInt(neutral), big, exclusive, reverse);
    return [new Tensor(x.type, to, x.dims)];
  }
  const to = newNumbers(x.type, x.size);
  scanLines<number>(lines, numbersOf(x), to, neutral, step, exclusive, reverse);
  return [tensorOf(x.type, to, x.dims)];
};

function scanLines<T>({ table, count, length }: Lines, from: ArrayLike<T>, to: { [index: number]: T }, neutral: T, step: (a: T, b: T) => T, exclusive: boolean, reverse: boolean): void {
  for (let line = 0; line < count; line++) {
    let sum = neutral;
    for (let i = 0; i < length; i++) {
      const at = table[line * length + (reverse ? length - 1 - i : i)]!;
      if (exclusive) to[at] = sum;
      sum = step(sum, from[at]!);
      if (!exclusive) to[at] = sum;
    }
  }
}

type LineMap = (line: Float64Array) => void;

/** Changes each line along the attribute `axis` in place. */
const alongAxis = (change: LineMap): ReferenceOperator => (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const dims = x.dims.length === 0 ? [1] : x.dims;
  const { table, count, length } = linesAlong(dims, [normalizeAxis(intAttribute(attributes, "axis", -1), dims.length)]);
  const from = numbersOf(x);
  const to = newNumbers(x.type, x.size);
  const line = new Float64Array(length);
  for (let n = 0; n < count; n++) {
    for (let i = 0; i < length; i++) line[i] = from[table[n * length + i]!]!;
    change(line);
    for (let i = 0; i < length; i++) to[table[n * length + i]!] = line[i]!;
  }
  return [tensorOf(x.type, to, x.dims)];
};

function greatestOf(line: Float64Array): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const x of line) if (x > most) most = x;
  return most;
}

function sumOfExponentials(line: Float64Array, shift: number): number {
  let sum = 0;
  for (const x of line) sum += Math.exp(x - shift);
  return sum;
}

const softmaxLine: LineMap = (line) => {
  const shift = greatestOf(line);
  const sum = sumOfExponentials(line, shift);
  for (let i = 0; i < line.length; i++) line[i] = Math.exp(line[i]! - shift) / sum;
};

const logSoftmaxLine: LineMap = (line) => {
  const shift = greatestOf(line);
  const log = Math.log(sumOfExponentials(line, shift));
  for (let i = 0; i < line.length; i++) line[i] = line[i]! - shift - log;
};

const hardmaxLine: LineMap = (line) => {
  const at = line.indexOf(greatestOf(line));
  line.fill(0);
  if (at >= 0) line[at] = 1;
};

/** Those that leave a line of one element as it is. */
const IDENTITY_ON_ONE = new Set(["ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin"]);

const folds = Object.fromEntries(Object.entries(REDUCTIONS).map(([name, row]) => [name, reduction(fold(row as Reduction), IDENTITY_ON_ONE.has(name))]));

export const reduceOperators: ReferenceTable = {
  ...folds,
  ReduceLogSumExp: reduction(logSumExp, false),
  ArgMax: arg((a, b) => a > b),
  ArgMin: arg((a, b) => a < b),
  CumSum: running(0, (a, b) => a + b, (a, b) => a + b),
  CumProd: throughInt64(running(1, (a, b) => a * b, (a, b) => a * b)),
  ReduceProd: throughInt64(folds["ReduceProd"]!),
  ReduceSumSquare: throughInt64(folds["ReduceSumSquare"]!),
  Softmax: alongAxis(softmaxLine),
  LogSoftmax: alongAxis(logSoftmaxLine),
  Hardmax: alongAxis(hardmaxLine),
};
