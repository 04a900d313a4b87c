/**
 * Sliding windows: pooling, and convolution as a plain reduction (the last resort; contractions do it fast).
 * Images are channels-first, [n, c, ...spatial], or channels-last with attribute `layout` "NHWC", [n, ...spatial, c].
 */
import {
  add as dimAdd, allOf, type Axis, axisIndex, castTo, constant, type Dim, dimValue, type Expr, floorDiv, i64, max as dimMax, mul as dimMul, type Node, op, reduceIdentity, reduceOver, select, sub as dimSub,
} from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, numberAttribute, numbersAttribute, outputDims, stringAttribute } from "./operand.ts";
import { axesOver, countAs } from "./reduce.ts";

const isChannelsLast = (node: Node): boolean => stringAttribute(node, "layout", "NCHW") === "NHWC";

/** Positions of the spatial dimensions. */
function spatialDims(node: Node, dims: readonly Dim[]): number[] {
  const first = isChannelsLast(node) ? 1 : 2;
  return Array.from({ length: dims.length - 2 }, (_, i) => first + i);
}

const channelDim = (node: Node, dims: readonly Dim[]): number => (isChannelsLast(node) ? dims.length - 1 : 1);

interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Before the first element, and after the last, per spatial dimension. */
  readonly begins: readonly Dim[];
  readonly ends: readonly Dim[];
  /** Input and output sizes. */
  readonly from: readonly Dim[];
  readonly to: readonly Dim[];
}

function windowOf(node: Node, kernel: readonly number[]): Window {
  const rank = kernel.length;
  const ones = new Array<number>(rank).fill(1);
  const strides = numbersAttribute(node, "strides") ?? ones;
  const dilations = numbersAttribute(node, "dilations") ?? ones;
  const pads = numbersAttribute(node, "pads") ?? new Array<number>(2 * rank).fill(0);
  const dims = inputDims(node, 0);
  const spatial = spatialDims(node, dims);
  const from = spatial.map((i) => dims[i]!);
  const to = spatial.map((i) => outputDims(node)[i]!);
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  if (!auto.startsWith("SAME")) {
    const none = auto === "VALID";
    return { kernel, strides, dilations, from, to, begins: none ? ones.map(() => 0) : pads.slice(0, rank), ends: none ? ones.map(() => 0) : pads.slice(rank) };
  }
  const totals = to.map((size, i) => dimMax(0, dimSub(dimAdd(dimMul(dimSub(size, 1), strides[i]!), (kernel[i]! - 1) * dilations[i]! + 1), from[i]!)));
  const small = totals.map((total) => floorDiv(total, 2));
  const large = totals.map((total, i) => dimSub(total, small[i]!));
  return auto === "SAME_UPPER" ? { kernel, strides, dilations, from, to, begins: small, ends: large } : { kernel, strides, dilations, from, to, begins: large, ends: small };
}

const shifted = (index: Expr, by: Dim): Expr => op("add", index, dimValue(by));

/** Where output position `at` of spatial dimension i meets kernel position k. */
function tapPosition(window: Window, i: number, at: Expr, k: Expr): Expr {
  return shifted(op("add", op("mul", at, i64(window.strides[i]!)), op("mul", k, i64(window.dilations[i]!))), dimMul(window.begins[i]!, -1));
}

const inside = (at: Expr, size: Dim): Expr => op("and", op("ge", at, i64(0)), op("lt", at, dimValue(size)));

/** The input element under each tap, `outside` where the window hangs over the edge. */
function tapValue(node: Node, window: Window, taps: readonly Axis[], index: readonly Expr[], load: (index: readonly Expr[]) => Expr, outside: (x: Expr) => Expr): Expr {
  const dims = inputDims(node, 0);
  const spatial = spatialDims(node, dims);
  const positions = taps.map((tap, i) => tapPosition(window, i, index[spatial[i]!]!, axisIndex(tap)));
  const x = load(index.map((e, d) => (spatial.includes(d) ? positions[spatial.indexOf(d)]! : e)));
  return select(allOf(positions.map((at, i) => inside(at, window.from[i]!))), x, outside(x));
}

const kernelAxes = (kernel: readonly number[]): Axis[] => kernel.map((extent, i) => ({ name: `k${i}`, extent }));

const kernelShape = (node: Node): readonly number[] => numbersAttribute(node, "kernel_shape") ?? [];

const maxPool: Lowering = {
  kind: "reduction",
  supports: (node) => node.outputs[1] === undefined,
  element(node, _output, index, load) {
    const window = windowOf(node, kernelShape(node));
    const taps = kernelAxes(window.kernel);
    return reduceOver("max", taps, tapValue(node, window, taps, index, (at) => load(0, at), (x) => constant(x.type, reduceIdentity("max", x.type))));
  },
};

/** How many taps lie between `low` and `high` along one dimension. */
function tapCount(window: Window, i: number, at: Expr, low: Dim, high: Dim): Expr {
  const step = window.dilations[i]!;
  const start = shifted(op("mul", at, i64(window.strides[i]!)), dimMul(window.begins[i]!, -1));
  const stepsTo = (limit: Dim): Expr => op("div", op("add", op("max", op("sub", dimValue(limit), start), i64(0)), i64(step - 1)), i64(step));
  return op("sub", op("min", stepsTo(high), i64(window.kernel[i]!)), stepsTo(low));
}

const averagePool: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const window = windowOf(node, kernelShape(node));
    const taps = kernelAxes(window.kernel);
    const total = reduceOver("sum", taps, tapValue(node, window, taps, index, (at) => load(0, at), (x) => constant(x.type, 0)));
    const includesPads = numberAttribute(node, "count_include_pad", 0) !== 0;
    const spatial = spatialDims(node, inputDims(node, 0));
    const counts = taps.map((_, i) => {
      const low = includesPads ? dimMul(window.begins[i]!, -1) : 0;
      const high = includesPads ? dimAdd(window.from[i]!, window.ends[i]!) : window.from[i]!;
      return tapCount(window, i, index[spatial[i]!]!, low, high);
    });
    const count = counts.reduce((a, b) => op("mul", a, b));
    return op("div", total, castTo(total.type, count));
  },
};

/** |x|^p; the usual p = 1 and 2 need no power. */
const powerOf = (x: Expr, p: number): Expr => (p === 1 ? op("abs", x) : p === 2 ? op("mul", x, x) : op("pow", op("abs", x), constant(x.type, p)));
const rootOf = (x: Expr, p: number): Expr => (p === 1 ? x : p === 2 ? op("sqrt", x) : op("pow", x, constant(x.type, 1 / p)));

const lpPool: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const p = numberAttribute(node, "p", 2);
    const window = windowOf(node, kernelShape(node));
    const taps = kernelAxes(window.kernel);
    return rootOf(reduceOver("sum", taps, powerOf(tapValue(node, window, taps, index, (at) => load(0, at), (x) => constant(x.type, 0)), p)), p);
  },
};

function globalPool(finish: (x: Expr, axes: readonly Axis[], sizes: readonly Dim[], node: Node) => Expr): Lowering {
  return {
    kind: "reduction",
    element(node, _output, index, load) {
      const dims = inputDims(node, 0);
      const spatial = spatialDims(node, dims);
      const axes = axesOver(dims, spatial);
      const x = load(0, index.map((e, d) => (spatial.includes(d) ? axisIndex(axes[spatial.indexOf(d)]!) : e)));
      return finish(x, axes, spatial.map((d) => dims[d]!), node);
    },
  };
}

const globalAverage = globalPool((x, axes, sizes) => {
  const total = reduceOver("sum", axes, x);
  return op("div", total, countAs(total, sizes));
});

const globalLp = globalPool((x, axes, _sizes, node) => {
  const p = numberAttribute(node, "p", 2);
  return rootOf(reduceOver("sum", axes, powerOf(x, p)), p);
});

const withBias = (value: Expr, node: Node, channel: Expr, load: (input: number, index: readonly Expr[]) => Expr): Expr =>
  (hasInput(node, 2) ? op("add", value, load(2, [channel])) : value);

const staticKernel = (node: Node): boolean => inputDims(node, 1).slice(2).every((dim) => typeof dim === "number");

const conv: Lowering = {
  kind: "reduction",
  supports: staticKernel,
  element(node, _output, index, load) {
    const weightDims = inputDims(node, 1);
    const window = windowOf(node, weightDims.slice(2) as number[]);
    const taps = kernelAxes(window.kernel);
    const perGroup: Axis = { name: "ci", extent: weightDims[1]! };
    const at = channelDim(node, inputDims(node, 0));
    const channel = index[at]!;
    const group = op("div", channel, dimValue(floorDiv(weightDims[0]!, numberAttribute(node, "group", 1))));
    const source = op("add", op("mul", group, dimValue(weightDims[1]!)), axisIndex(perGroup));
    const x = tapValue(node, window, taps, index.map((e, d) => (d === at ? source : e)), (i) => load(0, i), (v) => constant(v.type, 0));
    const w = load(1, [channel, axisIndex(perGroup), ...taps.map(axisIndex)]);
    return withBias(reduceOver("sum", [perGroup, ...taps], op("mul", x, w)), node, channel, load);
  },
};

/** Begin pads of a transposed convolution; with auto_pad or output_shape they follow from the output's size. */
function transposedBegins(node: Node, window: Window): readonly Dim[] {
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  if (!auto.startsWith("SAME") && !numbersAttribute(node, "output_shape")) return window.begins;
  const extra = numbersAttribute(node, "output_padding") ?? window.kernel.map(() => 0);
  return window.to.map((size, i) => {
    const full = dimAdd(dimMul(dimSub(window.from[i]!, 1), window.strides[i]!), extra[i]! + (window.kernel[i]! - 1) * window.dilations[i]! + 1);
    const total = dimMax(0, dimSub(full, size));
    const half = floorDiv(total, 2);
    return auto === "SAME_UPPER" ? half : dimSub(total, half);
  });
}

/** Output y takes tap k from input (y + pad - k * dilation) / stride where that divides. Weights [in, out / groups, ...kernel]. */
const convTranspose: Lowering = {
  kind: "reduction",
  supports: staticKernel,
  element(node, _output, index, load) {
    const weightDims = inputDims(node, 1);
    const window = windowOf(node, weightDims.slice(2) as number[]);
    const begins = transposedBegins(node, window);
    const taps = kernelAxes(window.kernel);
    const groups = numberAttribute(node, "group", 1);
    const perGroup: Axis = { name: "ci", extent: floorDiv(weightDims[0]!, groups) };
    const at = channelDim(node, inputDims(node, 0));
    const channel = index[at]!;
    const group = op("div", channel, dimValue(weightDims[1]!));
    const source = op("add", op("mul", group, dimValue(perGroup.extent)), axisIndex(perGroup));
    const spatial = spatialDims(node, inputDims(node, 0));
    const reached = taps.map((tap, i) => shifted(op("sub", index[spatial[i]!]!, op("mul", axisIndex(tap), i64(window.dilations[i]!))), begins[i]!));
    const positions = reached.map((e, i) => (window.strides[i] === 1 ? e : op("div", op("max", e, i64(0)), i64(window.strides[i]!))));
    const guards = reached.map((e, i) => allOf([
      op("ge", e, i64(0)),
      window.strides[i] === 1 ? { kind: "const", type: "bool", value: 1 } : op("eq", op("mod", op("max", e, i64(0)), i64(window.strides[i]!)), i64(0)),
      op("lt", positions[i]!, dimValue(window.from[i]!)),
    ]));
    const x = load(0, index.map((e, d) => (d === at ? source : spatial.includes(d) ? positions[spatial.indexOf(d)]! : e)));
    const w = load(1, [source, op("mod", channel, dimValue(weightDims[1]!)), ...taps.map(axisIndex)]);
    return withBias(reduceOver("sum", [perGroup, ...taps], op("mul", select(allOf(guards), x, constant(x.type, 0)), w)), node, channel, load);
  },
};

export const WINDOWS: readonly (readonly [OpKey, Lowering])[] = [
  ["MaxPool", maxPool],
  ["AveragePool", averagePool],
  ["LpPool", lpPool],
  ["GlobalAveragePool", globalAverage],
  ["GlobalMaxPool", globalPool((x, axes) => reduceOver("max", axes, x))],
  ["GlobalLpPool", globalLp],
  ["Conv", conv],
  ["ConvTranspose", convTranspose],
];
