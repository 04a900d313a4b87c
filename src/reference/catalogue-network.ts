/** The reference operators of networks: convolutions, pools, normalisations, recurrences, attention, control flow, contrib. */
import { attentionOperators } from "./attention.ts";
import type { ReferenceTable } from "./contract.ts";
import { contribMatMulOperators } from "./contrib-matmul.ts";
import { contribQuantizedOperators } from "./contrib-quantized.ts";
import { contribTransformerOperators } from "./contrib-transformer.ts";
import { controlFlowOperators } from "./control-flow.ts";
import { convolutionOperators } from "./convolution.ts";
import { detectionOperators } from "./detection.ts";
import { imageOperators } from "./image-decoder.ts";
import { lossOperators } from "./loss.ts";
import { normalizationOperators } from "./normalization.ts";
import { poolingOperators } from "./pooling.ts";
import { recurrentOperators } from "./recurrent.ts";
import { resizeOperators } from "./resize.ts";
import { rotaryOperators } from "./rotary.ts";
import { samplingOperators } from "./sampling.ts";

export const NETWORK_OPERATORS: ReferenceTable = {
  ...attentionOperators,
  ...contribMatMulOperators,
  ...contribQuantizedOperators,
  ...contribTransformerOperators,
  ...controlFlowOperators,
  ...convolutionOperators,
  ...detectionOperators,
  ...imageOperators,
  ...lossOperators,
  ...normalizationOperators,
  ...poolingOperators,
  ...recurrentOperators,
  ...resizeOperators,
  ...rotaryOperators,
  ...samplingOperators,
};
