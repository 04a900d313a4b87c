/** What is to be done to each layer of a model: data that calibration and search make, and the passes carry out. */

/** How the activation that enters a layer becomes bytes. */
export interface ActivationPlan {
  readonly type: "uint8" | "int8";
  readonly scale: number;
  readonly zeroPoint: number;
  /** One per channel instead, zero points all zero: only where a depthwise convolution reads them. */
  readonly scales?: readonly number[];
}

export type LayerPlan =
  | { readonly precision: "fp32"; /** Why it stays. */ readonly reason: string }
  /** Scales found in calibration. */
  | { readonly precision: "int8"; readonly input: ActivationPlan; /** Mean of each input channel: undoes the shift of rounded weights. */ readonly inputMeans?: readonly number[] }
  /** A scale per row of the activation, found as it is computed. */
  | { readonly precision: "int8"; readonly input: "dynamic"; /** Largest absolute value of each input channel, as far as it is known. */ readonly channelSizes?: readonly number[] };

export interface QuantizationPlan {
  /** By layer name; layers that are not named stay as they are. */
  readonly layers: Readonly<Record<string, LayerPlan>>;
}
