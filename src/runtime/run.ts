/** A run in the making, and what is kept of the shape it has. */
import type { Tensor } from "../base/index.ts";
import type { Program } from "../program/index.ts";
import type { HostValue } from "../reference/index.ts";
import type { Feeds } from "./execution.ts";

export interface Run {
  /** Kept so that memory of the caller's tensors stays while it is read. */
  readonly feeds: Feeds;
  readonly shape: Shape;
  /** Every size of the program: the shape's, and from the first that the data decide on, a copy. */
  values: Float64Array;
  /** Addresses of input and output storages. */
  readonly external: Map<number, number>;
  readonly hosts: Map<number, HostValue>;
  /** Memory of the caller's for outputs, by name. */
  readonly given: Record<string, Tensor>;
}

/** All that follows from the sizes of a run: made once and kept. */
export interface Shape {
  /** Every size of the program; NaN where only the data decide it. */
  readonly values: Float64Array;
  readonly profile: number;
  /** Native segments with this shape's sizes, by their index. */
  readonly bound: Map<number, BoundSegment>;
}

export interface BoundSegment {
  readonly program: Program;
  readonly patches: readonly Patch[];
  /** Kernels some of whose sizes the data of each run decide: they are filled anew, and have these patches. */
  readonly open: readonly number[];
  openPatches: readonly Patch[];
  /** Short enough to run at once on the calling thread: predicted, or seen in a run on other threads. */
  inline: boolean;
  /** Runs on other threads that are still to be timed. */
  untimed: number;
  /** The step that begins shortly before the end, once runs were timed. */
  notice: number | undefined;
}

/** A slot that holds an address which changes from run to run. */
export interface Patch {
  readonly step: number;
  readonly slot: number;
  readonly storage: number;
  readonly byteOffset: number;
}
