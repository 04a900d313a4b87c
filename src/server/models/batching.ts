/** From a model's configuration to its queue and its batching policy. */
import { UserError } from "../../base/index.ts";
import { type DynamicBatchingConfig, type ModelConfig, parameterOf, type QueuePolicyConfig, type SequenceBatchingConfig } from "../../repository/index.ts";
import { type BatchingPolicy, FIFO, LatencyObjective, OneByOne, QueueDelay, type QueuePolicy } from "../scheduler/index.ts";
import type { PadValues } from "./gather.ts";
import type { LaneOptions } from "./lane.ts";
import { numberBytes } from "./number-bytes.ts";

/** Bounds of a model's queue where its configuration sets none. */
export interface QueueBounds {
  readonly maxRequests: number;
  readonly maxBytes: number;
}

export function policyFor(config: ModelConfig): BatchingPolicy {
  const maxBatch = config.max_batch_size ?? 0;
  const sequences = config.sequence_batching;
  const batching: DynamicBatchingConfig | undefined = sequences ? { ...(sequences.oldest ?? utilizing(sequences.direct, maxBatch)) } : config.dynamic_batching;
  if (!batching || maxBatch <= 1) return new OneByOne();
  const delayUs = batching.max_queue_delay_microseconds ?? 0;
  const objectiveMs = numberParameter(config, "latency_objective_ms");
  if (objectiveMs !== undefined) return new LatencyObjective(maxBatch, objectiveMs, delayUs);
  const preferred = batching.preferred_batch_size ?? [];
  const wrong = preferred.find((size) => size < 1 || size > maxBatch);
  if (wrong !== undefined) throw new UserError("config-invalid", `Model "${config.name}": dynamic batching preferred size ${wrong} must be from 1 to max_batch_size ${maxBatch}.`);
  return new QueueDelay(maxBatch, preferred, delayUs);
}

/** Of `direct` sequences: batches of at least so much of all places go at once, and are as large as they can be. */
function utilizing({ max_queue_delay_microseconds = 0, minimum_slot_utilization = 0 }: NonNullable<SequenceBatchingConfig["direct"]> = {}, maxBatch: number): DynamicBatchingConfig {
  const least = Math.min(maxBatch, Math.max(1, Math.ceil(minimum_slot_utilization * maxBatch)));
  return { max_queue_delay_microseconds, preferred_batch_size: Array.from({ length: maxBatch - least + 1 }, (_, i) => least + i) };
}

/**
 * Whether batches may be divided over the model's threads: not where the configuration says how many instances there are or
 * how large batches are to be, not where times of batches are learnt, and not where instances are places of sequences.
 */
export function spreads({ instance_group, dynamic_batching, sequence_batching }: ModelConfig, policy: BatchingPolicy): boolean {
  return policy.name === "queue-delay" && !sequence_batching && !instance_group?.length && !dynamic_batching?.preferred_batch_size?.length && !dynamic_batching?.preserve_ordering;
}

export function queueFor(config: ModelConfig, bounds: QueueBounds): LaneOptions["queue"] {
  const batching: DynamicBatchingConfig = config.dynamic_batching ?? {};
  const levels = batching.priority_levels ?? 0;
  const defaultLevel = batching.default_priority_level ?? 0;
  if (levels > 0 && (defaultLevel < 1 || defaultLevel > levels)) throw new UserError("config-invalid", `Model "${config.name}": default_priority_level is ${defaultLevel}; expected 1 to priority_levels ${levels}.`);
  if (levels > MAX_LEVELS) throw new UserError("config-invalid", `Model "${config.name}": priority_levels is ${levels}; at most ${MAX_LEVELS}.`);
  return {
    priorityLevels: levels, defaultPriorityLevel: defaultLevel, ...bounds,
    policy: (level) => queuePolicy(batching.priority_queue_policy?.[String(level)] ?? batching.default_queue_policy),
  };
}

const MAX_LEVELS = 256;

function queuePolicy(config: QueuePolicyConfig | undefined): QueuePolicy {
  if (!config) return FIFO;
  return {
    timeoutAction: config.timeout_action ?? "REJECT", defaultTimeoutUs: config.default_timeout_microseconds ?? 0,
    allowTimeoutOverride: config.allow_timeout_override ?? false, maxQueueSize: config.max_queue_size ?? 0,
  };
}

/** Whether requests of different lengths share batches: the parameter `variable_lengths`, "pad" or "group" (default). */
export function padsRequests(config: ModelConfig): boolean {
  const text = parameterOf(config, "variable_lengths") ?? "group";
  if (text !== "pad" && text !== "group") throw new UserError("config-invalid", `Model "${config.name}": parameter "variable_lengths" is "${text}"; expected "pad" or "group".`);
  if (text === "pad" && config.input?.some(({ data_type }) => data_type === "TYPE_STRING")) throw new UserError("config-invalid", `Model "${config.name}": variable_lengths "pad" and an input of strings; use "group".`);
  return text === "pad";
}

/** Parameters `pad:INPUT`: the number that rows of that input are filled up with; 0 without. */
export function padValues(config: ModelConfig): PadValues {
  const values = new Map<string, Uint8Array>();
  for (const { name, data_type } of config.input ?? []) {
    const value = numberParameter(config, `pad:${name}`);
    if (value !== undefined && value !== 0) values.set(name, numberBytes(data_type, value));
  }
  return values;
}

function numberParameter(config: ModelConfig, name: string): number | undefined {
  const text = parameterOf(config, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || (name.endsWith("_ms") && value <= 0)) throw new UserError("config-invalid", `Model "${config.name}": parameter "${name}" is "${text}"; expected a number${name.endsWith("_ms") ? " above 0" : ""}.`);
  return value;
}
