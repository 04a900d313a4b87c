/**
 * The epilogue of a contraction as C++ lambdas: `finish(sum0, sum1, row, column, fetched)` makes two neighbouring columns at a
 * time, because that is what a lane of a fragment holds. What it reads comes beforehand: `fetch` asks for a pair where
 * elements lie side by side, `fetchOwn` for a vector of neighbours that four lanes then share (see output-text.ts).
 * Rows are in range; a column beyond the last is replaced, its result unused.
 */
import { DTYPE_BITS } from "../../../base/index.ts";
import { add, affineOf, type Axis, type Dim, type Epilogue, type Expr, mul, visitExpr } from "../../../ir/index.ts";
import { flattenExpr } from "../../flatten.ts";
import { CodeWriter } from "../code-writer.ts";
import { ExpressionEmitter, type LoadExpr, Point } from "../expression.ts";
import { elementType } from "../scalars.ts";
import { ELEMENTS } from "./elements.ts";
import type { KernelText } from "./kernel-text.ts";
import { outputForm, ownColumns, roundedMath } from "./output-text.ts";
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

/** `out`, the first element of the batch's output, and `access`, the epilogue's lambdas. @param blocks of eight columns that a warp stores of a row */
export function outputText(text: KernelText, problem: Problem, blocks: number): string {
  const { output } = problem;
  const { pointer } = outputForm(output.buffer.dtype);
  const offset = output.batchStrides.map((stride, i) => ` + b${i} * ${text.size64(stride)}`).join("");
  return `${pointer}* const out = (${pointer}*)${text.pointer(output.buffer)}${offset};
      ${accessText(text, problem, blocks)}`;
}

const ACCESS = "const Access access{fetch, fetchOwn, share, fetchAll, finish};";
const NOTHING_OWN = `struct Own {};
      const auto fetchOwn = [](int, int) -> Own { return Own{}; };
      const auto share = [](const Own&, Fetched*) {};
      const auto& fetchAll = fetch;`;

/** Without an epilogue: nothing to fetch, sums as they are. */
export const PLAIN_ACCESS = plainAccess("float", "float2");

function plainAccess(sum: string, pair: string): string {
  return `struct Fetched {};
      const auto fetch = [](int, int) -> Fetched { return Fetched{}; };
      ${NOTHING_OWN}
      const auto finish = [](${sum} sum0, ${sum} sum1, int, int, const Fetched&) -> ${pair} { return ${pair}{sum0, sum1}; };
      ${ACCESS}`;
}

const indented = (lines: string): string => lines.replaceAll("\n", "\n        ");

function accessText(text: KernelText, { output, columns, operands }: Problem, blocks: number): string {
  const { dtype } = output.buffer;
  const { pair: type } = outputForm(dtype);
  const { sum } = ELEMENTS[operands[0]];
  if (!output.epilogue) return plainAccess(sum, type);
  const batch = output.columnBase === undefined ? output.batchStrides.map((_, i) => `b${i}`) : [];
  const rows = (output.rows ?? []).map(({ name, value }) => `const int ${name} = ${value};`).join(" ");
  const indices = [...batch, ...(output.rows ? output.rows.map(({ name }) => name) : ["row"])];
  const own = ownColumns(dtype, blocks);
  const pair = pairText(text, output.epilogue, { indices, columns, ...(output.columnBase !== undefined && { base: output.columnBase }), ...(own && { own }) });
  const place = `${rows}
        ${indented(pair.place)}`;
  const finish = `const auto finish = [&](${sum} sum0, ${sum} sum1, int row, int column, const Fetched& fetched) -> ${type} {
        ${place}
        ${indented(roundedMath(dtype, pair.finish))}
      };`;
  const fetch = `struct Fetched { ${[...pair.loads, ...pair.ownLoads].map(fieldOf).join(" ")} };
      const auto fetch = [&](int row, int column) -> Fetched {
        ${place}
        Fetched fetched;
        ${indented(pair.loads.map(loadOf).join("\n"))}
        return fetched;
      };`;
  return `${fetch}
      ${own && pair.ownLoads.length > 0 ? ownText(text, pair, own, columns, rows, place) : NOTHING_OWN}
      ${finish}
      ${ACCESS}`;
}

function ownText(text: KernelText, { ownLoads }: PairText, own: number, columns: Dim, rows: string, place: string): string {
  const group = own / 2;
  const vector = ({ type }: PairLoad): string => `Vec<${type}, ${own}>`;
  return `struct Own { ${ownLoads.map((load) => `${vector(load)} ${load.name};`).join(" ")} };
      const auto fetchOwn = [&](int row, int column) -> Own {
        ${rows}
        const int column0 = min(column, ${text.size(add(columns, -own))});
        Own own;
        ${ownLoads.map((load) => `own.${load.name} = *(const ${vector(load)}*)(${load.address});`).join(" ")}
        return own;
      };
      const auto share = [](const Own& own, Fetched* fetched) {
        ${ownLoads.map(({ name, type }) => `{
          Vec<${type}, 2> pairs[${group}];
          shareOwn<${group}>(own.${name}, pairs);
          #pragma unroll
          for (int b = 0; b < ${group}; b++) fetched[b].${name} = pairs[b];
        }`).join("\n        ")}
      };
      const auto fetchAll = [&](int row, int column) -> Fetched {
        ${place}
        Fetched fetched = fetch(row, column);
        ${indented(ownLoads.map(loadOf).join("\n"))}
        return fetched;
      };`;
}

export interface PairPlace {
  /** C++ of all axes but the last. */
  readonly indices: readonly string[];
  /** How many columns there are, and the last axis' index at the first one. */
  readonly columns: Dim;
  readonly base?: string;
  /** Neighbouring columns that a lane may load at once. */
  readonly own?: number;
}

/** Neighbours that are loaded before they are needed. */
export interface PairLoad {
  /** Of the field of `fetched`. */
  readonly name: string;
  /** C++ type of an element. */
  readonly type: string;
  /** Pointer to the element at column0. */
  readonly address: string;
}

export const fieldOf = ({ name, type }: PairLoad): string => `Vec<${type}, 2> ${name};`;
export const loadOf = ({ name, type, address }: PairLoad): string => `fetched.${name} = *(const Vec<${type}, 2>*)(${address});`;

/** The parts of a pair's computation, as statements. */
export interface PairText {
  /** Where it lies: column0 and column1. */
  readonly place: string;
  /** What can be asked for before the sums are there: pairs, and what comes in vectors of `own` columns. */
  readonly loads: readonly PairLoad[];
  readonly ownLoads: readonly PairLoad[];
  /** Returns the values at `column` and the one after it, as float2 or int2. */
  readonly finish: string;
}

export function pairText(text: KernelText, { axes, value }: Epilogue, { indices, columns, base = "0", own }: PairPlace): PairText {
  const { expr, safe } = flattenExpr(value);
  const columnAxis = axes.at(-1)!;
  const row = new Point(undefined, new Map(indices.map((name, i) => [axes[i]!, name])));
  const paired = isMultipleOf(columns, 2);
  const last = text.size(add(columns, paired ? -2 : -1));
  const place = `const int column0 = ${base} + min(column, ${last}), column1 = ${paired ? "column0 + 1" : `${base} + min(column + 1, ${last})`};`;
  const points = ["column0", "column1"].map((name) => new Point(row, new Map([[columnAxis, name]])));
  const code = new CodeWriter();
  const emitter = new ExpressionEmitter(code, text.params, safe);
  const ahead = paired ? aheadLoads(emitter, expr, columnAxis, points) : [];
  const inVectors = own !== undefined && base === "0" && isMultipleOf(columns, own);
  const isOwn = ({ load }: (typeof ahead)[number]): boolean => inVectors && isVector(load, columnAxis);
  const values = points.map((point, i) => emitter.value(expr, new Point(point, new Map(), `sum${i}`)));
  code.line(`return ${expr.type === "i32" ? "int2" : "float2"}{${values.join(", ")}};`);
  return { place, loads: ahead.filter((item) => !isOwn(item)), ownLoads: ahead.filter(isOwn), finish: code.text() };
}

/** Loads of pairs of neighbours, where every other part of the position is even; their values are known at `points` from then on. */
function aheadLoads(emitter: ExpressionEmitter, expr: Expr, column: Axis, points: readonly Point[]): (PairLoad & { readonly load: LoadExpr })[] {
  return [...loadsOf(expr)].filter((load) => emitter.isSafe(load) && isPaired(load, column)).map((load, i) => {
    const address = `${emitter.params.pointer(load.buffer)} + ${emitter.address(load, points[0]!)}`;
    points.forEach((point, e) => point.provide(load, `element(fetched.at${i}.at[${e}])`));
    return { load, name: `at${i}`, type: elementType(load.buffer.dtype), address };
  });
}

function loadsOf(expr: Expr): Set<LoadExpr> {
  const loads = new Set<LoadExpr>();
  visitExpr(expr, (e) => { if (e.kind === "load") loads.add(e); });
  return loads;
}

const isColumn = (atom: Expr, column: Axis): boolean => atom.kind === "axis" && atom.axis === column;

/** Whether neighbouring columns are neighbours in memory, and every pair begins at a multiple of so many elements. */
function runsAlong(load: LoadExpr, column: Axis, elements: number): boolean {
  const { terms, constant } = affineOf(load.index[0]!);
  if (!isAligned(load.buffer, [], 1, (DTYPE_BITS[load.buffer.dtype] / 8) * elements)) return false;
  return isMultipleOf(constant, elements) && terms.some(({ atom }) => isColumn(atom, column))
    && terms.every(({ atom, coefficient }) => (isColumn(atom, column) ? coefficient === 1 : atom.kind === "axis" && isMultipleOf(coefficient, elements)));
}

const isPaired = (load: LoadExpr, column: Axis): boolean => runsAlong(load, column, 2);

/** Tensors as large as the output, of 8 or 16 bits. */
function isVector(load: LoadExpr, column: Axis): boolean {
  return DTYPE_BITS[load.buffer.dtype] <= 16 && affineOf(load.index[0]!).terms.length > 1 && runsAlong(load, column, 16);
}
