export { Counter, Gauge, Histogram, type Family, type Labels, MetricsRegistry } from "./registry.ts";
export { MetricsFrontEnd } from "./front-end.ts";
