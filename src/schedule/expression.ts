/**
 * Element expressions of values: a value in memory is a load; one that is not is its operator's expression over the
 * elements of its inputs. Fusion is nothing more than this substitution.
 */
import { assert } from "../base/index.ts";
import { type Axis, type Buffer, type Dim, dimsEqual, dimValue, type Expr, i64, isLoopType, op, scalarTypeOf, select, type Value } from "../ir/index.ts";
import { lowerings, opKey } from "../ops/index.ts";
import { matchGroups, reshapeView, type View } from "./view.ts";

/** The index of an axis, kept as such even where the axis has one element: epilogues name their axes by it. */
export const axisExpr = (axis: Axis): Expr => ({ kind: "axis", type: "i64", axis });

export function axesOf(dims: readonly Dim[], prefix = "i"): Axis[] {
  return dims.map((extent, i) => ({ name: `${prefix}${i}`, extent }));
}

/** Row-major position of an index, and back. Groups of axes are matched so that common axes pass through unchanged. */
export function reshapeIndex(from: readonly Dim[], to: readonly Dim[], index: readonly Expr[]): Expr[] {
  const groups = matchGroups(from, to) ?? [{ from: from.map((_, i) => i), to: to.map((_, i) => i) }];
  const result: Expr[] = new Array(to.length).fill(i64(0));
  for (const group of groups) {
    const source = group.from.filter((axis) => from[axis] !== 1);
    const target = group.to.filter((axis) => to[axis] !== 1);
    if (target.length === 0) continue;
    let linear: Expr = i64(0);
    for (const [n, axis] of source.entries()) linear = n === 0 ? index[axis]! : op("add", op("mul", linear, dimValue(from[axis]!)), index[axis]!);
    for (const [n, axis] of [...target].reverse().entries()) {
      const outermost = n === target.length - 1;
      result[axis] = outermost ? linear : op("mod", linear, dimValue(to[axis]!));
      if (!outermost) linear = op("div", linear, dimValue(to[axis]!));
    }
  }
  return result;
}

/** An index of one shape that is the row-major image of an index of another shape; lets loads of contiguous values skip the arithmetic. */
export interface ReshapedIndex {
  readonly from: readonly Dim[];
  readonly fromIndex: readonly Expr[];
  readonly to: readonly Dim[];
  readonly toIndex: readonly Expr[];
}

/** What expressions are built over: where values lie, and buffers for them. */
export interface ExpressionContext {
  /** The value's memory; undefined when it is computed where it is used. */
  viewOf(value: Value): View | undefined;
  bufferOf(view: View): Buffer;
  /** Values given by an expression of their own, such as a contraction's accumulator. */
  readonly given?: ReadonlyMap<Value, Expr>;
  readonly reshaped?: readonly ReshapedIndex[];
  /** Called for each operator that is put inside. */
  onInline?(value: Value): void;
}

export function elementOf(value: Value, index: readonly Expr[], context: ExpressionContext): Expr {
  const given = context.given?.get(value);
  if (given) return given;
  if (value.elements && !value.constant && !context.viewOf(value)) return elementOfDims(value.elements, positionOf(value.dims ?? [], index));
  const scalar = scalarConstant(value);
  if (scalar) return scalar;
  const view = context.viewOf(value);
  if (view) return loadView(view, index, context);
  const node = value.producer;
  assert(node, `value "${value.name}" has neither memory nor a producer`);
  const lowering = lowerings.get(opKey(node));
  assert(lowering, `operator ${opKey(node)} has no expression`);
  context.onInline?.(value);
  return lowering.element(node, node.outputs.indexOf(value), index, (input, at) => {
    const source = node.inputs[input];
    assert(source, `input ${input} of ${opKey(node)} is absent`);
    return elementOf(source, at, context);
  });
}

function loadView(view: View, index: readonly Expr[], context: ExpressionContext): Expr {
  assert(isLoopType(view.dtype), `kernel over ${view.dtype}`);
  const type = scalarTypeOf(view.dtype);
  for (const reshape of context.reshaped ?? []) {
    if (!dimsEqual(view.dims, reshape.to) || !index.every((item, i) => sameIndex(item, reshape.toIndex[i]!))) continue;
    const straight = reshapeView(view, reshape.from);
    if (straight) return { kind: "load", type, buffer: context.bufferOf(straight), index: reshape.fromIndex };
  }
  return { kind: "load", type, buffer: context.bufferOf(view), index };
}

function positionOf(dims: readonly Dim[], index: readonly Expr[]): Expr | undefined {
  return index.reduce<Expr | undefined>((linear, item, axis) => (linear ? op("add", op("mul", linear, dimValue(dims[axis]!)), item) : item), undefined);
}

/** The same expression, or the same number: indices of dims of one element are made anew where values broadcast. */
function sameIndex(a: Expr, b: Expr): boolean {
  return a === b || (a.kind === "const" && b.kind === "const" && a.value === b.value);
}

/** Element of a small integer tensor whose elements are dimension expressions. */
function elementOfDims(elements: readonly Dim[], at: Expr | undefined): Expr {
  if (elements.length === 0) return i64(0);
  if (!at || elements.length === 1) return dimValue(elements[0]!);
  if (at.kind === "const") return dimValue(elements[Number(at.value)]!);
  let result = dimValue(elements[elements.length - 1]!);
  for (let i = elements.length - 2; i >= 0; i--) {
    result = select(op("eq", at, i64(i)), dimValue(elements[i]!), result);
  }
  return result;
}

/** One-element float, integer or bool constants become literals. */
function scalarConstant(value: Value): Expr | undefined {
  if (!value.constant || !value.dtype || !value.dims?.every((dim) => dim === 1)) return undefined;
  const { bytes } = value.constant;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (value.dtype) {
    case "float32": return { kind: "const", type: "f32", value: data.getFloat32(0, true) };
    case "float64": return { kind: "const", type: "f64", value: data.getFloat64(0, true) };
    case "int32": return { kind: "const", type: "i32", value: data.getInt32(0, true) };
    case "int8": return { kind: "const", type: "i32", value: data.getInt8(0) };
    case "uint8": return { kind: "const", type: "i32", value: data.getUint8(0) };
    case "bool": return { kind: "const", type: "bool", value: data.getUint8(0) };
    case "int64": {
      const item = data.getBigInt64(0, true);
      return { kind: "const", type: "i64", value: Number.isSafeInteger(Number(item)) ? Number(item) : item };
    }
    default: return undefined;
  }
}
