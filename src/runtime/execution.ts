/**
 * What every executor does, whatever device it runs on: one inference at a time, from named values to named values. And
 * how values are checked on their way in and out.
 */
import { type DType, isArrayOf, Tensor, UserError } from "../base/index.ts";
import type { DimTable, ManifestLabel, ManifestValue } from "../engine/index.ts";
import type { HostValue } from "../reference/index.ts";
import { describe } from "./shapes.ts";

export type Feeds = Readonly<Record<string, HostValue>>;
export type Results = Record<string, HostValue>;
/** Results of a model whose outputs are all tensors. */
export type TensorResults = Record<string, Tensor>;

/** Memory for an output whose size is known before the run: a tensor of that type and those dims, or undefined for a fresh copy. */
export type AllocateOutput = (name: string, type: DType, dims: readonly number[]) => Tensor | undefined;

export interface StepTiming {
  readonly label: ManifestLabel;
  readonly ns: number;
  readonly flops: number;
  readonly bytes: number;
  /** When which thread was busy with it, in nanoseconds of the monotonic clock; only when asked for, and of processors. */
  readonly spans?: readonly ThreadSpan[];
}

export interface ThreadSpan {
  /** 0 is the calling thread. */
  readonly thread: number;
  readonly beginNs: number;
  readonly endNs: number;
}

export interface Execution {
  run(feeds: Feeds, outputs?: Readonly<Record<string, Tensor>>, allocate?: AllocateOutput, threads?: number): Promise<Results>;
  /** The same, holding the calling thread. */
  runSync(feeds: Feeds, outputs?: Readonly<Record<string, Tensor>>): Results;
  /** Runs once on the calling thread and times every step that this run takes. */
  profile(feeds: Feeds, options?: { readonly spans?: boolean }): StepTiming[];
  /**
   * Runs step by step on the calling thread. `onStep` sees the values that each step has made whole; they are views,
   * valid during the call. Fusions stay as they are: a value inside a kernel is not seen.
   */
  trace(feeds: Feeds, onStep: (label: ManifestLabel, values: Readonly<Record<string, HostValue>>) => void): Results;
  /** Bytes of arena, staging and data-dependent values this context holds. */
  readonly memoryBytes: number;
  /** Its device has lost all it held: a new executor must be made. */
  readonly isLost: boolean;
  dispose(): void;
}

/** A host-only value may hold on to tensors over memory that the next step or run overwrites: it gets copies. */
export function detached(value: HostValue): HostValue {
  if (value === undefined) return undefined;
  if (value instanceof Tensor) return Array.isArray(value.data) ? value : new Tensor(value.type, value.data.slice(), value.dims);
  return { sequence: value.sequence.map(detached) };
}

export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function unknownInputs(feeds: Feeds, inputs: readonly ManifestValue[], table: DimTable): UserError {
  const names = inputs.map((input) => input.name);
  const unknown = Object.keys(feeds).filter((name) => !names.includes(name));
  return new UserError("input-invalid", `No input is called "${unknown.join('", "')}"; the model's inputs are ${inputs.map((input) => `"${input.name}" ${describe(input, table)}`).join(", ")}.`);
}

/** @returns the dims of a tensor input */
export function checkFeed(input: ManifestValue, value: HostValue, table: DimTable): readonly number[] {
  if (input.storage === undefined) return value instanceof Tensor ? value.dims : [];
  if (value === undefined) throw new UserError("input-invalid", `Input "${input.name}" is missing; the model takes ${describe(input, table)}.`);
  if (!(value instanceof Tensor)) throw new UserError("input-invalid", `Input "${input.name}" is not a Tensor; the model takes ${describe(input, table)}.`);
  if (value.type !== input.dtype || !isArrayOf(input.dtype, value.data)) throw new UserError("input-invalid", `Input "${input.name}" has type ${value.type}; the model takes ${describe(input, table)}.`);
  if (input.shape && value.dims.length !== input.shape.length) throw new UserError("input-invalid", `Input "${input.name}" has rank ${value.dims.length} (shape [${value.dims}]); the model takes ${describe(input, table)}.`);
  return value.dims;
}

export function checkGiven(output: ManifestValue, given: Tensor, dims: readonly number[]): void {
  if (given.type === output.dtype && given.dims.length === dims.length && given.dims.every((dim, i) => dim === dims[i])) return;
  throw new UserError("input-invalid", `Output "${output.name}": the tensor given is ${given.type}[${given.dims}]; this run makes ${output.dtype}[${dims}].`);
}

export function dimsTensor(value: ManifestValue, values: Float64Array): Tensor {
  const items = value.elements!.map((index) => values[index]!);
  return new Tensor(value.dtype, items, value.shape?.length === 0 ? [] : [items.length]);
}
