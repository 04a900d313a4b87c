/** Losses over class scores [N, C, d...] and labels [N, d...]. Sources: ONNX NegativeLogLikelihoodLoss-22, SoftmaxCrossEntropyLoss-13. */
import { elementCount, type Tensor } from "../base/index.ts";
import type { HostValue, ReferenceAttributes, ReferenceOperator, ReferenceTable } from "./contract.ts";
import { fromNumbers, intAttribute, optionalTensor, stringAttribute, tensorInput, toNumbers } from "./arguments.ts";

function likelihoodLoss(type: Tensor["type"], logs: Float64Array, dims: readonly number[], labels: Tensor, weight: Tensor | undefined, attributes: ReferenceAttributes): Tensor {
  const ignored = attributes["ignore_index"] === undefined ? undefined : intAttribute(attributes, "ignore_index", 0);
  const reduction = stringAttribute(attributes, "reduction", "mean");
  const classes = dims[1]!;
  const size = elementCount(dims.slice(2));
  const targets = toNumbers(labels);
  const weights = weight && toNumbers(weight);
  const losses = new Float64Array(targets.length);
  let total = 0;
  for (let i = 0; i < targets.length; i++) {
    const label = targets[i]!;
    if (label === ignored) continue;
    const factor = weights ? weights[label]! : 1;
    total += factor;
    losses[i] = -logs[(Math.floor(i / size) * classes + label) * size + (i % size)]! * factor;
  }
  if (reduction === "none") return fromNumbers(type, losses, labels.dims);
  const sum = losses.reduce((a, b) => a + b, 0);
  return fromNumbers(type, Float64Array.of(reduction === "sum" ? sum : sum / total), []);
}

const negativeLogLikelihoodLoss: ReferenceOperator = (inputs, attributes) => {
  const x = tensorInput(inputs, 0);
  return [likelihoodLoss(x.type, toNumbers(x), x.dims, tensorInput(inputs, 1), optionalTensor(inputs, 2), attributes)];
};

/** log(softmax) along axis 1. */
function logSoftmax(scores: Float64Array, dims: readonly number[]): Float64Array {
  const classes = dims[1]!;
  const size = elementCount(dims.slice(2));
  const result = new Float64Array(scores.length);
  for (let line = 0; line < dims[0]! * size; line++) {
    const from = Math.floor(line / size) * classes * size + (line % size);
    let best = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < classes; c++) best = Math.max(best, scores[from + c * size]!);
    let sum = 0;
    for (let c = 0; c < classes; c++) sum += Math.exp(scores[from + c * size]! - best);
    for (let c = 0; c < classes; c++) result[from + c * size] = scores[from + c * size]! - best - Math.log(sum);
  }
  return result;
}

const softmaxCrossEntropyLoss: ReferenceOperator = (inputs, attributes, context) => {
  const x = tensorInput(inputs, 0);
  const logs = logSoftmax(toNumbers(x), x.dims);
  const results: HostValue[] = [likelihoodLoss(x.type, logs, x.dims, tensorInput(inputs, 1), optionalTensor(inputs, 2), attributes)];
  if (context.outputCount > 1) results.push(fromNumbers(x.type, logs, x.dims));
  return results;
};

export const lossOperators: ReferenceTable = { NegativeLogLikelihoodLoss: negativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss: softmaxCrossEntropyLoss };
