/**
 * Normalisations: layer, RMS, group, instance, batch, Lp, mean-variance, local response; with onnxruntime's skip forms.
 * Means and variances are reductions that do not depend on the normalised axes, so code generation computes them once
 * per row. The variance is the mean square of centered values (two passes), which keeps float32 accurate.
 */
import { type Axis, axisIndex, constant, type Dim, dimValue, type Expr, floorDiv, i64, type Node, op, reduceOver, select, sub as dimSub } from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, loadBroadcast, normalizeAxis, numberAttribute, numbersAttribute } from "./operand.ts";
import { axesOver, countAs } from "./reduce.ts";

const number = (like: Expr, value: number): Expr => constant(like.type, value);
const square = (x: Expr): Expr => op("mul", x, x);

type ElementAt = (index: readonly Expr[]) => Expr;

interface Moments { readonly mean: Expr; readonly variance: Expr }

/** Mean and variance of `x` over dimensions `which` through the element at `index`. */
function momentsOver(x: ElementAt, index: readonly Expr[], dims: readonly Dim[], which: readonly number[]): Moments {
  const mean = meanOver(x, index, dims, which);
  return { mean, variance: meanOver((at) => square(op("sub", x(at), mean)), index, dims, which) };
}

function meanOver(x: ElementAt, index: readonly Expr[], dims: readonly Dim[], which: readonly number[]): Expr {
  const axes = axesOver(dims, which);
  const total = reduceOver("sum", axes, x(index.map((e, i) => (which.includes(i) ? axisIndex(axes[which.indexOf(i)]!) : e))));
  return op("div", total, countAs(total, which.map((i) => dims[i]!)));
}

const inverseDeviation = (variance: Expr, epsilon: number): Expr => op("rsqrt", op("add", variance, number(variance, epsilon)));

const normalized = (x: Expr, { mean, variance }: Moments, epsilon: number): Expr => op("mul", op("sub", x, mean), inverseDeviation(variance, epsilon));

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Y, Mean and InvStdDev; the last two have size 1 in the normalised dimensions. */
const layerNormalization: Lowering = {
  kind: "reduction",
  element(node, output, index, load) {
    const dims = inputDims(node, 0);
    const axis = normalizeAxis(numberAttribute(node, "axis", -1), dims.length);
    const epsilon = numberAttribute(node, "epsilon", 1e-5);
    const moments = momentsOver((at) => load(0, at), index, dims, range(axis, dims.length));
    if (output === 1) return moments.mean;
    if (output === 2) return inverseDeviation(moments.variance, epsilon);
    const scaled = op("mul", normalized(load(0, index), moments, epsilon), loadBroadcast(node, 1, dims, index, load));
    return hasInput(node, 2) ? op("add", scaled, loadBroadcast(node, 2, dims, index, load)) : scaled;
  },
};

/** x / sqrt(mean(x^2) + epsilon) * scale; the second output of the contrib form is the inverse root. */
const rmsNormalization: Lowering = {
  kind: "reduction",
  element(node, output, index, load) {
    const dims = inputDims(node, 0);
    const axis = normalizeAxis(numberAttribute(node, "axis", -1), dims.length);
    const meanSquare = meanOver((at) => square(load(0, at)), index, dims, range(axis, dims.length));
    const inverse = inverseDeviation(meanSquare, numberAttribute(node, "epsilon", 1e-5));
    if (output > 0) return inverse;
    return op("mul", op("mul", load(0, index), inverse), loadBroadcast(node, 1, dims, index, load));
  },
};

/** input + skip (+ bias), the last output, and its layer or RMS normalisation over the last dimension. */
function skipNormalization(biasInput: number, betaInput: number | undefined): Lowering {
  return {
    kind: "reduction",
    element(node, output, index, load) {
      const dims = inputDims(node, 0);
      const last = dims.length - 1;
      const x: ElementAt = (at) => {
        const total = op("add", load(0, at), loadBroadcast(node, 1, dims, at, load));
        return hasInput(node, biasInput) ? op("add", total, load(biasInput, [at[last]!])) : total;
      };
      if (output === 3) return x(index);
      const epsilon = numberAttribute(node, "epsilon", 1e-12);
      const gamma = load(2, [index[last]!]);
      if (betaInput === undefined) {
        const inverse = inverseDeviation(meanOver((at) => square(x(at)), index, dims, [last]), epsilon);
        return output === 0 ? op("mul", op("mul", x(index), inverse), gamma) : inverse;
      }
      const moments = momentsOver(x, index, dims, [last]);
      if (output === 1) return moments.mean;
      if (output === 2) return inverseDeviation(moments.variance, epsilon);
      const scaled = op("mul", normalized(x(index), moments, epsilon), gamma);
      return hasInput(node, betaInput) ? op("add", scaled, load(betaInput, [index[last]!])) : scaled;
    },
  };
}

const instanceNormalization: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const moments = momentsOver((at) => load(0, at), index, dims, range(2, dims.length));
    const y = normalized(load(0, index), moments, numberAttribute(node, "epsilon", 1e-5));
    return op("add", op("mul", y, load(1, [index[1]!])), load(2, [index[1]!]));
  },
};

/** Channels of one group share their moments; scale and bias are per channel. */
const groupNormalization: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const groups = numberAttribute(node, "num_groups", 1);
    const size = floorDiv(dims[1]!, groups);
    const group = op("div", index[1]!, dimValue(size));
    const grouped = [dims[0]!, groups, size, ...dims.slice(2)];
    const at = [index[0]!, group, i64(0), ...index.slice(2)];
    const x: ElementAt = ([n, g, c, ...rest]) => load(0, [n!, op("add", op("mul", g!, dimValue(size)), c!), ...rest]);
    const moments = momentsOver(x, at, grouped, range(2, grouped.length));
    const y = normalized(load(0, index), moments, numberAttribute(node, "epsilon", 1e-5));
    return op("add", op("mul", y, load(1, [index[1]!])), load(2, [index[1]!]));
  },
};

const batchNormalization: Lowering = {
  kind: "pointwise",
  supports: (node) => numberAttribute(node, "training_mode", 0) === 0,
  element(node, _output, index, load) {
    const c = [index[1] ?? i64(0)];
    const factor = op("mul", load(1, c), inverseDeviation(load(4, c), numberAttribute(node, "epsilon", 1e-5)));
    return op("add", op("mul", op("sub", load(0, index), load(3, c)), factor), load(2, c));
  },
};

const meanVarianceNormalization: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const which = (numbersAttribute(node, "axes") ?? [0, 2, 3]).map((axis) => normalizeAxis(axis, dims.length)).sort((a, b) => a - b);
    const { mean, variance } = momentsOver((at) => load(0, at), index, dims, which);
    return op("div", op("sub", load(0, index), mean), op("add", op("sqrt", variance), number(mean, 1e-9)));
  },
};

/** A row of zeros stays zero. */
const lpNormalization: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const axis = normalizeAxis(numberAttribute(node, "axis", -1), dims.length);
    const along: Axis = { name: "norm", extent: dims[axis]! };
    const x = load(0, index.map((e, i) => (i === axis ? axisIndex(along) : e)));
    const norm = numberAttribute(node, "p", 2) === 1 ? reduceOver("sum", [along], op("abs", x)) : op("sqrt", reduceOver("sum", [along], square(x)));
    return select(op("eq", norm, number(norm, 0)), number(norm, 0), op("div", load(0, index), norm));
  },
};

/** x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ^ beta. */
const lrn: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const size = numberAttribute(node, "size", 1);
    const window: Axis = { name: "window", extent: size };
    const channel = op("add", index[1]!, op("add", axisIndex(window), i64(-Math.floor((size - 1) / 2))));
    const isInside = op("and", op("ge", channel, i64(0)), op("lt", channel, dimValue(inputDims(node, 0)[1]!)));
    const x = load(0, index);
    const neighbour = select(isInside, load(0, index.map((e, i) => (i === 1 ? channel : e))), number(x, 0));
    const total = reduceOver("sum", [window], square(neighbour));
    const base = op("add", number(x, numberAttribute(node, "bias", 1)), op("mul", number(x, numberAttribute(node, "alpha", 1e-4) / size), total));
    return op("div", x, op("pow", base, number(x, numberAttribute(node, "beta", 0.75))));
  },
};

/** Rotates pairs of each head by angles from the caches; input [batch, seq, hidden] or [batch, heads, seq, size]. */
const rotaryEmbedding: Lowering = {
  kind: "view",
  supports: (node) => inputDims(node, 0).length === 4 || numberAttribute(node, "num_heads", 0) > 0,
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const isFlat = dims.length === 3;
    const size = isFlat ? floorDiv(dims[2]!, numberAttribute(node, "num_heads", 1)) : dims[3]!;
    const rotaryDim = numberAttribute(node, "rotary_embedding_dim", 0);
    const rotated: Dim = rotaryDim > 0 ? rotaryDim : size;
    const half = floorDiv(rotated, 2);
    const last = index.at(-1)!;
    const within = isFlat ? op("mod", last, dimValue(size)) : last;
    const base = op("sub", last, within);
    const sequence = isFlat ? index[1]! : index[2]!;
    const read = (element: Expr): Expr => load(0, [...index.slice(0, -1), op("add", base, element)]);
    const angle = (input: number, element: Expr): Expr => angleFrom(node, input, [index[0]!, sequence, element], load);
    const isInterleaved = numberAttribute(node, "interleaved", 0) !== 0;
    const pair = isInterleaved ? op("div", within, i64(2)) : op("mod", within, dimValue(half));
    const isFirst = isInterleaved ? op("eq", op("mod", within, i64(2)), i64(0)) : op("lt", within, dimValue(half));
    const first = isInterleaved ? op("mul", pair, i64(2)) : pair;
    const second = isInterleaved ? op("add", first, i64(1)) : op("add", pair, dimValue(half));
    const a = read(first);
    const b = read(second);
    const cos = angle(1, pair);
    const sin = angle(2, pair);
    const turned = select(isFirst, op("sub", op("mul", cos, a), op("mul", sin, b)), op("add", op("mul", sin, a), op("mul", cos, b)));
    return select(op("lt", within, dimValue(rotated)), turned, read(within));
  },
};

/** Caches are [positions, half] looked up by position_ids, or [batch, seq, half] without them. */
function angleFrom(node: Node, input: number, [batch, sequence, element]: readonly [Expr, Expr, Expr], load: LoadInput): Expr {
  if (!hasInput(node, 3)) return load(input, [batch, sequence, element]);
  const positions = dimValue(dimSub(inputDims(node, input)[0]!, 1));
  const id = op("max", op("min", load(3, [batch, sequence]), positions), i64(0));
  return load(input, [id, element]);
}

export const NORMALIZATIONS: readonly (readonly [OpKey, Lowering])[] = [
  ["LayerNormalization", layerNormalization],
  ["RMSNormalization", rmsNormalization],
  ["SimplifiedLayerNormalization", rmsNormalization],
  ["com.microsoft.SimplifiedLayerNormalization", rmsNormalization],
  ["com.microsoft.SkipLayerNormalization", skipNormalization(4, 3)],
  ["com.microsoft.SkipSimplifiedLayerNormalization", skipNormalization(3, undefined)],
  ["InstanceNormalization", instanceNormalization],
  ["GroupNormalization", groupNormalization],
  ["BatchNormalization", batchNormalization],
  ["MeanVarianceNormalization", meanVarianceNormalization],
  ["LpNormalization", lpNormalization],
  ["LRN", lrn],
  ["RotaryEmbedding", rotaryEmbedding],
];
