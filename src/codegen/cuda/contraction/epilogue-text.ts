/**
 * The epilogue of a contraction as a C++ lambda `finish(sum0, sum1, row, column)`: two neighbouring columns at a time,
 * because that is what a lane of a fragment holds. Elements that lie side by side are loaded together.
 * Rows are in range; a column beyond the last is replaced, its result unused.
 */
import { DTYPE_BITS } from "../../../base/index.ts";
import { add, affineOf, type Axis, type Dim, type Epilogue, type Expr, mul, visitExpr } from "../../../ir/index.ts";
import { flattenExpr } from "../../flatten.ts";
import { CodeWriter } from "../code-writer.ts";
import { ExpressionEmitter, type LoadExpr, Point } from "../expression.ts";
import { elementType } from "../scalars.ts";
import type { KernelText } from "./kernel-text.ts";
import { roundedMath } from "./output-text.ts";
import type { Problem } from "./problem.ts";
import { isAligned, isMultipleOf } from "./tensor-map.ts";

/** Splits the linear batch index `index` into one variable per batch dimension: b0, b1, … */
export function splitBatch(text: KernelText, batch: readonly Dim[], index: string): string {
  return batch.map((dim, i) => {
    const inner = mul(...batch.slice(i + 1));
    const quotient = inner === 1 ? index : `${index} / ${text.size(inner)}`;
    return `const int b${i} = ${i === 0 ? quotient : `(${quotient}) % ${text.size(dim)}`};`;
  }).join(" ");
}

/** `out`, the first element of the batch's output; `fetch` and `finish`. */
export function outputText(text: KernelText, problem: Problem): string {
  const { output } = problem;
  const type = output.buffer.dtype === "float32" ? "float" : "u16";
  const offset = output.batchStrides.map((stride, i) => ` + b${i} * ${text.size64(stride)}`).join("");
  return `${type}* const out = (${type}*)${text.pointer(output.buffer)}${offset};
      ${finishText(text, problem)}`;
}

/** Without an epilogue: nothing to fetch, sums as they are. */
export const PLAIN_FINISH = `struct Fetched {};
      const auto fetch = [](int, int) -> Fetched { return Fetched{}; };
      const auto finish = [](float sum0, float sum1, int, int, const Fetched&) -> float2 { return float2{sum0, sum1}; };`;

function finishText(text: KernelText, { output, columns }: Problem): string {
  if (!output.epilogue) return PLAIN_FINISH;
  const batch = output.columnBase === undefined ? output.batchStrides.map((_, i) => `b${i}`) : [];
  const rows = (output.rows ?? []).map(({ name, value }) => `const int ${name} = ${value};`).join(" ");
  const indices = [...batch, ...(output.rows ? output.rows.map(({ name }) => name) : ["row"])];
  const pair = pairText(text, output.epilogue, { indices, columns, ...(output.columnBase !== undefined && { base: output.columnBase }) });
  const indented = (lines: string): string => lines.replaceAll("\n", "\n        ");
  return `struct Fetched { ${pair.fields.join(" ")} };
      const auto fetch = [&](int row, int column) -> Fetched {
        ${rows}
        ${indented(pair.place)}
        Fetched fetched;
        ${indented(pair.fetch)}
        return fetched;
      };
      const auto finish = [&](float sum0, float sum1, int row, int column, const Fetched& fetched) -> float2 {
        ${rows}
        ${indented(pair.place)}
        ${indented(roundedMath(output.buffer.dtype, pair.finish))}
      };`;
}

export interface PairPlace {
  /** C++ of all axes but the last. */
  readonly indices: readonly string[];
  /** How many columns there are, and the last axis' index at the first one. */
  readonly columns: Dim;
  readonly base?: string;
}

/** The parts of a pair's computation, as statements. */
export interface PairText {
  /** Where it lies: column0 and column1. */
  readonly place: string;
  /** Loads of neighbours into `fetched`, and its fields: what can be asked for before the sums are there. */
  readonly fetch: string;
  readonly fields: readonly string[];
  /** Returns the values at `column` and the one after it, as float2. */
  readonly finish: string;
}

export function pairText(text: KernelText, { axes, value }: Epilogue, { indices, columns, base = "0" }: PairPlace): PairText {
  const { expr, safe } = flattenExpr(value);
  const columnAxis = axes.at(-1)!;
  const row = new Point(undefined, new Map(indices.map((name, i) => [axes[i]!, name])));
  const paired = isMultipleOf(columns, 2);
  const last = text.size(add(columns, paired ? -2 : -1));
  const place = `const int column0 = ${base} + min(column, ${last}), column1 = ${paired ? "column0 + 1" : `${base} + min(column + 1, ${last})`};`;
  const points = ["column0", "column1"].map((name) => new Point(row, new Map([[columnAxis, name]])));
  const code = new CodeWriter();
  const emitter = new ExpressionEmitter(code, text.params, safe);
  const fetched = paired ? fetchedLoads(emitter, expr, columnAxis, points) : [];
  const values = points.map((point, i) => emitter.value(expr, new Point(point, new Map(), `sum${i}`)));
  code.line(`return float2{${values.join(", ")}};`);
  return { place, fetch: fetched.map(({ load }) => load).join("\n"), fields: fetched.map(({ field }) => field), finish: code.text() };
}

/** Loads of pairs of neighbours, where every other part of the position is even; their values are known at `points` from then on. */
function fetchedLoads(emitter: ExpressionEmitter, expr: Expr, column: Axis, points: readonly Point[]): { readonly field: string; readonly load: string }[] {
  return [...loadsOf(expr)].filter((load) => emitter.isSafe(load) && isPaired(load, column)).map((load, i) => {
    const type = `Vec<${elementType(load.buffer.dtype)}, 2>`;
    const address = `${emitter.params.pointer(load.buffer)} + ${emitter.address(load, points[0]!)}`;
    points.forEach((point, e) => point.provide(load, `element(fetched.at${i}.at[${e}])`));
    return { field: `${type} at${i};`, load: `fetched.at${i} = *(const ${type}*)(${address});` };
  });
}

function loadsOf(expr: Expr): Set<LoadExpr> {
  const loads = new Set<LoadExpr>();
  visitExpr(expr, (e) => { if (e.kind === "load") loads.add(e); });
  return loads;
}

function isPaired(load: LoadExpr, column: Axis): boolean {
  const { terms, constant } = affineOf(load.index[0]!);
  if (!isAligned(load.buffer, [], 1, DTYPE_BITS[load.buffer.dtype] / 4)) return false;
  const isColumn = ({ atom }: { readonly atom: Expr }): boolean => atom.kind === "axis" && atom.axis === column;
  return isMultipleOf(constant, 2) && terms.some(isColumn) && terms.every((term) => (isColumn(term) ? term.coefficient === 1 : term.atom.kind === "axis" && isMultipleOf(term.coefficient, 2)));
}

