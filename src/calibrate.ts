/**
 * Calibration on one page: the float model is built with summaries of the activations that enter its layers as further
 * outputs, run over the samples, and what comes out is counted in histograms. Nothing of a sample is kept.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tensor, UserError } from "./base/index.ts";
import { buildQuantized, digestOf } from "./compile.ts";
import { checkSample, chooseEntries, DataDigest, type DataSet, groupByStratum, interruptible, type Sample, samplesOf } from "./data/index.ts";
import type { Layer, Summary } from "./passes/index.ts";
import { CACHE_FORMAT, type CalibrationCache, ChannelStatistics, Histogram, rangeOf, type Seen, StrataRanges } from "./quantize/index.ts";
import { Engine, type Results } from "./runtime/index.ts";
import type { Profile } from "./schedule/index.ts";
import { VERSION } from "./version.ts";

export interface CalibrateOptions {
  /** Samples, or a set to choose from. */
  readonly data: DataSet | AsyncIterable<Sample>;
  /** How many samples of a set to use; 512 by default. */
  readonly samples?: number;
  /** Column of the data: each of its values gets an equal share of the samples, as far as it has them, and ranges of its own. */
  readonly strata?: string;
  /** With `strata`: take the samples as they come, and only report. */
  readonly unbalanced?: boolean;
  /** Shapes of the samples, where the model leaves sizes open. */
  readonly profiles?: readonly Profile[];
  readonly threads?: number;
  readonly onProgress?: (done: number, total: number | undefined) => void;
  readonly signal?: AbortSignal;
}

const DEFAULT_SAMPLES = 512;
/** Fewer samples than this are warned of: outer values of activations are not seen. */
const FEW_SAMPLES = 64;

/**
 * @throws UserError "input-invalid" for samples of a wrong shape or with NaN, and where the model makes them
 */
export async function calibrate(model: string | Uint8Array, options: CalibrateOptions): Promise<CalibrationCache> {
  const folder = mkdtempSync(join(tmpdir(), "sinter-calibrate-"));
  try {
    const path = join(folder, "observed.engine");
    let layers: readonly Layer[] = [];
    let summaries: ReadonlyMap<string, Summary> = new Map();
    await buildQuantized(model, { output: path, level: 0, ...(options.profiles ? { profiles: options.profiles } : {}), ...(options.signal ? { signal: options.signal } : {}) }, { plan: () => ({ layers: {} }), summarized: (found, made) => { [layers, summaries] = [found, made]; } });
    if (layers.length === 0) throw new UserError("option-invalid", "The model has no convolution or matrix product with float weights: there is nothing to calibrate.");
    using engine = await Engine.load(path, options.threads === undefined ? {} : { threads: options.threads });
    return await observed(model, engine, layers, summaries, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function observed(model: string | Uint8Array, engine: Engine, layers: readonly Layer[], summaries: ReadonlyMap<string, Summary>, options: CalibrateOptions): Promise<CalibrationCache> {
  const chosen = choose(options);
  const values = new Map(layers.map(({ input, inputAxis }) => [input.name, { histogram: new Histogram(), channels: new ChannelStatistics(Number(input.dims![inputAxis])), summary: summaries.get(input.name)! }]));
  const strata = options.strata === undefined ? undefined : new StrataRanges();
  const digest = new DataDigest();
  let count = 0;
  for await (const { sample, results } of answered(engine, interruptible(chosen.samples, options.signal))) {
    const stratum = options.strata === undefined ? undefined : String(sample.columns[options.strata] ?? "");
    if (stratum !== undefined) strata!.count(stratum);
    for (const [name, { histogram, channels, summary }] of values) {
      const { least, largest, sums, seen } = readSummary(results, summary);
      // Whatever is not finite makes its channel's sum so.
      if (!sums.every(Number.isFinite)) throw new UserError("input-invalid", `Sample "${sample.id}" makes NaN or infinity at "${name}", before layer "${layers.find(({ input }) => input.name === name)!.name}". Leave the sample out, or keep the layers behind it in float.`);
      histogram.add(seen);
      channels.add(least, largest, sums, seen.count / Math.max(1, sums.length));
      if (stratum !== undefined) strata!.add(stratum, name, seen);
    }
    digest.add(sample);
    count++;
    options.onProgress?.(count, chosen.total);
  }
  if (count === 0) throw new UserError("input-invalid", "The calibration data has no samples.");
  const report = strata && renamed(strata.report(options.strata!, chosen.inData), layers);
  return {
    format: CACHE_FORMAT, version: VERSION, model: { name: typeof model === "string" ? model : "model in memory", digest: digestOf(model) },
    data: { name: chosen.name, samples: count, digest: digest.value },
    layers: Object.fromEntries(layers.map((layer) => {
      const { histogram, channels } = values.get(layer.input.name)!;
      return [layer.name, rangeOf(layer, histogram, channels.described)];
    })),
    ...(report ? { strata: report } : {}),
    warnings: warningsOf(count, report),
  };
}

interface Chosen {
  readonly name: string;
  readonly samples: AsyncIterable<Sample>;
  readonly total: number | undefined;
  /** Entries of the data by stratum. */
  readonly inData: ReadonlyMap<string, number>;
}

function choose({ data, samples = DEFAULT_SAMPLES, strata, unbalanced }: CalibrateOptions): Chosen {
  if (!("entries" in data)) return { name: "an iterator", samples: data, total: undefined, inData: new Map() };
  const indices = chooseEntries(data.entries, samples, unbalanced ? undefined : strata);
  const groups = strata === undefined ? [] : [...groupByStratum(data.entries, strata)].map(([name, list]): [string, number] => [name, list.length]);
  return { name: data.name, samples: samplesOf(data, indices), total: indices.length, inData: new Map(groups) };
}

/** Samples with what the engine answers. The next sample is read while the engine runs. */
async function* answered(engine: Engine, samples: AsyncIterable<Sample>): AsyncGenerator<{ sample: Sample; results: Results }> {
  const iterator = samples[Symbol.asyncIterator]();
  let next = iterator.next();
  try {
    for (;;) {
      const { value: sample, done } = await next;
      if (done) return;
      checkSample(sample, engine.inputs);
      const running = engine.run(sample.feeds);
      next = iterator.next();
      // Each is awaited in its turn; what fails meanwhile is no unhandled rejection.
      next.catch(() => {});
      yield { sample, results: await running };
    }
  } finally {
    await next.catch(() => {});
    await iterator.return?.();
  }
}

function readSummary(results: Results, summary: Summary): { readonly least: Float32Array; readonly largest: Float32Array; readonly sums: Float32Array; readonly seen: Seen } {
  const [least, largest, sums, elements] = [summary.least, summary.largest, summary.sums, summary.elements].map((name) => floatsOf(results[name], name)) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const shape = results[summary.shape] as Tensor;
  const count = Array.from(shape.data as BigInt64Array, Number).reduce((a, b) => a * b, 1);
  const seen: Seen = { least: least.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY), largest: largest.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY), elements, stride: summary.stride, count };
  return { least, largest, sums, seen };
}

function floatsOf(value: unknown, name: string): Float32Array {
  if (value instanceof Tensor && value.data instanceof Float32Array) return value.data;
  throw new Error(`Bug in sinter: the observed value "${name}" is no float tensor`);
}

/** Values' names as layers' names. */
function renamed(report: NonNullable<CalibrationCache["strata"]>, layers: readonly Layer[]): NonNullable<CalibrationCache["strata"]> {
  const nameOf = new Map(layers.map(({ name, input }) => [input.name, name]));
  return { ...report, disagreements: report.disagreements.map((row) => ({ ...row, layer: nameOf.get(row.layer) ?? row.layer })) };
}

function warningsOf(count: number, strata: CalibrationCache["strata"]): string[] {
  const warnings: string[] = [];
  if (count < FEW_SAMPLES) warnings.push(`Only ${count} samples: outer values of activations may not have been seen. Use at least ${FEW_SAMPLES}, better a few hundred.`);
  if (!strata) return warnings;
  if (strata.missing.length > 0) warnings.push(`No sample of ${strata.missing.length} strata of "${strata.column}": ${strata.missing.slice(0, 8).join(", ")}${strata.missing.length > 8 ? ", …" : ""}.`);
  const used = Object.values(strata.coverage).map((stratum) => stratum.used);
  const shares = used.filter((own) => own > 0);
  if (Math.max(...shares) > 4 * Math.min(...shares)) warnings.push(`The strata of "${strata.column}" are covered unevenly: ${Math.min(...used)} to ${Math.max(...used)} samples.`);
  const [worst] = strata.disagreements;
  if (worst) warnings.push(`Strata disagree on ${strata.disagreements.length} layers: at "${worst.layer}", "${worst.widest}" needs ${worst.ratio.toFixed(1)} times the range of "${worst.narrowest}". All of them must be in the calibration.`);
  return warnings;
}
