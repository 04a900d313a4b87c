/** The reference operators of tensors: arithmetic, shapes, indices, reductions, products, types, text, sequences, signals. */
import { broadcastOperators } from "./broadcast.ts";
import { castOperators } from "./cast.ts";
import type { ReferenceTable } from "./contract.ts";
import { einsumOperators } from "./einsum.ts";
import { elementwiseOperators } from "./elementwise.ts";
import { gatherOperators } from "./gather.ts";
import { generateOperators } from "./generate.ts";
import { machineLearningOperators } from "./machine-learning.ts";
import { matmulOperators } from "./matmul.ts";
import { movingOperators } from "./moving.ts";
import { orderOperators } from "./order.ts";
import { quantizeOperators } from "./quantize.ts";
import { reduceOperators } from "./reduce.ts";
import { sequenceOperators } from "./sequence.ts";
import { signalOperators } from "./signal.ts";
import { stringOperators } from "./strings.ts";

export const TENSOR_OPERATORS: ReferenceTable = {
  ...broadcastOperators,
  ...castOperators,
  ...einsumOperators,
  ...elementwiseOperators,
  ...gatherOperators,
  ...machineLearningOperators,
  ...generateOperators,
  ...matmulOperators,
  ...movingOperators,
  ...orderOperators,
  ...quantizeOperators,
  ...reduceOperators,
  ...sequenceOperators,
  ...signalOperators,
  ...stringOperators,
};
