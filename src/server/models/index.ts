export { ServerMetrics } from "./metrics.ts";
export { type ControlMode, ModelServer } from "./model-server.ts";
export { ModelStore } from "./model-store.ts";
export { Repositories } from "./model-source.ts";
export { RepositoryPoll } from "./repository-poll.ts";
export { Statistics } from "./statistics.ts";
