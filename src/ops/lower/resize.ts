/**
 * Resize in all its modes: nearest, linear and cubic, every coordinate transformation, from constant scales or
 * (symbolic) sizes. Each resized axis contributes taps (index, weight); an element is the weighted sum over all axes.
 * Source: ONNX Resize-19.
 */
import { castTo, type Dim, dimEqual, dimValue, type Expr, f32, i64, mul as dimMul, type Node, op, select, sub as dimSub } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { constantNumbers, hasInput, inputDims, inputType, normalizeAxis, numberAttribute, numbersAttribute, outputDims, stringAttribute } from "./operand.ts";

interface ResizedAxis {
  readonly from: Dim;
  readonly to: Dim;
  /** Output over input size: a given scale, or the quotient of the sizes. */
  readonly scale: number | undefined;
  readonly roi: readonly [number, number] | undefined;
}

interface Tap { readonly index: Expr; readonly weight: Expr }

function resizeAxes(node: Node): readonly number[] {
  const rank = inputDims(node, 0).length;
  return (numbersAttribute(node, "axes") ?? Array.from({ length: rank }, (_, i) => i)).map((axis) => normalizeAxis(axis, rank));
}

/** An empty constant counts as absent. */
function givenNumbers(node: Node, input: number): readonly number[] | undefined {
  const numbers = constantNumbers(node.inputs[input]);
  return numbers && numbers.length > 0 ? numbers : undefined;
}

function resizedAxis(node: Node, dim: number): ResizedAxis {
  const at = resizeAxes(node).indexOf(dim);
  const roi = givenNumbers(node, 1);
  const count = resizeAxes(node).length;
  const from = inputDims(node, 0)[dim]!;
  const to = outputDims(node)[dim]!;
  const given = at < 0 ? undefined : givenNumbers(node, 2)?.[at];
  const scale = given ?? (typeof from === "number" && typeof to === "number" ? to / from : undefined);
  return { from, to, scale, roi: at >= 0 && roi ? [roi[at]!, roi[at + count]!] : undefined };
}

const asFloat = (dim: Dim): Expr => castTo("f32", dimValue(dim));
const add = (a: Expr, b: Expr): Expr => op("add", a, b);
const sub = (a: Expr, b: Expr): Expr => op("sub", a, b);
const mul = (a: Expr, b: Expr): Expr => op("mul", a, b);
const half = f32(0.5);

function scaleOf(axis: ResizedAxis): Expr {
  return axis.scale === undefined ? op("div", asFloat(axis.to), asFloat(axis.from)) : f32(axis.scale);
}

/** Where output position `at` lies in the input. */
function sourceCoordinate(mode: string, axis: ResizedAxis, at: Expr): Expr {
  const x = castTo("f32", at);
  const halfPixel = sub(op("div", add(x, half), scaleOf(axis)), half);
  const isSingle = op("le", dimValue(axis.to), i64(1));
  const spread = (extent: Expr): Expr => op("div", mul(x, extent), asFloat(dimSub(axis.to, 1)));
  const last = asFloat(dimSub(axis.from, 1));
  switch (mode) {
    case "asymmetric": return op("div", x, scaleOf(axis));
    case "align_corners": return select(isSingle, f32(0), spread(last));
    case "pytorch_half_pixel": return select(isSingle, f32(0), halfPixel);
    case "half_pixel_symmetric": {
      const exact = mul(scaleOf(axis), asFloat(axis.from));
      const offset = mul(op("div", asFloat(axis.from), f32(2)), sub(f32(1), op("div", asFloat(axis.to), exact)));
      return add(offset, halfPixel);
    }
    case "tf_crop_and_resize": {
      const [start, end] = axis.roi ?? [0, 1];
      const many = add(mul(f32(start), last), spread(mul(f32(end - start), last)));
      return select(isSingle, mul(f32((start + end) / 2), last), many);
    }
    default: return halfPixel;
  }
}

const clampIndex = (index: Expr, dim: Dim): Expr => op("max", op("min", index, dimValue(dimSub(dim, 1))), i64(0));

function nearestIndex(node: Node, axis: ResizedAxis, coordinate: Expr): Expr {
  const rounded = ((): Expr => {
    switch (stringAttribute(node, "nearest_mode", "round_prefer_floor")) {
      case "floor": return op("floor", coordinate);
      case "ceil": return op("ceil", coordinate);
      case "round_prefer_ceil": return op("floor", add(coordinate, half));
      default: return op("ceil", sub(coordinate, half));
    }
  })();
  return clampIndex(castTo("i64", rounded), axis.from);
}

/** Whole-number enlargement repeats elements: plain division, which code generation turns into strides. */
function repeatFactor(node: Node, axis: ResizedAxis): number | undefined {
  const { scale, from, to } = axis;
  if (scale === undefined || !Number.isInteger(scale) || scale < 1 || !dimEqual(to, dimMul(from, scale))) return undefined;
  const mode = stringAttribute(node, "coordinate_transformation_mode", "half_pixel");
  const rounding = stringAttribute(node, "nearest_mode", "round_prefer_floor");
  const isRepeat = mode === "asymmetric" ? rounding === "floor" : mode === "half_pixel" && rounding.startsWith("round");
  return isRepeat ? scale : undefined;
}

function linearTaps(axis: ResizedAxis, coordinate: Expr): Tap[] {
  const low = op("floor", coordinate);
  const fraction = sub(coordinate, low);
  const index = castTo("i64", low);
  return [
    { index: clampIndex(index, axis.from), weight: sub(f32(1), fraction) },
    { index: clampIndex(add(index, i64(1)), axis.from), weight: fraction },
  ];
}

/** Keys' cubic convolution at distances 1+t, t, 1-t, 2-t. */
export function cubicWeights(a: number, t: Expr): Expr[] {
  const near = (d: Expr): Expr => add(mul(mul(sub(mul(f32(a + 2), d), f32(a + 3)), d), d), f32(1));
  const far = (d: Expr): Expr => sub(mul(add(mul(sub(mul(f32(a), d), f32(5 * a)), d), f32(8 * a)), d), f32(4 * a));
  return [far(add(t, f32(1))), near(t), near(sub(f32(1), t)), far(sub(f32(2), t))];
}

function cubicTaps(node: Node, axis: ResizedAxis, coordinate: Expr): Tap[] {
  const low = op("floor", coordinate);
  const first = sub(castTo("i64", low), i64(1));
  const indices = [0, 1, 2, 3].map((k) => add(first, i64(k)));
  let weights = cubicWeights(numberAttribute(node, "cubic_coeff_a", -0.75), sub(coordinate, low));
  if (numberAttribute(node, "exclude_outside", 0) !== 0) {
    weights = weights.map((weight, k) => select(op("and", op("ge", indices[k]!, i64(0)), op("lt", indices[k]!, dimValue(axis.from))), weight, f32(0)));
    const total = weights.reduce(add);
    weights = weights.map((weight) => op("div", weight, total));
  }
  return indices.map((index, k) => ({ index: clampIndex(index, axis.from), weight: weights[k]! }));
}

function tapsOf(node: Node, dim: number, at: Expr): { taps: readonly Tap[]; outside: Expr | undefined } {
  const axis = resizedAxis(node, dim);
  if (dimEqual(axis.from, axis.to) && (axis.scale ?? 1) === 1 && !axis.roi) return { taps: [{ index: at, weight: f32(1) }], outside: undefined };
  const mode = stringAttribute(node, "mode", "nearest");
  const repeat = mode === "nearest" ? repeatFactor(node, axis) : undefined;
  if (repeat !== undefined) return { taps: [{ index: op("div", at, i64(repeat)), weight: f32(1) }], outside: undefined };
  const transformation = stringAttribute(node, "coordinate_transformation_mode", "half_pixel");
  const coordinate = sourceCoordinate(transformation, axis, at);
  const isOutside = op("or", op("lt", coordinate, f32(0)), op("gt", coordinate, asFloat(dimSub(axis.from, 1))));
  const outside = transformation === "tf_crop_and_resize" ? isOutside : undefined;
  if (mode === "nearest") return { taps: [{ index: nearestIndex(node, axis, coordinate), weight: f32(1) }], outside };
  return { taps: mode === "cubic" ? cubicTaps(node, axis, coordinate) : linearTaps(axis, coordinate), outside };
}

const resize: Lowering = {
  kind: "reduction",
  supports: (node) => numberAttribute(node, "antialias", 0) === 0 && stringAttribute(node, "keep_aspect_ratio_policy", "stretch") === "stretch"
    && (inputType(node) === "f32" || stringAttribute(node, "mode", "nearest") === "nearest")
    && (!hasInput(node, 1) || constantNumbers(node.inputs[1]) !== undefined) && (!hasInput(node, 2) || constantNumbers(node.inputs[2]) !== undefined),
  element(node, _output, index, load) {
    const axes = index.map((at, dim) => tapsOf(node, dim, at));
    const visit = (dim: number, chosen: readonly Expr[]): Expr => {
      const axis = axes[dim];
      if (!axis) return load(0, chosen);
      const values = axis.taps.map((tap) => ({ weight: tap.weight, value: visit(dim + 1, [...chosen, tap.index]) }));
      if (values.length === 1) return values[0]!.value;
      return values.map(({ weight, value }) => mul(value, weight)).reduce(add);
    };
    const value = visit(0, []);
    const fill: Expr = castTo(value.type, f32(numberAttribute(node, "extrapolation_value", 0)));
    return axes.reduce((result, { outside }) => (outside ? select(outside, fill, result) : result), value);
  },
};

export const RESIZES: readonly (readonly [OpKey, Lowering])[] = [["Resize", resize]];
