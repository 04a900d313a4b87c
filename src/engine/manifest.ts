/**
 * What an engine says about itself: the program as tables of numbers, its inputs and outputs, its profiles, and what it
 * was made from and for. Everything here depends on model, options, processor and tuning cache alone.
 */
import type { DType, Precision } from "../base/index.ts";
import type { GraphJson, Launch, PixelTile, TensorMap } from "../ir/index.ts";
import type { DimIndex, DimRow } from "./dim-table.ts";

/** Raised with `VERSION`, by which caches tell engines apart: none then holds one of an older format. */
export const ENGINE_FORMAT = 2;

export interface ManifestValue {
  readonly name: string;
  readonly dtype: DType;
  /** Absent when the rank is unknown. */
  readonly shape?: readonly DimIndex[];
  /** Index of its storage; absent for host-only values (strings, sequences, optionals). */
  readonly storage?: number;
  /** Number under which a host-only value is kept while running. */
  readonly host?: number;
  /** Elements given by dimension expressions. */
  readonly elements?: readonly DimIndex[];
}

export interface ManifestStorage {
  readonly place: "arena" | "weights" | "input" | "output";
  readonly size: DimIndex;
  /** Of weights: byte offset in the weight section. */
  readonly offset?: number;
}

/** [0, dim]: a size; [1, storage, dim]: an address at a byte offset in a storage; [2, offset]: an address in the weight section; on a GPU [3]: the workspace, [4]: counters. */
export type ManifestParam = readonly [0, DimIndex] | readonly [1, number, DimIndex] | readonly [2, number] | readonly [3] | readonly [4];

/** How a GPU kernel is started: `Launch` of the IR with sizes as indices. Its module is `codeBytes` long. */
export interface ManifestLaunch extends Omit<Launch, "grid" | "tensorMaps"> {
  readonly codeBytes: number;
  /** Storages that the kernel writes to; the others of its parameters it reads. */
  readonly writes: readonly number[];
  readonly grid: readonly DimIndex[];
  readonly tensorMaps: readonly ManifestTensorMap[];
}

export interface ManifestTensorMap extends Omit<TensorMap, "dims" | "strideBytes" | "offsetBytes" | "pixels"> {
  readonly dims: readonly DimIndex[];
  readonly strideBytes: readonly DimIndex[];
  readonly offsetBytes?: DimIndex;
  readonly pixels?: Omit<PixelTile, "upper"> & { readonly upper: readonly [DimIndex, DimIndex] };
}

/** A kernel's code and how it is started. */
export interface ManifestCode {
  /** Byte offset of the entry in the code section. */
  readonly code: number;
  readonly params: readonly ManifestParam[];
  readonly tiles: DimIndex;
  readonly scratchBytes: number;
  /** On a GPU. */
  readonly launch?: ManifestLaunch;
}

export interface ManifestKernel extends ManifestCode {
  readonly kind: "kernel";
  /** On a GPU, others that do the same: each is better from so many operations on, ascending. */
  readonly larger?: readonly (ManifestCode & { readonly from: number; readonly tactic: string })[];
  readonly flops: DimIndex;
  readonly bytes: DimIndex;
  readonly label: ManifestLabel;
  /** Values that are whole once this kernel has run, row-major in their storage. */
  readonly completes: readonly ManifestValue[];
}

export interface ManifestReference {
  readonly kind: "reference";
  readonly graph: GraphJson;
  readonly inputs: readonly ManifestSource[];
  readonly outputs: readonly ManifestValue[];
  readonly label: ManifestLabel;
  readonly reason: string;
}

/** A value a reference step reads: its type, dims and where it lies. */
export type ManifestSource = ManifestValue;

export interface ManifestLabel {
  readonly name: string;
  readonly operators: readonly string[];
  readonly origins: readonly string[];
  readonly tactic: string;
}

/** Goes on at step `target`, a later one: always, or when its one input, a condition, is false. */
export interface ManifestJump {
  readonly kind: "jump";
  readonly target: number;
  readonly inputs: readonly ManifestSource[];
  /** None. */
  readonly outputs: readonly ManifestValue[];
  readonly label: ManifestLabel;
}

/** Ends the run with a message. */
export interface ManifestFail {
  readonly kind: "fail";
  readonly message: string;
  /** None. */
  readonly inputs: readonly ManifestSource[];
  readonly outputs: readonly ManifestValue[];
  readonly label: ManifestLabel;
}

/** A size that only the data decide becomes known: it is the number in memory, or another size. */
export interface ManifestSize {
  readonly kind: "size";
  /** A row that is a symbol. */
  readonly symbol: DimIndex;
  /** One int64; none when `given` is there. */
  readonly inputs: readonly ManifestSource[];
  readonly given?: DimIndex;
  /** None. */
  readonly outputs: readonly ManifestValue[];
  readonly label: ManifestLabel;
}

export type ManifestStep = ManifestKernel | ManifestReference | ManifestJump | ManifestFail | ManifestSize;

export interface SymbolRange {
  readonly min: number;
  readonly opt: number;
  readonly max: number;
}

export interface ManifestProfile {
  readonly symbols: Readonly<Record<string, SymbolRange>>;
  readonly arenaBytes: number;
  /** Byte offset of each arena storage; -1 when its size has no bound and it is allocated while running. */
  readonly offsets: readonly number[];
}

/** What the code is for. */
export type ManifestTarget =
  /** `features` are the processor's that code of this `isa` may use, and those that some kernel needs besides (AMX). */
  | { readonly arch: "x64"; readonly isa: string; readonly cpu: string; readonly features: readonly string[] }
  /** `isa` is "sm_90a" and the like; `ptx` when the modules are PTX, which newer GPUs translate when they load it. */
  | { readonly arch: "cuda"; readonly isa: string; readonly gpu: string; readonly multiprocessors: number; readonly driver: string; readonly compiler: string; readonly ptx: boolean };

export interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly model: { readonly name: string; readonly producer: string; readonly opset: number; readonly digest: string; readonly metadata: Readonly<Record<string, string>> };
  readonly target: ManifestTarget;
  readonly precision: Precision;
  readonly level: number;
  readonly inputs: readonly ManifestValue[];
  readonly outputs: readonly ManifestValue[];
  readonly profiles: readonly ManifestProfile[];
  /** Every size of the program; the fields of type `DimIndex` are indices into it. */
  readonly dims: readonly DimRow[];
  readonly storages: readonly ManifestStorage[];
  readonly steps: readonly ManifestStep[];
  /** Bytes of the model's weights as it stored them. */
  readonly modelWeightBytes: number;
  /** A float32 output that is the runtime's own: for each layer the share of saturated bytes among those looked at. */
  readonly saturation?: { readonly output: string; readonly layers: readonly string[] };
}
