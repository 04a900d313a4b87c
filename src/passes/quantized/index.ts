/** Quantized models: brought to integer products with pointwise work behind them; and plans to quantize models, carried out. */
export { blockProducts } from "./block-products.ts";
export { expandDynamicQuantize } from "./dynamic-quantize.ts";
export { type Quantization, quantize } from "./insert.ts";
export { integerProducts } from "./integer-products.ts";
export type { Layer } from "./layers.ts";
export { cancelQuantize, lowerActivations, lowerDequantize, raiseQuantize } from "./move.ts";
export { unpackNibbles } from "./nibbles.ts";
export type { ActivationPlan, LayerPlan, QuantizationPlan } from "./plan.ts";
export { expandQLinear } from "./qlinear.ts";
export { dropSaturatedClips } from "./saturation.ts";
export type { Summary } from "./summaries.ts";
