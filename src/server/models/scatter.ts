/**
 * A batch's outputs to its requests: views of the batch's memory, without a copy where rows lie together. The memory goes
 * back when the last of the responses has been released.
 */
import { type BatchResults, type BatchTensor, stringEnds } from "../../backends/index.ts";
import { type InferenceResponse, type Parameters, type ResponseOutput, ServingError } from "../contract.ts";
import { classify } from "./classification.ts";
import type { Pending } from "./pending.ts";
import { filled, type OutputSignature, type Signature } from "./signature.ts";
import { copyBlock, product } from "./strided.ts";

const NO_PARAMETERS: Parameters = new Map();

/** Counts the responses that still read a batch's outputs. */
class SharedResults {
  readonly #results: BatchResults;
  #readers: number;

  constructor(results: BatchResults, readers: number) {
    this.#results = results;
    this.#readers = readers;
  }

  leave(): void {
    if (--this.#readers === 0) this.#results.release();
  }
}

class Response implements InferenceResponse {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly parameters = NO_PARAMETERS;
  readonly outputs: readonly ResponseOutput[];
  #shared: SharedResults | undefined;

  constructor(model: string, version: string, id: string, outputs: readonly ResponseOutput[], shared: SharedResults) {
    this.model = model;
    this.version = version;
    this.id = id;
    this.outputs = outputs;
    this.#shared = shared;
  }

  release(): void {
    this.#shared?.leave();
    this.#shared = undefined;
  }
}

export interface ScatterContext {
  readonly signature: Signature;
  readonly version: string;
  labels(output: string): readonly string[] | undefined;
}

/** One response per request, in order. @throws ServingError INTERNAL when an output does not have the batch's rows */
export function scatter(results: BatchResults, batch: readonly Pending[], context: ScatterContext): InferenceResponse[] {
  const shared = new SharedResults(results, batch.length);
  const { signature } = context;
  const rows = batch.reduce((sum, item) => sum + item.rows, 0);
  const pieces = new Map<OutputSignature, readonly BatchTensor[]>();
  const piecesOf = (output: OutputSignature): readonly BatchTensor[] => {
    let list = pieces.get(output);
    if (!list) pieces.set(output, (list = signature.maxBatch > 0 ? split(results.outputs[output.index]!, output, batch, rows) : [results.outputs[output.index]!]));
    return list;
  };
  return batch.map(({ request }, position) => {
    const wanted = request.outputs?.length ? request.outputs : signature.outputs.map(({ name }) => ({ name, classification: 0 }));
    const outputs = wanted.map(({ name, classification }): ResponseOutput => {
      const output = signature.output(name)!;
      const tensor = shown(piecesOf(output)[position]!, output, signature.maxBatch > 0);
      if (classification > 0) return classify(name, output, tensor, classification, signature.maxBatch > 0, context.labels(name));
      return { name, datatype: output.wire, shape: tensor.shape, bytes: tensor.bytes };
    });
    return new Response(request.model, context.version, request.id, outputs, shared);
  });
}

/** An output in the shape that clients are told of, where the model has another. */
export function shown(tensor: BatchTensor, { reshaped, dims }: OutputSignature, batched: boolean): BatchTensor {
  if (!reshaped) return tensor;
  const front = batched ? 1 : 0;
  const own = tensor.shape.slice(front);
  const fixed = dims.filter((dim) => dim !== -1).reduce((sum, dim) => sum * dim, 1);
  const free = dims.filter((dim) => dim === -1).length;
  const sizes = free === 1 ? [product(own) / fixed] : own;
  return { bytes: tensor.bytes, shape: [...tensor.shape.slice(0, front), ...filled(dims, sizes.map(() => -1), sizes)] };
}

function split(tensor: BatchTensor, output: OutputSignature, batch: readonly Pending[], rows: number): BatchTensor[] {
  const { bytes, shape } = tensor;
  if (shape[0] !== rows) throw new ServingError("INTERNAL", `output '${output.name}' has ${shape[0] ?? "no"} rows for a batch of ${rows}; the model mixes its batch with other dimensions, set max_batch_size: 0`);
  if (batch.length === 1) return [tensor];
  const rest = shape.slice(1);
  const ends = output.wire === "BYTES" ? stringEnds(bytes, product(rest)) : undefined;
  const rowBytes = bytes.byteLength / rows;
  let row = 0;
  return batch.map((item) => {
    const [from, to] = [row, (row += item.rows)];
    const own = ends ? bytes.subarray(from === 0 ? 0 : ends[from - 1], ends[to - 1]) : bytes.subarray(from * rowBytes, to * rowBytes);
    return unpadded({ bytes: own, shape: [item.rows, ...rest] }, output, item);
  });
}

/** Cuts the padding off where an output's size follows that of a padded input. */
function unpadded(tensor: BatchTensor, { sizedBy, elementBytes }: OutputSignature, item: Pending): BatchTensor {
  const dims = tensor.shape.map((size, axis) => {
    const source = axis > 0 ? sizedBy[axis] : undefined;
    return Math.min(size, (source && item.inputs[source[0]]?.shape[source[1]]) ?? size);
  });
  if (elementBytes === 0 || dims.every((size, axis) => size === tensor.shape[axis])) return tensor;
  const cutsFront = dims[0] === 1 && dims.every((size, axis) => axis <= 1 || size === tensor.shape[axis]);
  const sizeBytes = product(dims) * elementBytes;
  if (cutsFront) return { bytes: tensor.bytes.subarray(0, sizeBytes), shape: dims };
  const bytes = new Uint8Array(sizeBytes);
  copyBlock(tensor.bytes, tensor.shape, bytes, dims, dims, elementBytes);
  return { bytes, shape: dims };
}
