/**
 * An int8 build on one page: plan from the calibration, measure, keep in float what the accuracy asked for needs, build,
 * report.
 *
 * Layers are weighed on one engine that holds each of them in both forms and chooses by an input, so that hundreds of
 * mixes are measured for one build, with the kernels that will run. The figure that is reported is the final engine's.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tensor, UserError } from "./base/index.ts";
import { type BuildOptions, type BuildResult, buildQuantized, digestOf, dynamicPlan } from "./compile.ts";
import { checkSample, chooseEntries, DataDigest, type DataSet, interruptible, type Sample, samplesOf } from "./data/index.ts";
import type { Layer, LayerPlan, QuantizationPlan } from "./passes/index.ts";
import { probeChannels } from "./probe.ts";
import { type AccuracyReport, type Answer, type CalibrationCache, type Calibrator, fewestInFloat, matcher, type Metric, metricNamed, NoiseMeter, planFromCache, readCache, type Scheme, type SensitivityRow, writeAccuracy } from "./quantize/index.ts";
import { Engine, type Results } from "./runtime/index.ts";
import { VERSION } from "./version.ts";

export interface Int8Options extends Omit<BuildOptions, "precision" | "quantization"> {
  /** A cache of `calibrate`, or its file; without one, matrix products get a scale per row as they run. */
  readonly calibration?: CalibrationCache | string;
  readonly calibrator?: Calibrator;
  readonly scheme?: Scheme;
  /** Layers to keep in float: names, or patterns with * in them. */
  readonly keep?: readonly string[];
  /** Data held out from calibration; with it, the engine is measured and a report lies beside it. */
  readonly evaluate?: DataSet;
  /** How many samples of it to use; 256 by default. */
  readonly evaluateSamples?: number;
  /** Top-1 by default where the data has labels, else the cosine to the float model's outputs. */
  readonly metric?: Metric;
  /** Least share of the float model's figure. */
  readonly minAccuracy?: number;
  /** Says what is being measured. */
  readonly onMeasure?: (text: string) => void;
}

export interface Int8Result extends BuildResult {
  /** Absent when nothing was measured. */
  readonly accuracy?: AccuracyReport;
}

const DEFAULT_EVALUATED = 256;
/** Samples that each layer's sensitivity is measured on. */
const WEIGHING_SAMPLES = 16;
const SWITCHES = "sinter.switches";

/**
 * Compiles a model to int8. A target that no mix reaches is no exception: the best engine found is written, and
 * `accuracy.reached` is false.
 * @throws UserError as `build` does, and "calibration-stale" for another model's calibration
 */
export async function buildInt8(model: string | Uint8Array, options: Int8Options): Promise<Int8Result> {
  const { calibration, calibrator = "entropy", scheme = "asymmetric", keep = [], evaluate, evaluateSamples, metric, minAccuracy, onMeasure, ...common } = options;
  if (minAccuracy !== undefined && !evaluate) throw new UserError("option-invalid", "A least accuracy needs data to measure it on: --evaluate DATA, held out from the calibration.");
  const cache = typeof calibration === "string" ? readCache(calibration, digestOf(model)) : calibration;
  if (cache && cache.model.digest !== digestOf(model)) throw new UserError("calibration-stale", `The calibration is of the model sha256:${cache.model.digest}, not of this one; calibrate again.`);
  const sizes = cache ? undefined : await probeChannels(model, common);
  const planFor = (layers: readonly Layer[], hurting?: ReadonlySet<string>): QuantizationPlan => (cache
    ? planFromCache(cache, layers.map(({ name }) => name), { calibrator, scheme, keep, ...(hurting ? { hurting } : {}) })
    : withoutKept(withSizes(dynamicPlan(layers), sizes!), layers, keep, hurting));
  if (!evaluate) return buildQuantized(model, { ...common, precision: "int8" }, { plan: (layers) => planFor(layers) });
  using weighing = await Weighing.open(model, common, planFor, evaluate, evaluateSamples ?? DEFAULT_EVALUATED, metric ?? defaultMetric(evaluate));
  const target = minAccuracy === undefined ? undefined : minAccuracy * weighing.referenceScore;
  const sensitivity = target === undefined ? [] : await weighing.sensitivity(onMeasure);
  const mix = target === undefined ? undefined : await fewestInFloat(sensitivity.map(({ layer }) => layer), target, (kept) => weighing.scoreOf(kept, onMeasure));
  const result = await buildQuantized(model, { ...common, precision: "int8" }, { plan: (layers) => planFor(layers, mix?.kept) });
  onMeasure?.("the engine");
  const score = await weighing.scoreOfEngine(options.output, options.threads);
  const layers = result.report.quantization?.layers ?? {};
  const accuracy: AccuracyReport = {
    version: VERSION, model: { name: typeof model === "string" ? model : "model in memory", digest: digestOf(model) }, data: weighing.described,
    calibration: cache ? { calibrator, scheme, dataDigest: cache.data.digest } : "dynamic",
    metric: weighing.metric.name, reference: weighing.referenceScore, score, retained: weighing.referenceScore === 0 ? 1 : score / weighing.referenceScore,
    target: minAccuracy ?? null, reached: target === undefined || score >= target,
    layers, keptInFloat: Object.keys(layers).filter((name) => layers[name]!.precision === "fp32"), sensitivity,
  };
  writeAccuracy(options.output, accuracy);
  return { ...result, accuracy };
}

function withSizes(plan: QuantizationPlan, sizes: ReadonlyMap<string, readonly number[]>): QuantizationPlan {
  return { layers: Object.fromEntries(Object.entries(plan.layers).map(([name, own]): [string, LayerPlan] => [name, own.precision === "int8" && own.input === "dynamic" && sizes.has(name) ? { ...own, channelSizes: sizes.get(name)! } : own])) };
}

function withoutKept(plan: QuantizationPlan, layers: readonly Layer[], keep: readonly string[], hurting: ReadonlySet<string> | undefined): QuantizationPlan {
  const isKept = matcher(keep, layers.map(({ name }) => name));
  return { layers: Object.fromEntries(Object.entries(plan.layers).map(([name, own]): [string, LayerPlan] => [name, isKept(name) ? { precision: "fp32", reason: "kept by name" } : hurting?.has(name) ? { precision: "fp32", reason: "hurts accuracy" } : own])) };
}

const defaultMetric = (data: DataSet): Metric => metricNamed(data.entries[0]?.columns["label"] === undefined ? "cosine" : "top1");

/** The model with every layer in both forms, and the held-out samples with the float model's answers. */
class Weighing {
  readonly metric: Metric;
  readonly described: AccuracyReport["data"];
  readonly referenceScore: number;
  private readonly signal: AbortSignal | undefined;
  private readonly engine: Engine;
  private readonly folder: string;
  private readonly layers: readonly Pick<SensitivityRow, "layer" | "floatBytes" | "bytes">[];
  private readonly data: DataSet;
  private readonly chosen: readonly number[];
  private readonly reference: readonly Readonly<Record<string, Tensor>>[];

  private constructor(parts: Pick<Weighing, "metric" | "described" | "referenceScore"> & { signal: AbortSignal | undefined; engine: Engine; folder: string; layers: Weighing["layers"]; data: DataSet; chosen: readonly number[]; reference: Weighing["reference"] }) {
    this.metric = parts.metric;
    this.described = parts.described;
    this.referenceScore = parts.referenceScore;
    this.signal = parts.signal;
    this.engine = parts.engine;
    this.folder = parts.folder;
    this.layers = parts.layers;
    this.data = parts.data;
    this.chosen = parts.chosen;
    this.reference = parts.reference;
  }

  static async open(model: string | Uint8Array, options: Omit<BuildOptions, "precision" | "quantization">, planFor: (layers: readonly Layer[]) => QuantizationPlan, data: DataSet, samples: number, metric: Metric): Promise<Weighing> {
    const folder = mkdtempSync(join(tmpdir(), "sinter-weigh-"));
    try {
      let layers: Weighing["layers"] = [];
      const plan = (found: readonly Layer[]): QuantizationPlan => {
        const made = planFor(found);
        layers = found.filter(({ name }) => made.layers[name]?.precision === "int8").map(({ name, weights, channelAxis }) => {
          const floatBytes = weights.constant!.bytes.byteLength;
          return { layer: name, floatBytes, bytes: floatBytes / 4 + 4 * Number(weights.dims![channelAxis]) };
        });
        return made;
      };
      await buildQuantized(model, { ...options, output: join(folder, "both.engine"), level: 0 }, { plan, switches: SWITCHES });
      const engine = await Engine.load(join(folder, "both.engine"), options.threads === undefined ? {} : { threads: options.threads });
      const chosen = chooseEntries(data.entries, samples);
      const digest = new DataDigest();
      const inputs = engine.inputs.filter(({ name }) => name !== SWITCHES);
      const answers: Answer[] = [];
      for await (const sample of interruptible(samplesOf(data, chosen), options.signal)) {
        checkSample(sample, inputs);
        digest.add(sample);
        const outputs = tensorsOf(await engine.run(switched(sample, layers, () => false)));
        answers.push({ entry: { id: sample.id, columns: sample.columns }, outputs, reference: outputs });
      }
      if (answers.length === 0) throw new UserError("input-invalid", `${data.name}: there are no samples to measure on.`);
      const described = { name: data.name, samples: answers.length, digest: digest.value };
      return new Weighing({ metric, described, referenceScore: metric.score(answers), signal: options.signal, engine, folder, layers, data, chosen, reference: answers.map(({ outputs }) => outputs) });
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Each layer alone in int8: noise of the outputs, noisiest first. */
  async sensitivity(onMeasure?: (text: string) => void): Promise<SensitivityRow[]> {
    const rows: SensitivityRow[] = [];
    const few = this.chosen.slice(0, WEIGHING_SAMPLES);
    const samples: Sample[] = [];
    for await (const sample of samplesOf(this.data, few)) samples.push(sample);
    for (const [i, own] of this.layers.entries()) {
      onMeasure?.(`layer ${i + 1} of ${this.layers.length}: ${own.layer}`);
      const meter = new NoiseMeter();
      let at = 0;
      for await (const sample of interruptible(given(samples), this.signal)) {
        const outputs = tensorsOf(await this.engine.run(switched(sample, this.layers, (layer) => layer === own.layer)));
        for (const [name, tensor] of Object.entries(this.reference[at++]!)) if (tensor.data instanceof Float32Array) meter.add(outputs[name]!, tensor);
      }
      rows.push({ ...own, decibels: Number.isFinite(meter.decibels) ? meter.decibels : null });
    }
    return rows.sort((a, b) => (a.decibels ?? Number.POSITIVE_INFINITY) - (b.decibels ?? Number.POSITIVE_INFINITY));
  }

  async scoreOf(kept: ReadonlySet<string>, onMeasure?: (text: string) => void): Promise<number> {
    onMeasure?.(`${kept.size} of ${this.layers.length} layers in float`);
    return this.score(this.engine, (sample) => switched(sample, this.layers, (layer) => !kept.has(layer)));
  }

  async scoreOfEngine(path: string, threads: number | undefined): Promise<number> {
    using engine = await Engine.load(path, threads === undefined ? {} : { threads });
    return await this.score(engine, ({ feeds }) => feeds);
  }

  private async score(engine: Engine, feedsOf: (sample: Sample) => Readonly<Record<string, Tensor>>): Promise<number> {
    const answers: Answer[] = [];
    for await (const sample of interruptible(samplesOf(this.data, this.chosen), this.signal)) {
      const outputs = tensorsOf(await engine.run(feedsOf(sample)));
      answers.push({ entry: { id: sample.id, columns: sample.columns }, outputs, reference: this.reference[answers.length]! });
    }
    return this.metric.score(answers);
  }

  [Symbol.dispose](): void {
    this.engine.dispose();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function* given(samples: readonly Sample[]): AsyncGenerator<Sample> {
  yield* samples;
}

function switched(sample: Sample, layers: Weighing["layers"], isInt8: (layer: string) => boolean): Record<string, Tensor> {
  if (layers.length === 0) return { ...sample.feeds };
  return { ...sample.feeds, [SWITCHES]: new Tensor("bool", Uint8Array.from(layers, ({ layer }) => Number(isInt8(layer))), [layers.length]) };
}

function tensorsOf(results: Results): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(results).filter((entry): entry is [string, Tensor] => entry[1] instanceof Tensor));
}
