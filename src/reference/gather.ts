/**
 * Reading and writing by index: Gather and Scatter in their forms. Indices may count from the end.
 * An index out of bounds is the user's error, since it is data.
 */
import { elementCount, Tensor, UserError } from "../base/index.ts";
import { intAttribute, stringAttribute } from "./arguments.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import { type Items, itemsOf, newItems, newNumbers, numbersOf, pick, tensorAt, tensorOf, tensorOfItems } from "./elements.ts";
import { normalizeAxis, normalizeIndex, stridedTable, stridesOf } from "./strides.ts";

const gather: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const where = tensorAt(inputs, 1);
  const indices = numbersOf(where);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  const size = x.dims[axis]!;
  const outer = elementCount(x.dims.slice(0, axis));
  const inner = elementCount(x.dims.slice(axis + 1));
  const table = new Int32Array(outer * indices.length * inner);
  let at = 0;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < indices.length; i++) {
      const from = (o * size + normalizeIndex(indices[i]!, size)) * inner;
      for (let j = 0; j < inner; j++) table[at++] = from + j;
    }
  }
  return [pick(x, table, [...x.dims.slice(0, axis), ...where.dims, ...x.dims.slice(axis + 1)])];
};

/** The flat position in `dims` that each index leads to: its own place, with `axis` replaced. */
function elementTable(indices: Tensor, dims: readonly number[], axis: number): Int32Array {
  const strides = stridesOf(dims);
  const table = stridedTable(indices.dims, strides.map((stride, i) => (i === axis ? 0 : stride)));
  const numbers = numbersOf(indices);
  for (let i = 0; i < table.length; i++) table[i] = table[i]! + normalizeIndex(numbers[i]!, dims[axis]!) * strides[axis]!;
  return table;
}

const gatherElements: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const indices = tensorAt(inputs, 1);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  return [pick(x, elementTable(indices, x.dims, axis), indices.dims)];
};

/** The start of the slice that each row of indices names; rows in batches of `batchDims` leading axes. */
function sliceStarts(indices: Tensor, dims: readonly number[], batchDims: number): Int32Array {
  const depth = indices.dims[indices.dims.length - 1]!;
  if (batchDims + depth > dims.length) throw new UserError("input-invalid", `Indices [${indices.dims}] name ${depth} axes after ${batchDims} batch axes; the tensor has rank ${dims.length}.`);
  const rows = elementCount(indices.dims.slice(0, -1));
  const perBatch = rows / Math.max(1, elementCount(dims.slice(0, batchDims)));
  const strides = stridesOf(dims);
  const batchSize = elementCount(dims.slice(batchDims));
  const numbers = numbersOf(indices);
  return Int32Array.from({ length: rows }, (_, row) => {
    let start = Math.floor(row / perBatch) * batchSize;
    for (let d = 0; d < depth; d++) start += normalizeIndex(numbers[row * depth + d]!, dims[batchDims + d]!) * strides[batchDims + d]!;
    return start;
  });
}

/** Every position of slices of `count` elements. */
function spread(starts: Int32Array, count: number): Int32Array {
  const table = new Int32Array(starts.length * count);
  for (let i = 0; i < starts.length; i++) for (let j = 0; j < count; j++) table[i * count + j] = starts[i]! + j;
  return table;
}

const gatherNd: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const indices = tensorAt(inputs, 1);
  const batchDims = intAttribute(attributes, "batch_dims", 0);
  const rest = x.dims.slice(batchDims + indices.dims[indices.dims.length - 1]!);
  return [pick(x, spread(sliceStarts(indices, x.dims, batchDims), elementCount(rest)), [...indices.dims.slice(0, -1), ...rest])];
};

const REDUCTIONS: Readonly<Record<string, <T extends number | bigint>(a: T, b: T) => T>> = {
  add: (a, b) => ((a as number) + (b as number)) as typeof a,
  mul: (a, b) => ((a as number) * (b as number)) as typeof a,
  max: (a, b) => (a > b || Number.isNaN(a) ? a : b),
  min: (a, b) => (a < b || Number.isNaN(a) ? a : b),
};

/** A copy of the tensor with update i at (or combined into) position table[i]. */
function scattered(x: Tensor, table: Int32Array, updates: Tensor, reduction: string): Tensor {
  const combine = REDUCTIONS[reduction];
  const from = itemsOf(x);
  if (!combine) {
    const to = copyOf(x.type, from);
    const source = itemsOf(updates).items;
    const { items, width } = to;
    for (let i = 0; i < table.length; i++) for (let w = 0; w < width; w++) items[table[i]! * width + w] = source[i * width + w]!;
    return tensorOfItems(x.type, to, x.dims);
  }
  if (x.data instanceof BigInt64Array || x.data instanceof BigUint64Array) {
    const to = x.data.slice();
    for (let i = 0; i < table.length; i++) to[table[i]!] = combine(to[table[i]!]!, updates.data[i] as bigint);
    return new Tensor(x.type, to, x.dims);
  }
  const to = newNumbers(x.type, x.size);
  to.set(numbersOf(x));
  const source = numbersOf(updates);
  for (let i = 0; i < table.length; i++) to[table[i]!] = combine(to[table[i]!]!, source[i]!);
  return tensorOf(x.type, to, x.dims);
}

function copyOf(type: Tensor["type"], from: Items): Items {
  const to = newItems(type, from.items.length / from.width);
  for (let i = 0; i < from.items.length; i++) to.items[i] = from.items[i]!;
  return to;
}

const scatterElements: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  return [scattered(x, elementTable(tensorAt(inputs, 1), x.dims, axis), tensorAt(inputs, 2), stringAttribute(attributes, "reduction", "none"))];
};

const scatterNd: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const indices = tensorAt(inputs, 1);
  const rest = elementCount(x.dims.slice(indices.dims[indices.dims.length - 1]!));
  return [scattered(x, spread(sliceStarts(indices, x.dims, 0), rest), tensorAt(inputs, 2), stringAttribute(attributes, "reduction", "none"))];
};

/** Writes into a cache from a position of its own for each batch; in mode "circular" past the end wraps around. */
const tensorScatter: ReferenceOperator = (inputs, attributes) => {
  const past = tensorAt(inputs, 0);
  const update = tensorAt(inputs, 1);
  const starts = inputs[2] === undefined ? undefined : numbersOf(tensorAt(inputs, 2));
  const axis = normalizeAxis(intAttribute(attributes, "axis", -2), past.dims.length);
  const circular = stringAttribute(attributes, "mode", "linear") === "circular";
  const strides = stridesOf(past.dims);
  const own = stridesOf(update.dims);
  const table = stridedTable(update.dims, strides.map((stride, i) => (i === axis ? 0 : stride)));
  const [size, length] = [past.dims[axis]!, update.dims[axis]!];
  const perBatch = update.size / update.dims[0]!;
  for (let i = 0; i < table.length; i++) {
    const at = (starts ? starts[Math.floor(i / perBatch)]! : 0) + (Math.floor(i / own[axis]!) % length);
    table[i] = table[i]! + (circular ? ((at % size) + size) % size : normalizeIndex(at, size)) * strides[axis]!;
  }
  return [scattered(past, table, update, "none")];
};

export const gatherOperators: ReferenceTable = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  ScatterElements: scatterElements,
  ScatterND: scatterNd,
  TensorScatter: tensorScatter,
};
