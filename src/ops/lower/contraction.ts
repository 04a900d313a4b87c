/**
 * Products of tensors as plain reductions: MatMul, Gemm, Einsum, MatMulInteger. Right for every type and shape, and
 * the last resort: contractions with their own code generators do the large ones.
 */
import { type Axis, axisIndex, castTo, constant, type Dim, type Expr, i64, type Node, op, reduceOver } from "../../ir/index.ts";
import type { LoadInput, Lowering, OpKey } from "../contract.ts";
import { broadcastIndex, hasInput, inputDims, loadBroadcast, numberAttribute, outputDims, stringAttribute } from "./operand.ts";

/** Element k of A's row and B's column for the output element; vectors drop their missing dimension. */
function matmulOperands(node: Node, index: readonly Expr[], k: Expr, load: LoadInput): { a: Expr; b: Expr } {
  const a = inputDims(node, 0);
  const b = inputDims(node, 1);
  const out = outputDims(node);
  const columns = b.length > 1 ? 1 : 0;
  const rows = a.length > 1 ? 1 : 0;
  const batch = index.slice(0, index.length - rows - columns);
  const batchDims = out.slice(0, batch.length);
  const row = rows ? [index[batch.length]!] : [];
  const column = columns ? [index.at(-1)!] : [];
  return {
    a: load(0, [...broadcastIndex(a.slice(0, -1 - rows), batchDims, batch), ...row, k]),
    b: load(1, [...broadcastIndex(b.slice(0, -1 - columns), batchDims, batch), k, ...column]),
  };
}

const matmul: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const axis: Axis = { name: "k", extent: inputDims(node, 0).at(-1)! };
    const { a, b } = matmulOperands(node, index, axisIndex(axis), load);
    return reduceOver("sum", [axis], op("mul", a, b));
  },
};

/** Zero points are scalars, or one per row of A and per column of B. */
const matmulInteger: Lowering = {
  kind: "reduction",
  supports: (node) => [2, 3].every((input) => !hasInput(node, input) || inputDims(node, input).length <= 1),
  element(node, _output, index, load) {
    const axis: Axis = { name: "k", extent: inputDims(node, 0).at(-1)! };
    const { a, b } = matmulOperands(node, index, axisIndex(axis), load);
    const zero = (input: number, at: Expr): Expr => {
      if (!hasInput(node, input)) return constant("i32", 0);
      const dims = inputDims(node, input);
      return castTo("i32", load(input, dims.map((dim) => (dim === 1 ? i64(0) : at))));
    };
    return reduceOver("sum", [axis], op("mul", op("sub", a, zero(2, index.at(-2) ?? i64(0))), op("sub", b, zero(3, index.at(-1) ?? i64(0)))));
  },
};

const gemm: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const isATransposed = numberAttribute(node, "transA", 0) !== 0;
    const isBTransposed = numberAttribute(node, "transB", 0) !== 0;
    const axis: Axis = { name: "k", extent: inputDims(node, 0)[isATransposed ? 0 : 1]! };
    const k = axisIndex(axis);
    const [m, n] = index as [Expr, Expr];
    const product = op("mul", load(0, isATransposed ? [k, m] : [m, k]), load(1, isBTransposed ? [n, k] : [k, n]));
    const total = reduceOver("sum", [axis], product);
    const scaled = op("mul", total, constant(total.type, numberAttribute(node, "alpha", 1)));
    if (!hasInput(node, 2)) return scaled;
    const bias = loadBroadcast(node, 2, outputDims(node), index, load);
    return op("add", scaled, op("mul", bias, constant(total.type, numberAttribute(node, "beta", 1))));
  },
};

interface Equation { readonly inputs: readonly (readonly string[])[]; readonly output: readonly string[] }

/** Labels per dimension; an ellipsis becomes labels of its own, aligned at the right. */
function parseEquation(node: Node): Equation {
  const text = stringAttribute(node, "equation", "").replaceAll(" ", "");
  const [left, right] = text.split("->") as [string, string | undefined];
  const terms = left.split(",");
  const ranks = terms.map((term, i) => inputDims(node, i).length - term.replace("...", "").length);
  const widest = Math.max(0, ...terms.map((term, i) => (term.includes("...") ? ranks[i]! : 0)));
  const expand = (term: string, count: number): string[] => {
    const at = term.indexOf("...");
    if (at < 0) return [...term];
    const dots = Array.from({ length: count }, (_, i) => `.${widest - count + i}`);
    return [...term.slice(0, at), ...dots, ...term.slice(at + 3)];
  };
  const inputs = terms.map((term, i) => expand(term, ranks[i]!));
  if (right !== undefined) return { inputs, output: expand(right, widest) };
  const letters = [...left.replaceAll(".", "").replaceAll(",", "")];
  const once = [...new Set(letters)].filter((letter) => letters.filter((other) => other === letter).length === 1).sort();
  return { inputs, output: [...Array.from({ length: widest }, (_, i) => `.${i}`), ...once] };
}

const einsum: Lowering = {
  kind: "reduction",
  element(node, _output, index, load) {
    const { inputs, output } = parseEquation(node);
    const sizes = new Map<string, Dim>();
    inputs.forEach((labels, i) => labels.forEach((label, d) => {
      const size = inputDims(node, i)[d]!;
      if (!sizes.has(label) || sizes.get(label) === 1) sizes.set(label, size);
    }));
    const axes = new Map<string, Axis>();
    for (const [label, extent] of sizes) if (!output.includes(label)) axes.set(label, { name: label, extent });
    const at = (label: string): Expr => (axes.has(label) ? axisIndex(axes.get(label)!) : index[output.indexOf(label)]!);
    const factors = inputs.map((labels, i) => load(i, labels.map((label, d) => (inputDims(node, i)[d] === 1 ? i64(0) : at(label)))));
    return reduceOver("sum", [...axes.values()], factors.reduce((a, b) => op("mul", a, b)));
  },
};

export const CONTRACTIONS: readonly (readonly [OpKey, Lowering])[] = [
  ["MatMul", matmul],
  ["MatMulInteger", matmulInteger],
  ["Gemm", gemm],
  ["Einsum", einsum],
];
