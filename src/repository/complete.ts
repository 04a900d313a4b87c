/**
 * What a configuration leaves out is taken from the model: inputs, outputs, batching. What it says must fit the model.
 * Rule: a model whose inputs and outputs all begin with a dimension of free size can be batched; without a `max_batch_size`
 * it gets the default and a dynamic batcher. Source: Triton's "Auto-Generated Model Configuration".
 */
import { type DType, UserError } from "../base/index.ts";
import { type ModelConfig, sequenceTensors, type TensorConfig } from "./config.ts";
import { dataTypeOfConfig, dataTypeOfDtype } from "./data-types.ts";

/** An input or output as the model states it: a dimension is a size, the name of a free one, or null. */
export interface TensorDescription {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly (number | string | null)[] | null;
}

export interface ModelDescription {
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
}

export function isBatchable(model: ModelDescription): boolean {
  return model.inputs.length > 0 && [...model.inputs, ...model.outputs].every(({ dims }) => dims !== null && dims.length > 0 && typeof dims[0] !== "number");
}

/** The batch size that a configuration asks for or a model gets by itself. */
export function batchSizeOf(config: ModelConfig, model: ModelDescription, defaultMaxBatch: number): number {
  if (config.max_batch_size !== undefined) return config.max_batch_size;
  return isBatchable(model) && !config.input?.length && !config.output?.length ? defaultMaxBatch : 0;
}

/** @throws UserError "config-mismatch" where configuration and model differ */
export function completeFromModel(config: ModelConfig, model: ModelDescription, defaultMaxBatch: number): ModelConfig {
  const maxBatch = batchSizeOf(config, model, defaultMaxBatch);
  if (maxBatch < 0) throw mismatch(config, `max_batch_size is ${maxBatch}; expected 0 or more`);
  const derived = maxBatch > 0 && config.max_batch_size === undefined;
  return {
    ...config,
    max_batch_size: maxBatch,
    input: tensors(config, "input", config.input ?? [], model.inputs, maxBatch),
    output: tensors(config, "output", config.output ?? [], model.outputs, maxBatch),
    ...(derived && !config.dynamic_batching && !config.sequence_batching && !config.ensemble_scheduling ? { dynamic_batching: {} } : {}),
  };
}

function tensors(config: ModelConfig, kind: "input" | "output", given: readonly TensorConfig[], model: readonly TensorDescription[], maxBatch: number): TensorConfig[] {
  const inner = sequenceTensors(config)[`${kind}s`];
  if (given.length === 0) return model.filter(({ name }) => !inner.includes(name)).map((tensor) => derive(config, tensor, maxBatch));
  for (const tensor of given) check(config, kind, tensor, model, maxBatch);
  const missing = model.filter((tensor) => !given.some(({ name }) => name === tensor.name) && !inner.includes(tensor.name));
  if (kind === "input" && missing.length > 0) throw mismatch(config, `the configuration has ${given.length} inputs; the model needs also ${missing.map(({ name }) => `"${name}"`).join(", ")}`);
  return given.map((tensor) => ({ ...tensor }));
}

function derive(config: ModelConfig, { name, dtype, dims }: TensorDescription, maxBatch: number): TensorConfig {
  const type = dataTypeOfDtype(dtype);
  if (!type) throw mismatch(config, `"${name}" has type ${dtype}, which no protocol carries`);
  if (dims === null) throw mismatch(config, `"${name}" has no known rank; give its dims in the configuration`);
  return { name, data_type: type.config, dims: (maxBatch > 0 ? dims.slice(1) : dims).map((dim) => (typeof dim === "number" ? dim : -1)) };
}

function check(config: ModelConfig, kind: string, tensor: TensorConfig, model: readonly TensorDescription[], maxBatch: number): void {
  const known = model.find(({ name }) => name === tensor.name);
  if (!known) throw mismatch(config, `unexpected ${kind} "${tensor.name}"; the model's are ${model.map(({ name }) => `"${name}"`).join(", ")}`);
  const type = dataTypeOfConfig(tensor.data_type);
  if (type?.dtype !== known.dtype) throw mismatch(config, `${kind} "${tensor.name}" has data_type ${tensor.data_type ?? "TYPE_INVALID"}; the model's is ${dataTypeOfDtype(known.dtype)?.config ?? known.dtype}`);
  if (known.dims === null) return;
  const wanted = [...(maxBatch > 0 ? [-1] : []), ...(tensor.reshape ? (tensor.reshape.shape ?? []) : tensor.dims)];
  const actual = known.dims.map((dim) => (typeof dim === "number" ? dim : -1));
  const fits = wanted.length === actual.length && wanted.every((dim, axis) => actual[axis] === -1 || dim === -1 || dim === actual[axis]);
  // An engine that was made for batches of one knows no other size.
  if (maxBatch > 0 && actual[0] !== -1 && !(maxBatch === 1 && actual[0] === 1)) throw mismatch(config, `max_batch_size is ${maxBatch}, but the first dimension of ${kind} "${tensor.name}" is ${actual[0]} in the model; it cannot be batched, set max_batch_size: 0`);
  if (!fits) throw mismatch(config, `${kind} "${tensor.name}": the model expects shape [${actual}], the configuration gives [${wanted}]${maxBatch > 0 ? " (with the batch dimension in front)" : ""}`);
}

function mismatch(config: ModelConfig, what: string): UserError {
  return new UserError("config-mismatch", `Model "${config.name}": ${what}.`);
}
