/**
 * GridSample: each output point reads the image around the place that the grid names, per spatial axis with one tap
 * (nearest), two (linear) or four (cubic). Places outside count as zero, as the border, or are reflected. Indices are
 * brought into range, whatever the grid holds. Source: ONNX GridSample-22.
 */
import { allOf, castTo, dimValue, type Dim, type Expr, f32, i64, type Node, op, select, sub as dimSub } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { inputDims, inputDtype, numberAttribute, stringAttribute } from "./operand.ts";
import { cubicWeights } from "./resize.ts";

type Padding = "zeros" | "border" | "reflection";

interface Axis {
  readonly size: Dim;
  readonly isAligned: boolean;
  readonly padding: Padding;
}

interface Tap {
  readonly index: Expr;
  readonly weight: Expr;
  /** Absent where the tap is inside for certain. */
  readonly inside?: Expr;
}

const asFloat = (dim: Dim): Expr => castTo("f32", dimValue(dim));
const lastOf = ({ size }: Axis): Expr => asFloat(dimSub(size, 1));
const clamp = (x: Expr, axis: Axis): Expr => op("max", op("min", x, lastOf(axis)), f32(0));

/** From [-1, 1] to pixels. */
function pixel(value: Expr, axis: Axis): Expr {
  const shifted = op("add", value, f32(1));
  if (axis.isAligned) return op("mul", op("mul", shifted, f32(0.5)), lastOf(axis));
  return op("mul", op("sub", op("mul", shifted, asFloat(axis.size)), f32(1)), f32(0.5));
}

/** Back and forth between the borders. */
function reflected(x: Expr, axis: Axis): Expr {
  const low = f32(axis.isAligned ? 0 : -0.5);
  const span = axis.isAligned ? lastOf(axis) : asFloat(axis.size);
  const period = op("mul", span, f32(2));
  const distance = op("abs", op("sub", x, low));
  const offset = op("sub", distance, op("mul", op("floor", op("div", distance, period)), period));
  const folded = op("add", low, op("min", offset, op("sub", period, offset)));
  return select(op("le", span, f32(0)), low, folded);
}

function settled(x: Expr, axis: Axis): Expr {
  if (axis.padding === "border") return clamp(x, axis);
  return axis.padding === "reflection" ? reflected(x, axis) : x;
}

/** The pixel at a whole number. */
function tapAt(x: Expr, weight: Expr, axis: Axis): Tap {
  const within = axis.padding === "reflection" ? op("floor", op("add", reflected(x, axis), f32(0.5))) : x;
  const index = castTo("i64", clamp(within, axis));
  const safe = op("max", op("min", index, dimValue(dimSub(axis.size, 1))), i64(0));
  return axis.padding === "zeros" ? { index: safe, weight, inside: op("and", op("ge", x, f32(0)), op("le", x, lastOf(axis))) } : { index: safe, weight };
}

function tapsOf(value: Expr, axis: Axis, mode: string): Tap[] {
  const place = pixel(value, axis);
  const x = mode === "cubic" ? place : settled(place, axis);
  if (mode === "nearest") return [tapAt(op("round", x), f32(1), axis)];
  const low = op("floor", x);
  const fraction = op("sub", x, low);
  const weights = mode === "cubic" ? cubicWeights(-0.75, fraction) : [op("sub", f32(1), fraction), fraction];
  const first = mode === "cubic" ? -1 : 0;
  return weights.map((weight, k) => tapAt(op("add", low, f32(first + k)), weight, axis));
}

const modeOf = (node: Node): string => stringAttribute(node, "mode", "linear").replace(/^bi/, "");

const gridSample: Lowering = {
  kind: "reduction",
  supports: (node) => inputDtype(node) === "float32" && inputDtype(node, 1) === "float32" && inputDims(node, 0).length <= 5,
  element(node, _output, index, load) {
    const image = inputDims(node, 0).slice(2);
    const place = [index[0]!, ...index.slice(2)];
    const isAligned = numberAttribute(node, "align_corners", 0) === 1;
    const padding = stringAttribute(node, "padding_mode", "zeros") as Padding;
    const axes = image.map((size, d) => tapsOf(load(1, [...place, i64(image.length - 1 - d)]), { size, isAligned, padding }, modeOf(node)));
    const visit = (d: number, chosen: readonly Tap[]): Expr => {
      if (d < axes.length) return axes[d]!.map((tap) => visit(d + 1, [...chosen, tap])).reduce((a, b) => op("add", a, b));
      const guards = chosen.flatMap(({ inside }) => (inside ? [inside] : []));
      const value = load(0, [index[0]!, index[1]!, ...chosen.map((tap) => tap.index)]);
      return op("mul", guards.length > 0 ? select(allOf(guards), value, f32(0)) : value, chosen.map(({ weight }) => weight).reduce((a, b) => op("mul", a, b)));
    };
    return visit(0, []);
  },
};

export const GRID_SAMPLES: readonly (readonly [OpKey, Lowering])[] = [["GridSample", gridSample]];
