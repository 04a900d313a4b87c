/**
 * What a model version takes and gives, precomputed from its configuration, and the check of a request against it. Texts
 * are those that Triton's clients and tests know.
 * Source: triton-inference-server/core, src/infer_request.cc (InferenceRequest::Normalize).
 */
import { assert, UserError } from "../../base/index.ts";
import { dataTypeOfConfig, dataTypeOfDtype, type ModelConfig, type ModelDescription, sequenceTensors, type TensorConfig, type WireType } from "../../repository/index.ts";
import { type InferenceRequest, type RequestedOutput, type RequestInput, ServingError, type TensorMetadata } from "../contract.ts";
import { bytesOf, type Prepared, type PreparedInput } from "./pending.ts";

export interface InputSignature {
  readonly name: string;
  readonly wire: WireType;
  /** Bytes of an element; 0 for strings. */
  readonly elementBytes: number;
  /** Without the batch dimension; -1 where any size will do. */
  readonly dims: readonly number[];
  /** The dims that the model itself sees, where they differ. */
  readonly reshape: readonly number[] | undefined;
  readonly optional: boolean;
  /** Where the backend expects it. */
  readonly index: number;
  readonly varies: boolean;
}

export interface OutputSignature {
  readonly name: string;
  readonly wire: WireType;
  readonly elementBytes: number;
  readonly dims: readonly number[];
  readonly reshaped: boolean;
  /** The dims that the model itself gives. */
  readonly inner: readonly number[];
  /** Where the backend gives it. */
  readonly index: number;
  readonly labelFile: string | undefined;
  /** Per axis of the backend's output: the input and axis that decide its size. */
  readonly sizedBy: readonly (readonly [number, number] | undefined)[];
}

export class Signature {
  readonly model: string;
  readonly maxBatch: number;
  /** What requests carry. */
  readonly inputs: readonly InputSignature[];
  /** What the backend takes: those, and what the server fills for sequences. */
  readonly allInputs: readonly InputSignature[];
  readonly outputs: readonly OutputSignature[];
  /** Inputs that the backend takes, whether or not the configuration names them. */
  readonly inputCount: number;
  readonly #inputByName: ReadonlyMap<string, InputSignature>;
  readonly #outputByName: ReadonlyMap<string, OutputSignature>;
  /** Whether requests of different sizes may share a batch. */
  readonly #pads: boolean;
  readonly #required: number;

  constructor(config: ModelConfig, description: ModelDescription, pads: boolean) {
    this.model = config.name;
    this.maxBatch = config.max_batch_size ?? 0;
    this.inputCount = description.inputs.length;
    this.inputs = (config.input ?? []).map((tensor) => inputSignature(tensor, description));
    this.outputs = (config.output ?? []).map((tensor) => outputSignature(tensor, description));
    const inner = sequenceTensors(config);
    this.allInputs = [...this.inputs, ...inner.inputs.map((name) => inputSignature(innerTensor(name, description.inputs), description))];
    const kept = inner.outputs.filter((name) => !this.outputs.some((output) => output.name === name)).map((name) => outputSignature(innerTensor(name, description.outputs), description));
    this.#inputByName = new Map(this.inputs.map((input) => [input.name, input]));
    this.#outputByName = new Map([...this.outputs, ...kept].map((output) => [output.name, output]));
    this.#required = this.inputs.filter(({ optional }) => !optional).length;
    this.#pads = pads;
  }

  output(name: string): OutputSignature | undefined {
    return this.#outputByName.get(name);
  }

  metadata(): { readonly inputs: readonly TensorMetadata[]; readonly outputs: readonly TensorMetadata[] } {
    const shown = ({ name, wire, dims }: InputSignature | OutputSignature): TensorMetadata => ({ name, datatype: wire, shape: this.maxBatch > 0 ? [-1, ...dims] : [...dims] });
    return { inputs: this.inputs.map(shown), outputs: this.outputs.map(shown) };
  }

  /** @throws ServingError INVALID_ARG */
  prepare(request: InferenceRequest): Prepared {
    const inputs: (PreparedInput | undefined)[] = new Array<PreparedInput | undefined>(this.inputCount).fill(undefined);
    let rows = 0;
    let required = 0;
    let group = "";
    for (const input of request.inputs) {
      const signature = this.#inputByName.get(input.name);
      if (!signature) throw this.#refuse(request, `unexpected inference input '${input.name}' for model '${this.model}'`);
      if (inputs[signature.index]) throw this.#refuse(request, `input '${input.name}' already exists in request`);
      if (input.datatype !== signature.wire) throw this.#refuse(request, `inference input '${input.name}' data-type is '${input.datatype}', but model '${this.model}' expects '${signature.wire}'`);
      rows = this.#checkBatch(request, input, rows);
      inputs[signature.index] = { bytes: input.bytes, shape: this.#checkShape(request, input, signature) };
      if (!signature.optional) required++;
    }
    if (required !== this.#required) throw this.#missing(request, inputs);
    if (request.outputs) this.#checkOutputs(request, request.outputs);
    for (const input of this.inputs) {
      if (input.optional) group += inputs[input.index] ? "+" : "-";
      if (input.varies && !this.#pads) group += `${inputs[input.index]?.shape.slice(1)};`;
    }
    return { inputs, rows: Math.max(1, rows), bytes: bytesOf(request.inputs), group };
  }

  #checkOutputs(request: InferenceRequest, outputs: readonly RequestedOutput[]): void {
    for (const [i, { name }] of outputs.entries()) {
      if (!this.outputs.some((output) => output.name === name)) throw this.#refuse(request, `unexpected inference output '${name}' for model '${this.model}'`);
      if (outputs.findIndex((other) => other.name === name) < i) throw this.#refuse(request, `output '${name}' already exists in request`);
    }
  }

  #checkBatch(request: InferenceRequest, { name, shape }: RequestInput, rows: number): number {
    if (this.maxBatch === 0) return 1;
    const batch = shape[0];
    if (batch === undefined) throw this.#refuse(request, `input '${name}' has no batch dimension; model '${this.model}' expects one in front of its shape`);
    if (batch > this.maxBatch || batch < 1) throw this.#refuse(request, `inference request batch-size must be <= ${this.maxBatch} for '${this.model}'`);
    if (rows > 0 && batch !== rows) throw this.#refuse(request, `input '${name}' batch size does not match other inputs for '${this.model}'`);
    return batch;
  }

  /** @returns the shape as the backend sees it */
  #checkShape(request: InferenceRequest, input: RequestInput, { dims, reshape, elementBytes, optional: _, ...signature }: InputSignature): readonly number[] {
    const { shape } = input;
    const front = this.maxBatch > 0 ? 1 : 0;
    let count = front === 1 ? shape[0]! : 1;
    let fits = shape.length === dims.length + front;
    for (let axis = 0; axis < dims.length && fits; axis++) {
      const size = shape[axis + front]!;
      fits = dims[axis] === size || (dims[axis] === -1 && size >= 0);
      count *= size;
    }
    if (!fits || !Number.isSafeInteger(count)) throw this.#refuse(request, this.#shapeText(input, dims));
    const { bytes } = input;
    if (signature.wire === "BYTES") {
      if (!holdsStrings(bytes, count)) throw this.#refuse(request, `unexpected number of string elements for inference input '${input.name}', expecting ${count}`);
    } else if (bytes.byteLength !== count * elementBytes) {
      throw this.#refuse(request, `input byte size mismatch for input '${input.name}' for model '${this.model}'. Expected ${count * elementBytes}, got ${bytes.byteLength}`);
    }
    return reshape ? [...shape.slice(0, front), ...filled(reshape, dims, shape.slice(front))] : shape;
  }

  #shapeText({ name, shape }: RequestInput, dims: readonly number[]): string {
    const expected = this.maxBatch > 0 ? [-1, ...dims] : dims;
    const note = this.maxBatch > 0 ? ". NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size." : "";
    return `unexpected shape for input '${name}' for model '${this.model}'. Expected [${expected}], got [${shape}]${note}`;
  }

  #missing(request: InferenceRequest, inputs: readonly (PreparedInput | undefined)[]): ServingError {
    const missing = this.inputs.filter(({ index, optional }) => !optional && !inputs[index]).map(({ name }) => `'${name}'`);
    const given = request.inputs.map(({ name }) => `'${name}'`);
    return this.#refuse(request, `${this.#required === this.inputs.length ? `expected ${this.#required} inputs` : `expected number of inputs between ${this.#required} and ${this.inputs.length}`} but got ${request.inputs.length} inputs for model '${this.model}'. Got input(s) [${given}], but missing required input(s) [${missing}]. Please provide all required input(s).`);
  }

  #refuse({ id }: InferenceRequest, what: string): ServingError {
    return new ServingError("INVALID_ARG", `[request id: ${id || "<id_unknown>"}] ${what}`);
  }
}

/** A tensor that the configuration names without describing it: the model does. */
function innerTensor(name: string, tensors: ModelDescription["inputs"]): TensorConfig {
  const known = tensors.find((tensor) => tensor.name === name);
  const type = known && dataTypeOfDtype(known.dtype);
  if (!known || !type) throw new UserError("config-invalid", `sequence_batching names "${name}", which the model does not have; it has ${tensors.map((tensor) => `"${tensor.name}"`).join(", ")}.`);
  return { name, data_type: type.config, dims: (known.dims ?? []).slice(1).map((dim) => (typeof dim === "number" ? dim : -1)) };
}

function inputSignature(tensor: TensorConfig, description: ModelDescription): InputSignature {
  const index = description.inputs.findIndex(({ name }) => name === tensor.name);
  const type = dataTypeOfConfig(tensor.data_type);
  assert(index >= 0 && type, `input ${tensor.name} of a configuration that was checked`);
  return { name: tensor.name, wire: type.wire, elementBytes: type.sizeBytes, dims: tensor.dims, reshape: tensor.reshape && (tensor.reshape.shape ?? []), optional: tensor.optional ?? false, index, varies: tensor.dims.includes(-1) };
}

function outputSignature(tensor: TensorConfig, description: ModelDescription): OutputSignature {
  const index = description.outputs.findIndex(({ name }) => name === tensor.name);
  const type = dataTypeOfConfig(tensor.data_type);
  assert(index >= 0 && type, `output ${tensor.name} of a configuration that was checked`);
  const sizedBy = (description.outputs[index]!.dims ?? []).map((dim) => (typeof dim === "string" ? whereIs(dim, description) : undefined));
  return { name: tensor.name, wire: type.wire, elementBytes: type.sizeBytes, dims: tensor.dims, reshaped: tensor.reshape !== undefined, inner: tensor.reshape ? (tensor.reshape.shape ?? []) : tensor.dims, index, labelFile: tensor.label_filename || undefined, sizedBy };
}

function whereIs(symbol: string, { inputs }: ModelDescription): readonly [number, number] | undefined {
  for (const [input, { dims }] of inputs.entries()) {
    const axis = dims?.indexOf(symbol) ?? -1;
    if (axis >= 0) return [input, axis];
  }
  return undefined;
}

/** The sizes of one form's free dimensions, in order, put into the other form's. */
export function filled(target: readonly number[], source: readonly number[], sizes: readonly number[]): number[] {
  const free = sizes.filter((_, axis) => source[axis] === -1);
  let at = 0;
  return target.map((dim) => (dim === -1 ? (free[at++] ?? 1) : dim));
}

/** Whether bytes are exactly `count` strings with a 32-bit length before each. */
function holdsStrings(bytes: Uint8Array, count: number): boolean {
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 4 > bytes.byteLength) return false;
    at += 4 + (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16)) + bytes[at + 3]! * 2 ** 24;
  }
  return at === bytes.byteLength;
}
