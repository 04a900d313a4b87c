/**
 * Masks of attention made small: what only hides later keys becomes the attribute `causal`, what hides nothing goes,
 * and what is left keeps the shape it had before it was broadcast, so that a padding mask stays a row per sentence.
 *
 * Invariant: the answer hides exactly what the mask hid. A causal part is taken out of a conjunction only where hidden
 * scores are minus infinity: with finite ones, a row that sees nothing is the mean of all values, later ones included.
 */
import { viewArray } from "../base/index.ts";
import { add, type Dim, dimEqual, isNonNegative, type Node, sub, type Value } from "../ir/index.ts";
import { floatConstant, numberOf } from "./attributes.ts";
import type { Editor } from "./editor.ts";
import { scalarOf } from "./match.ts";
import { isReshape } from "./simplify.ts";

/** Scores at or below this are as good as hidden. */
export const HIDDEN = -1e4 + 1;

export interface Mask {
  readonly causal: boolean;
  /** Added to the scores; undefined when nothing is left to add. */
  readonly value: Value | undefined;
}

interface Lengths { readonly queries: Dim; readonly keys: Dim }

/** A boolean that must hold, or must not, for a key to be seen. */
interface Condition { readonly value: Value; readonly negated: boolean }

/** What a mask to be added to scores of queries x keys says. */
export function simplifyMask(mask: Value, lengths: Lengths, editor: Editor): Mask {
  return new Simplifier(lengths, editor).additive(mask);
}

class Simplifier {
  private readonly lengths: Lengths;
  private readonly editor: Editor;

  constructor(lengths: Lengths, editor: Editor) {
    this.lengths = lengths;
    this.editor = editor;
  }

  additive(value: Value): Mask {
    const node = value.producer;
    if (scalarOf(value) === 0) return { causal: false, value: undefined };
    if (hidesByMuch(value) && this.isCausal(triangleOf(value), true)) return { causal: true, value: undefined };
    if (node?.domain !== "") return { causal: false, value };
    if (broadcastsOnly(node)) return this.additive(node.inputs[0]!);
    if (node.op === "Where") return this.choice(node, value);
    if (node.op !== "Add") return { causal: false, value };
    const [a, b] = [this.additive(node.inputs[0]!), this.additive(node.inputs[1]!)];
    const isSame = a.value === node.inputs[0] && b.value === node.inputs[1];
    const sum = isSame ? value : a.value && b.value ? this.editor.emit("Add", [a.value, b.value]) : a.value ?? b.value;
    return { causal: a.causal || b.causal, value: sum };
  }

  /** Where(condition, mask, hidden), or the other way round. */
  private choice(node: Node, value: Value): Mask {
    const [condition, a, b] = node.inputs as [Value, Value, Value];
    const negated = !((scalarOf(b) ?? 0) <= HIDDEN);
    const [shown, hidden] = negated ? [b, a] : [a, b];
    const low = scalarOf(hidden);
    if (low === undefined || low > HIDDEN) return { causal: false, value };
    const inner = this.additive(shown);
    const { causal, rest } = this.visible({ value: condition, negated });
    const splits = causal && (rest.length === 0 || low === Number.NEGATIVE_INFINITY);
    const kept = causal && !splits ? [{ value: condition, negated }] : rest;
    if (kept.length === 0) return { causal: splits || inner.causal, value: inner.value };
    const isSame = kept.length === 1 && kept[0]!.value === condition && inner.value === shown;
    return { causal: splits || inner.causal, value: isSame ? value : this.rebuilt(kept, inner.value, low) };
  }

  private rebuilt(conditions: readonly Condition[], inner: Value | undefined, low: number): Value {
    const { editor } = this;
    const zero = inner ?? floatConstant("float32", [0], [])!;
    const hidden = floatConstant("float32", [low], [])!;
    const [only] = conditions;
    if (conditions.length === 1 && only) return editor.emit("Where", only.negated ? [only.value, hidden, zero] : [only.value, zero, hidden]);
    const all = conditions.map(({ value, negated }) => (negated ? editor.emit("Not", [value]) : value)).reduce((a, b) => editor.emit("And", [a, b]));
    return editor.emit("Where", [all, zero, hidden]);
  }

  /** The condition taken apart: whether it holds back later keys, and what else must hold. */
  private visible(condition: Condition): { causal: boolean; rest: Condition[] } {
    const { value, negated } = condition;
    if (isAlways(value, !negated)) return { causal: false, rest: [] };
    if (this.isCausal(triangleOf(value), negated)) return { causal: true, rest: [] };
    const node = value.producer;
    if (node?.domain !== "") return { causal: false, rest: [condition] };
    if (broadcastsOnly(node)) return this.visible({ value: node.inputs[0]!, negated });
    if (node.op === "Not") return this.visible({ value: node.inputs[0]!, negated: !negated });
    if (node.op === "Cast" && node.inputs[0]!.dtype === "bool" && value.dtype === "bool") return this.visible({ value: node.inputs[0]!, negated });
    if (node.op !== (negated ? "Or" : "And")) return { causal: false, rest: [condition] };
    const [a, b] = node.inputs.map((input) => this.visible({ value: input!, negated })) as [ReturnType<Simplifier["visible"]>, ReturnType<Simplifier["visible"]>];
    return { causal: a.causal || b.causal, rest: [...a.rest, ...b.rest] };
  }

  /** Whether what is true (hidden: false) shows query i the keys up to i + keys - queries, and no others. */
  private isCausal(triangle: Triangle | undefined, marksHidden: boolean): boolean {
    const { queries, keys } = this.lengths;
    if (!triangle || triangle.lower === marksHidden) return false;
    const [rows, columns] = triangle.size;
    const covers = (size: Dim | undefined, wanted: Dim): boolean => size === undefined || dimEqual(size, wanted);
    return covers(rows, queries) && covers(columns, keys) && dimEqual(triangle.offset, sub(keys, queries)) && isNonNegative(triangle.offset);
  }
}

/** Whether the node's result holds its input's elements, repeated or under more leading dimensions of size 1. */
function broadcastsOnly(node: Node): boolean {
  const [input] = node.inputs;
  const output = node.outputs[0];
  if (!input?.dims || !output?.dims) return false;
  if (node.op === "Expand") return true;
  return isReshape(node) && sameButLeadingOnes(input.dims, output.dims);
}

function sameButLeadingOnes(a: readonly Dim[], b: readonly Dim[]): boolean {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => i).every((i) => dimEqual(a[a.length - 1 - i] ?? 1, b[b.length - 1 - i] ?? 1));
}

// ---- conditions known beforehand ---------------------------------------------------------------------------------

/** Whether a boolean is `wanted` everywhere: a constant, or a count that is compared with less than it starts at. */
function isAlways(value: Value, wanted: boolean): boolean {
  const constant = scalarOf(value);
  if (constant !== undefined) return (constant !== 0) === wanted;
  if (value.constant && value.dtype === "bool") return value.constant.bytes.every((item) => (item !== 0) === wanted);
  const node = value.producer;
  if (!wanted || !node || node.domain !== "") return false;
  const [a, b] = node.inputs;
  const [low, limit] = /^Greater/.test(node.op) ? [lowestOf(a), scalarOf(b)] : /^Less/.test(node.op) ? [lowestOf(b), scalarOf(a)] : [undefined, undefined];
  if (low === undefined || limit === undefined) return false;
  return node.op.endsWith("OrEqual") ? low >= limit : low > limit;
}

/** The first, and least, of a run of counted integers. */
function lowestOf(value: Value | undefined): number | undefined {
  const start = startOf(value);
  return typeof start === "number" ? start : undefined;
}

// ---- triangles --------------------------------------------------------------------------------------------------

/** True (or nonzero) exactly where j <= i + offset (lower), or exactly where j > i + offset. */
interface Triangle {
  readonly lower: boolean;
  readonly offset: Dim;
  /** Rows and columns, where the value does not broadcast them. */
  readonly size: readonly [Dim | undefined, Dim | undefined];
}

function triangleOf(value: Value | undefined): Triangle | undefined {
  if (!value?.dims || value.dims.length < 2) return undefined;
  const rank = value.dims.length;
  const size = [value.dims[rank - 2]!, value.dims[rank - 1]!] as const;
  if (value.constant) return constantTriangle(value);
  const node = value.producer;
  if (node?.domain !== "") return undefined;
  const [input] = node.inputs;
  if (node.op === "Cast" || (broadcastsOnly(node) && sameTrailing(node))) return triangleOf(input);
  if (node.op === "Not" || (node.op === "Equal" && scalarOf(node.inputs[1]) === 0)) return flipped(triangleOf(input));
  if (node.op === "Slice") return slicedTriangle(node, size);
  if (node.op === "Trilu") return triluTriangle(node, size);
  return comparedTriangle(node, size);
}

const flipped = (triangle: Triangle | undefined): Triangle | undefined => triangle && { ...triangle, lower: !triangle.lower };

function sameTrailing(node: Node): boolean {
  const [from, to] = [node.inputs[0]!.dims!, node.outputs[0]!.dims!];
  return from.length >= 2 && [1, 2].every((i) => dimEqual(from[from.length - i]!, to[to.length - i]!));
}

function slicedTriangle(node: Node, size: readonly [Dim, Dim]): Triangle | undefined {
  const [input, starts, , axes, steps] = node.inputs;
  const inner = triangleOf(input);
  const rank = input?.dims?.length ?? 0;
  if (!inner || !starts?.elements || (steps && !steps.elements?.every((step) => step === 1))) return undefined;
  let offset = inner.offset;
  for (const [i, start] of starts.elements.entries()) {
    const given = axes ? axes.elements?.[i] : i;
    if (typeof given !== "number") return undefined;
    const axis = given < 0 ? given + rank : given;
    const from = typeof start === "number" && start < 0 ? add(input!.dims![axis]!, start) : start;
    if (axis === rank - 2) offset = add(offset, from);
    else if (axis === rank - 1) offset = sub(offset, from);
    else if (from !== 0) return undefined;
  }
  return { lower: inner.lower, offset, size };
}

/** Trilu of a tensor that is the same everywhere. */
function triluTriangle(node: Node, size: readonly [Dim, Dim]): Triangle | undefined {
  const [input, diagonal] = node.inputs;
  const filled = fillOf(input);
  const k = diagonal ? diagonal.elements?.[0] ?? scalarOf(diagonal) : 0;
  if (filled === undefined || filled === 0 || k === undefined) return undefined;
  return numberOf(node, "upper", 1) !== 0 ? { lower: false, offset: sub(k, 1), size } : { lower: true, offset: k, size };
}

/** The number a tensor is filled with. */
function fillOf(value: Value | undefined): number | undefined {
  const constant = scalarOf(value);
  const node = value?.producer;
  if (constant !== undefined) return constant;
  if (value?.constant) return uniform(value);
  if (node?.op === "Expand" || node?.op === "Cast") return fillOf(node.inputs[0]);
  if (node?.op !== "ConstantOfShape") return undefined;
  const fill = node.attributes["value"];
  if (fill === undefined) return 0;
  if (typeof fill !== "object" || !("constant" in fill) || fill.dtype === "string") return undefined;
  return Number(viewArray(fill.dtype, fill.constant.bytes)[0]);
}

/** Most elements of a constant that are looked at. */
const MAX_CONSTANT = 4 * 1024 * 1024;

function itemsOf(value: Value): ArrayLike<number | bigint> | undefined {
  if (!value.constant || (value.dtype !== "float32" && value.dtype !== "bool" && value.dtype !== "int64" && value.dtype !== "uint8")) return undefined;
  const items = viewArray(value.dtype, value.constant.bytes);
  return items.length <= MAX_CONSTANT ? items : undefined;
}

function uniform(value: Value): number | undefined {
  const items = itemsOf(value);
  if (!items || items.length === 0) return undefined;
  for (let i = 1; i < items.length; i++) if (items[i] !== items[0]) return undefined;
  return Number(items[0]);
}

const known = new WeakMap<Value, { readonly triangle: Triangle | undefined }>();

function constantTriangle(value: Value): Triangle | undefined {
  const before = known.get(value);
  if (before) return before.triangle;
  const triangle = findTriangle(value);
  known.set(value, { triangle });
  return triangle;
}

function findTriangle(value: Value): Triangle | undefined {
  const items = itemsOf(value);
  const [rows, columns] = value.dims!.slice(-2) as [number, number];
  if (!items || rows < 1 || columns < 2 || items.length !== rows * columns) return undefined;
  const isSet = (i: number, j: number): boolean => Number(items[i * columns + j]) !== 0;
  // The last row that changes within shows where the diagonal is.
  for (let i = 0; i < rows; i++) {
    for (let j = 1; j < columns; j++) {
      if (isSet(i, j) === isSet(i, 0)) continue;
      const triangle: Triangle = { lower: isSet(i, 0), offset: j - 1 - i, size: [rows, columns] };
      return agrees(triangle, rows, columns, isSet) ? triangle : undefined;
    }
  }
  return undefined;
}

function agrees({ lower, offset }: Triangle, rows: number, columns: number, isSet: (i: number, j: number) => boolean): boolean {
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) if (isSet(i, j) !== (j <= i + Number(offset) === lower)) return false;
  return true;
}

/** Whether every nonzero element hides its score. */
function hidesByMuch(value: Value): boolean {
  const items = itemsOf(value);
  if (items) {
    for (let i = 0; i < items.length; i++) if (Number(items[i]) !== 0 && !(Number(items[i]) <= HIDDEN)) return false;
    return true;
  }
  const node = value.producer;
  if (node?.domain !== "") return false;
  if (broadcastsOnly(node) || node.op === "Slice") return hidesByMuch(node.inputs[0]!);
  return node.op === "Trilu" && (fillOf(node.inputs[0]) ?? 0) <= HIDDEN;
}

/** A comparison of counted columns with counted rows. */
function comparedTriangle(node: Node, size: readonly [Dim, Dim]): Triangle | undefined {
  const compare = /^(Less|Greater)(OrEqual)?$/.exec(node.op);
  if (!compare) return undefined;
  const [a, b] = node.inputs.map(countOf);
  if (!a || !b || a.isRow === b.isRow) return undefined;
  const [row, column] = a.isRow ? [a, b] : [b, a];
  const apart = sub(row.start, column.start);
  // Read as "column ? row".
  const isLess = (compare[1] === "Less") !== a.isRow;
  const withEqual = compare[2] !== undefined;
  if (isLess) return { lower: true, offset: withEqual ? apart : sub(apart, 1), size };
  return { lower: false, offset: withEqual ? sub(apart, 1) : apart, size };
}

/** Integers counted along the last axis (columns) or the one before it (rows). */
function countOf(value: Value | undefined): { isRow: boolean; start: Dim } | undefined {
  const { dims } = value ?? {};
  const start = startOf(value);
  if (!dims || start === undefined) return undefined;
  const axes = dims.flatMap((dim, i) => (dim === 1 ? [] : [i - dims.length]));
  return axes.length === 1 && axes[0]! >= -2 ? { isRow: axes[0] === -2, start } : undefined;
}

/** Where integers start that count up by 1 along one axis. */
function startOf(value: Value | undefined): Dim | undefined {
  const node = value?.producer;
  if (!value?.dims || !/^(int64|int32|float32)$/.test(value.dtype ?? "") || value.dims.filter((dim) => dim !== 1).length !== 1) return undefined;
  const items = value.elements ?? (value.constant && itemsOf(value));
  if (items && items.length > 0) return Array.from(items as ArrayLike<Dim>).every((item, i, all) => i === 0 || dimEqual(sub(toDim(item), toDim(all[i - 1]!)), 1)) ? toDim((items as ArrayLike<Dim>)[0]!) : undefined;
  if (node?.domain !== "") return undefined;
  if (node.op === "Range") return singleOf(node.inputs[2]) === 1 ? singleOf(node.inputs[0]) : undefined;
  if (/^(Reshape|Flatten|Squeeze|Unsqueeze|Cast|Identity)$/.test(node.op)) return startOf(node.inputs[0]);
  if (node.op !== "Add" && node.op !== "Sub") return undefined;
  const [a, b] = node.inputs;
  const [left, right] = [startOf(a), singleOf(b)];
  if (left !== undefined && right !== undefined) return node.op === "Add" ? add(left, right) : sub(left, right);
  const [first, second] = [singleOf(a), startOf(b)];
  return node.op === "Add" && first !== undefined && second !== undefined ? add(first, second) : undefined;
}

const toDim = (item: Dim | bigint): Dim => (typeof item === "bigint" ? Number(item) : item);

function singleOf(value: Value | undefined): Dim | undefined {
  return value?.elements?.length === 1 ? value.elements[0] : scalarOf(value);
}
