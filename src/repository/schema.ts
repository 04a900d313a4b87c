/**
 * The schema of a model's configuration, `inference.ModelConfig`, as tables: every field Triton knows, so that any of its
 * repositories can be read and a misspelt field is found.
 * Source: triton-inference-server/common, protobuf/model_config.proto.
 */
export type ScalarType = "string" | "bool" | "int32" | "int64" | "uint32" | "uint64" | "float" | "double";

export interface EnumType {
  readonly kind: "enum";
  readonly name: string;
  readonly values: readonly string[];
}

export interface MessageType {
  readonly kind: "message";
  readonly name: string;
  readonly fields: Readonly<Record<string, FieldType>>;
  /** Groups of fields of which at most one may be given. */
  readonly choices: readonly (readonly string[])[];
}

export type ElementType = ScalarType | EnumType | MessageType;

export interface RepeatedType {
  readonly kind: "repeated";
  readonly of: ElementType;
}

export interface MapType {
  readonly kind: "map";
  readonly key: "string" | "uint64";
  readonly value: ElementType;
}

export type FieldType = ElementType | RepeatedType | MapType;

const message = (name: string, fields: MessageType["fields"], choices: MessageType["choices"] = []): MessageType => ({ kind: "message", name, fields, choices });
const values = (name: string, ...list: string[]): EnumType => ({ kind: "enum", name, values: list });
const repeated = (of: ElementType): RepeatedType => ({ kind: "repeated", of });
const map = (value: ElementType, key: MapType["key"] = "string"): MapType => ({ kind: "map", key, value });

const DATA_TYPE = values("DataType", "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16");
const DIMS = repeated("int64");

const RATE_LIMITER = message("ModelRateLimiter", { resources: repeated(message("Resource", { name: "string", global: "bool", count: "uint32" })), priority: "uint32" });

const INSTANCE_GROUP = message("ModelInstanceGroup", {
  name: "string", kind: values("Kind", "KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"), count: "int32", rate_limiter: RATE_LIMITER, gpus: repeated("int32"),
  secondary_devices: repeated(message("SecondaryDevice", { kind: values("SecondaryDeviceKind", "KIND_NVDLA"), device_id: "int64" })),
  profile: repeated("string"), passive: "bool", host_policy: "string",
});

const RESHAPE = message("ModelTensorReshape", { shape: DIMS });

const INPUT = message("ModelInput", {
  name: "string", data_type: DATA_TYPE, format: values("Format", "FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"), dims: DIMS, reshape: RESHAPE,
  is_shape_tensor: "bool", allow_ragged_batch: "bool", optional: "bool", is_non_linear_format_io: "bool",
});

const OUTPUT = message("ModelOutput", { name: "string", data_type: DATA_TYPE, dims: DIMS, reshape: RESHAPE, label_filename: "string", is_shape_tensor: "bool", is_non_linear_format_io: "bool" });

const BATCH_INPUT = message("BatchInput", {
  kind: values("Kind", "BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN"),
  target_name: repeated("string"), data_type: DATA_TYPE, source_input: repeated("string"),
});

const BATCH_OUTPUT = message("BatchOutput", { target_name: repeated("string"), kind: values("Kind", "BATCH_SCATTER_WITH_INPUT_SHAPE"), source_input: repeated("string") });

const VERSION_POLICY = message("ModelVersionPolicy", {
  latest: message("Latest", { num_versions: "uint32" }), all: message("All", {}), specific: message("Specific", { versions: DIMS }),
}, [["latest", "all", "specific"]]);

const GRAPH_SHAPE = message("Shape", { dim: DIMS });
const GRAPH_SPEC = message("GraphSpec", { batch_size: "int32", input: map(GRAPH_SHAPE), graph_lower_bound: message("LowerBound", { batch_size: "int32", input: map(GRAPH_SHAPE) }) });
const ACCELERATOR = message("Accelerator", { name: "string", parameters: map("string") });
const PINNED = message("PinnedMemoryBuffer", { enable: "bool" });

const OPTIMIZATION = message("ModelOptimizationPolicy", {
  graph: message("Graph", { level: "int32" }), priority: values("ModelPriority", "PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"),
  cuda: message("Cuda", { graphs: "bool", busy_wait_events: "bool", graph_spec: repeated(GRAPH_SPEC), output_copy_stream: "bool" }),
  execution_accelerators: message("ExecutionAccelerators", { gpu_execution_accelerator: repeated(ACCELERATOR), cpu_execution_accelerator: repeated(ACCELERATOR) }),
  input_pinned_memory: PINNED, output_pinned_memory: PINNED, gather_kernel_buffer_threshold: "uint32", eager_batching: "bool",
});

const QUEUE_POLICY = message("ModelQueuePolicy", { timeout_action: values("TimeoutAction", "REJECT", "DELAY"), default_timeout_microseconds: "uint64", allow_timeout_override: "bool", max_queue_size: "uint32" });

const DYNAMIC_BATCHING = message("ModelDynamicBatching", {
  preferred_batch_size: repeated("int32"), max_queue_delay_microseconds: "uint64", preserve_ordering: "bool", priority_levels: "uint64", default_priority_level: "uint64",
  default_queue_policy: QUEUE_POLICY, priority_queue_policy: map(QUEUE_POLICY, "uint64"),
});

const CONTROL = message("Control", {
  kind: values("Kind", "CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_CORRID"),
  int32_false_true: repeated("int32"), fp32_false_true: repeated("float"), bool_false_true: repeated("bool"), data_type: DATA_TYPE,
});

const SEQUENCE_STATE = message("State", {
  input_name: "string", output_name: "string", data_type: DATA_TYPE, dims: DIMS,
  initial_state: repeated(message("InitialState", { data_type: DATA_TYPE, dims: DIMS, zero_data: "bool", data_file: "string", name: "string" }, [["zero_data", "data_file"]])),
  use_same_buffer_for_input_output: "bool", use_growable_memory: "bool",
});

const SEQUENCE_BATCHING = message("ModelSequenceBatching", {
  direct: message("StrategyDirect", { max_queue_delay_microseconds: "uint64", minimum_slot_utilization: "float" }),
  oldest: message("StrategyOldest", { max_candidate_sequences: "int32", preferred_batch_size: repeated("int32"), max_queue_delay_microseconds: "uint64", preserve_ordering: "bool" }),
  max_sequence_idle_microseconds: "uint64", control_input: repeated(message("ControlInput", { name: "string", control: repeated(CONTROL) })), state: repeated(SEQUENCE_STATE), iterative_sequence: "bool",
}, [["direct", "oldest"]]);

const ENSEMBLING = message("ModelEnsembling", {
  step: repeated(message("Step", { model_name: "string", model_version: "int64", input_map: map("string"), output_map: map("string"), model_namespace: "string" })), max_inflight_requests: "uint32",
});

const WARMUP = message("ModelWarmup", {
  name: "string", batch_size: "uint32",
  inputs: map(message("Input", { data_type: DATA_TYPE, dims: DIMS, zero_data: "bool", random_data: "bool", input_data_file: "string" }, [["zero_data", "random_data", "input_data_file"]])), count: "uint32",
});

const METRIC_CONTROL = message("MetricControl", { metric_identifier: message("MetricIdentifier", { family: "string" }), histogram_options: message("HistogramOptions", { buckets: repeated("double") }) });

export const MODEL_CONFIG = message("ModelConfig", {
  name: "string", platform: "string", backend: "string", runtime: "string", version_policy: VERSION_POLICY, max_batch_size: "int32",
  input: repeated(INPUT), output: repeated(OUTPUT), batch_input: repeated(BATCH_INPUT), batch_output: repeated(BATCH_OUTPUT), optimization: OPTIMIZATION,
  dynamic_batching: DYNAMIC_BATCHING, sequence_batching: SEQUENCE_BATCHING, ensemble_scheduling: ENSEMBLING, instance_group: repeated(INSTANCE_GROUP),
  default_model_filename: "string", cc_model_filenames: map("string"), metric_tags: map("string"), parameters: map(message("ModelParameter", { string_value: "string" })),
  model_warmup: repeated(WARMUP), model_operations: message("ModelOperations", { op_library_filename: repeated("string") }),
  model_transaction_policy: message("ModelTransactionPolicy", { decoupled: "bool" }),
  model_repository_agents: message("ModelRepositoryAgents", { agents: repeated(message("Agent", { name: "string", parameters: map("string") })) }),
  response_cache: message("ModelResponseCache", { enable: "bool" }), model_metrics: message("ModelMetrics", { metric_control: repeated(METRIC_CONTROL) }),
}, [["dynamic_batching", "sequence_batching", "ensemble_scheduling"]]);
