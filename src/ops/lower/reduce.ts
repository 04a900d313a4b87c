/**
 * Reductions over axes: Reduce*, ArgMax, ArgMin, CumSum, and the softmax family.
 * Source: ONNX operators, opset 25.
 */
import { axisIndex, type Axis, castTo, constant, type Dim, dimValue, type Expr, mul as dimMul, type Node, op, reduceOver, type ReduceOp, select } from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { hasInput, inputDims, inputType, knownElements, normalizeAxis, numberAttribute, numbersAttribute } from "./operand.ts";

/** Fresh axes over some dimensions of an input. */
export function axesOver(dims: readonly Dim[], which: readonly number[]): Axis[] {
  return which.map((i) => ({ name: `r${i}`, extent: dims[i]! }));
}

/** Number of elements reduced, in the type of `like`. */
export function countAs(like: Expr, dims: readonly Dim[]): Expr {
  return castTo(like.type, dimValue(dimMul(...dims)));
}

/** Axes of a Reduce node; undefined while unknown. */
function reducedAxes(node: Node): readonly number[] | undefined {
  const rank = inputDims(node, 0).length;
  const given = hasInput(node, 1) ? knownElements(node.inputs[1]) : numbersAttribute(node, "axes");
  if (hasInput(node, 1) && (!given?.every((axis) => typeof axis === "number"))) return undefined;
  if (!given || given.length === 0) return numberAttribute(node, "noop_with_empty_axes", 0) !== 0 ? [] : Array.from({ length: rank }, (_, i) => i);
  return (given as readonly number[]).map((axis) => normalizeAxis(axis, rank)).sort((a, b) => a - b);
}

interface Reduction {
  /** Reduces `body` of the element. */
  reduce(kind: ReduceOp, body: (x: Expr) => Expr): Expr;
  readonly count: (like: Expr) => Expr;
}

type Formula = (over: Reduction) => Expr;

const square = (x: Expr): Expr => op("mul", x, x);
const sum: Formula = (over) => over.reduce("sum", (x) => x);

/** log(sum(exp(x))) about the maximum, which may be infinite. */
function logSumExp(over: Reduction): Expr {
  const highest = over.reduce("max", (x) => x);
  const center = select(op("isInf", highest), constant(highest.type, 0), highest);
  return op("add", op("log", over.reduce("sum", (x) => op("exp", op("sub", x, center)))), center);
}

const FORMULAS: Readonly<Record<OpKey, Formula>> = {
  ReduceSum: sum,
  ReduceProd: (over) => over.reduce("prod", (x) => x),
  ReduceMax: (over) => over.reduce("max", (x) => x),
  ReduceMin: (over) => over.reduce("min", (x) => x),
  ReduceMean: (over) => { const total = sum(over); return op("div", total, over.count(total)); },
  ReduceL1: (over) => over.reduce("sum", (x) => op("abs", x)),
  ReduceL2: (over) => op("sqrt", over.reduce("sum", square)),
  ReduceSumSquare: (over) => over.reduce("sum", square),
  ReduceLogSum: (over) => op("log", sum(over)),
  ReduceLogSumExp: logSumExp,
};

function reduceLowering(formula: Formula): Lowering {
  return {
    kind: "reduction",
    supports: (node) => reducedAxes(node) !== undefined && (inputType(node) !== "bool" || node.op === "ReduceMax" || node.op === "ReduceMin"),
    element(node, _output, index, load) {
      const dims = inputDims(node, 0);
      const which = reducedAxes(node)!;
      const keepDims = numberAttribute(node, "keepdims", 1) !== 0;
      const element = (axes: readonly Axis[]): Expr => {
        let next = 0;
        return load(0, dims.map((_, i) => {
          const reduced = which.indexOf(i);
          if (reduced < 0) return index[next++]!;
          if (keepDims) next++;
          return axisIndex(axes[reduced]!);
        }));
      };
      const reduce = (kind: ReduceOp, body: (x: Expr) => Expr): Expr => {
        const axes = axesOver(dims, which);
        return reduceOver(kind, axes, body(element(axes)));
      };
      return formula({ reduce, count: (like) => countAs(like, which.map((i) => dims[i]!)) });
    },
  };
}

/** The position of the extreme along one axis: the first, or the last with select_last_index. */
function extremePosition(x: (at: Expr) => Expr, extent: Dim, kind: "min" | "max", isLast: boolean): Expr {
  const find: Axis = { name: "find", extent };
  const best = reduceOver(kind, [find], x(axisIndex(find)));
  const axis: Axis = { name: "at", extent };
  const position = castTo("i32", axisIndex(axis));
  const miss = constant("i32", isLast ? -1 : 0x7fffffff);
  const found = reduceOver(isLast ? "max" : "min", [axis], select(op("eq", x(axisIndex(axis)), best), position, miss));
  return found;
}

function argExtreme(kind: "min" | "max"): Lowering {
  return {
    kind: "reduction",
    element(node, _output, index, load) {
      const dims = inputDims(node, 0);
      const axis = normalizeAxis(numberAttribute(node, "axis", 0), dims.length);
      const before = index.slice(0, axis);
      const after = index.slice(numberAttribute(node, "keepdims", 1) !== 0 ? axis + 1 : axis);
      return castTo("i64", extremePosition((at) => load(0, [...before, at, ...after]), dims[axis]!, kind, numberAttribute(node, "select_last_index", 0) !== 0));
    },
  };
}

interface AlongAxis { readonly axis: number; readonly dim: Dim; readonly x: (at: Expr) => Expr; readonly here: Expr }

/** The elements along the node's axis through the output element. */
function alongAxis(node: Node, index: readonly Expr[], load: LoadInput): AlongAxis {
  const dims = inputDims(node, 0);
  const axis = normalizeAxis(numberAttribute(node, "axis", -1), dims.length);
  const x = (at: Expr): Expr => load(0, index.map((e, i) => (i === axis ? at : e)));
  return { axis, dim: dims[axis]!, x, here: index[axis]! };
}

function softmaxParts({ x, dim, here }: AlongAxis): { centered: Expr; total: Expr } {
  const first: Axis = { name: "m", extent: dim };
  const highest = reduceOver("max", [first], x(axisIndex(first)));
  const second: Axis = { name: "s", extent: dim };
  const total = reduceOver("sum", [second], op("exp", op("sub", x(axisIndex(second)), highest)));
  return { centered: op("sub", x(here), highest), total };
}

const softmax: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const { centered, total } = softmaxParts(alongAxis(node, index, load));
    return op("mul", op("exp", centered), op("reciprocal", total));
  },
};

const logSoftmax: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const { centered, total } = softmaxParts(alongAxis(node, index, load));
    return op("sub", centered, op("log", total));
  },
};

const hardmax: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const { x, dim, here } = alongAxis(node, index, load);
    const position = extremePosition(x, dim, "max", false);
    const type = x(here).type;
    return select(op("eq", castTo("i32", here), position), constant(type, 1), constant(type, 0));
  },
};

/** Each element sums its prefix: quadratic, but one expression. */
const cumSum: Lowering = {
  kind: "reduction",
  supports: (node) => typeof knownElements(node.inputs[1])?.[0] === "number",
  element(node, _output, index, load) {
    const dims = inputDims(node, 0);
    const at = normalizeAxis(knownElements(node.inputs[1])![0] as number, dims.length);
    const axis: Axis = { name: "prefix", extent: dims[at]! };
    const k = axisIndex(axis);
    const x = load(0, index.map((e, i) => (i === at ? k : e)));
    const isReverse = numberAttribute(node, "reverse", 0) !== 0;
    const isExclusive = numberAttribute(node, "exclusive", 0) !== 0;
    const order = isReverse ? (isExclusive ? "gt" : "ge") : isExclusive ? "lt" : "le";
    return reduceOver("sum", [axis], select(op(order, k, index[at]!), x, constant(x.type, 0)));
  },
};

export const REDUCTIONS: readonly (readonly [OpKey, Lowering])[] = [
  ...Object.entries(FORMULAS).map(([key, formula]): [OpKey, Lowering] => [key, reduceLowering(formula)]),
  ["ArgMax", argExtreme("max")],
  ["ArgMin", argExtreme("min")],
  ["Softmax", softmax],
  ["LogSoftmax", logSoftmax],
  ["Hardmax", hardmax],
  ["CumSum", cumSum],
];
