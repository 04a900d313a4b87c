/**
 * `sinter compare --layers` of an int8 engine: what each layer writes against the float model, on the caller's samples.
 * The plan in the engine's report is carried out again beside the float model, both with every layer's values as outputs.
 */
import type { Tensor } from "../base/index.ts";
import type { BuildReport } from "../compile.ts";
import { chooseEntries, type DataSet, openData, samplesOf } from "../data/index.ts";
import { EngineFile } from "../engine/index.ts";
import { measureNoise } from "../layer-noise.ts";
import { firstLargeNoise, type LayerNoise, LARGE_NOISE_DECIBELS, noisePage } from "../quantize/index.ts";
import type { Profile } from "../schedule/index.ts";
import { modelInputs } from "./model-inputs.ts";
import { heading, printJson, table } from "./output.ts";
import { writePage } from "./page.ts";

export interface PrecisionOptions {
  readonly data?: string;
  readonly preprocess?: string;
  readonly samples: number;
  readonly html?: string;
  readonly json?: boolean;
}

type Plan = NonNullable<BuildReport["quantization"]>;

/** What the engine's build did to each layer; undefined for one in float. */
export function quantizationOf(engine: string): Plan | undefined {
  const file = EngineFile.open(engine);
  try {
    return (file.report() as BuildReport).quantization;
  } finally {
    file.close();
  }
}

export async function comparePrecision(model: string, plan: Plan, feeds: Readonly<Record<string, Tensor>>, profiles: readonly Profile[], options: PrecisionOptions): Promise<void> {
  const data = options.data === undefined ? undefined : openData(options.data, modelInputs(model), options.preprocess);
  const rows = await measureNoise(model, { layers: plan.layers }, data ? feedsOf(data, options.samples) : [feeds], { profiles });
  const first = firstLargeNoise(rows);
  if (options.html !== undefined) writePage(options.html, noisePage(model, rows, first?.layer));
  if (options.json) printJson({ model, samples: data ? Math.min(options.samples, data.entries.length) : "random numbers", layers: rows, firstLargeNoise: first?.layer ?? null });
  else print(rows, first, data !== undefined);
}

async function* feedsOf(data: DataSet, count: number): AsyncGenerator<Readonly<Record<string, Tensor>>> {
  for await (const sample of samplesOf(data, chooseEntries(data.entries, count))) yield sample.feeds;
}

function print(rows: readonly LayerNoise[], first: LayerNoise | undefined, isReal: boolean): void {
  console.log(`${heading("Layers against the float model, errors of the layers before included")}\n${table(["layer", "precision", "dB", "cosine", "largest error"], rows.map(({ layer, precision, decibels, cosine, largestError }) => [layer, precision, decibels === null ? "exact" : decibels.toFixed(1), cosine.toFixed(6), largestError.toExponential(1)]))}`);
  console.log(first ? `\nThe first below ${LARGE_NOISE_DECIBELS} dB: ${first.layer}, ${first.decibels!.toFixed(1)} dB.` : `\nNo layer is below ${LARGE_NOISE_DECIBELS} dB.`);
  if (!isReal) console.log("Measured on random numbers: give samples with --data for figures that mean something.");
}
