/** `sinter calibrate`: which ranges a model's activations take, from samples, into a cache for int8 builds. */
import { dirname } from "node:path";
import { Command } from "commander";
import { calibrate } from "../calibrate.ts";
import { openData } from "../data/index.ts";
import { type CalibrationCache, calibrationPage, writeCache } from "../quantize/index.ts";
import { checkWritable } from "./folders.ts";
import { withInterrupt } from "./interrupt.ts";
import { modelInputs } from "./model-inputs.ts";
import { parseCount, parseProfile, profileOptions, type ShapeOptions } from "./options.ts";
import { list, printJson, ProgressLine, some, table } from "./output.ts";
import { writePage } from "./page.ts";

interface CalibrateCommandOptions extends ShapeOptions {
  readonly data: string;
  readonly output?: string;
  readonly samples: number;
  readonly strata?: string;
  readonly unbalanced?: boolean;
  readonly preprocess?: string;
  readonly threads?: number;
  readonly html?: string;
  readonly json?: boolean;
}

export function calibrateCommand(): Command {
  const command = new Command("calibrate")
    .description("Observe a model's activations on samples and write a calibration cache for int8 builds.")
    .argument("<model>", "the .onnx file")
    .requiredOption("--data <path>", "a folder of pictures, or a .npy, .npz or .jsonl file")
    .option("-o, --output <file>", "cache to write (default: the model's name with .calibration.json)")
    .option("--samples <n>", "how many samples to use", parseCount("samples"), 512)
    .option("--strata <column>", "share the samples equally among this column's values, and compare their ranges")
    .option("--unbalanced", "with --strata: take samples as they come, and only report")
    .option("--preprocess <list>", "of pictures: resize=256,crop=224,order=bgr,scale=1,mean=A/B/C,std=A/B/C,layout=nchw")
    .option("--threads <n>", "native threads (default: all that this process may use)", parseCount("threads"));
  return profileOptions(command)
    .option("--html <file>", "write a page with each layer's histogram and ranges")
    .option("--json", "print the summary as JSON")
    .addHelpText("after", `
Every calibrator's ranges are in the cache: choose one when building.

Examples:
  sinter calibrate resnet50.onnx --data images --preprocess order=bgr,mean=103.939/116.779/123.68 -o resnet50.json
  sinter calibrate encoder.onnx --data queries.jsonl --strata intent --html calibration.html
  sinter build resnet50.onnx --precision int8 --calibration resnet50.json`)
    .action(run);
}

async function run(model: string, options: CalibrateCommandOptions): Promise<void> {
  const output = options.output ?? model.replace(/(\.onnx)?$/, ".calibration.json");
  checkWritable(dirname(output));
  const data = openData(options.data, modelInputs(model), options.preprocess);
  const line = new ProgressLine();
  try {
    const cache = await withInterrupt((signal) => calibrate(model, {
      data, samples: options.samples, profiles: parseProfile(options), signal,
      ...(options.strata === undefined ? {} : { strata: options.strata }), ...(options.unbalanced ? { unbalanced: true } : {}),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      onProgress: (done, total) => line.show(`sample ${done}${total === undefined ? "" : ` of ${total}`}`, "calibrating"),
    }));
    line.clear();
    writeCache(output, cache);
    if (options.html !== undefined) writePage(options.html, calibrationPage(cache));
    report(output, cache, options.json === true);
  } finally {
    line.clear();
  }
}

function report(output: string, cache: CalibrationCache, asJson: boolean): void {
  const { data, layers, strata, warnings } = cache;
  if (asJson) {
    printJson({ output, data, layers: Object.keys(layers).length, ...(strata ? { strata } : {}), warnings });
    return;
  }
  console.log(list([["cache", output], ["samples", `${data.samples} of ${data.name}`], ["layers", `${Object.keys(layers).length}: ${some(Object.keys(layers), 4)}`]]));
  if (strata) {
    console.log(`\n${table([strata.column, "in the data", "used"], Object.entries(strata.coverage).slice(0, 40).map(([name, { inData, used }]) => [name, `${inData}`, `${used}`]))}`);
    if (strata.disagreements.length > 0) console.log(`\n${table(["layer", "widest", "narrowest", "ratio"], strata.disagreements.slice(0, 10).map(({ layer, widest, narrowest, ratio }) => [layer, widest, narrowest, ratio.toFixed(2)]))}`);
  }
  for (const warning of warnings) console.log(`warning: ${warning}`);
}
