export { attentionTactics } from "./attention.ts";
export { convTactics } from "./conv-tactics.ts";
export { matmulTactics } from "./matmul-tactics.ts";
export { compilePeak, type PeakName } from "./peak.ts";
