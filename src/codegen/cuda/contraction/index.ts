/** Matrix products, convolutions and attention for GPUs: candidates, best estimate first. */
export { hopperAttentionTactics as attentionTactics } from "./attention-hopper.ts";
export { convTactics } from "./conv-tactics.ts";
export { matmulTactics } from "./matmul-tactics.ts";
