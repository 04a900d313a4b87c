/** The catalogue of operators that run as sequential kernels. */
import type { OpKey, SequentialOperator } from "../contract.ts";
import { cumSum } from "./cum-sum.ts";
import { nonMaxSuppression } from "./non-max-suppression.ts";
import { nonZero } from "./non-zero.ts";
import { scatterElements, scatterNd } from "./scatter.ts";
import { topK } from "./top-k.ts";

export const sequentials: ReadonlyMap<OpKey, SequentialOperator> = new Map<OpKey, SequentialOperator>([
  ["CumSum", cumSum],
  ["NonMaxSuppression", nonMaxSuppression],
  ["NonZero", nonZero],
  ["ScatterElements", scatterElements],
  ["ScatterND", scatterNd],
  ["TopK", topK],
]);
