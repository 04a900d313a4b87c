/**
 * The backend `repeat`: a decoupled model of no file, for trying clients that take several answers to one request. Each
 * element of the first input is an answer of its own, with its index, after a delay of its own; `WAIT` says how long the
 * model takes no other request.
 * Source: Triton's repeat backend: inputs IN, DELAY (milliseconds, UINT32) and WAIT (one UINT32), outputs OUT and IDX.
 */
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../../base/index.ts";
import { dataTypeOfConfig, type ModelConfig } from "../../repository/index.ts";
import type { Backend, BackendInstance, BackendModel, BatchResults, BatchTensor, ModelSource } from "../contract.ts";
import { ModelOfNoFile } from "../no-file.ts";

const INPUTS = ["IN", "DELAY", "WAIT"];
const OUTPUTS = ["OUT", "IDX"];
/** How soon it is seen that the client has gone. */
const LOOK_MS = 20;

export class RepeatBackend implements Backend {
  readonly name = "repeat";

  find({ folder, config }: ModelSource): string | undefined {
    return config.backend === this.name ? folder : undefined;
  }

  async load({ config }: ModelSource): Promise<BackendModel> {
    return new RepeatModel(config);
  }
}

class RepeatModel extends ModelOfNoFile {
  readonly summary = "an answer per element";
  readonly #elementBytes: number;
  #free: Promise<unknown> = Promise.resolve();

  /** @throws UserError "config-invalid" */
  constructor(config: ModelConfig) {
    super(config);
    const { name, input = [], output = [], max_batch_size = 0 } = config;
    const refuse = (what: string): UserError => new UserError("config-invalid", `Model "${name}": backend "repeat" ${what}.`);
    if (max_batch_size > 0 || !config.model_transaction_policy?.decoupled) throw refuse("needs max_batch_size: 0 and model_transaction_policy { decoupled: true }");
    if (input.map((one) => one.name).join() !== INPUTS.join() || output.map((one) => one.name).join() !== OUTPUTS.join()) throw refuse(`has inputs ${INPUTS.join(", ")} and outputs ${OUTPUTS.join(", ")}, in that order`);
    if ([input[1]!, input[2]!, output[1]!].some(({ data_type }) => data_type !== "TYPE_UINT32") || output[0]!.data_type !== input[0]!.data_type) throw refuse("takes and gives OUT as IN, all others as TYPE_UINT32");
    const type = dataTypeOfConfig(input[0]!.data_type);
    if (!type || type.sizeBytes === 0) throw refuse(`repeats elements of a size, not ${input[0]!.data_type}`);
    this.#elementBytes = type.sizeBytes;
  }

  async createInstance(): Promise<BackendInstance> {
    return new NoInstance();
  }

  async stream(inputs: readonly (BatchTensor | undefined)[], answer: (results: BatchResults) => void, isCancelled: () => boolean): Promise<void> {
    const [values, delays, wait] = inputs.map((input) => input?.bytes ?? new Uint8Array(0)) as [Uint8Array, Uint8Array, Uint8Array];
    const count = values.byteLength / this.#elementBytes;
    if (delays.byteLength !== count * 4) throw new UserError("input-invalid", `expected IN and DELAY to have as many elements; got ${count} and ${delays.byteLength / 4}`);
    const mine = this.#free;
    this.#free = mine.then(() => delay(uint32(wait, 0)));
    await mine;
    for (let i = 0; i < count; i++) {
      await unlessCancelled(uint32(delays, i), isCancelled);
      if (isCancelled()) return;
      const bytes = values.slice(i * this.#elementBytes, (i + 1) * this.#elementBytes);
      answer({ outputs: [{ bytes, shape: [1] }, { bytes: new Uint8Array(Uint32Array.of(i).buffer), shape: [1] }], release: () => undefined });
    }
  }
}

/** Nothing of a decoupled model is run in batches. */
class NoInstance implements BackendInstance {
  stage(_input: number, sizeBytes: number): Uint8Array {
    return new Uint8Array(sizeBytes);
  }

  binds(): boolean {
    return true;
  }

  async execute(): Promise<BatchResults> {
    throw new UserError("unsupported", "a decoupled model is asked for a stream");
  }

  dispose(): void {}
}

async function unlessCancelled(mostMs: number, isCancelled: () => boolean): Promise<void> {
  for (let left = mostMs; left > 0 && !isCancelled(); left -= LOOK_MS) await delay(Math.min(left, LOOK_MS));
}

function uint32(bytes: Uint8Array, index: number): number {
  return bytes.byteLength >= 4 * index + 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(4 * index, true) : 0;
}
