/**
 * An `InferenceServer` in memory for tests of the front ends: identity models of every type, one that is slow, one that answers
 * several times, and a queue that can be full. It keeps what it was asked, so that tests can look.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type Datatype, type InferenceRequest, type InferenceResponse, type InferenceServer, type ModelMetadata, type ModelStatistics, type RepositoryEntry, type ResponseOutput,
  ServingError,
} from "./contract.ts";
import { elementsOf } from "./http/tensor-json.ts";
import { ELEMENT_BYTES } from "./wire/datatypes.ts";

const TYPES = Object.keys(ELEMENT_BYTES) as Datatype[];
const NEVER = { count: 0, ns: 0 };

interface Model {
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly inputs: number;
  readonly behaviour: "identity" | "slow" | "repeat" | "fail";
}

function makeModels(): Map<string, Model> {
  const models = new Map<string, Model>(TYPES.map((datatype) => [`identity_${datatype.toLowerCase()}`, { datatype, shape: [-1], inputs: 1, behaviour: "identity" }]));
  models.set("matrix", { datatype: "FP32", shape: [-1, -1], inputs: 1, behaviour: "identity" });
  models.set("pair", { datatype: "INT32", shape: [-1], inputs: 2, behaviour: "identity" });
  models.set("text", { datatype: "BYTES", shape: [1], inputs: 1, behaviour: "identity" });
  models.set("slow", { datatype: "FP32", shape: [-1], inputs: 1, behaviour: "slow" });
  models.set("repeat", { datatype: "INT32", shape: [-1], inputs: 1, behaviour: "repeat" });
  models.set("fail", { datatype: "FP32", shape: [-1], inputs: 1, behaviour: "fail" });
  return models;
}

export class IdentityServer implements InferenceServer {
  readonly models = makeModels();
  readonly loads: { readonly model: string; readonly parameters: ReadonlyMap<string, unknown> }[] = [];
  readonly requests: InferenceRequest[] = [];
  /** Bytes claimed and not yet given back. */
  claimed = 0;
  most = Number.POSITIVE_INFINITY;
  released = 0;
  answered = 0;
  isReady = true;
  slowMs = 200;

  live(): boolean {
    return true;
  }

  ready(): boolean {
    return this.isReady;
  }

  modelReady(model: string, version: string): boolean {
    this.#find(model, version);
    return true;
  }

  modelMetadata(model: string, version: string): ModelMetadata {
    const { datatype, shape, inputs } = this.#find(model, version);
    const tensors = (prefix: string) => Array.from({ length: inputs }, (_, i) => ({ name: `${prefix}${i}`, datatype, shape }));
    return { name: model, versions: ["1"], platform: "identity", inputs: tensors("INPUT"), outputs: tensors("OUTPUT") };
  }

  modelConfig(model: string, version: string): Readonly<Record<string, unknown>> {
    const { datatype, shape } = this.#find(model, version);
    const data_type = datatype === "BYTES" ? "TYPE_STRING" : `TYPE_${datatype}`;
    return {
      name: model, platform: "", backend: "identity", max_batch_size: 0,
      version_policy: { latest: { num_versions: 1 } },
      input: [{ name: "INPUT0", data_type, format: "FORMAT_NONE", dims: shape, is_shape_tensor: false, allow_ragged_batch: false, optional: false }],
      output: [{ name: "OUTPUT0", data_type, dims: shape, label_filename: "", is_shape_tensor: false }],
      instance_group: [{ name: `${model}_0`, kind: "KIND_CPU", count: 1, gpus: [], secondary_devices: [], profile: [], passive: false, host_policy: "" }],
      dynamic_batching: { preferred_batch_size: [4, 8], max_queue_delay_microseconds: 100, preserve_ordering: false, priority_levels: 2, priority_queue_policy: { 1: { max_queue_size: 3 } } },
      parameters: { answer: { string_value: "42" } },
      metric_tags: { team: "a" },
    };
  }

  statistics(model: string, version: string): readonly ModelStatistics[] {
    const names = model === "" ? [...this.models.keys()] : [model];
    return names.map((name) => {
      this.#find(name, version);
      return {
        name, version: "1", lastInferenceMs: 0, inferenceCount: this.answered, executionCount: this.answered, success: { count: this.answered, ns: 1000 * this.answered },
        fail: NEVER, queue: NEVER, computeInput: NEVER, computeInfer: NEVER, computeOutput: NEVER,
        batches: [{ batchSize: 1, computeInput: NEVER, computeInfer: NEVER, computeOutput: NEVER }], memory: [{ type: "CPU", id: 0, byteSize: 4096 }],
      };
    });
  }

  enter(model: string, version: string, bodyBytes: number): void {
    this.#find(model, version);
    if (this.claimed + bodyBytes > this.most) throw new ServingError("UNAVAILABLE", "Exceeds maximum queue size");
    this.claimed += bodyBytes;
  }

  leave(_model: string, _version: string, bodyBytes: number): void {
    this.claimed -= bodyBytes;
  }

  async infer(request: InferenceRequest): Promise<InferenceResponse> {
    const model = this.#check(request);
    if (model.behaviour === "repeat") throw new ServingError("UNSUPPORTED", "ModelInfer RPC doesn't support models with decoupled transaction policy");
    if (model.behaviour === "fail") throw new TypeError("a secret of the inside");
    if (model.behaviour === "slow") await this.#wait(request);
    this.answered++;
    return this.#answer(request, new Map());
  }

  /** The model "repeat" answers as often as the first number of its input says. */
  isDecoupled(model: string, version: string): boolean {
    return this.#find(model, version).behaviour === "repeat";
  }

  async inferStream(request: InferenceRequest, onResponse: (response: InferenceResponse, isLast: boolean) => void): Promise<void> {
    const model = this.#check(request);
    if (model.behaviour !== "repeat") {
      onResponse(await this.infer(request), true);
      return;
    }
    const input = request.inputs[0]!.bytes;
    const count = new DataView(input.buffer, input.byteOffset).getInt32(0, true);
    for (let i = 0; i < count && !request.cancelled; i++) {
      await delay(1);
      onResponse(this.#answer(request, new Map()), false);
    }
    this.answered++;
  }

  repositoryIndex(onlyReady: boolean): readonly RepositoryEntry[] {
    const entries: RepositoryEntry[] = [...this.models.keys()].map((name) => ({ name, version: "1", state: "READY" }));
    return onlyReady ? entries : [...entries, { name: "broken", version: "1", state: "UNAVAILABLE", reason: "no file" }];
  }

  async loadModel(model: string, parameters: ReadonlyMap<string, string | Uint8Array | boolean | number | bigint>): Promise<void> {
    this.loads.push({ model, parameters });
    if (!this.models.has(model)) throw new ServingError("INTERNAL", `failed to load '${model}', failed to poll from model repository`);
  }

  async unloadModel(model: string): Promise<void> {
    this.models.delete(model);
  }

  #find(model: string, version: string): Model {
    const found = this.models.get(model);
    if (found === undefined) throw new ServingError("INVALID_ARG", `Request for unknown model: '${model}' is not found`);
    if (version !== "" && version !== "1") throw new ServingError("NOT_FOUND", `Request for unknown model: '${model}' version ${version} is not found`);
    return found;
  }

  #check(request: InferenceRequest): Model {
    const model = this.#find(request.model, request.version);
    this.requests.push(request);
    if (request.inputs.length !== model.inputs) throw new ServingError("INVALID_ARG", `expected ${model.inputs} inputs but got ${request.inputs.length} inputs for model '${request.model}'`);
    for (const [i, input] of request.inputs.entries()) {
      if (input.name !== `INPUT${i}`) throw new ServingError("INVALID_ARG", `unexpected inference input '${input.name}' for model '${request.model}'`);
      if (input.datatype !== model.datatype) throw new ServingError("INVALID_ARG", `inference input '${input.name}' data-type is '${input.datatype}', but model '${request.model}' expects '${model.datatype}'`);
      if (input.shape.length !== model.shape.length) throw new ServingError("INVALID_ARG", `unexpected shape for input '${input.name}' for model '${request.model}'. Expected [${model.shape}], got [${input.shape}].`);
    }
    return model;
  }

  async #wait(request: InferenceRequest): Promise<void> {
    for (let waited = 0; waited < this.slowMs; waited += 10) {
      await delay(10);
      if (request.cancelled) throw new ServingError("CANCELLED", "the request was cancelled");
    }
  }

  #answer(request: InferenceRequest, parameters: ReadonlyMap<string, boolean>): InferenceResponse {
    const all = request.inputs.map((input, i): ResponseOutput => ({ name: `OUTPUT${i}`, datatype: input.datatype, shape: input.shape, bytes: Buffer.from(input.bytes) }));
    const wanted = request.outputs?.map((output) => {
      const found = all.find((one) => one.name === output.name);
      if (found === undefined) throw new ServingError("INVALID_ARG", `unexpected inference output '${output.name}' for model '${request.model}'`);
      return output.classification === 0 ? found : classify(found, output.classification);
    });
    return { model: request.model, version: "1", id: request.id, parameters, outputs: wanted ?? all, release: () => this.released++ };
  }
}

/** The first `count` elements as "value:index". */
function classify(output: ResponseOutput, count: number): ResponseOutput {
  const values = output.datatype === "BYTES" ? elementsOf(output.bytes) : [...new Float32Array(output.bytes.buffer, output.bytes.byteOffset, Math.floor(output.bytes.byteLength / 4))];
  const texts = values.slice(0, count).map((value, i) => Buffer.from(`${value}:${i}`));
  const bytes = Buffer.concat(texts.flatMap((text) => [Buffer.from(Uint32Array.of(text.length).buffer), text]));
  return { name: output.name, datatype: "BYTES", shape: [texts.length], bytes };
}
