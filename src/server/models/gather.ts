/**
 * A batch's inputs from its requests' rows. One request is bound where it lies when the backend can use its memory; rows
 * of several are copied once, into memory the backend reads in place. Rows of different sizes are padded at their ends.
 */
import type { BackendInstance, BatchTensor } from "../../backends/index.ts";
import type { Pending } from "./pending.ts";
import type { InputSignature } from "./signature.ts";
import { copyBlock, product } from "./strided.ts";

/** Bytes that were copied and bytes of padding among them. */
export interface Gathered {
  readonly inputs: readonly (BatchTensor | undefined)[];
  readonly rows: number;
  readonly inputBytes: number;
  readonly paddingBytes: number;
}

/** What a padded input is filled with: bytes of one element; zeros when absent. */
export type PadValues = ReadonlyMap<string, Uint8Array>;

export function gather(instance: BackendInstance, batch: readonly Pending[], signatures: readonly InputSignature[], inputCount: number, pads: PadValues): Gathered {
  const inputs: (BatchTensor | undefined)[] = new Array<BatchTensor | undefined>(inputCount).fill(undefined);
  let inputBytes = 0;
  let paddingBytes = 0;
  for (const signature of signatures) {
    const { index } = signature;
    const first = batch[0]!.inputs[index];
    if (!first) continue;
    const tensor = batch.length === 1 ? single(instance, index, first) : joined(instance, batch, signature, pads);
    inputs[index] = tensor;
    const given = batch.length === 1 ? tensor.bytes.byteLength : batch.reduce((sum, item) => sum + item.inputs[index]!.bytes.byteLength, 0);
    inputBytes += tensor.bytes.byteLength;
    paddingBytes += tensor.bytes.byteLength - given;
  }
  return { inputs, rows: batch.reduce((sum, { rows }) => sum + rows, 0), inputBytes, paddingBytes };
}

function single(instance: BackendInstance, index: number, { bytes, shape }: BatchTensor): BatchTensor {
  if (instance.binds(bytes)) return { bytes, shape };
  const staged = instance.stage(index, bytes.byteLength);
  staged.set(bytes);
  return { bytes: staged, shape };
}

function joined(instance: BackendInstance, batch: readonly Pending[], { index, name, elementBytes }: InputSignature, pads: PadValues): BatchTensor {
  const [first, ...others] = batch.map((item) => item.inputs[index]!);
  const rest = first!.shape.slice(1);
  const rows = batch.reduce((sum, item) => sum + item.rows, 0);
  const same = others.every(({ shape }) => rest.every((size, axis) => shape[axis + 1] === size));
  if (same) return { bytes: concatenated(instance, index, [first!, ...others]), shape: [rows, ...rest] };
  const dims = rest.map((size, axis) => Math.max(size, ...others.map(({ shape }) => shape[axis + 1]!)));
  const rowBytes = product(dims) * elementBytes;
  const staged = instance.stage(index, rows * rowBytes);
  fill(staged, pads.get(name));
  let at = 0;
  for (const { bytes, shape } of [first!, ...others]) {
    const own = shape.slice(1);
    const end = at + shape[0]! * rowBytes;
    copyBlock(bytes, shape, staged.subarray(at, end), [shape[0]!, ...dims], [shape[0]!, ...own], elementBytes);
    at = end;
  }
  return { bytes: staged, shape: [rows, ...dims] };
}

function concatenated(instance: BackendInstance, index: number, tensors: readonly BatchTensor[]): Uint8Array {
  const staged = instance.stage(index, tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  let at = 0;
  for (const { bytes } of tensors) {
    staged.set(bytes, at);
    at += bytes.byteLength;
  }
  return staged;
}

function fill(staged: Uint8Array, value: Uint8Array | undefined): void {
  if (!value) {
    staged.fill(0);
    return;
  }
  staged.set(value);
  for (let done = value.byteLength; done < staged.byteLength; done *= 2) staged.copyWithin(done, 0, Math.min(done, staged.byteLength - done));
}
