/** The catalogue of lowerings: each operator that can be written as one expression per output element. */
import { isLoopType, type Node } from "../../ir/index.ts";
import type { Lowering, OpKey } from "../contract.ts";
import { BINARY } from "./binary.ts";
import { CONTRACTIONS } from "./contraction.ts";
import { GATHERS } from "./gather.ts";
import { GRID_SAMPLES } from "./grid-sample.ts";
import { NORMALIZATIONS } from "./normalize.ts";
import { QUANTIZERS } from "./quantize.ts";
import { REDUCTIONS } from "./reduce.ts";
import { RESHAPES } from "./reshape.ts";
import { RESIZES } from "./resize.ts";
import { ROI_ALIGNS } from "./roi-align.ts";
import { SLICES } from "./slice.ts";
import { UNARY } from "./unary.ts";
import { WINDOWS } from "./window.ts";

/** Every value must have known dims and a type that kernels can read and write; then the operator's own conditions. */
function supported(lowering: Lowering, node: Node): boolean {
  const values = [...node.inputs, ...node.outputs].filter((value) => value !== undefined);
  if (!values.every((value) => value.kind === "tensor" && value.dims !== undefined && value.dtype !== undefined && isLoopType(value.dtype))) return false;
  return lowering.supports?.(node) ?? true;
}

const guarded = (lowering: Lowering): Lowering => ({ ...lowering, supports: (node) => supported(lowering, node) });

export const lowerings: ReadonlyMap<OpKey, Lowering> = new Map(
  [...UNARY, ...BINARY, ...RESHAPES, ...SLICES, ...GATHERS, ...REDUCTIONS, ...NORMALIZATIONS, ...WINDOWS, ...RESIZES, ...GRID_SAMPLES, ...ROI_ALIGNS, ...QUANTIZERS, ...CONTRACTIONS]
    .map(([key, lowering]) => [key, guarded(lowering)]),
);
