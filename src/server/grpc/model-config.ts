/** `inference.ModelConfig`, all of it. Source: Triton's model_config.proto; names and numbers are the wire's. */
import { choice, enumeration, list, map, message } from "./schema.ts";

const DataType = enumeration(
  "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64",
  "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
);
const Reshape = message({ shape: [1, list("int64")] });
const Parameters = map("string", "string");

const VersionPolicy = message({
  latest: [1, choice(message({ num_versions: [1, "uint32"] }))],
  all: [2, choice(message({}))],
  specific: [3, choice(message({ versions: [1, list("int64")] }))],
});

const Input = message({
  name: [1, "string"], data_type: [2, DataType], format: [3, enumeration("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW")], dims: [4, list("int64")], reshape: [5, Reshape],
  is_shape_tensor: [6, "bool"], allow_ragged_batch: [7, "bool"], optional: [8, "bool"], is_non_linear_format_io: [9, "bool"],
});

const Output = message({
  name: [1, "string"], data_type: [2, DataType], dims: [3, list("int64")], label_filename: [4, "string"], reshape: [5, Reshape], is_shape_tensor: [6, "bool"],
  is_non_linear_format_io: [7, "bool"],
});

const BatchInput = message({
  kind: [1, enumeration("BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN")],
  target_name: [2, list("string")], data_type: [3, DataType], source_input: [4, list("string")],
});

const BatchOutput = message({ target_name: [1, list("string")], kind: [2, enumeration("BATCH_SCATTER_WITH_INPUT_SHAPE")], source_input: [3, list("string")] });

const RateLimiter = message({ resources: [1, list(message({ name: [1, "string"], global: [2, "bool"], count: [3, "uint32"] }))], priority: [2, "uint32"] });

const InstanceGroup = message({
  name: [1, "string"], count: [2, "int32"], gpus: [3, list("int32")], kind: [4, enumeration("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")], profile: [5, list("string")],
  rate_limiter: [6, RateLimiter], passive: [7, "bool"], secondary_devices: [8, list(message({ kind: [1, enumeration("KIND_NVDLA")], device_id: [2, "int64"] }))], host_policy: [9, "string"],
});

const Shape = message({ dim: [1, list("int64")] });
const GraphSpec = message({
  batch_size: [1, "int32"], input: [2, map("string", Shape)],
  graph_lower_bound: [3, message({ batch_size: [1, "int32"], input: [2, map("string", Shape)] })],
});
const Accelerator = message({ name: [1, "string"], parameters: [2, Parameters] });
const PinnedMemory = message({ enable: [1, "bool"] });

const Optimization = message({
  graph: [1, message({ level: [1, "int32"] })],
  priority: [2, enumeration("PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN")],
  cuda: [3, message({ graphs: [1, "bool"], busy_wait_events: [2, "bool"], graph_spec: [3, list(GraphSpec)], output_copy_stream: [4, "bool"] })],
  execution_accelerators: [4, message({ gpu_execution_accelerator: [1, list(Accelerator)], cpu_execution_accelerator: [2, list(Accelerator)] })],
  input_pinned_memory: [5, PinnedMemory], output_pinned_memory: [6, PinnedMemory], gather_kernel_buffer_threshold: [7, "uint32"], eager_batching: [8, "bool"],
});

const QueuePolicy = message({ timeout_action: [1, enumeration("REJECT", "DELAY")], default_timeout_microseconds: [2, "uint64"], allow_timeout_override: [3, "bool"], max_queue_size: [4, "uint32"] });

const DynamicBatching = message({
  preferred_batch_size: [1, list("int32")], max_queue_delay_microseconds: [2, "uint64"], preserve_ordering: [3, "bool"], priority_levels: [4, "uint64"],
  default_priority_level: [5, "uint64"], default_queue_policy: [6, QueuePolicy], priority_queue_policy: [7, map("uint64", QueuePolicy)],
});

const Control = message({
  kind: [1, enumeration("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_CORRID")],
  int32_false_true: [2, list("int32")], fp32_false_true: [3, list("float")], data_type: [4, DataType], bool_false_true: [5, list("bool")],
});
const InitialState = message({ data_type: [1, DataType], dims: [2, list("int64")], zero_data: [3, choice("bool")], data_file: [4, choice("string")], name: [5, "string"] });

const SequenceBatching = message({
  max_sequence_idle_microseconds: [1, "uint64"],
  control_input: [2, list(message({ name: [1, "string"], control: [2, list(Control)] }))],
  direct: [3, choice(message({ max_queue_delay_microseconds: [1, "uint64"], minimum_slot_utilization: [2, "float"] }))],
  oldest: [4, choice(message({ max_candidate_sequences: [1, "int32"], preferred_batch_size: [2, list("int32")], max_queue_delay_microseconds: [3, "uint64"], preserve_ordering: [4, "bool"] }))],
  state: [5, list(message({
    input_name: [1, "string"], output_name: [2, "string"], data_type: [3, DataType], dims: [4, list("int64")], initial_state: [5, list(InitialState)],
    use_same_buffer_for_input_output: [6, "bool"], use_growable_memory: [7, "bool"],
  }))],
  iterative_sequence: [6, "bool"],
});

const Ensembling = message({
  step: [1, list(message({ model_name: [1, "string"], model_version: [2, "int64"], input_map: [3, Parameters], output_map: [4, Parameters], model_namespace: [5, "string"] }))],
  max_inflight_requests: [2, "uint32"],
});

const Warmup = message({
  name: [1, "string"], batch_size: [2, "uint32"],
  inputs: [3, map("string", message({ data_type: [1, DataType], dims: [2, list("int64")], zero_data: [3, choice("bool")], random_data: [4, choice("bool")], input_data_file: [5, choice("string")] }))],
  count: [4, "uint32"],
});

const MetricControl = message({ metric_identifier: [1, message({ family: [1, "string"] })], histogram_options: [2, choice(message({ buckets: [1, list("double")] }))] });

export const ModelConfig = message({
  name: [1, "string"], platform: [2, "string"], version_policy: [3, VersionPolicy], max_batch_size: [4, "int32"], input: [5, list(Input)], output: [6, list(Output)],
  instance_group: [7, list(InstanceGroup)], default_model_filename: [8, "string"], cc_model_filenames: [9, Parameters], metric_tags: [10, Parameters],
  dynamic_batching: [11, choice(DynamicBatching)], optimization: [12, Optimization], sequence_batching: [13, choice(SequenceBatching)],
  parameters: [14, map("string", message({ string_value: [1, "string"] }))], ensemble_scheduling: [15, choice(Ensembling)], model_warmup: [16, list(Warmup)],
  backend: [17, "string"], model_operations: [18, message({ op_library_filename: [1, list("string")] })], model_transaction_policy: [19, message({ decoupled: [1, "bool"] })],
  batch_input: [20, list(BatchInput)], batch_output: [21, list(BatchOutput)],
  model_repository_agents: [23, message({ agents: [1, list(message({ name: [1, "string"], parameters: [2, Parameters] }))] })],
  response_cache: [24, message({ enable: [1, "bool"] })], runtime: [25, "string"], model_metrics: [26, message({ metric_control: [1, list(MetricControl)] })],
});
