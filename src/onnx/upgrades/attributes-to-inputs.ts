/**
 * Attributes that became inputs: Squeeze, Unsqueeze and ReduceSum at 13, the other reductions at 18, Slice and TopK
 * at 10, Pad and Clip at 11, Split at 13 (and `num_outputs` at 18), Dropout at 12, DFT's axis at 20, Reshape at 5.
 * Source: ONNX operator changelog.
 */
import type { Node } from "../../ir/index.ts";
import { type Rewriter, takeNumber, takeNumbers } from "../rewriter.ts";
import type { UpgradeTable } from "./table.ts";

/** Puts `axes` at input 1. An empty list means the same as none: all axes. */
function axesToInput(node: Node, rewriter: Rewriter): undefined {
  const axes = takeNumbers(node, "axes");
  if (axes && axes.length > 0 && node.inputs.length === 1) node.inputs.push(rewriter.int64(axes));
}

function sliceToInputs(node: Node, rewriter: Rewriter): undefined {
  const starts = takeNumbers(node, "starts") ?? rewriter.invalid('attribute "starts" is missing');
  const ends = takeNumbers(node, "ends") ?? rewriter.invalid('attribute "ends" is missing');
  const axes = takeNumbers(node, "axes");
  node.inputs = [node.inputs[0], rewriter.int64(starts), rewriter.int64(ends), ...(axes ? [rewriter.int64(axes)] : [])];
}

function padToInputs(node: Node, rewriter: Rewriter): undefined {
  const pads = takeNumbers(node, "pads") ?? takeNumbers(node, "paddings") ?? rewriter.invalid('attribute "pads" is missing');
  const value = takeNumber(node, "value") ?? 0;
  node.inputs = [node.inputs[0], rewriter.int64(pads)];
  if (value !== 0) node.inputs.push(rewriter.scalarLike(value, node.inputs[0]));
}

const FLOAT32_MAX = 3.4028234663852886e38;

function clipToInputs(node: Node, rewriter: Rewriter): undefined {
  const low = takeNumber(node, "min") ?? -FLOAT32_MAX;
  const high = takeNumber(node, "max") ?? FLOAT32_MAX;
  const x = node.inputs[0];
  const min = low > -FLOAT32_MAX ? rewriter.scalarLike(low, x) : undefined;
  const max = high < FLOAT32_MAX ? rewriter.scalarLike(high, x) : undefined;
  node.inputs = max ? [x, min, max] : min ? [x, min] : [x];
}

function splitToInput(node: Node, rewriter: Rewriter): undefined {
  const split = takeNumbers(node, "split");
  if (split && node.inputs.length === 1) node.inputs.push(rewriter.int64(split));
}

/** Without sizes, the outputs' number says into how many equal parts. */
function splitCount(node: Node): undefined {
  if (!node.inputs[1] && node.attributes["num_outputs"] === undefined) node.attributes["num_outputs"] = node.outputs.length;
}

function topKToInput(node: Node, rewriter: Rewriter): undefined {
  const k = takeNumber(node, "k") ?? rewriter.invalid('attribute "k" is missing');
  if (node.inputs.length === 1) node.inputs.push(rewriter.int64([k]));
}

function dropoutToInputs(node: Node, rewriter: Rewriter): undefined {
  const ratio = takeNumber(node, "ratio");
  delete node.attributes["is_test"];
  if (ratio !== undefined && node.inputs.length === 1) node.inputs.push(rewriter.floatLike([ratio], []));
}

function dftAxisToInput(node: Node, rewriter: Rewriter): undefined {
  const axis = takeNumber(node, "axis") ?? 1;
  node.inputs = [node.inputs[0], node.inputs[1], rewriter.int64([axis], [])];
}

function reshapeToInput(node: Node, rewriter: Rewriter): undefined {
  const shape = takeNumbers(node, "shape");
  if (shape && node.inputs.length === 1) node.inputs.push(rewriter.int64(shape));
}

const REDUCTIONS = ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"];

export const attributesToInputs: UpgradeTable = {
  Squeeze: [{ until: 13, rewrite: axesToInput }],
  Unsqueeze: [{ until: 13, rewrite: axesToInput }],
  ReduceSum: [{ until: 13, rewrite: axesToInput }],
  ...Object.fromEntries(REDUCTIONS.map((op) => [op, [{ until: 18, rewrite: axesToInput }]])),
  Slice: [{ until: 10, rewrite: sliceToInputs }],
  Pad: [{ until: 11, rewrite: padToInputs }],
  Clip: [{ until: 11, rewrite: clipToInputs }],
  Split: [{ until: 13, rewrite: splitToInput }, { until: 18, rewrite: splitCount }],
  TopK: [{ until: 10, rewrite: topKToInput }],
  Dropout: [{ until: 12, rewrite: dropoutToInputs }],
  DFT: [{ until: 20, rewrite: dftAxisToInput }],
  Reshape: [{ until: 5, rewrite: reshapeToInput }],
};
