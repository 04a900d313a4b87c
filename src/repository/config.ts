/**
 * A model's configuration as the server uses it, and its complete form with all defaults, as clients see it.
 * Source of the defaults: triton-inference-server/core, src/model_config_utils.cc (NormalizeModelConfig, ModelConfigToJson).
 */
import type { Plain, PlainMessage } from "./bind.ts";
import { type FieldType, MODEL_CONFIG, type MessageType } from "./schema.ts";

export interface TensorConfig {
  readonly name: string;
  readonly data_type: string;
  readonly dims: readonly number[];
  readonly reshape?: { readonly shape?: readonly number[] };
  readonly optional?: boolean;
  readonly allow_ragged_batch?: boolean;
  readonly label_filename?: string;
}

export interface QueuePolicyConfig {
  readonly timeout_action?: "REJECT" | "DELAY";
  readonly default_timeout_microseconds?: number;
  readonly allow_timeout_override?: boolean;
  readonly max_queue_size?: number;
}

export interface DynamicBatchingConfig {
  readonly preferred_batch_size?: readonly number[];
  readonly max_queue_delay_microseconds?: number;
  readonly preserve_ordering?: boolean;
  readonly priority_levels?: number;
  readonly default_priority_level?: number;
  readonly default_queue_policy?: QueuePolicyConfig;
  readonly priority_queue_policy?: Readonly<Record<string, QueuePolicyConfig>>;
}

export interface WarmupConfig {
  readonly name?: string;
  readonly batch_size?: number;
  readonly count?: number;
  readonly inputs?: Readonly<Record<string, { readonly data_type?: string; readonly dims?: readonly number[]; readonly zero_data?: boolean; readonly random_data?: boolean; readonly input_data_file?: string }>>;
}

export interface VersionPolicy {
  readonly latest?: { readonly num_versions?: number };
  readonly all?: Readonly<Record<string, never>>;
  readonly specific?: { readonly versions?: readonly number[] };
}

export interface ControlConfig {
  readonly kind?: string;
  readonly int32_false_true?: readonly number[];
  readonly fp32_false_true?: readonly number[];
  readonly bool_false_true?: readonly boolean[];
  readonly data_type?: string;
}

export interface StateConfig {
  readonly input_name?: string;
  readonly output_name?: string;
  readonly data_type?: string;
  readonly dims?: readonly number[];
  readonly initial_state?: readonly { readonly dims?: readonly number[]; readonly data_file?: string }[];
}

export interface SequenceBatchingConfig {
  readonly max_sequence_idle_microseconds?: number;
  readonly control_input?: readonly { readonly name: string; readonly control?: readonly ControlConfig[] }[];
  readonly state?: readonly StateConfig[];
  readonly direct?: { readonly max_queue_delay_microseconds?: number; readonly minimum_slot_utilization?: number };
  readonly oldest?: { readonly max_candidate_sequences?: number; readonly preferred_batch_size?: readonly number[]; readonly max_queue_delay_microseconds?: number; readonly preserve_ordering?: boolean };
  readonly iterative_sequence?: boolean;
}

export interface EnsembleStepConfig {
  readonly model_name?: string;
  readonly model_version?: number;
  /** Names in the model to names in the ensemble. */
  readonly input_map?: Readonly<Record<string, string>>;
  readonly output_map?: Readonly<Record<string, string>>;
}

/** The fields that decide something here; others are kept and shown. */
export interface ModelConfig {
  readonly name: string;
  readonly platform?: string;
  readonly backend?: string;
  readonly max_batch_size?: number;
  readonly input?: readonly TensorConfig[];
  readonly output?: readonly TensorConfig[];
  readonly version_policy?: VersionPolicy;
  readonly dynamic_batching?: DynamicBatchingConfig;
  readonly sequence_batching?: SequenceBatchingConfig;
  readonly ensemble_scheduling?: { readonly step?: readonly EnsembleStepConfig[] };
  readonly instance_group?: readonly { readonly name?: string; readonly kind?: string; readonly count?: number; readonly gpus?: readonly number[] }[];
  readonly default_model_filename?: string;
  readonly parameters?: Readonly<Record<string, { readonly string_value?: string }>>;
  readonly model_warmup?: readonly WarmupConfig[];
  readonly metric_tags?: Readonly<Record<string, string>>;
  readonly model_transaction_policy?: { readonly decoupled?: boolean };
}

/** Inputs that the server fills for sequences, and outputs that it keeps for them: no request carries them. */
export function sequenceTensors({ sequence_batching: batching }: ModelConfig): { readonly inputs: readonly string[]; readonly outputs: readonly string[] } {
  const states = batching?.state ?? [];
  return { inputs: [...(batching?.control_input ?? []).map(({ name }) => name), ...states.map(({ input_name = "" }) => input_name)], outputs: states.map(({ output_name = "" }) => output_name) };
}

/** The GPUs that a configuration wants its instances on, by the driver's numbers: the first where it names none; undefined where it wants none. */
export function gpusOf({ instance_group: groups = [] }: ModelConfig): readonly number[] | undefined {
  const onGpu = groups.filter(({ kind }) => kind === "KIND_GPU");
  if (onGpu.length === 0) return undefined;
  const named = [...new Set(onGpu.flatMap(({ gpus = [] }) => gpus))];
  return named.length > 0 ? named : [0];
}

/** How many instances a configuration asks for, on each of its GPUs if it names several; undefined where it does not say. */
export function instancesOf(config: ModelConfig): number | undefined {
  const groups = config.instance_group ?? [];
  if (groups.length === 0 || groups.every(({ kind, count }) => kind === "KIND_GPU" && !count)) return undefined;
  return groups.reduce((sum, { kind, count, gpus }) => sum + Math.max(1, count ?? 1) * (kind === "KIND_GPU" ? Math.max(1, gpus?.length ?? 1) : 1), 0);
}

/** A configuration parameter's text, or undefined. */
export function parameterOf(config: ModelConfig, name: string): string | undefined {
  return config.parameters?.[name]?.string_value;
}

/** The configuration with every default that has a value of its own written out. */
export function completeConfig(config: ModelConfig): PlainMessage {
  const base: Record<string, Plain> = {
    version_policy: { latest: { num_versions: 1 } },
    optimization: { priority: "PRIORITY_DEFAULT", input_pinned_memory: { enable: true }, output_pinned_memory: { enable: true } },
    ...(config as unknown as PlainMessage),
  };
  const groups = config.instance_group?.length ? config.instance_group : [{}];
  if (!config.ensemble_scheduling) base["instance_group"] = groups.map((group, index) => ({
    name: `${config.name}${groups.length > 1 ? `_${index}` : ""}`, kind: "KIND_CPU", count: 1, ...(group as unknown as PlainMessage), ...(group.kind === "KIND_AUTO" ? { kind: "KIND_CPU" } : {}),
  }));
  if (config.dynamic_batching) base["dynamic_batching"] = { preferred_batch_size: [Math.max(1, config.max_batch_size ?? 0)], ...(config.dynamic_batching as unknown as PlainMessage) };
  if (config.sequence_batching) base["sequence_batching"] = { max_sequence_idle_microseconds: 1_000_000, ...(config.sequence_batching.oldest ? {} : { direct: {} }), ...(config.sequence_batching as unknown as PlainMessage) };
  return withDefaults(MODEL_CONFIG, base);
}

const ABSENT_UNLESS_GIVEN = new Set(["ModelTensorReshape"]);

/** Scalars get 0, "" or false, lists and maps their empty form; messages stay absent unless they were given. */
function withDefaults(type: MessageType, given: PlainMessage): PlainMessage {
  const result: Record<string, Plain> = {};
  const chosen = new Set(type.choices.flat());
  for (const [name, field] of Object.entries(type.fields)) {
    const value = given[name];
    if (value !== undefined) result[name] = completeField(field, value);
    else if (!chosen.has(name) && !(typeof field === "object" && field.kind === "message") && !ABSENT_UNLESS_GIVEN.has(type.name)) result[name] = defaultOf(field);
  }
  return result;
}

function completeField(type: FieldType, value: Plain): Plain {
  if (typeof type === "string" || type.kind === "enum") return value;
  if (type.kind === "message") return withDefaults(type, value as PlainMessage);
  if (type.kind === "repeated") return (value as readonly Plain[]).map((item) => completeField(type.of, item));
  return Object.fromEntries(Object.entries(value as PlainMessage).map(([key, item]) => [key, completeField(type.value, item)]));
}

function defaultOf(type: FieldType): Plain {
  if (type === "string") return "";
  if (type === "bool") return false;
  if (typeof type === "string") return 0;
  if (type.kind === "enum") return type.values[0]!;
  return type.kind === "map" || type.kind === "message" ? {} : [];
}
