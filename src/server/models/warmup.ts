/**
 * Runs before a version is ready: those of the configuration, on every instance, and without any a run of zeros at the usual
 * shape, so that no client pays for memory that is touched for the first time. They are not counted.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assert, elementCount, fileError, SinterError, UserError } from "../../base/index.ts";
import type { BackendInstance, BackendModel, BatchTensor, ModelSource } from "../../backends/index.ts";
import { dataTypeOfConfig, dataTypeOfDtype, type WarmupConfig } from "../../repository/index.ts";
import type { Signature } from "./signature.ts";
import { numberBytes } from "./number-bytes.ts";

/** Runs for the lack of a configured one: the first touches memory, later ones are what clients will see. */
const DEFAULT_RUNS = 3;
const MAX_RUNS = 10_000;
const BROKEN: ReadonlySet<string> = new Set(["gpu-fault", "gpu-error", "no-gpu"]);

export async function warmUp(model: BackendModel, instances: readonly BackendInstance[], signature: Signature, source: ModelSource): Promise<void> {
  const configured = source.config.model_warmup ?? [];
  for (const instance of instances) {
    for (const sample of configured) await runSample(instance, sample, signature, source);
    if (configured.length > 0) continue;
    const usual = model.usualShapes();
    if (!usual) continue;
    await runZeros(model, instance, usual);
    if (signature.maxBatch > 1) await runZeros(model, instance, usual.map(([, ...rest]) => [1, ...rest]));
  }
}

/** A model that refuses zeros is none the worse for it; one that breaks its device is. */
async function runZeros(model: BackendModel, instance: BackendInstance, shapes: readonly (readonly number[])[]): Promise<void> {
  if (model.description.inputs.some(({ dtype }) => dtype === "string")) return;
  const inputs = shapes.map((shape, i): BatchTensor => ({ bytes: zeros(dataTypeOfDtype(model.description.inputs[i]!.dtype)?.sizeBytes ?? 0, shape), shape }));
  try {
    for (let run = 0; run < DEFAULT_RUNS; run++) (await instance.execute(inputs)).release();
  } catch (error) {
    if (error instanceof SinterError && BROKEN.has(error.code)) throw error;
    // Zeros may be nothing that the model takes, as with indices that must be positive.
  }
}

async function runSample(instance: BackendInstance, sample: WarmupConfig, signature: Signature, source: ModelSource): Promise<void> {
  const inputs: (BatchTensor | undefined)[] = new Array<BatchTensor | undefined>(signature.inputCount).fill(undefined);
  const batch = signature.maxBatch > 0 ? [Math.max(1, sample.batch_size ?? 1)] : [];
  for (const [name, input] of Object.entries(sample.inputs ?? {})) {
    const known = signature.allInputs.find((other) => other.name === name);
    if (!known) throw new UserError("config-invalid", `Model "${source.name}": warm-up "${sample.name ?? ""}" names input "${name}", which the model does not have.`);
    const shape = [...batch, ...(input.dims ?? [])];
    inputs[known.index] = { bytes: sampleBytes(input, known.elementBytes, shape, source), shape };
  }
  const runs = Math.min(MAX_RUNS, Math.max(1, sample.count ?? 1));
  for (let run = 0; run < runs; run++) (await instance.execute(inputs)).release();
}

function sampleBytes(input: NonNullable<WarmupConfig["inputs"]>[string], elementBytes: number, shape: readonly number[], { folder, name }: ModelSource): Uint8Array {
  if (input.input_data_file !== undefined) {
    if (input.input_data_file.includes("..") || input.input_data_file.startsWith("/")) throw new UserError("config-invalid", `Model "${name}": input_data_file "${input.input_data_file}" leads out of the model's folder.`);
    try {
      return readFileSync(join(folder, "..", "warmup", input.input_data_file));
    } catch (cause) {
      throw fileError(`Model "${name}": warm-up data`, cause);
    }
  }
  const bytes = zeros(elementBytes, shape);
  if (input.random_data && elementBytes > 0) fillRandom(bytes, input.data_type ?? "TYPE_FP32", elementBytes);
  return bytes;
}

function fillRandom(bytes: Uint8Array, dataType: string, elementBytes: number): void {
  assert(dataTypeOfConfig(dataType), `warm-up data type ${dataType}`);
  let state = 1;
  for (let at = 0; at + elementBytes <= bytes.byteLength; at += elementBytes) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const unit = state / 2 ** 32;
    bytes.set(numberBytes(dataType, /FP|BF/.test(dataType) ? unit : Math.round(unit)), at);
  }
}

/** Zeros; empty strings where elements have no size. */
function zeros(elementBytes: number, shape: readonly number[]): Uint8Array {
  return new Uint8Array(elementCount(shape) * (elementBytes || 4));
}
