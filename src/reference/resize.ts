/**
 * Resize, and Upsample as its older form: interpolation is separable, so each axis is resized in turn from a table of
 * weights. Source: ONNX Resize-19.
 */
import { elementCount, type Tensor } from "../base/index.ts";
import type { ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { floatAttribute, intAttribute, intsAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";
import { imageOf, tensorOfImage } from "./layout.ts";

interface AxisPlan {
  readonly input: number;
  readonly output: number;
  readonly scale: number;
  readonly roi: readonly [number, number];
}

/** Weights of one output element; `outside` where tf_crop_and_resize leaves the image. */
interface Weights {
  readonly start: number;
  readonly factors: readonly number[];
  readonly outside: boolean;
}

/** Where output element x lies in the input. */
function sourceOf(x: number, { input, output, scale, roi }: AxisPlan, mode: string): number {
  const width = scale * input;
  switch (mode) {
    case "align_corners": return width === 1 ? 0 : (x * (input - 1)) / (width - 1);
    case "asymmetric": return x / scale;
    case "pytorch_half_pixel": return output > 1 ? (x + 0.5) / scale - 0.5 : width === 1 ? -0.5 : (x + 0.5) / scale - 0.5;
    case "half_pixel_symmetric": return (input / 2) * (1 - output / width) + (x + 0.5) / scale - 0.5;
    case "tf_crop_and_resize": return roi[0] * (input - 1) + (output > 1 ? (x * (roi[1] - roi[0]) * (input - 1)) / (output - 1) : ((roi[1] - roi[0]) * (input - 1)) / 2);
    default: return (x + 0.5) / scale - 0.5;
  }
}

const nearestRounding: Readonly<Record<string, (x: number) => number>> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
};

function cubicFactor(x: number, a: number): number {
  const d = Math.abs(x);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/** A filter of half-width `reach` around `at`, stretched by the scale when antialiasing a reduction. */
function filterWeights(at: number, reach: number, stretch: number, filter: (x: number) => number): { start: number; factors: number[] } {
  const span = reach / stretch;
  const start = Math.floor(at - span) + 1;
  const end = Math.ceil(at + span) - 1;
  const factors: number[] = [];
  for (let i = start; i <= end; i++) factors.push(filter((i - at) * stretch));
  return { start, factors };
}

function normalized(factors: readonly number[]): number[] {
  const sum = factors.reduce((a, b) => a + b, 0);
  return sum === 0 ? [...factors] : factors.map((factor) => factor / sum);
}

function weightsOf(plan: AxisPlan, attributes: ReferenceAttributes): Weights[] {
  const mode = stringAttribute(attributes, "mode", "nearest");
  const coordinates = stringAttribute(attributes, "coordinate_transformation_mode", "half_pixel");
  const round = nearestRounding[stringAttribute(attributes, "nearest_mode", "round_prefer_floor")] ?? Math.floor;
  const antialias = intAttribute(attributes, "antialias", 0) === 1;
  const exclude = intAttribute(attributes, "exclude_outside", 0) === 1;
  const a = floatAttribute(attributes, "cubic_coeff_a", -0.75);
  const stretch = antialias ? Math.min(plan.scale, 1) : 1;
  return Array.from({ length: plan.output }, (_, x) => {
    const at = sourceOf(x, plan, coordinates);
    const outside = coordinates === "tf_crop_and_resize" && (at < 0 || at > plan.input - 1);
    if (mode === "nearest") return { start: round(at), factors: [1], outside };
    const { start, factors } = mode === "cubic" ? filterWeights(at, 2, stretch, (d) => cubicFactor(d, a)) : filterWeights(at, 1, stretch, (d) => Math.max(1 - Math.abs(d), 0));
    const kept = exclude ? factors.map((factor, i) => (start + i < 0 || start + i >= plan.input ? 0 : factor)) : factors;
    return { start, factors: antialias || exclude ? normalized(kept) : kept, outside };
  });
}

/** Resizes one axis of row-major data; positions beyond the edge read the edge. */
function resizeAxis(numbers: Float64Array, dims: readonly number[], axis: number, plan: AxisPlan, weights: readonly Weights[], beyond: number): Float64Array {
  const outer = elementCount(dims.slice(0, axis));
  const inner = elementCount(dims.slice(axis + 1));
  const result = new Float64Array(outer * plan.output * inner);
  for (let o = 0; o < outer; o++) {
    weights.forEach(({ start, factors, outside }, x) => {
      const out = result.subarray((o * plan.output + x) * inner, (o * plan.output + x + 1) * inner);
      if (outside) out.fill(beyond);
      else factors.forEach((factor, i) => {
        const from = (o * plan.input + Math.min(Math.max(start + i, 0), plan.input - 1)) * inner;
        if (factor !== 0) for (let n = 0; n < inner; n++) out[n]! += factor * numbers[from + n]!;
      });
    });
  }
  return result;
}

/** The plan of every axis of x from scales or sizes, roi, axes and keep_aspect_ratio_policy. */
function plansOf(dims: readonly number[], attributes: ReferenceAttributes, roi: Tensor | undefined, scales: Tensor | undefined, sizes: Tensor | undefined): AxisPlan[] {
  const axes = (intsAttribute(attributes, "axes") ?? dims.map((_, axis) => axis)).map((axis) => (axis < 0 ? axis + dims.length : axis));
  const given = sizes && sizes.size > 0 ? toNumbers(sizes) : undefined;
  const factors = given ? Float64Array.from(given, (size, i) => size / dims[axes[i]!]!) : scales ? toNumbers(scales) : new Float64Array(axes.length).fill(1);
  const policy = stringAttribute(attributes, "keep_aspect_ratio_policy", "stretch");
  const common = given && policy !== "stretch" ? (policy === "not_larger" ? Math.min(...factors) : Math.max(...factors)) : undefined;
  const region = roi && roi.size > 0 ? toNumbers(roi) : undefined;
  return dims.map((input, axis) => {
    const at = axes.indexOf(axis);
    if (at < 0) return { input, output: input, scale: 1, roi: [0, 1] };
    const scale = common ?? factors[at]!;
    const output = common !== undefined ? Math.floor(common * input + 0.5) : given ? given[at]! : Math.floor(input * scale);
    return { input, output, scale, roi: region ? [region[at]!, region[at + axes.length]!] : [0, 1] };
  });
}

/** What an integer type can hold, for interpolation that overshoots. */
function fit(numbers: Float64Array, type: Tensor["type"]): Float64Array {
  const range = type === "uint8" ? [0, 255] as const : type === "int8" ? [-128, 127] as const : undefined;
  return range ? numbers.map((value) => Math.min(Math.max(Math.trunc(value), range[0]), range[1])) : numbers;
}

const resize: ReferenceOperator = (inputs, attributes) => {
  const source = tensorInput(inputs, 0);
  const x = imageOf(source, attributes);
  const scales = optionalTensor(inputs, 2);
  const plans = plansOf(x.dims, attributes, optionalTensor(inputs, 1), scales && scales.size > 0 ? scales : undefined, optionalTensor(inputs, 3));
  const crop = stringAttribute(attributes, "coordinate_transformation_mode", "half_pixel") === "tf_crop_and_resize";
  let { numbers } = x;
  const dims = [...x.dims];
  plans.forEach((plan, axis) => {
    const still = plan.scale === 1 && plan.output === plan.input && (!crop || (plan.roi[0] === 0 && plan.roi[1] === 1));
    if (still) return;
    numbers = resizeAxis(numbers, dims, axis, plan, weightsOf(plan, attributes), floatAttribute(attributes, "extrapolation_value", 0));
    dims[axis] = plan.output;
  });
  return [tensorOfImage(source.type, fit(numbers, source.type), dims, attributes)];
};

/** x, scales: coordinates without the half pixel. */
const upsample: ReferenceOperator = (inputs, attributes, context) =>
  resize([inputs[0], undefined, inputs[1]], { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor", ...attributes }, context);

export const resizeOperators: ReferenceTable = { Resize: resize, Upsample: upsample };
