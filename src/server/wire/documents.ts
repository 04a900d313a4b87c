/** What the server tells of itself and its models, as the plain documents that both protocols carry (names as in the public proto). */
import type { DurationStatistic, InferenceServer, ModelMetadata, ModelStatistics, RepositoryEntry, TensorMetadata } from "../contract.ts";

/** Who the server says it is. Triton's own examples expect the name "triton". */
export interface ServerIdentity {
  readonly name: string;
  readonly version: string;
}

/** The version is that of the Triton release whose protocol this is. */
export const DEFAULT_IDENTITY: ServerIdentity = { name: "triton", version: "2.71.0" };

const EXTENSIONS = [
  "classification", "sequence", "model_repository", "model_repository(unload_dependents)", "schedule_policy", "model_configuration",
  "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters", "statistics", "trace", "logging",
] as const;

export function serverDocument(identity: ServerIdentity): { name: string; version: string; extensions: readonly string[] } {
  return { name: identity.name, version: identity.version, extensions: EXTENSIONS };
}

const tensor = ({ name, datatype, shape }: TensorMetadata) => ({ name, datatype, shape });

export function metadataDocument(metadata: ModelMetadata) {
  const { name, versions, platform } = metadata;
  return { name, versions, platform, inputs: metadata.inputs.map(tensor), outputs: metadata.outputs.map(tensor) };
}

const duration = ({ count, ns }: DurationStatistic) => ({ count, ns });
const NEVER: DurationStatistic = { count: 0, ns: 0 };

function modelStatistics(one: ModelStatistics) {
  return {
    name: one.name,
    version: one.version,
    last_inference: one.lastInferenceMs,
    inference_count: one.inferenceCount,
    execution_count: one.executionCount,
    inference_stats: {
      success: duration(one.success),
      fail: duration(one.fail),
      queue: duration(one.queue),
      compute_input: duration(one.computeInput),
      compute_infer: duration(one.computeInfer),
      compute_output: duration(one.computeOutput),
      cache_hit: NEVER,
      cache_miss: NEVER,
    },
    response_stats: {},
    batch_stats: one.batches.map((batch) => ({
      batch_size: batch.batchSize,
      compute_input: duration(batch.computeInput),
      compute_infer: duration(batch.computeInfer),
      compute_output: duration(batch.computeOutput),
    })),
    memory_usage: one.memory.map(({ type, id, byteSize }) => ({ type, id, byte_size: byteSize })),
  };
}

export function statisticsDocument(server: InferenceServer, model: string, version: string) {
  return { model_stats: server.statistics(model, version).map(modelStatistics) };
}

export function indexDocument(entries: readonly RepositoryEntry[]) {
  return entries.map(({ name, version, state, reason }) => ({
    name,
    ...(version === undefined ? {} : { version }),
    ...(state === undefined ? {} : { state }),
    ...(reason === undefined ? {} : { reason }),
  }));
}
