/**
 * RoiAlign with a fixed number of samples per output: each sample reads four pixels around its place, as far as it lies
 * no more than a pixel outside. Samples of boxes that the data decide the number of run on the reference.
 * Source: ONNX RoiAlign-22.
 */
import { type Axis, allOf, axisIndex, castTo, type Dim, dimValue, type Expr, f32, i64, type Node, op, reduceOver, select, sub as dimSub } from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { inputDims, inputDtype, numberAttribute, outputDims, stringAttribute } from "./operand.ts";

/** The two pixels of an axis around a sample, and how near the second one is. */
interface Sample {
  readonly low: Expr;
  readonly high: Expr;
  readonly weight: Expr;
  readonly isNear: Expr;
}

const asFloat = (value: Expr): Expr => castTo("f32", value);

function sampleAt(position: Expr, size: Dim): Sample {
  const last = dimValue(dimSub(size, 1));
  const at = op("max", position, f32(0));
  const floor = op("floor", at);
  const index = op("max", castTo("i64", floor), i64(0));
  return {
    low: op("min", index, last), high: op("min", op("add", index, i64(1)), last),
    weight: select(op("ge", index, last), f32(0), op("sub", at, floor)),
    isNear: op("and", op("ge", position, f32(-1)), op("le", position, asFloat(dimValue(size)))),
  };
}

/** Where sample number `sample` of output `index` lies along an axis of a box from `begin` to `end`. */
function placeOf(begin: Expr, end: Expr, index: Expr, sample: Expr, outputs: Dim, ratio: number, isHalfPixel: boolean): Expr {
  const extent = isHalfPixel ? op("sub", end, begin) : op("max", op("sub", end, begin), f32(1));
  const bin = op("div", extent, asFloat(dimValue(outputs)));
  const within = op("div", op("add", asFloat(sample), f32(0.5)), f32(ratio));
  return op("add", begin, op("mul", bin, op("add", asFloat(index), within)));
}

function element(node: Node, index: readonly Expr[], load: LoadInput): Expr {
  const [images, , height, width] = inputDims(node, 0) as [Dim, Dim, Dim, Dim];
  const [, , rows, columns] = outputDims(node) as [Dim, Dim, Dim, Dim];
  const [roi, channel, row, column] = index as [Expr, Expr, Expr, Expr];
  const ratio = numberAttribute(node, "sampling_ratio", 0);
  const isHalfPixel = stringAttribute(node, "coordinate_transformation_mode", "half_pixel") === "half_pixel";
  const edge = (which: number): Expr => op("sub", op("mul", load(1, [roi, i64(which)]), f32(numberAttribute(node, "spatial_scale", 1))), f32(isHalfPixel ? 0.5 : 0));
  const image = op("max", op("min", castTo("i64", load(2, [roi])), dimValue(dimSub(images, 1))), i64(0));
  const [down, across]: readonly [Axis, Axis] = [{ name: "down", extent: ratio }, { name: "across", extent: ratio }];
  const y = sampleAt(placeOf(edge(1), edge(3), row, axisIndex(down), rows, ratio, isHalfPixel), height);
  const x = sampleAt(placeOf(edge(0), edge(2), column, axisIndex(across), columns, ratio, isHalfPixel), width);
  const pixel = (i: Expr, j: Expr, wy: Expr, wx: Expr): Expr => op("mul", op("mul", wy, wx), load(0, [image, channel, i, j]));
  const rest = (weight: Expr): Expr => op("sub", f32(1), weight);
  const corners = [pixel(y.low, x.low, rest(y.weight), rest(x.weight)), pixel(y.low, x.high, rest(y.weight), x.weight), pixel(y.high, x.low, y.weight, rest(x.weight)), pixel(y.high, x.high, y.weight, x.weight)];
  const isMax = stringAttribute(node, "mode", "avg") === "max";
  const sample = select(allOf([y.isNear, x.isNear]), corners.reduce((a, b) => op(isMax ? "max" : "add", a, b)), f32(0));
  const joined = reduceOver(isMax ? "max" : "sum", [down, across], sample);
  return isMax ? joined : op("div", joined, f32(ratio * ratio));
}

const roiAlign: Lowering = {
  kind: "reduction",
  supports: (node) => [0, 1].every((input) => inputDtype(node, input) === "float32") && numberAttribute(node, "sampling_ratio", 0) > 0 && inputDims(node, 0).length === 4,
  element: (node, _output, index, load) => element(node, index, load),
};

export const ROI_ALIGNS: readonly (readonly [OpKey, Lowering])[] = [["RoiAlign", roiAlign]];
