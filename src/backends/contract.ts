/**
 * What a server can run, behind one interface. A backend turns a version's files into a `BackendModel`; the model makes
 * instances, each of which executes one batch at a time. Tensors are raw little-endian bytes with their shape, in the
 * order of the model's inputs and outputs; strings carry a 32-bit length before each element, as on the wire.
 */
import type { ModelConfig, ModelDescription } from "../repository/index.ts";

/** Nice value of the threads that run models: the event loop goes first. */
export const MODEL_NICE = 5;

export interface BatchTensor {
  readonly bytes: Uint8Array;
  readonly shape: readonly number[];
}

export interface BatchResults {
  /** One per output of the model, in its order. */
  readonly outputs: readonly BatchTensor[];
  /** Gives the outputs' memory back; called once, when nobody reads it any more. */
  release(): void;
}

export interface BackendInstance {
  /** Memory for an input of the next batch, to be filled and passed to `execute`; what it held before is undefined. */
  stage(input: number, sizeBytes: number): Uint8Array;
  /** Whether `execute` reads these bytes where they lie. Others are better copied to `stage`d memory. */
  binds(bytes: Uint8Array): boolean;
  /**
   * One batch. `inputs` are borrowed until the promise settles; an input the request left out is undefined.
   * @param shares instances that run at the same time and divide the model's threads; 1: this one has them all
   * @throws UserError for what the model does not take, SinterError for what went wrong
   */
  execute(inputs: readonly (BatchTensor | undefined)[], shares?: number): Promise<BatchResults>;
  /** After the batch in flight. */
  dispose(): void;
}

export interface BackendModel {
  readonly description: ModelDescription;
  /** For people: what it is and what it runs on. */
  readonly summary: string;
  /** Bytes of weights, code and contexts, as far as they are known. */
  memoryBytes(): number;
  /** How many instances to make when the configuration does not say. */
  readonly defaultInstances: number;
  /** How many instances can divide its threads among them, batch by batch; absent where each has threads of its own. */
  readonly shares?: number;
  /** Whether shapes (by input) are inside what the model was made for. */
  admits(shapes: readonly (readonly number[] | undefined)[]): boolean;
  /** Input shapes that requests usually have, for warming up; undefined when nothing is known. */
  usualShapes(): readonly (readonly number[])[] | undefined;
  createInstance(): Promise<BackendInstance>;
  /**
   * Answers one request any number of times, each answer when it is there: of decoupled models, whose requests are not batched.
   * `inputs` are borrowed until the promise settles, which is after the last answer.
   */
  stream?(inputs: readonly (BatchTensor | undefined)[], answer: (results: BatchResults) => void, isCancelled: () => boolean): Promise<void>;
  /** A model that also admits these shapes (each by input), made on demand; undefined when there is no way to. */
  widen?(cover: readonly (readonly (readonly number[] | undefined)[])[]): Promise<BackendModel>;
  /** A faster model of the same, made in the background; undefined when this is the fastest there is. */
  improve?(signal: AbortSignal): Promise<BackendModel | undefined>;
  dispose(): void;
}

/** One version of a model, to be loaded. */
export interface ModelSource {
  readonly name: string;
  readonly version: number;
  /** The version's folder. */
  readonly folder: string;
  readonly config: ModelConfig;
}

export interface Backend {
  readonly name: string;
  /** The file of this version that the backend would load, or undefined: another backend may. */
  find(source: ModelSource): string | undefined;
  load(source: ModelSource, file: string): Promise<BackendModel>;
}
