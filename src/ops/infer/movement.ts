/** Operators that move or select elements by position: reshapes, Transpose, Slice, Concat, Split, Pad, Tile, Expand. */
import { add, type Dim, dimEqual, floorDiv, isNonNegative, max, min, mul, type Node, product, sub } from "../../ir/index.ts";
import type { InferContext, InferRule } from "../contract.ts";
import { numbersConstant } from "./constant.ts";
import { allInputs, axisIn, boundElements, broadcastDim, commonType, dataDim, dataDims, type Dims, dimsOf, dimsText, invalid, knownNumbers, numberOf, numbersOf, require, type Rules, setOutput, stringOf, typeOf } from "./rule.ts";

/** The rank that a shape operand of known length asks for. */
function lengthOf(node: Node, input: number): number | undefined {
  const length = dimsOf(node, input)?.[0];
  return typeof length === "number" ? length : undefined;
}

const reshape: InferRule = (node, context) => {
  setOutput(node, 0, typeOf(node, 0), reshapedDims(node, context));
};

function reshapedDims(node: Node, context: InferContext): Dims | undefined {
  const from = dimsOf(node, 0);
  const target = node.inputs[1]?.elements;
  if (!target) {
    const rank = lengthOf(node, 1);
    return rank === undefined ? undefined : node.outputs[0]?.dims?.length === rank ? node.outputs[0].dims : dataDims(node, 0, rank, context);
  }
  const keepsZero = numberOf(node, "allowzero", 0) === 0;
  const dims = target.map((dim, i) => (dim === 0 && keepsZero ? from?.[i] ?? dataDim(node, 0, i, context) : dim));
  const open = dims.indexOf(-1);
  if (open < 0) {
    if (from) checkCount(node, from, dims);
    return dims;
  }
  require(node, dims.lastIndexOf(-1) === open, () => `the shape ${dimsText(target)} has more than one -1.`);
  if (!from) return dims.map((dim, i) => (i === open ? dataDim(node, 0, i, context) : dim));
  const given = product(dims.filter((_, i) => i !== open));
  return dims.map((dim, i) => (i === open ? quotient(node, from, given, target) : dim));
}

function checkCount(node: Node, from: Dims, to: Dims): void {
  const [a, b] = [product(from), product(to)];
  if (typeof a === "number" && typeof b === "number" && a !== b) invalid(node, `cannot reshape ${dimsText(from)} (${a} elements) to ${dimsText(to)} (${b} elements).`);
}

/** Common factors are cancelled one dimension at a time, so that symbols survive where they can. */
function quotient(node: Node, from: Dims, given: Dim, target: Dims): Dim {
  const count = product(from);
  if (given === 0) return 0;
  if (typeof count === "number" && typeof given === "number" && count % given !== 0) invalid(node, `cannot reshape ${dimsText(from)} (${count} elements) to ${dimsText(target)}.`);
  return floorDiv(count, given);
}

const flatten: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  if (!dims) return setOutput(node, 0, typeOf(node, 0), undefined);
  const given = numberOf(node, "axis", 1);
  const axis = given < 0 ? given + dims.length : given;
  setOutput(node, 0, typeOf(node, 0), [product(dims.slice(0, axis)), product(dims.slice(axis))]);
};

const squeeze: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const given = node.inputs[1] ? knownNumbers(node.inputs[1]) : undefined;
  if (!dims || (node.inputs[1] && !given)) {
    const count = lengthOf(node, 1);
    return setOutput(node, 0, typeOf(node, 0), dims && count !== undefined ? dataDims(node, 0, dims.length - count, context) : undefined);
  }
  // Without axes, a size that may be 1 leaves the rank open.
  if (!given && !dims.every((dim) => typeof dim === "number")) return setOutput(node, 0, typeOf(node, 0), undefined);
  const axes = given ? given.map((axis) => axisIn(node, axis, dims.length)) : dims.flatMap((dim, i) => (dim === 1 ? [i] : []));
  for (const axis of axes) require(node, typeof dims[axis] !== "number" || dims[axis] === 1, () => `axis ${axis} of ${dimsText(dims)} cannot be squeezed: its size is not 1.`);
  setOutput(node, 0, typeOf(node, 0), dims.filter((_, i) => !axes.includes(i)));
};

const unsqueeze: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const given = knownNumbers(node.inputs[1]);
  if (!dims || !given) {
    const count = lengthOf(node, 1);
    return setOutput(node, 0, typeOf(node, 0), dims && count !== undefined ? dataDims(node, 0, dims.length + count, context) : undefined);
  }
  const rank = dims.length + given.length;
  const axes = new Set(given.map((axis) => axisIn(node, axis, rank)));
  require(node, axes.size === given.length, () => `axes [${given.join(", ")}] name one axis twice.`);
  const rest = [...dims];
  setOutput(node, 0, typeOf(node, 0), Array.from({ length: rank }, (_, i) => (axes.has(i) ? 1 : rest.shift()!)));
};

const transpose: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  if (!dims) return setOutput(node, 0, typeOf(node, 0), undefined);
  const perm = numbersOf(node, "perm") ?? dims.map((_, i) => dims.length - 1 - i);
  require(node, perm.length === dims.length && new Set(perm).size === perm.length && perm.every((axis) => axis >= 0 && axis < dims.length), () => `perm [${perm.join(", ")}] does not order the ${dims.length} axes of its input.`);
  setOutput(node, 0, typeOf(node, 0), perm.map((axis) => dims[axis]!));
};

const concat: InferRule = (node) => {
  const dtype = commonType(node, allInputs(node));
  const shapes = node.inputs.map((input) => input?.dims);
  const known = shapes.filter((dims) => dims !== undefined);
  if (known.length !== shapes.length) return setOutput(node, 0, dtype, undefined);
  const rank = known[0]!.length;
  require(node, known.every((dims) => dims.length === rank), () => `inputs have shapes ${known.map(dimsText).join(", ")}; expected one rank.`);
  const axis = axisIn(node, numberOf(node, "axis", 0), rank);
  setOutput(node, 0, dtype, known[0]!.map((first, i) => {
    if (i === axis) return add(...known.map((dims) => dims[i]!));
    const sizes = known.map((dims) => dims[i]!).filter((dim) => typeof dim === "number");
    require(node, new Set(sizes).size <= 1, () => `inputs have shapes ${known.map(dimsText).join(", ")}; expected equal sizes on axis ${i}.`);
    return sizes[0] ?? first;
  }));
};

const split: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const dtype = typeOf(node, 0);
  if (!dims) return node.outputs.forEach((_, i) => setOutput(node, i, dtype, undefined));
  const axis = axisIn(node, numberOf(node, "axis", 0), dims.length);
  const count = node.outputs.length;
  const sizes = node.inputs[1]?.elements;
  const chunk = numberOf(node, "num_outputs", count);
  const each = floorDiv(add(dims[axis]!, chunk - 1), chunk);
  if (sizes) {
    require(node, sizes.length === count, () => `split has ${sizes.length} sizes for ${count} outputs.`);
    const total = add(...sizes);
    if (typeof total === "number" && typeof dims[axis] === "number") require(node, total === dims[axis], () => `the sizes [${sizes.join(", ")}] do not add up to ${String(dims[axis])}.`);
  }
  node.outputs.forEach((_, i) => {
    const size = sizes ? sizes[i]! : node.inputs[1] ? dataDim(node, i, axis, context) : i < chunk - 1 ? each : sub(dims[axis]!, mul(each, chunk - 1));
    setOutput(node, i, dtype, dims.map((dim, d) => (d === axis ? size : dim)));
  });
};

/** Exporters write the largest integer for "to the end". */
const HUGE = 2 ** 31 - 1;

const slice: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const dtype = typeOf(node, 0);
  if (!dims) return setOutput(node, 0, dtype, undefined);
  const [, starts, ends, axesInput, stepsInput] = node.inputs;
  const count = lengthOf(node, 1);
  const axes = axesInput ? knownNumbers(axesInput) : count === undefined ? undefined : Array.from({ length: count }, (_, i) => i);
  if (!axes) return setOutput(node, 0, dtype, dims.map((_, i) => dataDim(node, 0, i, context)));
  const steps = stepsInput ? knownNumbers(stepsInput) : axes.map(() => 1);
  const result = [...dims];
  axes.forEach((given, i) => {
    const axis = axisIn(node, given, dims.length);
    const [start, end, step] = [boundElements(starts)?.[i], boundElements(ends)?.[i], steps?.[i]];
    require(node, step !== 0, () => `the step of axis ${axis} is 0.`);
    result[axis] = start === undefined || end === undefined || step === undefined ? dataDim(node, 0, axis, context) : slicedDim(dims[axis]!, start, end, step);
  });
  setOutput(node, 0, dtype, result);
};

/** Size of start:end:step over a dimension, ends clamped to it. */
export function slicedDim(size: Dim, start: Dim, end: Dim, step: number): Dim {
  if (step > 0) {
    const from = clampPosition(size, start);
    const to = clampPosition(size, end);
    return nonNegative(floorDiv(add(sub(to, from), step - 1), step));
  }
  const last = sub(size, 1);
  const from = clampBackward(size, start, last);
  const to = clampBackward(size, end, last);
  return nonNegative(floorDiv(add(sub(from, to), -step - 1), -step));
}

function nonNegative(dim: Dim): Dim {
  return isNonNegative(dim) ? dim : max(0, dim);
}

/** A position from 0 to size; negative ones count from the end. */
function clampPosition(size: Dim, position: Dim): Dim {
  if (typeof position === "number") {
    if (position >= HUGE) return size;
    if (position === 0) return 0;
    const at = position < 0 ? add(size, position) : position;
    return position < 0 ? nonNegative(at) : typeof size === "number" ? Math.min(size, position) : min(at, size);
  }
  if (dimEqual(position, size)) return size;
  return isNonNegative(position) ? min(position, size) : max(0, min(position, size));
}

function clampBackward(size: Dim, position: Dim, last: Dim): Dim {
  if (typeof position !== "number") return min(position, last);
  if (position >= HUGE) return last;
  if (position >= 0) return min(position, last);
  return max(-1, position <= -HUGE ? -1 : add(size, position));
}

const pad: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const dtype = typeOf(node, 0);
  if (!dims) return setOutput(node, 0, dtype, undefined);
  const axes = node.inputs[3] ? knownNumbers(node.inputs[3])?.map((axis) => axisIn(node, axis, dims.length)) : dims.map((_, i) => i);
  const pads = node.inputs[1]?.elements;
  if (!axes || !pads) return setOutput(node, 0, dtype, dims.map((_, i) => dataDim(node, 0, i, context)));
  require(node, pads.length === 2 * axes.length, () => `pads has ${pads.length} elements; expected ${2 * axes.length} for input ${dimsText(dims)}.`);
  setOutput(node, 0, dtype, dims.map((dim, i) => {
    const at = axes.indexOf(i);
    return at < 0 ? dim : add(dim, pads[at]!, pads[at + axes.length]!);
  }));
};

const tile: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  if (!dims) return setOutput(node, 0, typeOf(node, 0), undefined);
  const repeats = node.inputs[1]?.elements;
  setOutput(node, 0, typeOf(node, 0), repeats ? dims.map((dim, i) => mul(dim, repeats[i] ?? 1)) : dataDims(node, 0, dims.length, context));
};

const expand: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const shape = node.inputs[1]?.elements;
  if (dims && shape) {
    const rank = Math.max(dims.length, shape.length);
    return setOutput(node, 0, typeOf(node, 0), Array.from({ length: rank }, (_, i) => {
      const [a, b] = [dims[i - rank + dims.length] ?? 1, shape[i - rank + shape.length] ?? 1];
      return broadcastDim(a, b) ?? invalid(node, `${dimsText(dims)} does not broadcast to ${dimsText(shape)}.`);
    }));
  }
  const length = lengthOf(node, 1);
  setOutput(node, 0, typeOf(node, 0), dims && length !== undefined ? dataDims(node, 0, Math.max(dims.length, length), context) : undefined);
};

const depthToSpace: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  const block = numberOf(node, "blocksize", 1);
  setOutput(node, 0, typeOf(node, 0), dims && [dims[0]!, floorDiv(dims[1]!, block * block), mul(dims[2]!, block), mul(dims[3]!, block)]);
};

const spaceToDepth: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  const block = numberOf(node, "blocksize", 1);
  setOutput(node, 0, typeOf(node, 0), dims && [dims[0]!, mul(dims[1]!, block * block), floorDiv(dims[2]!, block), floorDiv(dims[3]!, block)]);
};

const centerCropPad: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const shape = node.inputs[1]?.elements;
  if (!dims) return setOutput(node, 0, typeOf(node, 0), undefined);
  const axes = (numbersOf(node, "axes") ?? dims.map((_, i) => i)).map((axis) => axisIn(node, axis, dims.length));
  setOutput(node, 0, typeOf(node, 0), dims.map((dim, i) => (axes.includes(i) ? shape?.[axes.indexOf(i)] ?? dataDim(node, 0, i, context) : dim)));
};

/** How sizes follow from scales where `sizes` is absent, and what keeping the aspect ratio makes of sizes. */
const resize: InferRule = (node, context) => {
  const dims = dimsOf(node, 0);
  const dtype = typeOf(node, 0);
  if (!dims) return setOutput(node, 0, dtype, undefined);
  const axes = (numbersOf(node, "axes") ?? dims.map((_, i) => i)).map((axis) => axisIn(node, axis, dims.length));
  const sizes = node.inputs[3]?.elements;
  const scales = numbersConstant(node.inputs[2]);
  const policy = stringOf(node, "keep_aspect_ratio_policy", "stretch");
  setOutput(node, 0, dtype, dims.map((dim, i) => {
    const at = axes.indexOf(i);
    if (at < 0) return dim;
    if (sizes && policy === "stretch") return sizes[at]!;
    if (sizes) return keptRatio(dims, axes, sizes, at, policy) ?? dataDim(node, 0, i, context);
    return scales?.[at] === undefined ? dataDim(node, 0, i, context) : scaledDim(dim, scales[at]) ?? dataDim(node, 0, i, context);
  }));
};

function scaledDim(dim: Dim, scale: number): Dim | undefined {
  if (typeof dim === "number") return Math.floor(dim * scale);
  if (Number.isInteger(scale)) return mul(dim, scale);
  return Number.isInteger(1 / scale) ? floorDiv(dim, 1 / scale) : undefined;
}

function keptRatio(dims: Dims, axes: readonly number[], sizes: Dims, at: number, policy: string): Dim | undefined {
  const scales = axes.map((axis, i) => Number(sizes[i]) / Number(dims[axis]));
  if (!scales.every(Number.isFinite)) return undefined;
  const scale = policy === "not_larger" ? Math.min(...scales) : Math.max(...scales);
  return Math.floor(scale * Number(dims[axes[at]!]) + 0.5);
}

export const MOVEMENT: Rules = {
  Reshape: reshape, Flatten: flatten, Squeeze: squeeze, Unsqueeze: unsqueeze, Transpose: transpose, Concat: concat, Split: split, Slice: slice,
  Pad: pad, Tile: tile, Expand: expand, DepthToSpace: depthToSpace, SpaceToDepth: spaceToDepth, CenterCropPad: centerCropPad, Resize: resize, Upsample: resize,
};
