/** Tensors joined along a new axis and taken apart again, without looking at their elements: any type of a byte or more. */
import { assert, DTYPE_BITS, elementCount, Tensor, type TensorData } from "../base/index.ts";

/** Array items one element takes: two for complex numbers. */
function itemsPerElement(tensor: Tensor): number {
  assert(tensor.type === "string" || DTYPE_BITS[tensor.type] >= 8, `slices of packed type ${tensor.type}`);
  return tensor.type === "complex64" || tensor.type === "complex128" ? 2 : 1;
}

function copyItems(to: TensorData, at: number, from: TensorData, start: number, count: number): void {
  for (let i = 0; i < count; i++) to[at + i] = from[start + i]!;
}

/** Slice `index` of `axis`, that axis removed. */
export function sliceAt(tensor: Tensor, axis: number, index: number): Tensor {
  const outer = elementCount(tensor.dims.slice(0, axis));
  const inner = elementCount(tensor.dims.slice(axis + 1)) * itemsPerElement(tensor);
  const result = Tensor.zeros(tensor.type, tensor.dims.filter((_, i) => i !== axis));
  for (let o = 0; o < outer; o++) copyItems(result.data, o * inner, tensor.data, (o * tensor.dims[axis]! + index) * inner, inner);
  return result;
}

/** Tensors of one shape side by side along a new axis. */
export function stack(tensors: readonly Tensor[], axis: number): Tensor {
  const first = tensors[0];
  assert(first, "at least one tensor to stack");
  const at = axis < 0 ? axis + first.dims.length + 1 : axis;
  const outer = elementCount(first.dims.slice(0, at));
  const inner = elementCount(first.dims.slice(at)) * itemsPerElement(first);
  const result = Tensor.zeros(first.type, [...first.dims.slice(0, at), tensors.length, ...first.dims.slice(at)]);
  tensors.forEach((tensor, n) => {
    for (let o = 0; o < outer; o++) copyItems(result.data, (o * tensors.length + n) * inner, tensor.data, o * inner, inner);
  });
  return result;
}
