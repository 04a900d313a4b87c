/**
 * Models with `sequence_batching`: what a request says of its sequence becomes control inputs, and state outputs of one request
 * are the state inputs of the next. What is let through is an ordinary request for the lane.
 *
 * Control inputs have as many dimensions of size 1 as the model gives them. READY is true for every row, as a batch holds no
 * row without a request. `direct` has a place per row of each instance, and sequences of one instance share batches; `oldest`
 * has as many places as candidate sequences.
 * Source: Triton's "Stateful Models" and "Implicit State Management".
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assert, elementCount, fileError, UserError } from "../../base/index.ts";
import { encodeStrings, type ModelSource } from "../../backends/index.ts";
import { type ControlConfig, dataTypeOfConfig, type ModelConfig, type ModelDescription, type SequenceBatchingConfig, type StateConfig } from "../../repository/index.ts";
import { derivedRequest, type InferenceRequest, type InferenceResponse, type ParameterValue, ServingError } from "../contract.ts";
import { type Clock, type SequenceContext, Sequences, type StartAt } from "../scheduler/index.ts";
import { numberBytes } from "./number-bytes.ts";
import { Pending, type Prepared, type PreparedInput } from "./pending.ts";

const DEFAULT_CANDIDATES = 1;
const ZERO_ID = "0";

interface Control {
  readonly index: number;
  readonly kind: string;
  readonly shape: readonly number[];
  readonly dataType: string;
  /** The tensor for false and for true; of CORRID, whose tensor is the id, none. */
  readonly falseTrue: readonly Uint8Array[];
}

interface State {
  readonly index: number;
  readonly output: string;
  readonly initial: PreparedInput;
}

interface Ends {
  readonly starts: boolean;
  readonly ends: boolean;
  readonly id: ParameterValue;
}

export interface SequencerOptions {
  readonly clock: Clock;
  readonly instances: number;
  readonly maxRequests: number;
  readonly startAt?: StartAt;
  /** Where a request goes when it is its turn. */
  submit(pending: Pending): void;
  /** A request whose client has gone before its turn came. */
  dropped(pending: Pending): void;
}

export class Sequencer {
  readonly #options: SequencerOptions;
  readonly #model: string;
  readonly #outputs: readonly string[];
  readonly #controls: readonly Control[];
  readonly #states: readonly State[];
  /** Instances among which places are dealt out: 0 where sequences keep to none. */
  readonly #dealt: number;
  readonly #sequences: Sequences<{ readonly pending: Pending; readonly ends: Ends }>;

  /** @throws UserError "config-invalid" where controls or states do not fit the model */
  constructor(config: ModelConfig & { readonly sequence_batching: SequenceBatchingConfig }, description: ModelDescription, source: ModelSource, options: SequencerOptions) {
    const batching = config.sequence_batching;
    const batched = (config.max_batch_size ?? 0) > 0;
    this.#options = options;
    this.#model = config.name;
    this.#outputs = (config.output ?? []).map(({ name }) => name);
    this.#controls = (batching.control_input ?? []).flatMap(({ name, control = [] }) => control.map((one) => readControl(config.name, name, one, description)));
    this.#states = (batching.state ?? []).map((state) => readState(config.name, state, description, batched, source));
    this.#dealt = batching.oldest || options.instances < 2 ? 0 : options.instances;
    const perInstance = batching.oldest ? batching.oldest.max_candidate_sequences || DEFAULT_CANDIDATES : Math.max(1, config.max_batch_size ?? 0);
    this.#sequences = new Sequences({
      places: perInstance * options.instances, idleNs: (batching.max_sequence_idle_microseconds || 1_000_000) * 1000, clock: options.clock, ...(options.startAt && !batching.oldest ? { startAt: options.startAt } : {}),
      isCancelled: ({ pending }) => pending.cancelled, drop: ({ pending }) => options.dropped(pending),
      run: ({ pending, ends }, context, done) => this.#run(pending, ends, context, done),
    });
  }

  /** Requests whose turn has not come. */
  get waiting(): number {
    return this.#sequences.waiting;
  }

  /** @throws ServingError INVALID_ARG for requests that say nothing of their sequence, or of one that has not begun; UNAVAILABLE when too many wait */
  check(pending: Pending): void {
    const { id, starts } = this.#endsOf(pending);
    if (this.#sequences.size >= this.#options.maxRequests) throw new ServingError("UNAVAILABLE", "Exceeds maximum queue size");
    if (!starts && !this.#sequences.isOpen(keyOf(id))) throw new ServingError("INVALID_ARG", `inference request for sequence ${id} to model '${this.#model}' must specify the START flag on the first request of the sequence`);
  }

  /** A request that was checked. */
  submit(pending: Pending): void {
    const ends = this.#endsOf(pending);
    this.#sequences.submit(keyOf(ends.id), { pending, ends }, ends.ends);
  }

  /** Waits for all that was accepted. */
  close(): Promise<void> {
    return this.#sequences.close();
  }

  #endsOf({ request: { parameters }, rows }: Pending): Ends {
    if (rows > 1) throw new ServingError("INVALID_ARG", `inference request to model '${this.#model}' must specify batch-size 1 due to requirements of sequence batcher`);
    const id = parameters.get("sequence_id") ?? "";
    if (id === "" || String(id) === ZERO_ID) throw new ServingError("INVALID_ARG", `inference request to model '${this.#model}' must specify a non-zero or non-empty correlation ID`);
    const control = this.#controls.find(({ kind }) => kind === "CONTROL_SEQUENCE_CORRID");
    if (control && (control.dataType === "TYPE_STRING") !== (typeof id === "string")) throw new ServingError("INVALID_ARG", `sequence id '${id}' of a request to model '${this.#model}' is ${typeof id === "string" ? "text" : "a number"}; its correlation ID control is ${control.dataType}`);
    return { id, starts: parameters.get("sequence_start") === true, ends: parameters.get("sequence_end") === true };
  }

  #run(pending: Pending, ends: Ends, context: SequenceContext, done: () => void): void {
    const before = ends.starts || context.state === undefined ? this.#states.map(({ initial }) => initial) : (context.state as readonly PreparedInput[]);
    const turn = new Pending(
      this.#states.length > 0 ? this.#withStates(pending.request) : pending.request, this.#filled(pending, ends, before, context.place), pending.arrivedNs,
      (response) => {
        if (this.#states.length > 0) context.state = this.#states.map(({ output }) => keptTensor(response, output));
        pending.resolve(this.#states.length > 0 ? this.#shown(response, pending.request) : response);
        done();
      },
      (error) => {
        pending.reject(error);
        done();
      },
    );
    this.#options.submit(turn);
  }

  /** The request's inputs with those that it does not carry. */
  #filled({ inputs, rows, bytes, group: own }: Pending, ends: Ends, states: readonly PreparedInput[], place: number): Prepared {
    const group = this.#dealt > 0 ? `${own}@${place % this.#dealt}` : own;
    const all = [...inputs];
    for (const control of this.#controls) all[control.index] = { bytes: controlBytes(control, ends), shape: control.shape };
    this.#states.forEach(({ index }, i) => (all[index] = states[i]!));
    return { inputs: all, rows, bytes, group: states.length === 0 ? group : `${group}|${states.map(({ shape }) => shape.slice(1)).join("|")}` };
  }

  #withStates(request: InferenceRequest): InferenceRequest {
    const wanted = request.outputs?.length ? request.outputs : this.#outputs.map((name) => ({ name, classification: 0 }));
    const states = this.#states.filter(({ output }) => !wanted.some(({ name }) => name === output));
    return derivedRequest(request, { outputs: [...wanted, ...states.map(({ output }) => ({ name: output, classification: 0 }))] });
  }

  /** The response without the states that the client did not ask for. */
  #shown(response: InferenceResponse, { outputs }: InferenceRequest): InferenceResponse {
    const names = outputs?.length ? outputs.map(({ name }) => name) : this.#outputs;
    const { model, version, id, parameters } = response;
    return { model, version, id, parameters, outputs: response.outputs.filter(({ name }) => names.includes(name)), release: () => response.release() };
  }
}

/** The number 1 and the text "1" are two sequences. */
function keyOf(id: ParameterValue): string {
  return `${typeof id === "string" ? "text" : "number"}:${id}`;
}

/** A copy, as the response's memory is given back. */
function keptTensor({ outputs }: InferenceResponse, name: string): PreparedInput {
  const found = outputs.find((output) => output.name === name);
  assert(found, `state output ${name} in a response that was asked for it`);
  return { bytes: Uint8Array.from(found.bytes), shape: found.shape };
}

function controlBytes({ kind, dataType, falseTrue }: Control, { starts, ends, id }: Ends): Uint8Array {
  switch (kind) {
    case "CONTROL_SEQUENCE_START": return falseTrue[starts ? 1 : 0]!;
    case "CONTROL_SEQUENCE_END": return falseTrue[ends ? 1 : 0]!;
    case "CONTROL_SEQUENCE_READY": return falseTrue[1]!;
    default: return dataType === "TYPE_STRING" ? encodeStrings([String(id)]) : idBytes(dataType, BigInt(id));
  }
}

function idBytes(dataType: string, id: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, id), true);
  return bytes.subarray(0, dataTypeOfConfig(dataType)!.sizeBytes);
}

function readControl(model: string, input: string, { kind = "CONTROL_SEQUENCE_START", int32_false_true, fp32_false_true, bool_false_true, data_type }: ControlConfig, description: ModelDescription): Control {
  const { index, rank, dtype } = find(model, input, description, "control input");
  const dataType = kind === "CONTROL_SEQUENCE_CORRID" ? (data_type ?? "TYPE_UINT64") : int32_false_true ? "TYPE_INT32" : fp32_false_true ? "TYPE_FP32" : "TYPE_BOOL";
  const values = int32_false_true ?? fp32_false_true ?? bool_false_true?.map(Number) ?? [];
  if (kind !== "CONTROL_SEQUENCE_CORRID" && values.length !== 2) throw new UserError("config-invalid", `Model "${model}": control ${kind} of "${input}" must have exactly 2 values, for false and true; got ${values.length}.`);
  if (dataTypeOfConfig(dataType)?.dtype !== dtype) throw new UserError("config-invalid", `Model "${model}": control ${kind} is ${dataType}; the model's input "${input}" is ${dtype}.`);
  return { index, kind, shape: new Array<number>(rank).fill(1), dataType, falseTrue: values.map((value) => numberBytes(dataType, value)) };
}

function readState(model: string, { input_name = "", output_name = "", data_type = "", dims = [], initial_state: [initial] = [] }: StateConfig, description: ModelDescription, batched: boolean, { folder }: ModelSource): State {
  const { index, dtype } = find(model, input_name, description, "state input");
  const type = dataTypeOfConfig(data_type);
  if (type?.dtype !== dtype) throw new UserError("config-invalid", `Model "${model}": state "${input_name}" is ${data_type}; the model's input is ${dtype}.`);
  if (!description.outputs.some(({ name }) => name === output_name)) throw new UserError("config-invalid", `Model "${model}": state output "${output_name}" is none of the model's outputs.`);
  const sizes = (initial?.dims ?? dims).map((dim) => (dim === -1 ? 1 : dim));
  const bytes = initial?.data_file ? initialBytes(folder, initial.data_file) : new Uint8Array(elementCount(sizes) * (type!.sizeBytes || 4));
  if (type!.sizeBytes > 0 && bytes.byteLength !== elementCount(sizes) * type!.sizeBytes) throw new UserError("config-invalid", `Model "${model}": initial_state of "${input_name}" expects ${elementCount(sizes) * type!.sizeBytes} bytes, the file has ${bytes.byteLength}.`);
  return { index, output: output_name, initial: { bytes, shape: [...(batched ? [1] : []), ...sizes] } };
}

function initialBytes(folder: string, file: string): Uint8Array {
  if (file.includes("..") || file.startsWith("/")) throw new UserError("config-invalid", `initial_state data_file "${file}" leads out of the model's folder.`);
  try {
    return readFileSync(join(folder, "..", "initial_state", file));
  } catch (cause) {
    throw fileError(`initial_state`, cause);
  }
}

function find(model: string, name: string, { inputs }: ModelDescription, what: string): { readonly index: number; readonly rank: number; readonly dtype: string } {
  const index = inputs.findIndex((input) => input.name === name);
  if (index < 0) throw new UserError("config-invalid", `Model "${model}": ${what} "${name}" is none of the model's inputs ${inputs.map((input) => `"${input.name}"`).join(", ")}.`);
  return { index, rank: inputs[index]!.dims?.length ?? 1, dtype: inputs[index]!.dtype };
}
