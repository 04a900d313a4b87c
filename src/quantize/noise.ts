/** What reduced precision does to the values along a network. */

/** What one layer writes, against the float model's. */
export interface LayerNoise {
  readonly layer: string;
  readonly precision: "fp32" | "int8";
  /** Signal over noise; null where the values are equal. */
  readonly decibels: number | null;
  readonly cosine: number;
  /** Largest absolute difference over the largest absolute value. */
  readonly largestError: number;
}

/** Below this, a layer's values are no longer those of the float model: noise of a tenth of the amplitude. */
export const LARGE_NOISE_DECIBELS = 20;

/** The first layer whose noise is large. */
export const firstLargeNoise = (rows: readonly LayerNoise[], bound = LARGE_NOISE_DECIBELS): LayerNoise | undefined => rows.find(({ decibels }) => decibels !== null && decibels < bound);
