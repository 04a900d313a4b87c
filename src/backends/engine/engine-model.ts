/**
 * A loaded engine as the server's model: instances are execution contexts.
 *
 * Threads: a configuration says how many instances it wants, and they share the processor's threads evenly; without one
 * a batch of few rows has them all, and one of many is divided into parts of a share each, by the batcher. Runs shorter
 * than 50 us happen on the event loop's thread whatever the number.
 */
import type { Manifest } from "../../engine/index.ts";
import type { ModelDescription, TensorDescription } from "../../repository/index.ts";
import type { Engine, Saturation, ValueInfo } from "../../runtime/index.ts";
import type { BackendInstance, BackendModel } from "../contract.ts";

/** Each share is a context with memory of its own. */
const MOST_SHARES = 4;
/** One batch is gathered and copied while the GPU computes another. */
const GPU_INSTANCES = 2;

/** An engine that is loaded, in this process or in that of a GPU. */
export interface ServedEngine extends Pick<Engine, "inputs" | "outputs" | "threads" | "hasReferenceSteps"> {
  readonly metadata: Pick<Manifest, "level" | "target"> & { readonly profiles: readonly Pick<Manifest["profiles"][number], "symbols">[] };
  /** On how many its instances run; one by default. */
  readonly devices?: number;
  /** Absent in another process. */
  saturation?(): Saturation | undefined;
  /** @param disposed called when it is */
  createInstance(disposed: () => void): ServedInstance;
  dispose(): void;
}

export interface ServedInstance extends BackendInstance {
  readonly memoryBytes: number;
}

interface AxisRange {
  readonly min: number;
  readonly max: number;
}

/** What only an engine made from a model here knows and can do. */
export interface Origin {
  /** The model's own dims: in an engine, a dimension of one size has lost its name. */
  readonly description: ModelDescription;
  widen: NonNullable<BackendModel["widen"]>;
  improve(signal: AbortSignal): Promise<BackendModel | undefined>;
}

export class EngineModel implements BackendModel {
  readonly description: ModelDescription;
  readonly summary: string;
  readonly defaultInstances: number;
  readonly shares: number;
  readonly isOnGpu: boolean;
  readonly widen?: NonNullable<BackendModel["widen"]>;
  readonly improve?: NonNullable<BackendModel["improve"]>;
  readonly #engine: ServedEngine;
  readonly #sizeBytes: number;
  /** Per profile, input and axis. */
  readonly #ranges: readonly (readonly (readonly (AxisRange | undefined)[])[])[];
  #contexts: ServedInstance[] = [];

  constructor(engine: ServedEngine, sizeBytes: number, origin?: Origin) {
    this.#engine = engine;
    this.#sizeBytes = sizeBytes;
    this.description = origin ? combine(origin.description, engine) : { inputs: engine.inputs.map(describe), outputs: engine.outputs.map(describe) };
    const { level, target } = engine.metadata;
    const onGpu = target.arch === "cuda";
    this.isOnGpu = onGpu;
    this.defaultInstances = onGpu ? GPU_INSTANCES * (engine.devices ?? 1) : 1;
    this.shares = engine.hasReferenceSteps || onGpu ? 1 : Math.min(MOST_SHARES, engine.threads);
    this.summary = `engine, level ${level}, ${target.isa}, ${onGpu ? `${target.gpu}${engine.devices ? `, ${engine.devices} of them, each` : ""} in a process of its own` : `${engine.threads} thread${engine.threads === 1 ? "" : "s"}`}${engine.hasReferenceSteps ? ", some operators on the reference" : ""}`;
    this.#ranges = engine.metadata.profiles.map(({ symbols }) => engine.inputs.map(({ dims }) => (dims ?? []).map((dim) => (typeof dim === "number" ? undefined : symbols[dim]))));
    if (origin) {
      this.widen = (cover) => origin.widen(cover);
      this.improve = (signal) => origin.improve(signal);
    }
  }

  saturation(): Saturation | undefined {
    return this.#engine.saturation?.();
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
    const instance = this.#engine.createInstance(() => {
      this.#contexts = this.#contexts.filter((other) => other !== instance);
    });
    this.#contexts.push(instance);
    return instance;
  }

  dispose(): void {
    this.#engine.dispose();
  }
}

function describe({ name, type, dims }: ValueInfo): TensorDescription {
  return { name, dtype: type, dims: dims ? dims.map((dim) => dim) : null };
}

/** The model's words where it has any; engines know the shape of every output. */
function combine({ inputs, outputs }: ModelDescription, engine: ServedEngine): ModelDescription {
  return { inputs, outputs: engine.outputs.map((output, i) => (outputs[i]?.dims && outputs[i].dims.length === output.dims?.length ? outputs[i] : describe(output))) };
}
