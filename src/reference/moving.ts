/**
 * Operators that move elements and look at none: each makes a table of the flat position every output element comes
 * from. They take every type, strings and packed ones included.
 */
import { assert, elementCount, type Tensor, UserError } from "../base/index.ts";
import { intAttribute, intsAttribute, stringAttribute } from "./arguments.ts";
import type { HostValue, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { int64Tensor, integersOf, itemsOf, newItems, numbersOf, pick, placeItems, tensorAt, tensorOfItems } from "./elements.ts";
import { broadcastShapes, broadcastStrides, normalizeAxis, stridedTable, stridesOf } from "./strides.ts";

type Inputs = readonly HostValue[];

/** An optional input that lists integers. */
export function integersAt(inputs: Inputs, index: number): number[] | undefined {
  return inputs[index] === undefined ? undefined : integersOf(tensorAt(inputs, index));
}

const identity: ReferenceOperator = (inputs) => [inputs[0]];

const reshape: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const wanted = integersAt(inputs, 1) ?? intsAttribute(attributes, "shape") ?? [];
  const keepZero = intAttribute(attributes, "allowzero", 0) !== 0;
  const dims = wanted.map((size, axis) => (size === 0 && !keepZero ? x.dims[axis] ?? 0 : size));
  const open = dims.indexOf(-1);
  if (open >= 0) dims[open] = inferred(x.size, elementCount(dims.filter((_, axis) => axis !== open)));
  if (elementCount(dims) !== x.size) throw new UserError("input-invalid", `Reshape of [${x.dims}] (${x.size} elements) to [${wanted}] does not fit.`);
  return [x.reshape(dims)];
};

const inferred = (total: number, rest: number): number => (rest === 0 ? 0 : Math.floor(total / rest));

const flatten: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const given = intAttribute(attributes, "axis", 1);
  const axis = given < 0 ? given + x.dims.length : given;
  return [x.reshape([elementCount(x.dims.slice(0, axis)), elementCount(x.dims.slice(axis))])];
};

const squeeze: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const given = integersAt(inputs, 1) ?? intsAttribute(attributes, "axes");
  const axes = given?.map((axis) => normalizeAxis(axis, x.dims.length));
  for (const axis of axes ?? []) if (x.dims[axis] !== 1) throw new UserError("input-invalid", `Squeeze of axis ${axis} of [${x.dims}]: its size is ${x.dims[axis]}; expected 1.`);
  return [x.reshape(x.dims.filter((size, axis) => (axes ? !axes.includes(axis) : size !== 1)))];
};

const unsqueeze: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const given = integersAt(inputs, 1) ?? intsAttribute(attributes, "axes") ?? [];
  const rank = x.dims.length + given.length;
  const axes = given.map((axis) => normalizeAxis(axis, rank));
  const sizes = x.dims.values();
  return [x.reshape(Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : sizes.next().value ?? 1)))];
};

/** The tensor with its axes in another order. */
export function transposed(x: Tensor, order: readonly number[]): Tensor {
  const strides = stridesOf(x.dims);
  const dims = order.map((axis) => x.dims[axis]!);
  return pick(x, stridedTable(dims, order.map((axis) => strides[axis]!)), dims);
}

const transpose: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  return [transposed(x, intsAttribute(attributes, "perm") ?? x.dims.map((_, axis) => x.dims.length - 1 - axis))];
};

/** Tensors of one type one after the other along an axis. */
export function concatenate(tensors: readonly Tensor[], axis: number): Tensor {
  const first = tensors[0];
  assert(first, "at least one tensor to concatenate");
  const dims = [...first.dims];
  for (const tensor of tensors) {
    if (tensor.dims.length !== dims.length || tensor.dims.some((size, i) => i !== axis && size !== dims[i])) throw new UserError("input-invalid", `Concat along axis ${axis} of shapes ${tensors.map((other) => `[${other.dims}]`).join(", ")}: other axes differ.`);
  }
  dims[axis] = tensors.reduce((sum, tensor) => sum + tensor.dims[axis]!, 0);
  const to = newItems(first.type, elementCount(dims));
  const strides = stridesOf(dims);
  let at = 0;
  for (const tensor of tensors) {
    placeItems(to, itemsOf(tensor), stridedTable(tensor.dims, strides, at * strides[axis]!));
    at += tensor.dims[axis]!;
  }
  return tensorOfItems(first.type, to, dims);
}

const concat: ReferenceOperator = (inputs, attributes) => {
  const tensors = inputs.map((_, i) => tensorAt(inputs, i));
  return [concatenate(tensors, normalizeAxis(intAttribute(attributes, "axis", 0), tensors[0]!.dims.length))];
};

/** `count` elements of an axis from `start` on. */
export function sliceAxis(x: Tensor, axis: number, start: number, count: number): Tensor {
  const strides = stridesOf(x.dims);
  const dims = x.dims.map((size, i) => (i === axis ? count : size));
  return pick(x, stridedTable(dims, strides, start * strides[axis]!), dims);
}

const slice: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const starts = integersAt(inputs, 1) ?? intsAttribute(attributes, "starts") ?? [];
  const ends = integersAt(inputs, 2) ?? intsAttribute(attributes, "ends") ?? [];
  const axes = (integersAt(inputs, 3) ?? intsAttribute(attributes, "axes") ?? starts.map((_, i) => i)).map((axis) => normalizeAxis(axis, x.dims.length));
  const steps = integersAt(inputs, 4) ?? intsAttribute(attributes, "steps") ?? starts.map(() => 1);
  const dims = [...x.dims];
  const own = stridesOf(x.dims);
  const strides = [...own];
  let offset = 0;
  axes.forEach((axis, i) => {
    const [from, count] = sliceRange(starts[i]!, ends[i]!, steps[i]!, x.dims[axis]!);
    dims[axis] = count;
    strides[axis] = own[axis]! * steps[i]!;
    offset += from * own[axis]!;
  });
  return [pick(x, stridedTable(dims, strides, offset), dims)];
};

/** The first position and the number of positions, bounds clamped as numpy does. */
export function sliceRange(start: number, end: number, step: number, size: number): [number, number] {
  if (step === 0) throw new UserError("input-invalid", "Slice has a step of 0; expected another integer.");
  const low = step > 0 ? 0 : -1;
  const high = step > 0 ? size : size - 1;
  const bound = (value: number): number => Math.min(Math.max(value < 0 ? value + size : value, low), high);
  const from = bound(start);
  return [from, Math.max(0, Math.ceil((bound(end) - from) / step))];
}

const split: ReferenceOperator = (inputs, attributes, context) => {
  const x = tensorAt(inputs, 0);
  const axis = normalizeAxis(intAttribute(attributes, "axis", 0), x.dims.length);
  const parts = intAttribute(attributes, "num_outputs", context.outputCount);
  const sizes = integersAt(inputs, 1) ?? intsAttribute(attributes, "split") ?? evenSizes(x.dims[axis]!, parts);
  let at = 0;
  return sizes.map((count) => {
    at += count;
    if (at > x.dims[axis]!) throw new UserError("input-invalid", `Split of axis ${axis} of [${x.dims}] into [${sizes}]: the sizes exceed the axis.`);
    return sliceAxis(x, axis, at - count, count);
  });
};

/** Equal parts, the last one smaller where they do not divide. */
function evenSizes(size: number, parts: number): number[] {
  const each = Math.ceil(size / parts);
  return Array.from({ length: parts }, (_, i) => Math.max(0, Math.min(each, size - i * each)));
}

const expand: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const dims = broadcastShapes([x.dims, integersAt(inputs, 1) ?? intsAttribute(attributes, "shape") ?? []]);
  return [pick(x, stridedTable(dims, broadcastStrides(x.dims, dims)), dims)];
};

const tile: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const repeats = integersAt(inputs, 1) ?? intsAttribute(attributes, "repeats") ?? [];
  const strides = stridesOf(x.dims);
  const pairs = x.dims.flatMap((size, axis) => [repeats[axis] ?? 1, size]);
  return [pick(x, stridedTable(pairs, strides.flatMap((stride) => [0, stride])), x.dims.map((size, axis) => size * (repeats[axis] ?? 1)))];
};

const depthToSpace: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const [n, c, h, w] = x.dims as readonly [number, number, number, number];
  const b = intAttribute(attributes, "blocksize", 1);
  const depth = c / (b * b);
  const rowFirst = stringAttribute(attributes, "mode", "DCR") === "DCR";
  const split6 = x.reshape(rowFirst ? [n, b, b, depth, h, w] : [n, depth, b, b, h, w]);
  return [transposed(split6, rowFirst ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3]).reshape([n, depth, h * b, w * b])];
};

const spaceToDepth: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const [n, c, h, w] = x.dims as readonly [number, number, number, number];
  const b = intAttribute(attributes, "blocksize", 1);
  return [transposed(x.reshape([n, c, h / b, b, w / b, b]), [0, 3, 5, 1, 2, 4]).reshape([n, c * b * b, h / b, w / b])];
};

/** Where along an axis of `size` output position `i` (may be outside) reads; negative for the constant. */
function padPosition(i: number, size: number, mode: string): number {
  if (i >= 0 && i < size) return i;
  if (mode === "constant" || size === 0) return -1;
  if (mode === "edge") return i < 0 ? 0 : size - 1;
  if (mode === "wrap") return ((i % size) + size) % size;
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const at = ((i % period) + period) % period;
  return at < size ? at : period - at;
}

const pad: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const given = integersAt(inputs, 1) ?? intsAttribute(attributes, "pads") ?? [];
  const axes = (integersAt(inputs, 3) ?? x.dims.map((_, axis) => axis)).map((axis) => normalizeAxis(axis, x.dims.length));
  const before = x.dims.map(() => 0);
  const after = x.dims.map(() => 0);
  axes.forEach((axis, i) => {
    before[axis] = given[i]!;
    after[axis] = given[i + axes.length]!;
  });
  const mode = stringAttribute(attributes, "mode", "constant");
  const fill = mode === "constant" && inputs[2] !== undefined ? tensorAt(inputs, 2) : undefined;
  const dims = x.dims.map((size, axis) => Math.max(0, size + before[axis]! + after[axis]!));
  return [pick(x, positionTable(x.dims, dims, (axis, i) => padPosition(i - before[axis]!, x.dims[axis]!, mode)), dims, fill)];
};

/** Table of output positions from positions along each axis alone; negative ones stay negative. */
function positionTable(from: readonly number[], dims: readonly number[], position: (axis: number, i: number) => number): Int32Array {
  const strides = stridesOf(from);
  let table = Int32Array.of(0);
  dims.forEach((size, axis) => {
    const along = Int32Array.from({ length: size }, (_, i) => position(axis, i));
    const next = new Int32Array(table.length * size);
    for (let i = 0; i < table.length; i++) {
      for (let j = 0; j < size; j++) next[i * size + j] = table[i]! < 0 || along[j]! < 0 ? -1 : table[i]! + along[j]! * strides[axis]!;
    }
    table = next;
  });
  return table;
}

/** Crops or pads with zeros around the centre; an odd difference leaves one more at the end when padding. */
const centerCropPad: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const shape = integersAt(inputs, 1) ?? [];
  const axes = (intsAttribute(attributes, "axes") ?? x.dims.map((_, axis) => axis)).map((axis) => normalizeAxis(axis, x.dims.length));
  const dims = [...x.dims];
  axes.forEach((axis, i) => { dims[axis] = shape[i]!; });
  const shift = dims.map((size, axis) => (size > x.dims[axis]! ? -Math.floor((size - x.dims[axis]!) / 2) : Math.floor((x.dims[axis]! - size) / 2)));
  return [pick(x, positionTable(x.dims, dims, (axis, i) => padPosition(i + shift[axis]!, x.dims[axis]!, "constant")), dims)];
};

const reverseSequence: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const lengths = integersAt(inputs, 1) ?? [];
  const batchAxis = intAttribute(attributes, "batch_axis", 1);
  const timeAxis = intAttribute(attributes, "time_axis", 0);
  const strides = stridesOf(x.dims);
  const table = stridedTable(x.dims, strides);
  const [batches, times] = [x.dims[batchAxis]!, x.dims[timeAxis]!];
  for (let i = 0; i < table.length; i++) {
    const batch = Math.floor(i / strides[batchAxis]!) % batches;
    const time = Math.floor(i / strides[timeAxis]!) % times;
    const length = lengths[batch]!;
    if (time < length) table[i] = i + (length - 1 - 2 * time) * strides[timeAxis]!;
  }
  return [pick(x, table, x.dims)];
};

const trilu: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const k = integersAt(inputs, 1)?.[0] ?? 0;
  const upper = intAttribute(attributes, "upper", 1) !== 0;
  const columns = x.dims[x.dims.length - 1]!;
  const rows = x.dims[x.dims.length - 2]!;
  const table = new Int32Array(x.size);
  for (let i = 0; i < table.length; i++) {
    const row = Math.floor(i / columns) % rows;
    const column = i % columns;
    table[i] = (upper ? column - row >= k : column - row <= k) ? i : -1;
  }
  return [pick(x, table, x.dims)];
};

const shape: ReferenceOperator = (inputs, attributes) => {
  const { dims } = tensorAt(inputs, 0);
  const bound = (name: string, absent: number): number => {
    const value = intAttribute(attributes, name, absent);
    return Math.min(Math.max(value < 0 ? value + dims.length : value, 0), dims.length);
  };
  return [int64Tensor(dims.slice(bound("start", 0), bound("end", dims.length)))];
};

const compress: ReferenceOperator = (inputs, attributes) => {
  const x = tensorAt(inputs, 0);
  const condition = numbersOf(tensorAt(inputs, 1));
  const given = attributes["axis"];
  const flat = given === undefined ? x.reshape([x.size]) : x;
  const axis = given === undefined ? 0 : normalizeAxis(Number(given), x.dims.length);
  const kept: number[] = [];
  for (let i = 0; i < Math.min(condition.length, flat.dims[axis]!); i++) if (condition[i] !== 0) kept.push(i);
  const dims = flat.dims.map((size, i) => (i === axis ? kept.length : size));
  return [pick(flat, positionTable(flat.dims, dims, (at, i) => (at === axis ? kept[i]! : i)), dims)];
};

export const movingOperators: ReferenceTable = {
  CenterCropPad: centerCropPad,
  Compress: compress,
  Concat: concat,
  DepthToSpace: depthToSpace,
  Expand: expand,
  Flatten: flatten,
  Identity: identity,
  Pad: pad,
  Reshape: reshape,
  ReverseSequence: reverseSequence,
  Shape: shape,
  Size: (inputs) => [int64Tensor([tensorAt(inputs, 0).size], [])],
  Slice: slice,
  SpaceToDepth: spaceToDepth,
  Split: split,
  Squeeze: squeeze,
  Tile: tile,
  Transpose: transpose,
  Trilu: trilu,
  Unsqueeze: unsqueeze,
};
