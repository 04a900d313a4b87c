/** Tensors joined along a new axis and taken apart again, without looking at their elements. */
import { assert, elementCount, type Tensor } from "../base/index.ts";
import { type Items, itemsOf, newItems, tensorOfItems } from "./elements.ts";

function copyRun(to: Items, at: number, from: Items, start: number, count: number): void {
  for (let i = 0; i < count * to.width; i++) to.items[at * to.width + i] = from.items[start * to.width + i]!;
}

/** Slice `index` of `axis`, that axis removed. */
export function sliceAt(tensor: Tensor, axis: number, index: number): Tensor {
  const outer = elementCount(tensor.dims.slice(0, axis));
  const inner = elementCount(tensor.dims.slice(axis + 1));
  const from = itemsOf(tensor);
  const to = newItems(tensor.type, outer * inner);
  for (let o = 0; o < outer; o++) copyRun(to, o * inner, from, (o * tensor.dims[axis]! + index) * inner, inner);
  return tensorOfItems(tensor.type, to, tensor.dims.filter((_, i) => i !== axis));
}

/** Tensors of one shape side by side along a new axis. */
export function stack(tensors: readonly Tensor[], axis: number): Tensor {
  const first = tensors[0];
  assert(first, "at least one tensor to stack");
  const at = axis < 0 ? axis + first.dims.length + 1 : axis;
  const outer = elementCount(first.dims.slice(0, at));
  const inner = elementCount(first.dims.slice(at));
  const to = newItems(first.type, outer * tensors.length * inner);
  tensors.forEach((tensor, n) => {
    const from = itemsOf(tensor);
    for (let o = 0; o < outer; o++) copyRun(to, (o * tensors.length + n) * inner, from, o * inner, inner);
  });
  return tensorOfItems(first.type, to, [...first.dims.slice(0, at), tensors.length, ...first.dims.slice(at)]);
}
