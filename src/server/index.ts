/** The server's parts, for `serve.ts`. */
export { Extensions } from "./extensions/extensions.ts";
export { Restrictions } from "./extensions/restrictions.ts";
export { GrpcFrontEnd } from "./grpc/index.ts";
export { HttpFrontEnd } from "./http/index.ts";
export { MetricsFrontEnd, MetricsRegistry, watchGpus } from "./metrics/index.ts";
export { type ControlMode, ModelServer, ModelStore, Repositories, RepositoryPoll, ServerMetrics, Statistics } from "./models/index.ts";
export { readTraceOptions, type TraceSetting } from "./extensions/trace-settings.ts";
export { systemClock } from "./scheduler/index.ts";
