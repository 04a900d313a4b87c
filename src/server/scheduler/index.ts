export { Batcher } from "./batcher.ts";
export { type Clock, systemClock } from "./clock.ts";
export { LatencyObjective } from "./latency-objective.ts";
export { type BatchingPolicy, OneByOne, QueueDelay } from "./policy.ts";
export { type DropReason, FIFO, type Queued, type QueuePolicy, RequestQueue } from "./queue.ts";
export { type SequenceContext, Sequences, type StartAt } from "./sequences.ts";
