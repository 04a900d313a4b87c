/** The server's parts, for `serve.ts`. */
export { LogTime } from "./extensions/log-settings.ts";
export { type FrontEndOptions, type FrontEnds, openFrontEnds } from "./front-ends.ts";
export { MetricsRegistry, watchGpus } from "./metrics/index.ts";
export { type ControlMode, ModelServer, ModelStore, Repositories, RepositoryPoll, ServerMetrics, Statistics } from "./models/index.ts";
export { readTraceOptions } from "./extensions/trace-settings.ts";
export { systemClock } from "./scheduler/index.ts";
