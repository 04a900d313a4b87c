/** Operators that move nothing: their result is a strided view of their input's memory. */
import { DTYPE_BITS } from "../base/index.ts";
import { add, type Dim, type Node, type Value } from "../ir/index.ts";
import { isReshape } from "./fusion.ts";
import { expandView, reshapeView, sliceView, transposeView, type View } from "./view.ts";

/** The view of `output` (a result of `node`) over the memory of the node's first input; undefined when strides cannot say it. */
export function aliasView(node: Node, output: Value, input: View): View | undefined {
  if (node.domain !== "" || !output.dims || DTYPE_BITS[input.dtype] < 8) return undefined;
  if (isReshape(node)) return reshapeView(input, output.dims);
  switch (node.op) {
    case "Transpose": return transposeView(input, (node.attributes["perm"] as number[] | undefined) ?? input.dims.map((_, i) => input.dims.length - 1 - i));
    case "Expand": return expandView(input, output.dims);
    case "Split": return aliasSplit(node, output, input);
    case "Slice": return aliasSlice(node, output, input);
    default: return undefined;
  }
}

function aliasSplit(node: Node, output: Value, input: View): View | undefined {
  const rank = input.dims.length;
  const axis = ((((node.attributes["axis"] as number | undefined) ?? 0) % rank) + rank) % rank;
  let start: Dim = 0;
  for (const part of node.outputs) {
    if (part === output) return sliceView(input, axis, start, 1, output.dims![axis]!);
    const size = part?.dims?.[axis];
    if (size === undefined) return undefined;
    start = add(start, size);
  }
  return undefined;
}

/** Slices with known axes, positive steps and starts that are known to lie inside. */
function aliasSlice(node: Node, output: Value, input: View): View | undefined {
  const [, starts, , axes, steps] = node.inputs;
  if (!starts?.elements) return undefined;
  const rank = input.dims.length;
  let view = input;
  for (const [i, start] of starts.elements.entries()) {
    const axisDim = axes ? axes.elements?.[i] : i;
    const step = steps ? steps.elements?.[i] : 1;
    if (typeof axisDim !== "number" || typeof step !== "number" || step < 1 || typeof start !== "number") return undefined;
    const axis = (axisDim + rank) % rank;
    const size = input.dims[axis]!;
    const from = start >= 0 ? start : add(size, start);
    if (start !== 0 && !(typeof size === "number" && typeof from === "number" && from >= 0 && from <= size) && !(start > 0 && output.dims![axis] !== undefined && typeof size !== "number" && outputProves(start, size, output.dims![axis]!))) return undefined;
    view = sliceView(view, axis, from, step, output.dims![axis]!);
  }
  return view;
}

/** With size - start elements in the result, the start lies inside whatever the size is. */
function outputProves(start: number, size: Dim, result: Dim): boolean {
  return String(add(result, start)) === String(size);
}
