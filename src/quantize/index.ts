/** From values seen to bytes: histograms, calibrators, the calibration cache, strata, metrics, reports. */
export { type CalibrationCache, matcher, planFromCache, rangeOf, readCache, writeCache, CACHE_FORMAT } from "./cache.ts";
export { type Calibrator, CALIBRATORS, type Scheme, SCHEMES } from "./calibrators.ts";
export { ChannelStatistics } from "./channels.ts";
export { Histogram, type Seen } from "./histogram.ts";
export { type AccuracyReport, accuracyPath, readAccuracy, type SensitivityRow, writeAccuracy } from "./accuracy.ts";
export { type Answer, cosine, type Metric, metricNamed, type MetricName, METRICS, NoiseMeter } from "./metrics.ts";
export { fewestInFloat } from "./search.ts";
export { StrataRanges } from "./strata.ts";
export { firstLargeNoise, LARGE_NOISE_DECIBELS, type LayerNoise } from "./noise.ts";
export { calibrationPage, noisePage } from "./page.ts";
