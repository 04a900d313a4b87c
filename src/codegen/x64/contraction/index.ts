export { attentionTactics } from "./attention.ts";
export { convTactics } from "./conv-tactics.ts";
export { matmulTactics } from "./matmul-tactics.ts";
export { compilePeak } from "./peak.ts";
export type { ProductName } from "./products.ts";
