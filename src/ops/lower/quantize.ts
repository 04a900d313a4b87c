/**
 * Quantisation: QuantizeLinear, DequantizeLinear (per tensor, axis or block) and DynamicQuantizeLinear.
 * One rounding rule: half to even, then saturate. Where scale and zero point are numbers, saturation comes first: rounding
 * is monotone and the bounds round to themselves, so the result is the same, and the quotient is known to be small.
 */
import type { DType } from "../../base/index.ts";
import { castTo, constant, type Dim, type Expr, f32, i64, type Node, op, reduceOver, axisIndex } from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, normalizeAxis, numberAttribute, outputDtype, outputType } from "./operand.ts";
import { axesOver } from "./reduce.ts";

const RANGES: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], uint16: [0, 65535],
};

/** Index of the scale that belongs to the element at `index`. */
function scaleIndex(node: Node, index: readonly Expr[]): Expr[] {
  const dims: readonly Dim[] = inputDims(node, 1);
  if (dims.length === 0) return [];
  const axis = normalizeAxis(numberAttribute(node, "axis", 1), index.length);
  const block = numberAttribute(node, "block_size", 0);
  if (block > 0) return index.map((e, i) => (i === axis ? op("div", e, i64(block)) : e));
  return dims[0] === 1 ? [i64(0)] : [index[axis]!];
}

function saturate(value: Expr, dtype: DType): Expr {
  const [low, high] = RANGES[dtype]!;
  return castTo("i32", op("max", op("min", value, f32(high)), f32(low)));
}

const quantize: Lowering = {
  kind: "pointwise",
  supports: (node) => RANGES[outputDtype(node)] !== undefined && inputDims(node, 1).length <= Math.max(1, inputDims(node, 0).length),
  element(node, _output, index, load) {
    const at = scaleIndex(node, index);
    const [x, scale] = [castTo("f32", load(0, index)), castTo("f32", load(1, at))];
    const zero = hasInput(node, 2) ? castTo("f32", load(2, at)) : f32(0);
    const dtype = outputDtype(node);
    const parameters = usualParameters(scale, zero);
    if (!parameters) return saturate(op("add", op("round", op("div", x, scale)), zero), dtype);
    const [low, high] = RANGES[dtype]!.map((bound) => f32(parameters.scale * (bound - parameters.zero))) as [Expr, Expr];
    const rounded = op("round", op("div", op("max", op("min", x, high), low), scale));
    return castTo("i32", parameters.zero === 0 ? rounded : op("add", rounded, zero));
  },
};

/** Scales at which neither a bound nor a remainder of the division leaves the range of normal numbers. */
const USUAL_SCALES = [2 ** -90, 2 ** 90] as const;

/** Scale and zero point, when they are numbers and ordinary ones. */
function usualParameters(scale: Expr, zero: Expr): { readonly scale: number; readonly zero: number } | undefined {
  if (scale.kind !== "const" || zero.kind !== "const") return undefined;
  const numbers = { scale: Number(scale.value), zero: Number(zero.value) };
  return numbers.scale >= USUAL_SCALES[0] && numbers.scale <= USUAL_SCALES[1] ? numbers : undefined;
}

function isRounded(x: Expr): boolean {
  return x.kind === "op" && x.op === "round";
}

/** An integer less its zero point, as a float; of one that was just rounded, without a way through integers. */
function centered(x: Expr, zero: Expr): Expr {
  if (x.kind === "cast" && x.arg.type === "f32" && zero.kind === "const") {
    const { arg } = x;
    if (Number(zero.value) === 0 && isRounded(arg)) return arg;
    const [rounded, added] = arg.kind === "op" && arg.op === "add" ? arg.args : [];
    if (rounded && isRounded(rounded) && added?.kind === "const" && added.value === zero.value) return rounded;
  }
  return castTo("f32", op("sub", castTo("i32", x), castTo("i32", zero)));
}

const dequantize: Lowering = {
  kind: "pointwise",
  element(node, _output, index, load) {
    const at = scaleIndex(node, index);
    const zero = hasInput(node, 2) ? load(2, at) : constant("i32", 0);
    return castTo(outputType(node), op("mul", centered(castTo("i32", load(0, index)), zero), castTo("f32", load(1, at))));
  },
};

/** y, y_scale, y_zero_point of a whole tensor; its range always contains 0. */
function dynamicQuantized(node: Node, output: number, index: readonly Expr[], load: LoadInput): Expr {
  const dims = inputDims(node, 0);
  const axes = axesOver(dims, dims.map((_, i) => i));
  const x = load(0, axes.map(axisIndex));
  const low = op("min", reduceOver("min", axes, x), f32(0));
  const high = op("max", reduceOver("max", axes, x), f32(0));
  const scale = op("div", op("sub", high, low), f32(255));
  if (output === 1) return scale;
  const zero = op("round", op("max", op("min", op("div", op("neg", low), scale), f32(255)), f32(0)));
  if (output === 2) return castTo("i32", zero);
  return saturate(op("add", op("round", op("div", load(0, index), scale)), zero), "uint8");
}

const dynamicQuantize: Lowering = { kind: "reduction", element: dynamicQuantized };

/** Elements 2i and 2i + 1 of a row are the low and high half of its byte i. */
const unpack4: Lowering = {
  kind: "view",
  element(node, _output, index, load) {
    const last = index.at(-1)!;
    const byte = castTo("i32", load(0, [...index.slice(0, -1), op("div", last, i64(2))]));
    const half = op("bitAnd", op("shiftRight", byte, castTo("i32", op("mul", op("mod", last, i64(2)), i64(4)))), constant("i32", 15));
    return numberAttribute(node, "signed", 0) !== 0 ? op("sub", op("bitXor", half, constant("i32", 8)), constant("i32", 8)) : half;
  },
};

export const QUANTIZERS: readonly (readonly [OpKey, Lowering])[] = [
  ["QuantizeLinear", quantize],
  ["DequantizeLinear", dequantize],
  ["DynamicQuantizeLinear", dynamicQuantize],
  ["sinter.Unpack4", unpack4],
];
