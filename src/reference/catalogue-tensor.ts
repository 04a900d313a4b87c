/** The reference operators of tensors: arithmetic, shapes, indices, reductions, products, types, text, sequences, signals. */
import { broadcastOperators } from "./broadcast.ts";
import { castOperators } from "./cast.ts";
import type { ReferenceTable } from "./contract.ts";
import { elementwiseOperators } from "./elementwise.ts";
import { gatherOperators } from "./gather.ts";
import { matmulOperators } from "./matmul.ts";
import { movingOperators } from "./moving.ts";
import { quantizeOperators } from "./quantize.ts";
import { reduceOperators } from "./reduce.ts";

export const TENSOR_OPERATORS: ReferenceTable = {
  ...broadcastOperators,
  ...castOperators,
  ...elementwiseOperators,
  ...gatherOperators,
  ...matmulOperators,
  ...movingOperators,
  ...quantizeOperators,
  ...reduceOperators,
};
