/** Messages of `inference.GRPCInferenceService`. The server reads and writes those of inference by hand; clients use these. Source: Triton's grpc_service.proto; names and numbers are the wire's. */
import { ModelConfig } from "./model-config.ts";
import { choice, list, map, message } from "./schema.ts";

export const Empty = message({});
export const Live = message({ live: [1, "bool"] });
export const Ready = message({ ready: [1, "bool"] });
export const NameAndVersion = message({ name: [1, "string"], version: [2, "string"] });
export const Name = message({ name: [1, "string"] });
export const ServerMetadata = message({ name: [1, "string"], version: [2, "string"], extensions: [3, list("string")] });

const TensorMetadata = message({ name: [1, "string"], datatype: [2, "string"], shape: [3, list("int64")] });
export const ModelMetadata = message({ name: [1, "string"], versions: [2, list("string")], platform: [3, "string"], inputs: [4, list(TensorMetadata)], outputs: [5, list(TensorMetadata)] });

export const ModelConfigResponse = message({ config: [1, ModelConfig] });

const Duration = message({ count: [1, "uint64"], ns: [2, "uint64"] });
const InferStatistics = message({
  success: [1, Duration], fail: [2, Duration], queue: [3, Duration], compute_input: [4, Duration], compute_infer: [5, Duration], compute_output: [6, Duration],
  cache_hit: [7, Duration], cache_miss: [8, Duration],
});
const ResponseStatistics = message({ compute_infer: [1, Duration], compute_output: [2, Duration], success: [3, Duration], fail: [4, Duration], empty_response: [5, Duration], cancel: [6, Duration] });
const BatchStatistics = message({ batch_size: [1, "uint64"], compute_input: [2, Duration], compute_infer: [3, Duration], compute_output: [4, Duration] });
const MemoryUsage = message({ type: [1, "string"], id: [2, "int64"], byte_size: [3, "uint64"] });
const ModelStatistics = message({
  name: [1, "string"], version: [2, "string"], last_inference: [3, "uint64"], inference_count: [4, "uint64"], execution_count: [5, "uint64"], inference_stats: [6, InferStatistics],
  batch_stats: [7, list(BatchStatistics)], memory_usage: [8, list(MemoryUsage)], response_stats: [9, map("string", ResponseStatistics)],
});
export const Statistics = message({ model_stats: [1, list(ModelStatistics)] });

export const IndexRequest = message({ repository_name: [1, "string"], ready: [2, "bool"] });
export const Index = message({ models: [1, list(message({ name: [1, "string"], version: [2, "string"], state: [3, "string"], reason: [4, "string"] }))] });
const RepositoryParameter = message({ bool_param: [1, choice("bool")], int64_param: [2, choice("int64")], string_param: [3, choice("string")], bytes_param: [4, choice("bytes")] });
export const LoadRequest = message({ repository_name: [1, "string"], model_name: [2, "string"], parameters: [3, map("string", RepositoryParameter)] });

export const RegisterSystemRegion = message({ name: [1, "string"], key: [2, "string"], offset: [3, "uint64"], byte_size: [4, "uint64"] });
export const SystemRegions = message({ regions: [1, map("string", RegisterSystemRegion)] });
export const CudaRegions = message({ regions: [1, map("string", message({ name: [1, "string"], device_id: [2, "uint64"], byte_size: [3, "uint64"] }))] });
export const RegisterCudaRegion = message({ name: [1, "string"], raw_handle: [2, "bytes"], device_id: [3, "int64"], byte_size: [4, "uint64"] });

const TraceValue = message({ value: [1, list("string")] });
export const TraceRequest = message({ settings: [1, map("string", TraceValue)], model_name: [2, "string"] });
export const TraceResponse = message({ settings: [1, map("string", TraceValue)] });
export const LogMessage = message({ settings: [1, map("string", message({ bool_param: [1, choice("bool")], uint32_param: [2, choice("uint32")], string_param: [3, choice("string")] }))] });

const Parameter = message({ bool_param: [1, choice("bool")], int64_param: [2, choice("int64")], string_param: [3, choice("string")], double_param: [4, choice("double")], uint64_param: [5, choice("uint64")] });
const ParameterMap = map("string", Parameter);
const Contents = message({
  bool_contents: [1, list("bool")], int_contents: [2, list("int32")], int64_contents: [3, list("int64")], uint_contents: [4, list("uint32")], uint64_contents: [5, list("uint64")],
  fp32_contents: [6, list("float")], fp64_contents: [7, list("double")], bytes_contents: [8, list("bytes")],
});
const Tensor = message({ name: [1, "string"], datatype: [2, "string"], shape: [3, list("int64")], parameters: [4, ParameterMap], contents: [5, Contents] });
export const ModelInferRequest = message({
  model_name: [1, "string"], model_version: [2, "string"], id: [3, "string"], parameters: [4, ParameterMap], inputs: [5, list(Tensor)],
  outputs: [6, list(message({ name: [1, "string"], parameters: [2, ParameterMap] }))], raw_input_contents: [7, list("bytes")],
});
export const ModelInferResponse = message({
  model_name: [1, "string"], model_version: [2, "string"], id: [3, "string"], parameters: [4, ParameterMap], outputs: [5, list(Tensor)], raw_output_contents: [6, list("bytes")],
});
export const ModelStreamInferResponse = message({ error_message: [1, "string"], infer_response: [2, ModelInferResponse] });

/** Of `grpc.health.v1`. */
export const HealthRequest = message({ service: [1, "string"] });
export const HealthResponse = message({ status: [1, "uint32"] });
