/**
 * The backend `identity`: a model of no file, whose outputs are its inputs. With it a server's own share of a request's time is
 * measured, an ensemble hands a tensor through, and a client is tried before there is a model. The configuration is
 * all there is: the inputs and outputs, paired in order, and what the model shall cost.
 *
 * Parameters: `execute_delay_ms` (of a batch), `instance_wise_delay_multiplier` (of that, for the second instance twice, …),
 * `creation_delay_sec` (of an instance). Source: Triton's identity backend.
 */
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../../base/index.ts";
import { dataTypeOfConfig, type ModelConfig, type ModelDescription, parameterOf, type TensorConfig } from "../../repository/index.ts";
import type { Backend, BackendInstance, BackendModel, BatchResults, BatchTensor, ModelSource } from "../contract.ts";
import type { NativePool } from "../engine/native-pool.ts";

const MS_PER_SECOND = 1000;
const MOST_DELAY_MS = 600_000;

export class IdentityBackend implements Backend {
  readonly name = "identity";
  readonly #pool: NativePool;

  constructor(pool: NativePool) {
    this.#pool = pool;
  }

  find({ folder, config }: ModelSource): string | undefined {
    return config.backend === this.name ? folder : undefined;
  }

  async load({ config }: ModelSource): Promise<BackendModel> {
    return new IdentityModel(config, this.#pool);
  }
}

class IdentityModel implements BackendModel {
  readonly description: ModelDescription;
  readonly summary = "its inputs";
  readonly defaultInstances = 1;
  readonly #pool: NativePool;
  readonly #creationMs: number;
  readonly #executeMs: number;
  readonly #multiplier: number;
  #instances = 0;

  /** @throws UserError "config-invalid" where inputs and outputs are no pairs */
  constructor(config: ModelConfig, pool: NativePool) {
    this.description = describe(config);
    this.#pool = pool;
    this.#creationMs = delayOf(config, "creation_delay_sec", MS_PER_SECOND);
    this.#executeMs = delayOf(config, "execute_delay_ms", 1);
    this.#multiplier = Number(parameterOf(config, "instance_wise_delay_multiplier") ?? 0) || 0;
  }

  memoryBytes(): number {
    return 0;
  }

  admits(): boolean {
    return true;
  }

  usualShapes(): undefined {
    return undefined;
  }

  async createInstance(): Promise<BackendInstance> {
    if (this.#creationMs > 0) await delay(this.#creationMs);
    const factor = Math.max(1, this.#multiplier * this.#instances++);
    return new IdentityInstance(this.#pool, this.#executeMs * factor);
  }

  dispose(): void {}
}

class IdentityInstance implements BackendInstance {
  readonly #pool: NativePool;
  readonly #delayMs: number;
  readonly #staged = new Map<number, Uint8Array>();

  constructor(pool: NativePool, delayMs: number) {
    this.#pool = pool;
    this.#delayMs = delayMs;
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    let block = this.#staged.get(input);
    if (!block || block.byteLength < sizeBytes) {
      if (block) this.#pool.give(block);
      this.#staged.set(input, (block = this.#pool.take(sizeBytes)));
    }
    return block.subarray(0, sizeBytes);
  }

  binds(): boolean {
    return true;
  }

  async execute(inputs: readonly (BatchTensor | undefined)[]): Promise<BatchResults> {
    if (this.#delayMs > 0) await delay(this.#delayMs);
    const blocks: Uint8Array[] = [];
    const outputs = inputs.map((input): BatchTensor => {
      if (!input) throw new UserError("input-invalid", "an output was asked for whose input the request left out");
      const { bytes, shape } = input;
      const block = this.#pool.take(bytes.byteLength);
      blocks.push(block);
      block.set(bytes);
      return { bytes: block.subarray(0, bytes.byteLength), shape };
    });
    return { outputs, release: () => blocks.forEach((block) => this.#pool.give(block)) };
  }

  dispose(): void {
    for (const block of this.#staged.values()) this.#pool.give(block);
    this.#staged.clear();
  }
}

function describe({ name, input = [], output = [], max_batch_size = 0 }: ModelConfig): ModelDescription {
  if (input.length === 0) throw new UserError("config-invalid", `Model "${name}": backend "identity" has no file to derive a configuration from; give its inputs and outputs.`);
  if (input.length !== output.length) throw new UserError("config-invalid", `Model "${name}": backend "identity" has ${input.length} inputs and ${output.length} outputs; each output is the input in its place.`);
  const described = ({ name: tensor, data_type, dims, reshape }: TensorConfig): ModelDescription["inputs"][number] => {
    const type = dataTypeOfConfig(data_type);
    if (!type) throw new UserError("config-invalid", `Model "${name}": "${tensor}" has data_type ${data_type ?? "TYPE_INVALID"}; expected a type.`);
    const inner = reshape ? (reshape.shape ?? []) : dims;
    return { name: tensor, dtype: type.dtype, dims: [...(max_batch_size > 0 ? [null] : []), ...inner.map((dim) => (dim === -1 ? null : dim))] };
  };
  for (const [i, { data_type }] of input.entries()) {
    if (data_type !== output[i]!.data_type) throw new UserError("config-invalid", `Model "${name}": output "${output[i]!.name}" is ${output[i]!.data_type}; its input "${input[i]!.name}" is ${data_type}.`);
  }
  return { inputs: input.map(described), outputs: output.map(described) };
}

function delayOf(config: ModelConfig, parameter: string, unitMs: number): number {
  const text = parameterOf(config, parameter) ?? "0";
  const delayMs = Number(text) * unitMs;
  if (text.trim() === "" || !(delayMs >= 0) || delayMs > MOST_DELAY_MS) throw new UserError("config-invalid", `Model "${config.name}": parameter "${parameter}" is "${text}"; expected a number from 0 to ${MOST_DELAY_MS / unitMs}.`);
  return delayMs;
}
