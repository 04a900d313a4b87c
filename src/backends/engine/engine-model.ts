/**
 * A loaded engine as the server's model: instances are execution contexts over one mapping. Staged inputs and pooled
 * outputs are native memory that the engine's code uses in place.
 *
 * Threads: a configuration says how many instances it wants, and they share the processor's threads evenly; without one
 * a batch of few rows has them all, and one of many is divided into parts of a share each, by the batcher. Runs shorter
 * than 50 us happen on the event loop's thread whatever the number.
 */
import { byteLength, elementCount, Tensor } from "../../base/index.ts";
import { addressOf } from "../../native/index.ts";
import type { ModelDescription, TensorDescription } from "../../repository/index.ts";
import type { Engine, ExecutionContext, Saturation, ValueInfo } from "../../runtime/index.ts";
import type { BackendInstance, BackendModel, BatchResults, BatchTensor } from "../contract.ts";
import { decodeStrings, encodeStrings } from "../strings.ts";
import type { NativePool } from "./native-pool.ts";

/** Each share is a context with memory of its own. */
const MOST_SHARES = 4;

interface AxisRange {
  readonly min: number;
  readonly max: number;
}

/** What only an engine made from a model here knows and can do. */
export interface Origin {
  /** The model's own dims: in an engine, a dimension of one size has lost its name. */
  readonly description: ModelDescription;
  widen(shapes: readonly (readonly number[] | undefined)[]): Promise<BackendModel>;
  improve(signal: AbortSignal): Promise<BackendModel | undefined>;
}

export class EngineModel implements BackendModel {
  readonly description: ModelDescription;
  readonly summary: string;
  readonly defaultInstances = 1;
  readonly shares: number;
  readonly widen?: NonNullable<BackendModel["widen"]>;
  readonly improve?: NonNullable<BackendModel["improve"]>;
  readonly #engine: Engine;
  readonly #sizeBytes: number;
  readonly #pool: NativePool;
  /** Per profile, input and axis. */
  readonly #ranges: readonly (readonly (readonly (AxisRange | undefined)[])[])[];
  #contexts: EngineInstance[] = [];

  constructor(engine: Engine, sizeBytes: number, pool: NativePool, origin?: Origin) {
    this.#engine = engine;
    this.#sizeBytes = sizeBytes;
    this.#pool = pool;
    this.description = origin ? combine(origin.description, engine) : { inputs: engine.inputs.map(describe), outputs: engine.outputs.map(describe) };
    const { level, target } = engine.metadata;
    this.shares = engine.hasReferenceSteps || target.arch === "cuda" ? 1 : Math.min(MOST_SHARES, engine.threads);
    this.summary = `engine, level ${level}, ${target.isa}, ${engine.threads} thread${engine.threads === 1 ? "" : "s"}${engine.hasReferenceSteps ? ", some operators on the reference" : ""}`;
    this.#ranges = engine.metadata.profiles.map(({ symbols }) => engine.inputs.map(({ dims }) => (dims ?? []).map((dim) => (typeof dim === "number" ? undefined : symbols[dim]))));
    if (origin) {
      this.widen = (shapes) => origin.widen(shapes);
      this.improve = (signal) => origin.improve(signal);
    }
  }

  saturation(): Saturation | undefined {
    return this.#engine.saturation;
  }

  memoryBytes(): number {
    return this.#sizeBytes + this.#contexts.reduce((sum, context) => sum + context.memoryBytes, 0);
  }

  admits(shapes: readonly (readonly number[] | undefined)[]): boolean {
    return this.#ranges.some((profile) => profile.every((axes, input) => axes.every((range, axis) => {
      const size = shapes[input]?.[axis];
      return range === undefined || size === undefined || (size >= range.min && size <= range.max);
    })));
  }

  usualShapes(): readonly (readonly number[])[] {
    const symbols = this.#engine.metadata.profiles[0]?.symbols ?? {};
    return this.#engine.inputs.map(({ dims }) => (dims ?? []).map((dim) => (typeof dim === "number" ? dim : (symbols[dim]?.opt ?? 1))));
  }

  async createInstance(): Promise<BackendInstance> {
    const instance = new EngineInstance(this.#engine, this.#pool, () => {
      this.#contexts = this.#contexts.filter((other) => other !== instance);
    });
    this.#contexts.push(instance);
    return instance;
  }

  dispose(): void {
    this.#engine.dispose();
  }
}

class EngineInstance implements BackendInstance {
  readonly #context: ExecutionContext;
  readonly #threads: number;
  readonly #pool: NativePool;
  readonly #inputs: readonly ValueInfo[];
  readonly #outputs: readonly ValueInfo[];
  readonly #staged: (Uint8Array | undefined)[] = [];
  readonly #disposed: () => void;

  constructor(engine: Engine, pool: NativePool, disposed: () => void) {
    this.#context = engine.createContext();
    this.#threads = engine.threads;
    this.#pool = pool;
    this.#inputs = engine.inputs;
    this.#outputs = engine.outputs;
    this.#disposed = disposed;
  }

  get memoryBytes(): number {
    return this.#context.memoryBytes + this.#staged.reduce((sum, block) => sum + (block?.byteLength ?? 0), 0);
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    let block = this.#staged[input];
    if (!block || block.byteLength < sizeBytes) {
      if (block) this.#pool.give(block);
      this.#staged[input] = block = this.#pool.take(sizeBytes);
    }
    return block.subarray(0, sizeBytes);
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
        threads: Math.max(1, Math.floor(this.#threads / shares)),
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
      for (const block of this.#staged.splice(0)) if (block) this.#pool.give(block);
      this.#disposed();
    });
  }
}

function toBatchTensor(tensor: Tensor): BatchTensor {
  return { bytes: tensor.type === "string" ? encodeStrings(tensor.data as string[]) : tensor.bytes, shape: tensor.dims };
}

function describe({ name, type, dims }: ValueInfo): TensorDescription {
  return { name, dtype: type, dims: dims ? dims.map((dim) => dim) : null };
}

/** The model's words where it has any; engines know the shape of every output. */
function combine({ inputs, outputs }: ModelDescription, engine: Engine): ModelDescription {
  return { inputs, outputs: engine.outputs.map((output, i) => (outputs[i]?.dims && outputs[i].dims.length === output.dims?.length ? outputs[i] : describe(output))) };
}
