/**
 * Symbolic evaluation of small tensors: the elements of what Shape, Gather, Concat and arithmetic make, as dimension
 * expressions. Booleans are 0 and 1; floats take part where they hold whole numbers.
 *
 * An answer of undefined means "not known".
 */
import { elementCount } from "../../base/index.ts";
import { add, type Dim, dimEqual, floorDiv, isNonNegative, isStatic, max, min, mod, mul, type Node, product, sub, type TensorConstant, type Value } from "../../ir/index.ts";
import { opKey } from "../contract.ts";
import { shapeRange } from "./indexing.ts";
import { boundElements, dimsOf, knownNumbers, numberOf, numbersOf } from "./rule.ts";

/** Most elements that are followed. */
const MAX_ELEMENTS = 64;

type Elements = readonly Dim[];
type ElementRule = (node: Node, inputs: readonly (Elements | undefined)[], output: number) => Elements | undefined;

/** Elements of an input: those that are followed, or of a small constant of whole numbers. */
function elementsOf(value: Value | undefined): Elements | undefined {
  if (!value) return undefined;
  if (value.elements) return value.elements;
  if (!value.dims || !isStatic(value.dims) || elementCount(value.dims) > MAX_ELEMENTS) return undefined;
  const numbers = boundElements(value) as readonly number[] | undefined;
  return numbers?.every(Number.isSafeInteger) ? numbers : undefined;
}

/** Operators whose rules know matrices too, as exporters make them of pads to reverse their order. */
const MOVES_MATRICES: ReadonlySet<string> = new Set(["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose", "Slice"]);

/** Sets the elements of a node's outputs, after their types are known. */
export function inferElements(node: Node): void {
  const rule = RULES[opKey(node)];
  if (!rule || !node.outputs.some((value) => value && isSmall(value))) return;
  const inputs = node.inputs.map(elementsOf);
  node.outputs.forEach((value, i) => {
    if (!value || value.constant || !isSmall(value)) return;
    if (value.dims!.length > 1 && !MOVES_MATRICES.has(node.op)) return;
    const elements = rule(node, inputs, i);
    value.elements = elements?.length === elementCount(value.dims as readonly number[]) ? elements : undefined;
  });
}

function isSmall(value: Value): boolean {
  return value.kind === "tensor" && value.dims !== undefined && value.dims.length <= 2 && isStatic(value.dims) && elementCount(value.dims) <= MAX_ELEMENTS && /^(int64|int32|float32|float64|bool)$/.test(value.dtype ?? "");
}

const same: ElementRule = (_node, [x]) => x;
const unary = (of: (x: Dim) => Dim | undefined): ElementRule => (_node, [x]) => all(x?.map(of));

function all(items: readonly (Dim | undefined)[] | undefined): Elements | undefined {
  return items?.every((item) => item !== undefined) ? (items as Elements) : undefined;
}

/** Scalars and vectors of one element broadcast. */
function zip(lists: readonly Elements[], of: (...items: Dim[]) => Dim | undefined): Elements | undefined {
  const count = lists.some((list) => list.length === 0) ? 0 : Math.max(...lists.map((list) => list.length));
  return all(Array.from({ length: count }, (_, i) => of(...lists.map((list) => (list.length === 1 ? list[0]! : list[i]!)))));
}

const binary = (of: (a: Dim, b: Dim, node: Node) => Dim | undefined): ElementRule => (node, [a, b]) => a && b && zip([a, b], (x, y) => of(x!, y!, node));

const variadic = (of: (a: Dim, b: Dim) => Dim): ElementRule => (_node, inputs) => {
  const lists = all2(inputs);
  return lists?.reduce((a, b) => zip([a, b], (x, y) => of(x!, y!)) ?? []);
};

function all2(inputs: readonly (Elements | undefined)[]): readonly Elements[] | undefined {
  return inputs.every((list) => list !== undefined) ? (inputs as readonly Elements[]) : undefined;
}

/** Integer division rounds toward zero; of dimensions, which are at least 0, toward minus infinity is the same. */
function divide(a: Dim, b: Dim, node: Node): Dim | undefined {
  if (b === 0) return undefined;
  if (node.outputs[0]?.dtype?.startsWith("float")) {
    const quotient = floorDiv(a, b);
    return dimEqual(mul(quotient, b), a) ? quotient : undefined;
  }
  if (typeof a === "number" && typeof b === "number") return Math.trunc(a / b);
  return isNonNegative(a) && isNonNegative(b) ? floorDiv(a, b) : undefined;
}

function modulo(a: Dim, b: Dim, node: Node): Dim | undefined {
  if (b === 0) return undefined;
  if (numberOf(node, "fmod", 0) !== 0) return typeof a === "number" && typeof b === "number" ? a % b : undefined;
  return mod(a, b);
}

/** 1, 0, or undefined when the sizes decide. */
const compare = (of: (difference: Dim) => boolean | undefined): ElementRule => binary((a, b) => {
  const answer = of(sub(a, b));
  return answer === undefined ? undefined : Number(answer);
});

/** A difference that cannot be 0 whatever its symbols are. */
function isPositive(dim: Dim): boolean {
  return typeof dim === "number" ? dim > 0 : isNonNegative(sub(dim, 1));
}

const signOf = (dim: Dim): number | undefined => (typeof dim === "number" ? Math.sign(dim) : isPositive(dim) ? 1 : isPositive(mul(dim, -1)) ? -1 : undefined);

/** Sizes compared with a negative number, as in Where(shape == -1, …), differ: sizes are at least 0. */
const decided = (of: (sign: number) => boolean) => (difference: Dim): boolean | undefined => {
  const sign = signOf(difference);
  return sign === undefined ? undefined : of(sign);
};

const where: ElementRule = (_node, [condition, a, b]) => {
  if (condition && a && b) return zip([condition, a, b], (c, x, y) => (typeof c === "number" ? (c !== 0 ? x : y) : dimEqual(x!, y!) ? x : undefined));
  return undefined;
};

const shape: ElementRule = (node) => {
  const dims = dimsOf(node, 0);
  return dims && shapeRange(node, dims.length).map((axis) => dims[axis]!);
};

const gather: ElementRule = (node, [data, indices]) => {
  if (!data || !indices || dimsOf(node, 0)?.length !== 1 || !isStatic(indices)) return undefined;
  return all(indices.map((index) => data[index < 0 ? index + data.length : index]));
};

/** Of vectors, and of whole rows of matrices. */
const slice: ElementRule = (node, [data, starts, ends, axes, steps]) => {
  const [start, end, step] = [starts?.[0], ends?.[0], steps ? steps[0] : 1];
  const rank = dimsOf(node, 0)?.length ?? 0;
  if (!data || axes?.some((axis) => axis !== 0 && axis !== -rank) || typeof start !== "number" || typeof end !== "number" || typeof step !== "number" || starts!.length !== 1) return undefined;
  const width = rank === 2 ? (dimsOf(node, 0)![1] as number) : 1;
  const rows = width === 0 ? 0 : data.length / width;
  const at = (position: number, low: number, high: number): number => Math.max(low, Math.min(high, position < 0 ? position + rows : position));
  const picked: number[] = [];
  if (step > 0) for (let i = at(start, 0, rows); i < at(end, 0, rows); i += step) picked.push(i);
  else for (let i = at(start, 0, rows - 1); i > at(end, -1, rows - 1); i += step) picked.push(i);
  return picked.flatMap((row) => data.slice(row * width, (row + 1) * width));
};

const transpose: ElementRule = (node, [data]) => {
  const [rows, columns] = (dimsOf(node, 0) ?? []) as readonly number[];
  if (!data || rows === undefined || columns === undefined || numbersOf(node, "perm")?.[0] === 0) return data;
  return data.map((_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!);
};

const concat: ElementRule = (_node, inputs) => all2(inputs)?.flat();

const split: ElementRule = (node, [data], output) => {
  const sizes = node.outputs.map((value) => value?.dims?.[0]);
  if (!data || !isStatic(sizes.map((size) => size ?? NaN))) return undefined;
  const start = (sizes as number[]).slice(0, output).reduce((a, b) => a + b, 0);
  return data.slice(start, start + (sizes[output] as number));
};

const range: ElementRule = (node, [start, limit, step]) => {
  const count = node.outputs[0]?.dims?.[0];
  if (!start || !limit || !step || typeof count !== "number") return undefined;
  return Array.from({ length: count }, (_, i) => add(start[0]!, mul(step[0]!, i)));
};

const constantOfShape: ElementRule = (node) => {
  const count = elementCount(node.outputs[0]!.dims as readonly number[]);
  const value = node.attributes["value"] as TensorConstant | undefined;
  const fill = value ? fillOf(value) : 0;
  return fill === undefined ? undefined : new Array<number>(count).fill(fill);
};

function fillOf(tensor: TensorConstant): number | undefined {
  const { bytes } = tensor.constant;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (tensor.dtype) {
    case "int64": return Number(data.getBigInt64(0, true));
    case "int32": return data.getInt32(0, true);
    case "bool": return data.getUint8(0);
    case "float32": return Number.isSafeInteger(data.getFloat32(0, true)) ? data.getFloat32(0, true) : undefined;
    default: return undefined;
  }
}

const expand: ElementRule = (node, [x]) => {
  const count = elementCount(node.outputs[0]!.dims as readonly number[]);
  return x?.length === count ? x : x?.length === 1 ? new Array<Dim>(count).fill(x[0]!) : undefined;
};

const tile: ElementRule = (_node, [x, repeats]) => (x && typeof repeats?.[0] === "number" ? Array.from({ length: repeats[0] }, () => x).flat() : undefined);

const reduce = (of: (items: Elements) => Dim): ElementRule => (node, [x]) => {
  const axes = node.inputs[1] && knownNumbers(node.inputs[1]);
  if (!x || x.length === 0 || dimsOf(node, 0)?.length !== 1 || (node.inputs[1] && !axes)) return undefined;
  if (axes?.length === 0 && numberOf(node, "noop_with_empty_axes", 0) !== 0) return x;
  return [of(x)];
};

const clip: ElementRule = (node, [x, low, high]) => {
  if (!x || (node.inputs[1] && !low) || (node.inputs[2] && !high)) return undefined;
  return x.map((item) => {
    const raised = low ? max(item, low[0]!) : item;
    return high ? min(raised, high[0]!) : raised;
  });
};

/** Whole numbers stay what they are when floats become integers and back. */
const cast: ElementRule = (node, [x]) => (node.outputs[0]?.dtype === "bool" ? all(x?.map((item) => (typeof item === "number" ? Number(item !== 0) : isPositive(item) ? 1 : undefined))) : x);

/** Writes `updates` at known positions of a vector. */
const scatter: ElementRule = (node, [data, indices, updates]) => {
  if (!data || !indices || !updates || !isStatic(indices) || (node.attributes["reduction"] ?? "none") !== "none") return undefined;
  const result = [...data];
  indices.forEach((index, i) => { result[index < 0 ? index + data.length : index] = updates[i]!; });
  return result;
};

const logical = (of: (a: boolean, b: boolean) => boolean): ElementRule => binary((a, b) => (typeof a === "number" && typeof b === "number" ? Number(of(a !== 0, b !== 0)) : undefined));

const sum = (items: Elements): Dim => add(...items);

const RULES: Readonly<Record<string, ElementRule>> = {
  Shape: shape,
  Size: (node) => { const dims = dimsOf(node, 0); return dims && [product(dims)]; },
  Identity: same, Reshape: same, Squeeze: same, Unsqueeze: same, Flatten: same, Transpose: transpose, Floor: same, Ceil: same, Round: same, CastLike: cast, Cast: cast,
  Gather: gather, Slice: slice, Concat: concat, Split: split, Range: range, ConstantOfShape: constantOfShape, Expand: expand, Tile: tile,
  Add: binary((a, b) => add(a, b)), Sub: binary(sub), Mul: binary((a, b) => mul(a, b)), Div: binary(divide), Mod: binary(modulo),
  Min: variadic(min), Max: variadic(max), Sum: variadic((a, b) => add(a, b)), Neg: unary((x) => mul(x, -1)),
  Abs: unary((x) => (typeof x === "number" ? Math.abs(x) : isNonNegative(x) ? x : undefined)),
  Relu: unary((x) => max(0, x)),
  Equal: compare((difference) => (difference === 0 ? true : signOf(difference) === undefined ? undefined : false)),
  Greater: compare(decided((sign) => sign > 0)), Less: compare(decided((sign) => sign < 0)),
  GreaterOrEqual: compare((difference) => (isNonNegative(difference) ? true : signOf(difference) === -1 ? false : undefined)),
  LessOrEqual: compare((difference) => (isNonNegative(mul(difference, -1)) ? true : signOf(difference) === 1 ? false : undefined)),
  Not: unary((x) => (typeof x === "number" ? Number(x === 0) : undefined)), And: logical((a, b) => a && b), Or: logical((a, b) => a || b), Xor: logical((a, b) => a !== b),
  Where: where, Clip: clip, ReduceProd: reduce((items) => product(items)), ReduceSum: reduce(sum),
  ReduceMax: reduce((items) => items.reduce(max)), ReduceMin: reduce((items) => items.reduce(min)),
  ScatterElements: scatter, ScatterND: scatter,
};
