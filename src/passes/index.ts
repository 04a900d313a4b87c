/**
 * Graph to graph: the pipeline, as a list that reads from top to bottom. Each pass is one small file; a group is
 * repeated until nothing changes.
 */
import { type Graph, type Node, subgraphsOf } from "../ir/index.ts";
import { findProblem } from "../ops/index.ts";
import { recogniseActivations, recogniseSoftmax } from "./activations.ts";
import { recogniseAttention } from "./attention.ts";
import { lowerAttention } from "./attention-operator.ts";
import { splitBatchedTransposes } from "./batched-transposes.ts";
import { type Narrow, narrowPasses, narrowStorage } from "./narrow.ts";
import { channelsLast, readChannelsFirst } from "./channels-last.ts";
import { foldBatchNormalization, foldChannelConstants } from "./batch-normalization.ts";
import { shareCommonSubexpressions } from "./common-subexpressions.ts";
import { decomposeAttention } from "./decompose-attention.ts";
import { Editor } from "./editor.ts";
import { foldConstants, foldConvolutionWeights } from "./fold.ts";
import { splitGemm } from "./gemm.ts";
import { inlineBranches } from "./inline-branches.ts";
import { refineTypes } from "./refine-types.ts";
import { absorbScale, recogniseNormalizations } from "./normalizations.ts";
import { mergePads } from "./pads.ts";
import type { Pass, PassOptions, PassReport, PassRow } from "./pass.ts";
import { decomposeContribOperators } from "./contrib.ts";
import { unrollRecurrent } from "./recurrent.ts";
import { blockProducts, cancelQuantize, dropSaturatedClips, expandDynamicQuantize, expandQLinear, integerProducts, lowerActivations, lowerDequantize, quantize, raiseQuantize, unpackNibbles } from "./quantized/index.ts";
import { rowZeroPoints } from "./row-zero-points.ts";
import { mergeReshapes, removeNothing } from "./simplify.ts";
import { singleGatherToSlice } from "./single-gathers.ts";
import { sinkReshapes } from "./sink-reshapes.ts";
import { wholePixels } from "./whole-pixels.ts";
import { dropBeforeReshape, mergeTransposes, sinkTransposes, transposeToReshape } from "./transposes.ts";

export type { Narrow } from "./narrow.ts";
export type { Evaluate, PassOptions, PassReport } from "./pass.ts";
export type { ActivationPlan, Layer, LayerPlan, Quantization, QuantizationPlan, Summary } from "./quantized/index.ts";

const CLEAN: readonly Pass[] = [
  { name: "inline branches", rule: () => inlineBranches },
  { name: "fold constants", rule: ({ evaluate }) => foldConstants(evaluate) },
  { name: "remove what changes nothing", rule: () => removeNothing },
  { name: "merge reshapes", rule: () => mergeReshapes },
  { name: "share common subexpressions", rule: () => shareCommonSubexpressions() },
];

const CONTRIB: readonly Pass[] = [{ name: "decompose contrib operators", rule: () => decomposeContribOperators }];

const QUANTIZED: readonly Pass[] = [
  { name: "QLinear operators to real arithmetic", rule: () => expandQLinear },
  { name: "dynamic quantization to reductions", rule: () => expandDynamicQuantize },
  { name: "dequantize behind moves", rule: () => lowerDequantize },
  { name: "quantize before moves", rule: () => raiseQuantize },
  { name: "cancel quantize and dequantize", rule: () => cancelQuantize },
];

const RECURRENT: readonly Pass[] = [{ name: "write out short recurrences", rule: () => unrollRecurrent }];

const RECOGNISE: readonly Pass[] = [
  { name: "recognise normalisations", rule: () => recogniseNormalizations },
  { name: "scale and bias into normalisations", rule: () => absorbScale },
  { name: "recognise softmax", rule: () => recogniseSoftmax },
  { name: "recognise activations", rule: () => recogniseActivations },
];

const CANONICAL: readonly Pass[] = [
  { name: "pads into convolutions", rule: () => mergePads },
  { name: "batch normalisation into weights", rule: () => foldBatchNormalization },
  { name: "channel constants into convolutions", rule: () => foldChannelConstants },
  { name: "Gemm to MatMul", rule: () => splitGemm },
  { name: "row zero points out of integer products", rule: () => rowZeroPoints },
];

const TRANSPOSES: readonly Pass[] = [
  { name: "merge transposes", rule: () => mergeTransposes },
  { name: "drop transposes before reshapes", rule: () => dropBeforeReshape },
  { name: "sink transposes", rule: () => sinkTransposes },
  { name: "sink reshapes", rule: () => sinkReshapes },
];

const ATTENTION: readonly Pass[] = [
  { name: "lower attention", rule: () => lowerAttention },
  { name: "recognise attention", rule: () => recogniseAttention },
  { name: "decompose attention", rule: () => decomposeAttention },
];

const LAYOUT: readonly Pass[] = [{ name: "channels last", rule: () => channelsLast }];

const LAST: readonly Pass[] = [
  { name: "channels-first inputs", rule: (_, graph) => readChannelsFirst(graph) },
  { name: "transposes of ones to reshapes", rule: () => transposeToReshape },
  { name: "gathers of one place to slices", rule: () => singleGatherToSlice },
];

const INTEGER: readonly Pass[] = [
  { name: "products with scales per block", rule: ({ blockWeights }) => (node, editor) => blockWeights === true && blockProducts(node, editor) },
  { name: "dequantize behind transposes", rule: () => lowerActivations },
  { name: "integer products", rule: () => integerProducts },
  { name: "clips that saturation does", rule: () => dropSaturatedClips },
  { name: "weights of four bits", rule: () => unpackNibbles },
  { name: "quantized weights of float convolutions", rule: ({ evaluate }) => foldConvolutionWeights(evaluate) },
];

/** Groups in order, each until it changes nothing. */
const PIPELINE: readonly (readonly Pass[])[] = [
  CLEAN,
  [...CONTRIB, ...CLEAN],
  [...QUANTIZED, ...CLEAN],
  [...RECURRENT, ...CLEAN],
  [...RECOGNISE, ...CLEAN],
  [...CANONICAL, ...CLEAN],
  [{ name: "sink reshapes", rule: () => sinkReshapes }, { name: "split batched transposes", rule: () => splitBatchedTransposes }, ...CLEAN],
  [...ATTENTION, ...CLEAN],
  [...LAYOUT, ...TRANSPOSES, ...CLEAN],
  [...LAST, ...CLEAN],
];

/** Behind the float passes, once the plan has been carried out, if there is one. */
const QUANTIZED_PIPELINE: readonly (readonly Pass[])[] = [[...QUANTIZED, ...CLEAN], [...INTEGER, ...CLEAN]];

/** When the target is a GPU. */
const PIXELS: readonly Pass[] = [{ name: "channels and padding of convolutions", rule: () => wholePixels }];

/** Last, when products are to take operands of 16 bits. */
const narrowPipeline = (narrow: Narrow): readonly (readonly Pass[])[] => [[...narrowPasses(narrow), ...CLEAN], [narrowStorage(narrow)]];

/** A bound on repetition: every pass makes the graph simpler, so this is never reached by a graph, only by a mistake. */
const MAX_ROUNDS = 20;

/** Brings the graph to its core, in place. Types must have been inferred. */
export function runPasses(graph: Graph, options: PassOptions): PassReport {
  const rows: PassRow[] = [];
  runGroup(graph, CLEAN, options, rows);
  for (const node of graph.nodes) runBranches(node, options, rows);
  for (const group of PIPELINE) runGroup(graph, group, options, rows);
  if (options.quantization) rows.push({ name: "quantize by plan", changes: quantize(graph, options.quantization), nodes: graph.nodes.length });
  for (const group of [...QUANTIZED_PIPELINE, ...(options.wholePixels ? [[...PIXELS, ...CLEAN]] : []), ...(options.narrow ? narrowPipeline(options.narrow) : [])]) runGroup(graph, group, options, rows);
  return { passes: rows };
}

/** The same for the branches of an If. Other subgraphs stay: their sizes may change from one iteration to the next. */
function runBranches(node: Node, options: PassOptions, rows: PassRow[]): void {
  if (node.op !== "If" || node.domain !== "") return;
  for (const branch of subgraphsOf(node)) if (findProblem(branch) === undefined) rows.push(...runPasses(branch, { evaluate: options.evaluate, ...(options.wholePixels ? { wholePixels: true } : {}), ...(options.narrow ? { narrow: options.narrow } : {}) }).passes);
}

function runGroup(graph: Graph, group: readonly Pass[], options: PassOptions, rows: PassRow[]): void {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const changes = group.map((pass) => runPass(graph, pass, options, rows)).reduce((a, b) => a + b, 0);
    if (changes + refineTypes(graph) === 0) break;
  }
}

function runPass(graph: Graph, pass: Pass, options: PassOptions, rows: PassRow[]): number {
  const editor = new Editor(graph);
  const changes = editor.sweep(pass.rule(options, graph)) + editor.removeDead();
  if (changes > 0) rows.push({ name: pass.name, changes, nodes: graph.nodes.length });
  return changes;
}
