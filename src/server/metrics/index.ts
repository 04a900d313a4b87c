export { Counter, Gauge, Histogram, MetricsRegistry } from "./registry.ts";
export { MetricsFrontEnd } from "./front-end.ts";
