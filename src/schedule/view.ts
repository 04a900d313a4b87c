/**
 * Strided views: how a value's elements lie in a storage. Reshapes, transposes, slices and expansions of a value that
 * is already in memory cost nothing as long as strides can say them.
 */
import { type DType, DTYPE_BITS } from "../base/index.ts";
import { add, BUFFER_ALIGNMENT, type Dim, dimEqual, dimsEqual, mul, type Value } from "../ir/index.ts";

/** A piece of memory the plan places: in the arena, among the weights, or the caller's input or output. */
export interface Storage {
  readonly name: string;
  readonly place: "arena" | "weights" | "input" | "output";
  readonly sizeBytes: Dim;
  /** What it holds, row-major. */
  readonly value?: Value;
}

export interface View {
  readonly storage: Storage;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
  /** In elements; 0 repeats. */
  readonly strides: readonly Dim[];
  /** First element, counted from the storage's start. */
  readonly offset: Dim;
}

export function rowMajorStrides(dims: readonly Dim[]): Dim[] {
  const strides: Dim[] = new Array(dims.length).fill(1);
  for (let i = dims.length - 2; i >= 0; i--) strides[i] = mul(strides[i + 1]!, dims[i + 1]!);
  return strides;
}

/** Whether elements follow each other in row-major order without gaps; strides of dims of size 1 do not matter. */
export function isContiguous(view: Pick<View, "dims" | "strides">): boolean {
  const expected = rowMajorStrides(view.dims);
  return view.dims.every((dim, i) => dim === 1 || dimEqual(view.strides[i]!, expected[i]!));
}

export function transposeView(view: View, permutation: readonly number[]): View {
  return { ...view, dims: permutation.map((axis) => view.dims[axis]!), strides: permutation.map((axis) => view.strides[axis]!) };
}

/** Repeats dims of size 1 (and missing leading ones) to `dims`. */
export function expandView(view: View, dims: readonly Dim[]): View | undefined {
  const shift = dims.length - view.dims.length;
  if (shift < 0) return undefined;
  const strides: Dim[] = [];
  for (const [i, dim] of dims.entries()) {
    const own = i < shift ? 1 : view.dims[i - shift]!;
    if (i >= shift && dimEqual(own, dim)) strides.push(view.strides[i - shift]!);
    else if (own === 1) strides.push(0);
    else return undefined;
  }
  return { ...view, dims, strides };
}

/** Elements start, start + step, … of one axis. */
export function sliceView(view: View, axis: number, start: Dim, step: number, size: Dim): View {
  const stride = view.strides[axis]!;
  return {
    ...view,
    dims: view.dims.map((dim, i) => (i === axis ? size : dim)),
    strides: view.strides.map((own, i) => (i === axis ? mul(own, step) : own)),
    offset: add(view.offset, mul(stride, start)),
  };
}

/** The view with other dims over the same elements in row-major order; undefined when strides cannot say it. */
export function reshapeView(view: View, dims: readonly Dim[]): View | undefined {
  if (dimsEqual(view.dims, dims)) return { ...view, dims };
  if (isContiguous(view)) return { ...view, dims, strides: rowMajorStrides(dims) };
  const groups = matchGroups(view.dims, dims);
  if (!groups) return undefined;
  const strides: Dim[] = new Array(dims.length).fill(0);
  for (const group of groups) {
    const stride = mergedStride(view, group.from);
    if (stride === undefined) return undefined;
    let inner: Dim = stride;
    for (const axis of [...group.to].reverse()) {
      strides[axis] = inner;
      inner = mul(inner, dims[axis]!);
    }
  }
  return { ...view, dims, strides };
}

interface AxisGroup {
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Splits two shapes with the same number of elements into runs of axes with equal products, innermost runs as short as possible. */
export function matchGroups(from: readonly Dim[], to: readonly Dim[]): AxisGroup[] | undefined {
  const groups: AxisGroup[] = [];
  let i = from.length - 1;
  let j = to.length - 1;
  while (i >= 0 || j >= 0) {
    const group = { from: [] as number[], to: [] as number[] };
    let a: Dim = 1;
    let b: Dim = 1;
    if (i >= 0) { group.from.unshift(i); a = from[i--]!; }
    if (j >= 0) { group.to.unshift(j); b = to[j--]!; }
    while (!dimEqual(a, b)) {
      const growFrom = i >= 0 && (j < 0 || preferFrom(a, b));
      if (growFrom) { group.from.unshift(i); a = mul(a, from[i--]!); }
      else if (j >= 0) { group.to.unshift(j); b = mul(b, to[j--]!); }
      else return undefined;
    }
    groups.unshift(group);
  }
  return groups;
}

/** Which side to grow when two partial products differ: the one that is smaller, or lacks the other's symbols. */
function preferFrom(a: Dim, b: Dim): boolean {
  if (typeof a === "number" && typeof b === "number") return a < b;
  if (typeof a === "number") return true;
  if (typeof b === "number") return false;
  return a.key.length <= b.key.length;
}

/** The stride of several axes seen as one; undefined when they do not lie one in another. */
function mergedStride(view: View, axes: readonly number[]): Dim | undefined {
  const real = axes.filter((axis) => view.dims[axis] !== 1);
  if (real.length === 0) return 1;
  for (let i = 0; i + 1 < real.length; i++) {
    const inner = real[i + 1]!;
    if (!dimEqual(view.strides[real[i]!]!, mul(view.strides[inner]!, view.dims[inner]!))) return undefined;
  }
  return view.strides[real[real.length - 1]!];
}

export function contiguousView(storage: Storage, dtype: DType, dims: readonly Dim[]): View {
  return { storage, dtype, dims, strides: rowMajorStrides(dims), offset: 0 };
}

/** The largest power of two, up to a storage's own alignment, that the view's first byte is a multiple of for every binding. */
export function alignmentOf({ dtype, offset }: View): number {
  const bytes = mul(offset, Math.max(1, DTYPE_BITS[dtype] / 8));
  const coefficients = typeof bytes === "number" ? [bytes] : bytes.terms.map(({ coefficient }) => coefficient);
  let alignment = BUFFER_ALIGNMENT;
  while (coefficients.some((coefficient) => coefficient % alignment !== 0)) alignment /= 2;
  return Math.max(1, alignment);
}
