export { attentionTactics } from "./attention.ts";
export { bandTactics } from "./band-tactics.ts";
export { convTactics } from "./conv-tactics.ts";
export { matmulTactics } from "./matmul-tactics.ts";
export { compilePeak, type PeakName } from "./peak.ts";
