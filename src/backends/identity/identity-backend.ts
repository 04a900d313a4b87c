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
import { type ModelConfig, parameterOf } from "../../repository/index.ts";
import type { Backend, BackendInstance, BackendModel, BatchResults, BatchTensor, ModelSource } from "../contract.ts";
import { type NativePool, StagedInputs } from "../engine/native-pool.ts";
import { ModelOfNoFile } from "../no-file.ts";

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

class IdentityModel extends ModelOfNoFile {
  readonly summary = "its inputs";
  readonly #pool: NativePool;
  readonly #creationMs: number;
  readonly #executeMs: number;
  readonly #multiplier: number;
  #instances = 0;

  /** @throws UserError "config-invalid" where inputs and outputs are no pairs */
  constructor(config: ModelConfig, pool: NativePool) {
    requirePairs(config);
    super(config);
    this.#pool = pool;
    this.#creationMs = delayOf(config, "creation_delay_sec", MS_PER_SECOND);
    this.#executeMs = delayOf(config, "execute_delay_ms", 1);
    this.#multiplier = Number(parameterOf(config, "instance_wise_delay_multiplier") ?? 0) || 0;
  }

  async createInstance(): Promise<BackendInstance> {
    if (this.#creationMs > 0) await delay(this.#creationMs);
    const factor = Math.max(1, this.#multiplier * this.#instances++);
    return new IdentityInstance(this.#pool, this.#executeMs * factor);
  }
}

class IdentityInstance implements BackendInstance {
  readonly #pool: NativePool;
  readonly #delayMs: number;
  readonly #staged: StagedInputs;

  constructor(pool: NativePool, delayMs: number) {
    this.#pool = pool;
    this.#delayMs = delayMs;
    this.#staged = new StagedInputs(pool);
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    return this.#staged.take(input, sizeBytes);
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
    this.#staged.dispose();
  }
}

function requirePairs({ name, input = [], output = [] }: ModelConfig): void {
  if (input.length === 0) throw new UserError("config-invalid", `Model "${name}": backend "identity" has no file to derive a configuration from; give its inputs and outputs.`);
  if (input.length !== output.length) throw new UserError("config-invalid", `Model "${name}": backend "identity" has ${input.length} inputs and ${output.length} outputs; each output is the input in its place.`);
  for (const [i, { data_type }] of input.entries()) {
    if (data_type !== output[i]!.data_type) throw new UserError("config-invalid", `Model "${name}": output "${output[i]!.name}" is ${output[i]!.data_type}; its input "${input[i]!.name}" is ${data_type}.`);
  }
}

function delayOf(config: ModelConfig, parameter: string, unitMs: number): number {
  const text = parameterOf(config, parameter) ?? "0";
  const delayMs = Number(text) * unitMs;
  if (text.trim() === "" || !(delayMs >= 0) || delayMs > MOST_DELAY_MS) throw new UserError("config-invalid", `Model "${config.name}": parameter "${parameter}" is "${text}"; expected a number from 0 to ${MOST_DELAY_MS / unitMs}.`);
  return delayMs;
}
