/** Matrix products, convolutions and attention for GPUs: candidates, best estimate first. */
export { attentionTactics } from "./attention-tactics.ts";
export { convTactics } from "./conv-tactics.ts";
export { matmulTactics } from "./matmul-tactics.ts";
