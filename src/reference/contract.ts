/**
 * What a reference operator is: a plain function from host values to host values, the oracle for every kernel and
 * what runs where no native code exists. Clarity first; float32 results are rounded once per element
 * (sums may accumulate in double precision).
 */
import type { Tensor } from "../base/index.ts";
import type { Graph } from "../ir/index.ts";

/** A value on the host: a tensor, a sequence, or an empty optional (undefined). A full optional is its content. */
export type HostValue = Tensor | HostSequence | undefined;

export interface HostSequence {
  readonly sequence: readonly HostValue[];
}

/** Attributes as the reference sees them: those of the graph, tensors made into `Tensor`. */
export type ReferenceAttributes = Readonly<Record<string, number | bigint | string | readonly number[] | readonly string[] | Tensor | Graph | readonly Graph[] | undefined>>;

export interface ReferenceContext {
  /** Number of outputs the node has; trailing optional ones may be absent. */
  readonly outputCount: number;
  /** Which outputs are wanted. */
  readonly wanted: readonly boolean[];
  /** Runs a subgraph (If, Loop, Scan, SequenceMap): values for its inputs in order, answers its outputs in order. */
  runGraph(graph: Graph, inputs: readonly HostValue[]): HostValue[];
  /** Uniform numbers in [0, 1) for the random operators; seeded. */
  random(): number;
}

/** Inputs in ONNX's order, undefined where absent; semantics of opset 25. */
export type ReferenceOperator = (inputs: readonly HostValue[], attributes: ReferenceAttributes, context: ReferenceContext) => HostValue[];

/** Rows of the catalogue: "Add" for ai.onnx, "com.microsoft.FusedMatMul" and "sinter.Attention" for other domains. */
export type ReferenceTable = Readonly<Record<string, ReferenceOperator>>;
