/**
 * The epilogue of a contraction as a C++ lambda `finish(sum0, sum1, row, column)`: two neighbouring columns at a time,
 * because that is what a lane of a fragment holds. Elements that lie side by side are loaded together.
 * Rows are in range; a column beyond the last is replaced, its result unused.
 */
import { add, affineOf, type Axis, type Dim, type Epilogue, type Expr, mul, visitExpr } from "../../../ir/index.ts";
import { flattenExpr } from "../../flatten.ts";
import { CodeWriter } from "../code-writer.ts";
import { ExpressionEmitter, type LoadExpr, Point } from "../expression.ts";
import { elementType } from "../scalars.ts";
import type { KernelText } from "./kernel-text.ts";
import type { Problem } from "./problem.ts";
import { isMultipleOf } from "./tensor-map.ts";

/** Splits the linear batch index `index` into one variable per batch dimension: b0, b1, … */
export function splitBatch(text: KernelText, batch: readonly Dim[], index: string): string {
  return batch.map((dim, i) => {
    const inner = mul(...batch.slice(i + 1));
    const quotient = inner === 1 ? index : `${index} / ${text.size(inner)}`;
    return `const int b${i} = ${i === 0 ? quotient : `(${quotient}) % ${text.size(dim)}`};`;
  }).join(" ");
}

/** `out`, the first element of the batch's output, and `finish`. */
export function outputText(text: KernelText, problem: Problem): string {
  const { output } = problem;
  const type = output.buffer.dtype === "float32" ? "float" : "u16";
  const offset = output.batchStrides.map((stride, i) => ` + b${i} * ${text.size64(stride)}`).join("");
  return `${type}* const out = (${type}*)${text.pointer(output.buffer)}${offset};
      const auto finish = [&](float sum0, float sum1, int row, int column) -> float2 {
        ${finishText(text, problem).replaceAll("\n", "\n        ")}
      };`;
}

function finishText(text: KernelText, { output, columns }: Problem): string {
  if (!output.epilogue) return "return float2{sum0, sum1};";
  const batch = output.columnBase === undefined ? output.batchStrides.map((_, i) => `b${i}`) : [];
  const rows = (output.rows ?? []).map(({ name, value }) => `const int ${name} = ${value};\n`).join("");
  const indices = [...batch, ...(output.rows ? output.rows.map(({ name }) => name) : ["row"])];
  return rows + pairText(text, output.epilogue, { indices, columns, ...(output.columnBase !== undefined && { base: output.columnBase }) });
}

export interface PairPlace {
  /** C++ of all axes but the last. */
  readonly indices: readonly string[];
  /** How many columns there are, and the last axis' index at the first one. */
  readonly columns: Dim;
  readonly base?: string;
}

/** Statements that return the values at `column` and the one after it, as float2. */
export function pairText(text: KernelText, { axes, value }: Epilogue, { indices, columns, base = "0" }: PairPlace): string {
  const { expr, safe } = flattenExpr(value);
  const columnAxis = axes.at(-1)!;
  const code = new CodeWriter();
  const emitter = new ExpressionEmitter(code, text.params, safe);
  const row = new Point(undefined, new Map(indices.map((name, i) => [axes[i]!, name])));
  const paired = isMultipleOf(columns, 2);
  const last = text.size(add(columns, paired ? -2 : -1));
  code.line(`const int column0 = ${base} + min(column, ${last}), column1 = ${paired ? "column0 + 1" : `${base} + min(column + 1, ${last})`};`);
  const points = ["column0", "column1"].map((name) => new Point(row, new Map([[columnAxis, name]])));
  if (paired) provideLoads(emitter, expr, columnAxis, points);
  const values = points.map((point, i) => emitter.value(expr, new Point(point, new Map(), `sum${i}`)));
  code.line(`return float2{${values.join(", ")}};`);
  return code.text();
}

/** Loads pairs of neighbours, where every other part of the position is even. */
function provideLoads(emitter: ExpressionEmitter, expr: Expr, column: Axis, points: readonly Point[]): void {
  for (const load of loadsOf(expr)) {
    if (!emitter.isSafe(load) || !isPaired(load, column)) continue;
    const type = elementType(load.buffer.dtype);
    const name = emitter.code.fresh("pair");
    emitter.code.line(`const Vec<${type}, 2> ${name} = *(const Vec<${type}, 2>*)(${emitter.params.pointer(load.buffer)} + ${emitter.address(load, points[0]!)});`);
    points.forEach((point, i) => point.provide(load, `element(${name}.at[${i}])`));
  }
}

function loadsOf(expr: Expr): Set<LoadExpr> {
  const loads = new Set<LoadExpr>();
  visitExpr(expr, (e) => { if (e.kind === "load") loads.add(e); });
  return loads;
}

function isPaired(load: LoadExpr, column: Axis): boolean {
  const { terms, constant } = affineOf(load.index[0]!);
  const isColumn = ({ atom }: { readonly atom: Expr }): boolean => atom.kind === "axis" && atom.axis === column;
  return isMultipleOf(constant, 2) && terms.some(isColumn) && terms.every((term) => (isColumn(term) ? term.coefficient === 1 : isMultipleOf(term.coefficient, 2) && !mentions(term.atom, column)));
}

function mentions(expr: Expr, axis: Axis): boolean {
  let found = false;
  visitExpr(expr, (e) => { if (e.kind === "axis" && e.axis === axis) found = true; });
  return found;
}

