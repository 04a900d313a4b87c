/**
 * An engine of this process, served: instances are execution contexts over one mapping. Staged inputs and pooled outputs are
 * native memory that the engine's code uses in place.
 */
import { byteLength, elementCount, Tensor } from "../../base/index.ts";
import { addressOf } from "../../native/index.ts";
import type { Engine, ExecutionContext, ValueInfo } from "../../runtime/index.ts";
import type { BatchResults, BatchTensor } from "../contract.ts";
import { decodeStrings, encodeStrings } from "../strings.ts";
import type { ServedEngine, ServedInstance } from "./engine-model.ts";
import { type NativePool, StagedInputs } from "./native-pool.ts";

export function localEngine(engine: Engine, pool: NativePool): ServedEngine {
  const { inputs, outputs, threads, hasReferenceSteps, metadata } = engine;
  return { inputs, outputs, threads, hasReferenceSteps, metadata, saturation: () => engine.saturation, createInstance: (disposed) => new LocalInstance(engine, pool, disposed), dispose: () => engine.dispose() };
}

class LocalInstance implements ServedInstance {
  readonly #context: ExecutionContext;
  readonly #threads: number;
  readonly #pool: NativePool;
  readonly #inputs: readonly ValueInfo[];
  readonly #outputs: readonly ValueInfo[];
  readonly #staged: StagedInputs;
  readonly #disposed: () => void;

  constructor(engine: Engine, pool: NativePool, disposed: () => void) {
    this.#context = engine.createContext();
    this.#threads = engine.threads;
    this.#pool = pool;
    this.#staged = new StagedInputs(pool);
    this.#inputs = engine.inputs;
    this.#outputs = engine.outputs;
    this.#disposed = disposed;
  }

  get memoryBytes(): number {
    return this.#context.memoryBytes + this.#staged.sizeBytes;
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    return this.#staged.take(input, sizeBytes);
  }

  binds(bytes: Uint8Array): boolean {
    return (addressOf(bytes) ?? 1) % 8 === 0;
  }

  async execute(inputs: readonly (BatchTensor | undefined)[], shares = 1): Promise<BatchResults> {
    const feeds: Record<string, Tensor> = {};
    for (const [index, { name, type }] of this.#inputs.entries()) {
      const input = inputs[index];
      if (input) feeds[name] = type === "string" ? new Tensor("string", decodeStrings(input.bytes, elementCount(input.shape)), input.shape) : Tensor.fromBytes(type, input.bytes, input.shape);
    }
    const blocks: Uint8Array[] = [];
    const release = (): void => {
      for (const block of blocks.splice(0)) this.#pool.give(block);
    };
    try {
      const results = await this.#context.run(feeds, {
        threads: threadsOfShare(this.#threads, shares),
        allocate: (_name, type, dims) => {
          if (type === "string") return undefined;
          const sizeBytes = byteLength(type, elementCount(dims));
          const block = this.#pool.take(sizeBytes);
          blocks.push(block);
          return Tensor.fromBytes(type, block.subarray(0, sizeBytes), dims);
        },
      });
      return { outputs: this.#outputs.map(({ name }) => toBatchTensor(results[name] as Tensor)), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  dispose(): void {
    void Promise.resolve(this.#context.dispose()).then(() => {
      this.#staged.dispose();
      this.#disposed();
    });
  }
}

function toBatchTensor(tensor: Tensor): BatchTensor {
  return { bytes: tensor.type === "string" ? encodeStrings(tensor.data as string[]) : tensor.bytes, shape: tensor.dims };
}

/** Rounded up: the pool has no more threads than processors, and who begins late gets what others leave, so that none stands idle. */
export function threadsOfShare(threads: number, shares: number): number {
  return Math.max(1, Math.ceil(threads / shares));
}
