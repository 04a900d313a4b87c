/**
 * Views that take or join ranges: Slice, Pad, CenterCropPad, Concat, Split, ReverseSequence.
 * Their parameters must be known sizes (symbolic ones too) when the kernel is built.
 */
import {
  add as dimAdd, allOf, ceilDiv, constant, type Dim, dimValue, type Expr, floorDiv, i64, isNonNegative, max as dimMax, min as dimMin, mul as dimMul, type Node, op, select, sub as dimSub,
} from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, inputDtype, knownElements, loadScalar, normalizeAxis, numberAttribute, outputDims, outputType, stringAttribute } from "./operand.ts";

/** Beyond this a start means "the end", as exporters write it. */
const FAR = 2 ** 31;

const shift = (index: Expr, by: Dim): Expr => op("add", index, dimValue(by));

/** ONNX Slice-13: negative starts count from the end, then clamp to what the step's direction can reach. */
function sliceStart(start: Dim, step: number, dim: Dim): Dim | undefined {
  const last = step > 0 ? dim : dimSub(dim, 1);
  if (typeof start === "number") {
    if (start >= FAR - 1) return last;
    if (start <= -FAR) return 0;
    return start < 0 ? dimMax(0, dimAdd(start, dim)) : dimMin(start, last);
  }
  if (isNonNegative(start)) return dimMin(start, last);
  return isNonNegative(dimMul(start, -1)) ? dimMax(0, dimAdd(start, dim)) : undefined;
}

/** Per input dimension: where the slice starts, and its step. */
function sliceRanges(node: Node): { start: Dim; step: number }[] | undefined {
  const dims = inputDims(node, 0);
  const ranges: { start: Dim; step: number }[] = dims.map(() => ({ start: 0, step: 1 }));
  const starts = knownElements(node.inputs[1]);
  const axes = hasInput(node, 3) ? knownElements(node.inputs[3]) : starts?.map((_, i) => i);
  const steps = hasInput(node, 4) ? knownElements(node.inputs[4]) : starts?.map(() => 1);
  if (!starts || !axes || !steps) return undefined;
  for (const [i, value] of starts.entries()) {
    const axis = axes[i];
    const step = steps[i];
    if (typeof axis !== "number" || typeof step !== "number" || step === 0) return undefined;
    const at = normalizeAxis(axis, dims.length);
    const start = sliceStart(value, step, dims[at]!);
    if (start === undefined) return undefined;
    ranges[at] = { start, step };
  }
  return ranges;
}

const slice: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string" && sliceRanges(node) !== undefined,
  element(node, _output, index, load) {
    const ranges = sliceRanges(node)!;
    return load(0, ranges.map(({ start, step }, i) => shift(op("mul", index[i]!, i64(step)), start)));
  },
};

/** Begin pads per input dimension. */
function padBegins(node: Node): Dim[] | undefined {
  const dims = inputDims(node, 0);
  const pads = knownElements(node.inputs[1]);
  const axes = hasInput(node, 3) ? knownElements(node.inputs[3]) : dims.map((_, i) => i);
  if (!pads || !axes) return undefined;
  const begins: Dim[] = dims.map(() => 0);
  for (const [i, axis] of axes.entries()) {
    if (typeof axis !== "number") return undefined;
    begins[normalizeAxis(axis, dims.length)] = pads[i]!;
  }
  return begins;
}

const inside = (index: Expr, dim: Dim): Expr => op("and", op("ge", index, i64(0)), op("lt", index, dimValue(dim)));

/** The index mirrored at both ends without repeating the edge, as often as needed. */
function reflect(index: Expr, dim: Dim): Expr {
  const period = dimMax(1, dimMul(2, dimSub(dim, 1)));
  const at = op("mod", index, dimValue(period));
  return op("min", at, op("sub", dimValue(period), at));
}

function padded(node: Node, index: readonly Expr[], load: LoadInput): Expr {
  const dims = inputDims(node, 0);
  const from = padBegins(node)!.map((begin, i) => shift(index[i]!, dimMul(begin, -1)));
  switch (stringAttribute(node, "mode", "constant")) {
    case "edge": return load(0, from.map((at, i) => op("min", op("max", at, i64(0)), dimValue(dimSub(dims[i]!, 1)))));
    case "reflect": return load(0, from.map((at, i) => (dims[i] === 1 ? i64(0) : reflect(at, dims[i]!))));
    case "wrap": return load(0, from.map((at, i) => op("mod", at, dimValue(dims[i]!))));
    default: {
      const fill = hasInput(node, 2) ? loadScalar(node, 2, load) : constant(outputType(node), 0);
      return select(allOf(from.map((at, i) => inside(at, dims[i]!))), load(0, from), fill);
    }
  }
}

const pad: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string" && padBegins(node) !== undefined,
  element: (node, _output, index, load) => padded(node, index, load),
};

const centerCropPad: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string",
  element(node, _output, index, load) {
    const from = inputDims(node, 0);
    const to = outputDims(node);
    const moved = index.map((at, i) => {
      const crop = dimMax(0, floorDiv(dimSub(from[i]!, to[i]!), 2));
      const begin = dimMax(0, floorDiv(dimSub(to[i]!, from[i]!), 2));
      return shift(at, dimSub(crop, begin));
    });
    return select(allOf(moved.map((at, i) => inside(at, from[i]!))), load(0, moved), constant(outputType(node), 0));
  },
};

const concat: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string",
  element(node, _output, index, load) {
    const axis = normalizeAxis(numberAttribute(node, "axis", 0), index.length);
    const at = index[axis]!;
    let end: Dim = 0;
    const parts = node.inputs.map((_, i) => {
      const begin = end;
      end = dimAdd(begin, inputDims(node, i)[axis]!);
      return { value: load(i, index.map((e, d) => (d === axis ? shift(e, dimMul(begin, -1)) : e))), end };
    });
    return parts.reduceRight<Expr | undefined>((rest, part) => (rest ? select(op("lt", at, dimValue(part.end)), part.value, rest) : part.value), undefined)!;
  },
};

/** Where output `output` of a Split starts along the axis. */
function splitOffset(node: Node, axis: number, output: number): Dim | undefined {
  const dim = inputDims(node, 0)[axis]!;
  if (hasInput(node, 1)) {
    const sizes = knownElements(node.inputs[1]);
    return sizes ? dimAdd(...sizes.slice(0, output)) : undefined;
  }
  return dimMul(output, ceilDiv(dim, numberAttribute(node, "num_outputs", node.outputs.length)));
}

const split: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string" && splitOffset(node, normalizeAxis(numberAttribute(node, "axis", 0), inputDims(node, 0).length), 0) !== undefined,
  element(node, output, index, load) {
    const axis = normalizeAxis(numberAttribute(node, "axis", 0), index.length);
    const offset = splitOffset(node, axis, output)!;
    return load(0, index.map((at, i) => (i === axis ? shift(at, offset) : at)));
  },
};

/** The first lens[b] entries along the time axis run backwards. */
const reverseSequence: Lowering = {
  kind: "view",
  supports: (node) => inputDtype(node) !== "string",
  element(node, _output, index, load) {
    const time = numberAttribute(node, "time_axis", 0);
    const batch = numberAttribute(node, "batch_axis", 1);
    const length = load(1, [index[batch]!]);
    const at = index[time]!;
    const last = dimValue(dimSub(inputDims(node, 0)[time]!, 1));
    const reversed = op("max", op("min", op("sub", op("sub", length, i64(1)), at), last), i64(0));
    const from = select(op("lt", at, length), reversed, at);
    return load(0, index.map((e, i) => (i === time ? from : e)));
  },
};

export const SLICES: readonly (readonly [OpKey, Lowering])[] = [
  ["Slice", slice],
  ["Pad", pad],
  ["CenterCropPad", centerCropPad],
  ["Concat", concat],
  ["Split", split],
  ["ReverseSequence", reverseSequence],
];
