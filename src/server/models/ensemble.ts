/**
 * A pipeline of models within the server: each step begins when the tensors it takes are there, and hands its own on where
 * they lie; nothing is serialised, and the steps' models batch as they do for any request. What a step answered is kept
 * until the ensemble's own response is released.
 * Source: Triton's "Ensemble Models"; texts are those of its ensemble_utils.cc.
 */
import { UserError } from "../../base/index.ts";
import type { ModelSource } from "../../backends/index.ts";
import { completeConfig, dataTypeOfConfig, type EnsembleStepConfig, type ModelConfig, type ModelDescription, type PlainMessage, readLabels, type TensorConfig } from "../../repository/index.ts";
import { derivedRequest, type InferenceRequest, type InferenceResponse, type ModelStatistics, type RequestInput, type ResponseOutput, ServingError } from "../contract.ts";
import { classify } from "./classification.ts";
import { toServingError } from "./failure.ts";
import type { VersionMetrics } from "./metrics.ts";
import type { Prepared } from "./pending.ts";
import { shown } from "./scatter.ts";
import type { Served } from "./served.ts";
import type { VersionDependencies } from "./serving-version.ts";
import { Signature } from "./signature.ts";
import type { Statistics } from "./statistics.ts";

export const ENSEMBLE_PLATFORM = "ensemble";

/** A tensor on its way. */
interface Tensor {
  readonly datatype: RequestInput["datatype"];
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

interface Step {
  readonly model: string;
  /** Empty: whichever serves. */
  readonly version: string;
  /** Names in the model and in the ensemble. */
  readonly inputs: readonly (readonly [string, string])[];
  readonly outputs: readonly (readonly [string, string])[];
}

export class Ensemble implements Served {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  readonly signature: Signature;
  readonly platform = ENSEMBLE_PLATFORM;
  readonly file: string;
  readonly loadMs = 0;
  readonly summary: string;
  readonly #steps: readonly Step[];
  /** Steps that take tensors of the request itself. */
  readonly #entrances: readonly Step[];
  /** Tensors that steps make. */
  readonly #made: ReadonlySet<string>;
  readonly #dependencies: VersionDependencies;
  readonly #find: (model: string, version: string) => Served;
  readonly #labels: ReadonlyMap<string, readonly string[]>;
  readonly #statistics: Statistics;
  readonly #metrics: VersionMetrics;
  #inFlight = 0;
  #closing: (() => void) | undefined;

  /** @param find the version that a step asks for @throws UserError "config-invalid" where maps, types or shapes do not fit */
  constructor(source: ModelSource, find: (model: string, version: string) => Served, dependencies: VersionDependencies) {
    const { config } = source;
    this.name = source.name;
    this.version = String(source.version);
    this.config = config;
    this.file = source.folder;
    this.signature = new Signature(config, describe(config), false);
    this.#steps = (config.ensemble_scheduling?.step ?? []).map(readStep);
    this.#entrances = this.#steps.filter(({ inputs }) => inputs.some(([, tensor]) => this.signature.inputs.some(({ name }) => name === tensor)));
    this.#made = new Set(this.#steps.flatMap(({ outputs }) => outputs.map(([, tensor]) => tensor)));
    this.summary = `ensemble of ${this.#steps.map(({ model }) => model).join(", ")}`;
    this.#find = find;
    this.#dependencies = dependencies;
    checkEnsemble(config, this.#steps, find);
    this.#labels = new Map(this.signature.outputs.flatMap(({ name, labelFile }) => (labelFile === undefined ? [] : [[name, readLabels(`${source.folder}/..`, labelFile)] as const])));
    this.#statistics = dependencies.statistics(this.name, this.version);
    this.#metrics = dependencies.metrics.version(this.name, this.version);
  }

  plainConfig(): PlainMessage {
    return completeConfig(this.config);
  }

  statistics(): ModelStatistics {
    return this.#statistics.snapshot(this.name, this.version, 0);
  }

  labels(output: string): readonly string[] | undefined {
    const own = this.#labels.get(output);
    if (own) return own;
    for (const { model, version, outputs } of this.#steps) {
      const found = outputs.find(([, tensor]) => tensor === output);
      if (found) return this.#find(model, version).labels(found[0]);
    }
    return undefined;
  }

  checkRoom(bodyBytes: number): void {
    for (const { model, version } of this.#entrances) this.#find(model, version).checkRoom(bodyBytes);
  }

  improve(): void {
    // Its models are made faster one by one.
  }

  /** Requests wait in the queues of the models it is made of, which are flushed themselves. */
  flush(): void {}

  async close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => { this.#closing = resolve; });
  }

  async infer(request: InferenceRequest): Promise<InferenceResponse> {
    const { clock } = this.#dependencies;
    const beganNs = clock.nowNs();
    request.trace?.at("REQUEST_START", beganNs);
    this.#inFlight++;
    try {
      const { rows, inputs } = this.signature.prepare(request);
      const response = await this.#run(request, inputs);
      const elapsedNs = clock.nowNs() - beganNs;
      request.trace?.at("REQUEST_END", beganNs + elapsedNs);
      const times = { inputNs: 0, inferNs: elapsedNs, outputNs: 0 };
      this.#statistics.executed(rows, times);
      this.#statistics.succeeded(elapsedNs, 0, rows, times, Date.now());
      this.#metrics.executed(rows, 0, 0);
      this.#metrics.succeeded(rows, elapsedNs, 0, times);
      return response;
    } catch (error) {
      this.#statistics.failed(clock.nowNs() - beganNs);
      this.#metrics.failed(request.cancelled ? "CANCELED" : "OTHER");
      throw toServingError(error);
    } finally {
      if (--this.#inFlight === 0) this.#closing?.();
    }
  }

  /** All steps, each when its tensors are there. */
  async #run(request: InferenceRequest, inputs: Prepared["inputs"]): Promise<InferenceResponse> {
    const tensors = new Map<string, Tensor>();
    for (const { name, index, wire } of this.signature.inputs) {
      const input = inputs[index];
      if (input) tensors.set(name, { datatype: wire, ...input });
    }
    const responses: InferenceResponse[] = [];
    const waiting = new Set(this.#steps);
    let failure: { readonly error: unknown } | undefined;
    const runReady = async (): Promise<void> => {
      if (failure) return;
      // An optional input that the request leaves out is no one's output, and waited for by no step.
      const ready = [...waiting].filter(({ inputs }) => inputs.every(([, tensor]) => tensors.has(tensor) || !this.#made.has(tensor)));
      await Promise.all(ready.map(async (step) => {
        waiting.delete(step);
        try {
          responses.push(await this.#runStep(step, request, tensors));
        } catch (error) {
          failure ??= { error };
        }
        await runReady();
      }));
    };
    try {
      await runReady();
      // After all that had begun: steps read the request's tensors where they lie.
      if (failure) throw failure.error;
      return this.#respond(request, tensors, responses);
    } catch (error) {
      for (const response of responses) response.release();
      throw error;
    }
  }

  async #runStep({ model, version, inputs, outputs }: Step, request: InferenceRequest, tensors: Map<string, Tensor>): Promise<InferenceResponse> {
    try {
      const served = this.#find(model, version);
      const given = inputs.flatMap(([name, tensor]): RequestInput[] => {
        const value = tensors.get(tensor);
        const input = served.signature.inputs.find((one) => one.name === name);
        return value && input ? [{ name, datatype: value.datatype, shape: reshaped(value.shape, input.dims, served.signature.maxBatch > 0), bytes: value.bytes }] : [];
      });
      const trace = request.trace?.step(model);
      trace?.name(served.version, request.id);
      const asked = derivedRequest(request, { model, version, inputs: given, outputs: outputs.map(([name]) => ({ name, classification: 0 })), ...(trace ? { trace } : {}) });
      const response = await served.infer(asked);
      for (const [name, tensor] of outputs) tensors.set(tensor, response.outputs.find((output) => output.name === name)!);
      return response;
    } catch (error) {
      const failure = toServingError(error);
      throw new ServingError(failure.status, `in ensemble '${this.name}', ${failure.message}`, { cause: failure });
    }
  }

  #respond(request: InferenceRequest, tensors: ReadonlyMap<string, Tensor>, responses: readonly InferenceResponse[]): InferenceResponse {
    const batched = this.signature.maxBatch > 0;
    const wanted = request.outputs?.length ? request.outputs : this.signature.outputs.map(({ name }) => ({ name, classification: 0 }));
    const outputs = wanted.map(({ name, classification }): ResponseOutput => {
      const output = this.signature.output(name)!;
      const { datatype, shape: own, bytes } = tensors.get(name)!;
      const { shape } = shown({ bytes, shape: reshaped(own, output.inner, batched) }, output, batched);
      return classification > 0 ? classify(name, output, { bytes, shape }, classification, batched, this.labels(name)) : { name, datatype, shape, bytes };
    });
    return {
      model: request.model, version: this.version, id: request.id, parameters: new Map(), outputs,
      release: () => {
        for (const response of responses) response.release();
      },
    };
  }
}

/** Models that an ensemble's configuration names, in order. */
export function stepsOf({ ensemble_scheduling }: ModelConfig): readonly string[] {
  return [...new Set((ensemble_scheduling?.step ?? []).map(({ model_name }) => model_name ?? ""))];
}

/** Between models that batch and those that do not, a batch dimension of 1 comes and goes. */
function reshaped(shape: readonly number[], dims: readonly number[], batched: boolean): readonly number[] {
  if (batched && shape.length === dims.length) return [1, ...shape];
  return !batched && shape.length === dims.length + 1 && shape[0] === 1 ? shape.slice(1) : shape;
}

function describe({ input = [], output = [], max_batch_size = 0 }: ModelConfig): ModelDescription {
  const described = ({ name, data_type, dims, reshape }: TensorConfig): ModelDescription["inputs"][number] => {
    const type = dataTypeOfConfig(data_type);
    if (!type) throw new UserError("config-invalid", `"${name}" has data_type ${data_type ?? "TYPE_INVALID"}; expected a type`);
    return { name, dtype: type.dtype, dims: [...(max_batch_size > 0 ? [null] : []), ...(reshape ? (reshape.shape ?? []) : dims).map((dim) => (dim === -1 ? null : dim))] };
  };
  return { inputs: input.map(described), outputs: output.map(described) };
}

function readStep({ model_name = "", model_version = -1, input_map = {}, output_map = {} }: EnsembleStepConfig): Step {
  return { model: model_name, version: model_version > 0 ? String(model_version) : "", inputs: Object.entries(input_map), outputs: Object.entries(output_map) };
}

function checkEnsemble(config: ModelConfig, steps: readonly Step[], find: (model: string, version: string) => Served): void {
  const { name } = config;
  const refuse = (what: string): UserError => new UserError("config-invalid", what);
  if (config.platform !== ENSEMBLE_PLATFORM) throw refuse(`ensemble scheduling cannot be set for model '${name}' whose platform is not ${ENSEMBLE_PLATFORM}`);
  if (config.model_transaction_policy?.decoupled) throw refuse(`ensemble '${name}' is decoupled; it can be asked for one answer only`);
  if (steps.length === 0) throw refuse(`must specify 'step' for ensemble '${name}'`);
  if (config.instance_group?.length) throw refuse(`instance group should not be specified for ensemble '${name}'`);
  if (config.model_warmup?.length) throw refuse(`model_warmup can not be specified for ensemble '${name}'`);
  const types = new Map((config.input ?? []).map((tensor) => [tensor.name, { type: dataTypeOfConfig(tensor.data_type)!.wire, from: name }]));
  const made = new Set(types.keys());
  for (const { outputs } of steps) for (const [, tensor] of outputs) {
    if (made.has(tensor)) throw refuse(`ensemble tensor '${tensor}' can appear in an output map only once for ensemble '${name}'`);
    made.add(tensor);
  }
  for (const step of steps) checkStep(name, config.max_batch_size ?? 0, step, find(step.model, step.version), made, types);
  for (const output of config.output ?? []) {
    if (!made.has(output.name)) throw refuse(`ensemble output '${output.name}' for ensemble ${name} is not used`);
    // A request's own bytes are given back while the reply is still being written.
    if (config.input?.some((input) => input.name === output.name)) throw refuse(`ensemble output '${output.name}' for ensemble ${name} is one of its inputs; a step must make it`);
    checkType(name, output.name, { type: dataTypeOfConfig(output.data_type)!.wire, from: name }, types);
  }
  checkOrder(name, steps, config.input ?? []);
}

type TypeOf = { readonly type: string; readonly from: string };

function checkStep(ensemble: string, maxBatch: number, { model, inputs, outputs }: Step, { config, signature }: Served, made: ReadonlySet<string>, types: Map<string, TypeOf>): void {
  const where = `in ensemble ${ensemble}, `;
  const refuse = (what: string): UserError => new UserError("config-invalid", what);
  if (config.model_transaction_policy?.decoupled) throw refuse(`${where}model ${model} is decoupled; a step must answer once`);
  if (maxBatch > 0 && signature.maxBatch > 0 && signature.maxBatch < maxBatch) throw refuse(`ensemble ${ensemble} allows maximum batch size ${maxBatch}, but it contains model ${model} which only allows maximum batch size to be ${signature.maxBatch}`);
  for (const [name, tensor] of inputs) {
    const input = signature.inputs.find((one) => one.name === name);
    if (!input) throw refuse(`${where}ensemble tensor ${tensor} is mapping to non-existing input ${name} in model ${model}`);
    if (!made.has(tensor)) throw refuse(`${where}ensemble tensor ${tensor} is neither an input of the ensemble nor the output of a step`);
    checkType(ensemble, tensor, { type: input.wire, from: model }, types);
  }
  for (const { name, optional } of signature.inputs) if (!optional && !inputs.some(([input]) => input === name)) throw refuse(`${where}input ${name} in model ${model} is not mapped to any ensemble tensors`);
  for (const [name, tensor] of outputs) {
    const output = signature.output(name);
    if (!output) throw refuse(`${where}ensemble tensor ${tensor} is mapped from non-existing output ${name} in model ${model}`);
    checkType(ensemble, tensor, { type: output.wire, from: model }, types);
  }
}

function checkType(ensemble: string, tensor: string, found: TypeOf, types: Map<string, TypeOf>): void {
  const before = types.get(tensor);
  if (before && before.type !== found.type) throw new UserError("config-invalid", `in ensemble ${ensemble}, ensemble tensor ${tensor}: inconsistent data type: ${before.type} is inferred from model ${before.from} while ${found.type} is inferred from model ${found.from}`);
  types.set(tensor, found);
}

/** Every step's tensors can be there at some time. */
function checkOrder(ensemble: string, steps: readonly Step[], input: readonly TensorConfig[]): void {
  const there = new Set(input.map(({ name }) => name));
  const waiting = [...steps];
  for (;;) {
    const at = waiting.findIndex(({ inputs }) => inputs.every(([, tensor]) => there.has(tensor)));
    if (at < 0) break;
    for (const [, tensor] of waiting.splice(at, 1)[0]!.outputs) there.add(tensor);
  }
  if (waiting.length > 0) throw new UserError("config-invalid", `in ensemble ${ensemble}, step of model '${waiting[0]!.model}' waits for its own results: the maps have a circle`);
}
