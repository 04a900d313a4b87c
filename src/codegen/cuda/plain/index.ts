/** The contractions' last candidates: always right, for every stride, type and size. */
export { plainAttention } from "./attention.ts";
export { plainConv } from "./conv.ts";
export { plainMatmul } from "./matmul.ts";
