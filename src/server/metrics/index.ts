export { Counter, Gauge, Histogram, MetricsRegistry } from "./registry.ts";
export { watchGpus } from "./gpu-metrics.ts";
export { MetricsFrontEnd } from "./front-end.ts";
