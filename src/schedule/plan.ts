/**
 * The plan: what the engine does, step by step, over which memory. The output of scheduling, the input of code
 * generation.
 */
import type { Buffer, Dim, Graph, Kernel, Value } from "../ir/index.ts";
import type { Storage, View } from "./view.ts";

export interface KernelStep {
  readonly kind: "kernel";
  readonly kernel: Kernel;
  /** The model's own nodes this kernel stands for. */
  readonly origins: readonly string[];
  /** Graph operators in it, in order. */
  readonly operators: readonly string[];
}

/** An operator that runs on its plain reference: it leaves native code. */
export interface ReferenceStep {
  readonly kind: "reference";
  /** One node, its constants, and as inputs everything else it reads, what its subgraphs capture included. */
  readonly graph: Graph;
  /** Where each input of that graph comes from. */
  readonly inputs: readonly HostSource[];
  /** Where each output of that graph goes: memory, or a host-only value (sequence, optional, string). */
  readonly outputs: readonly HostTarget[];
  readonly origins: readonly string[];
  readonly operators: readonly string[];
  /** Why it is not native. */
  readonly reason: string;
}

export type HostSource =
  | { readonly kind: "view"; readonly view: View }
  | { readonly kind: "dims"; readonly value: Value; readonly elements: readonly Dim[] }
  | { readonly kind: "host"; readonly value: Value };

export type HostTarget =
  | { readonly kind: "view"; readonly view: View; readonly value: Value }
  | { readonly kind: "host"; readonly value: Value };

/** Goes on at another step: always, or when its one input, a condition, is false. */
export interface JumpStep {
  readonly kind: "jump";
  /** Index of a later step, or of the one after the last. */
  target: number;
  readonly inputs: readonly HostSource[];
  /** None. */
  readonly outputs: readonly HostTarget[];
  readonly origins: readonly string[];
  readonly operators: readonly string[];
}

/** Ends the run: a branch was taken that the shapes rule out. */
export interface FailStep {
  readonly kind: "fail";
  readonly message: string;
  /** None. */
  readonly inputs: readonly HostSource[];
  readonly outputs: readonly HostTarget[];
  readonly origins: readonly string[];
  readonly operators: readonly string[];
}

/** A size that only the data decide becomes known: it is the number in memory, or what known sizes say. */
export interface SizeStep {
  readonly kind: "size";
  /** A symbol. */
  readonly symbol: Dim;
  /** One int64; none when `given` is there. */
  readonly inputs: readonly HostSource[];
  readonly given?: Dim;
  /** None. */
  readonly outputs: readonly HostTarget[];
  readonly origins: readonly string[];
  readonly operators: readonly string[];
}

export type Step = KernelStep | ReferenceStep | JumpStep | FailStep | SizeStep;

/** A storage's place in the arena and the steps between which its content matters. */
export interface Placement {
  readonly storage: Storage;
  readonly firstStep: number;
  readonly lastStep: number;
}

export interface Plan {
  readonly graph: Graph;
  readonly steps: readonly Step[];
  /** Where each kernel's buffers lie. */
  readonly views: ReadonlyMap<Buffer, View>;
  /** Memory of graph inputs and outputs, in their order; undefined for host-only values. */
  readonly inputs: readonly (View | undefined)[];
  readonly outputs: readonly OutputSource[];
  /** Constants that kernels read as they are, by storage. */
  readonly constants: ReadonlyMap<Storage, Value>;
}

export type OutputSource =
  | { readonly kind: "view"; readonly view: View; readonly value: Value }
  | { readonly kind: "host"; readonly value: Value }
  | { readonly kind: "dims"; readonly value: Value; readonly elements: readonly Dim[] };
