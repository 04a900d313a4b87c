/**
 * BatchNormalization's `spatial` form and its old training outputs, GroupNormalization's scale per group (opset 18;
 * per channel from 21), and Dropout, which does nothing in inference.
 * Source: ONNX BatchNormalization-7 to -15, GroupNormalization-18 and -21, Dropout-13.
 */
import type { Node, Value } from "../../ir/index.ts";
import { constantNumbers, type Rewriter, takeNumber } from "../rewriter.ts";
import type { UpgradeTable } from "./table.ts";

/** With `spatial` 0, scale, bias, mean and variance have one element per feature, and broadcast over the batch. */
function perFeature(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const spatial = takeNumber(node, "spatial") ?? 1;
  delete node.attributes["is_test"];
  delete node.attributes["consumed_inputs"];
  if (spatial !== 0) return undefined;
  const [x, scale, bias, mean, variance] = node.inputs;
  const epsilon = rewriter.scalarLike(Number(node.attributes["epsilon"] ?? 1e-5), x);
  const deviation = rewriter.emit("Sqrt", [rewriter.emit("Add", [variance, epsilon])]);
  const centred = rewriter.emit("Sub", [x, mean]);
  const scaled = rewriter.emit("Mul", [rewriter.emit("Div", [centred, deviation]), scale]);
  rewriter.emit("Add", [scaled, bias], {}, node.outputs[0]);
  return "replaced";
}

/** Before opset 14 the number of outputs said whether the node trains; from there on an attribute does. */
function trainingByOutputs(node: Node, rewriter: Rewriter): undefined {
  if (rewriter.wants(3) || rewriter.wants(4)) rewriter.invalid("the outputs saved_mean and saved_var exist in training only; remove them.");
  const isTraining = rewriter.wants(1) || rewriter.wants(2);
  node.outputs = isTraining ? node.outputs.slice(0, 3) : node.outputs.slice(0, 1);
  if (isTraining) node.attributes["training_mode"] = 1;
}

function groupScalePerChannel(node: Node, rewriter: Rewriter): undefined {
  const [x, scale, bias] = node.inputs;
  const groups = Number(node.attributes["num_groups"] ?? rewriter.invalid('attribute "num_groups" is missing.'));
  const channels = rewriter.emit("Shape", [x], { start: 1, end: 2 });
  const perGroup = rewriter.emit("Div", [channels, rewriter.int64([groups])]);
  const table = rewriter.emit("Concat", [rewriter.int64([groups]), perGroup], { axis: 0 });
  const repeat = (value: Value | undefined): Value => {
    const column = rewriter.emit("Unsqueeze", [value, rewriter.int64([1])]);
    return rewriter.emit("Reshape", [rewriter.emit("Expand", [column, table]), rewriter.int64([-1])]);
  };
  node.inputs = [x, repeat(scale), repeat(bias)];
}

/** Becomes Identity unless it may train or its mask is wanted. */
function dropout(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const training = node.inputs[2];
  const mayTrain = training !== undefined && constantNumbers(training)?.[0] !== 0;
  if (mayTrain || rewriter.wants(1)) return undefined;
  rewriter.emit("Identity", [node.inputs[0]], {}, node.outputs[0]);
  return "replaced";
}

const ANY = Number.POSITIVE_INFINITY;

export const normalization: UpgradeTable = {
  BatchNormalization: [{ until: 9, rewrite: perFeature }, { until: 14, rewrite: trainingByOutputs }],
  GroupNormalization: [{ until: 21, rewrite: groupScalePerChannel }],
  Dropout: [{ until: ANY, rewrite: dropout }],
};
