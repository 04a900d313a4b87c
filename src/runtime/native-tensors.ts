/**
 * Tensors over native memory, which kernels use where it lies. A tensor made here keeps its memory until the garbage
 * collector has dropped every view of it.
 */
import { byteLength, type DType, elementCount, Tensor, UserError } from "../base/index.ts";
import { addressOf, NativeMemory, viewMemory } from "../native/index.ts";

const owners = new FinalizationRegistry<NativeMemory>((memory) => memory.dispose());

/** Zeroed native memory as a tensor. @throws UserError for strings and other host-only types */
export function allocateTensor(type: DType, dims: readonly number[]): Tensor {
  if (type === "string") throw new UserError("input-invalid", "String tensors live on the host; make them with `new Tensor`.");
  const memory = NativeMemory.allocate(Math.max(1, byteLength(type, elementCount(dims))));
  const tensor = tensorOver(memory, type, dims);
  owners.register(tensor.bytes.buffer, memory);
  return tensor;
}

/** A tensor over memory that somebody keeps as long as the tensor's buffer is there. It is not the memory's own view: who keeps the memory must not keep the buffer. */
export function tensorOver(memory: NativeMemory, type: Exclude<DType, "string">, dims: readonly number[]): Tensor {
  return Tensor.fromBytes(type, new Uint8Array(viewMemory(memory.address, memory.sizeBytes)), dims);
}

/** Where a tensor over native memory lies; undefined for tensors of the JavaScript heap. */
export function nativeAddress(tensor: Tensor): number | undefined {
  return Array.isArray(tensor.data) ? undefined : addressOf(tensor.bytes);
}
