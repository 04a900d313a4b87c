/** What a pass is: a name, and a rule that sweeps over the graph until it changes nothing more. */
import type { Graph, Node } from "../ir/index.ts";
import type { HostValue } from "../reference/index.ts";
import type { Rule } from "./editor.ts";
import type { Narrow } from "./narrow.ts";
import type { Quantization } from "./quantized/index.ts";

/** Computes a node's results from constant inputs. */
export type Evaluate = (node: Node, inputs: readonly HostValue[]) => readonly HostValue[];

export interface PassOptions {
  readonly evaluate: Evaluate;
  /** Writes convolutions as a GPU's matrix units take them. */
  readonly wholePixels?: boolean;
  /** Gives products operands of 16 bits. */
  readonly narrow?: Narrow;
  /** Whether there are kernels for products with weights that have a scale per block. */
  readonly blockWeights?: boolean;
  /** Quantizes float layers by a plan, behind the float passes. */
  readonly quantization?: Quantization;
}

export interface Pass {
  readonly name: string;
  readonly rule: (options: PassOptions, graph: Graph) => Rule;
}

/** One row of the report: how often a pass changed something, and what was left after it. */
export interface PassRow {
  readonly name: string;
  readonly changes: number;
  readonly nodes: number;
}

export interface PassReport {
  readonly passes: readonly PassRow[];
}
