/** `sinter build`: an ONNX model to an engine file. */
import { dirname, resolve } from "node:path";
import { type Command as CommandType, Command, Option } from "commander";
import { type Precision, PRECISIONS, SinterError, UserError } from "../base/index.ts";
import { build, type BuildOptions, type BuildResult } from "../compile.ts";
import { openData } from "../data/index.ts";
import { EngineFile } from "../engine/index.ts";
import { buildInt8, type Int8Options, type Int8Result } from "../mixed-precision.ts";
import { type AccuracyReport, type Calibrator, CALIBRATORS, metricNamed, type MetricName, METRICS, type Scheme, SCHEMES } from "../quantize/index.ts";
import { accuracyText } from "./accuracy-text.ts";
import { keyFolder, signEngine } from "../trust/index.ts";
import { checkWritable } from "./folders.ts";
import { withInterrupt } from "./interrupt.ts";
import { modelInputs } from "./model-inputs.ts";
import { type BuildTuning, collect, fastConvolutionOption, levelOption, parseBytes, parseCount, parsePositive, parseProfile, profileOptions, type ShapeOptions, type TargetChoice, targetOf, targetOption, tuningOf } from "./options.ts";
import { bytes, describeProgress, printJson, ProgressLine, some } from "./output.ts";

interface BuildCommandOptions extends ShapeOptions, BuildTuning, TargetChoice, Int8CommandOptions {
  readonly output?: string;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export interface Int8CommandOptions {
  readonly precision: Precision;
  readonly compatibility?: boolean;
  readonly calibration?: string;
  readonly calibrator: Calibrator;
  readonly scheme: Scheme;
  readonly keep?: readonly string[];
  readonly evaluate?: string;
  readonly evaluateSamples?: number;
  readonly metric?: MetricName;
  readonly label?: string;
  readonly labelOffset?: number;
  readonly minAccuracy?: number;
  readonly preprocess?: string;
  readonly saturationCounters?: boolean;
}

/** Options of int8 builds. */
function int8Options(command: CommandType): CommandType {
  return command
    .addOption(new Option("--precision <type>", "what products are computed in: int8 quantizes convolutions and matrix products").choices(PRECISIONS).default("fp32"))
    .option("--calibration <file>", "with int8: a cache of sinter calibrate; without one, matrix products get a scale per row as they run")
    .addOption(new Option("--calibrator <name>", "which of the cache's ranges to use").choices(CALIBRATORS).default("entropy"))
    .addOption(new Option("--scheme <name>", "bytes with a zero point, or about zero").choices(SCHEMES).default("asymmetric"))
    .option("--keep <layer>", "keep a layer in float, by name or pattern with *; again for each", collect)
    .option("--evaluate <path>", "held-out data to measure the engine on: a folder of pictures, .npy, .npz or .jsonl")
    .option("--evaluate-samples <n>", "how many samples of it to use (default: 256)", parseCount("evaluate-samples"))
    .addOption(new Option("--metric <name>", "what is measured (default: top1 where the data has labels, else cosine)").choices(METRICS))
    .option("--label <column>", "column of the data with the right class", "label")
    .option("--label-offset <n>", "added to that column's numbers", Number, 0)
    .option("--min-accuracy <share>", "least share of the float model's figure: layers that cost too much stay in float", parsePositive("min-accuracy"))
    .option("--preprocess <list>", "of pictures, as for sinter calibrate")
    .option("--saturation-counters", "count how far quantized layers saturate as the engine runs: seen in bench, and in the server's metrics");
}

export function buildCommand(): Command {
  const command = new Command("build")
    .description("Compile an ONNX model into an engine for this processor or an NVIDIA GPU.")
    .argument("<model>", "the .onnx file")
    .option("-o, --output <file>", "engine file to write (default: the model's name with .engine)");
  int8Options(profileOptions(command))
    .addOption(targetOption())
    .option("--compatibility", "of an engine for GPUs: let newer ones run it too (PTX, without the fastest kernels)")
    .option("--threads <n>", "threads the kernels are tuned for (default: all that this process may use)", parseCount("threads"))
    .addOption(levelOption())
    .option("--workspace <size>", "most scratch memory per thread for one kernel, e.g. 16M", parseBytes)
    .addOption(fastConvolutionOption())
    .option("--timing-cache <file>", "measured times, read and updated: makes later builds fast and reproducible")
    .option("--strict", "refuse a model that needs a reference step instead of a native kernel")
    .option("--keep-going", "build it all the same and report such steps (default)")
    .option("--json", "print the result as JSON")
    .action(run);
  return command.addHelpText("after", `
Dimensions that no option names get a default range: the first of an input 1 to 16, images 1 to 1280, others 1 to 1024.

Examples:
  sinter build resnet50.onnx
  sinter build bert.onnx --min-shapes input_ids:1x1 --opt-shapes input_ids:1x128 --max-shapes input_ids:8x512
  sinter build bert.onnx --level 5 --timing-cache timings.json -o bert.engine
  sinter build bert.onnx --target cuda --precision fp16
  sinter build bert.onnx --precision int8
  sinter build resnet50.onnx --precision int8 --calibration resnet50.json --evaluate images --min-accuracy 0.99`);
}

async function run(model: string, options: BuildCommandOptions): Promise<void> {
  const output = options.output ?? model.replace(/(\.onnx)?$/, ".engine");
  if (resolve(output) === resolve(model)) throw new UserError("option-invalid", `--output ${output} is the model itself; name another file.`);
  checkWritable(dirname(output));
  const line = new ProgressLine();
  try {
    const result = await withInterrupt((signal): Promise<Int8Result> => {
      const common: BuildOptions = {
        output, precision: options.precision, profiles: parseProfile(options), signal, ...tuningOf(options), ...targetOf(options), ...(options.compatibility ? { compatibility: true } : {}),
        ...(options.strict ? { strict: true } : {}), ...(options.saturationCounters ? { saturationCounters: true } : {}),
        onProgress: (progress) => line.show(describeProgress(progress), progress.stage),
      };
      return options.precision === "int8" ? buildInt8(model, { ...common, ...measured(model, options), onMeasure: (text) => line.show(`measuring: ${text}`, "measure") }) : build(model, common);
    });
    line.clear();
    report(result, signIfPossible(output), options.json === true);
    if (result.accuracy) reportAccuracy(result.accuracy, options.json === true);
  } finally {
    line.clear();
  }
}

function measured(model: string, options: Int8CommandOptions): Partial<Int8Options> {
  const { calibration, calibrator, scheme, keep, evaluate, evaluateSamples, metric, label, labelOffset, minAccuracy, preprocess } = options;
  const given = { label: label ?? "label", offset: labelOffset ?? 0 };
  return {
    calibrator, scheme, ...(calibration === undefined ? {} : { calibration }), ...(keep ? { keep } : {}),
    ...(evaluate === undefined ? {} : { evaluate: openData(evaluate, modelInputs(model), preprocess) }),
    ...(evaluateSamples === undefined ? {} : { evaluateSamples }),
    ...(metric === undefined ? {} : { metric: metricNamed(metric, given) }),
    ...(minAccuracy === undefined ? {} : { minAccuracy }),
  };
}

/** @throws SinterError "accuracy-target" when it was not reached: the engine stays */
function reportAccuracy(accuracy: AccuracyReport, asJson: boolean): void {
  if (!asJson) console.log(accuracyText(accuracy));
  if (!accuracy.reached) throw new SinterError("accuracy-target", `No mix of precisions reached ${accuracy.target} of the float model's ${accuracy.metric}; the best found, ${accuracy.retained.toFixed(4)}, was kept.`);
}

function report({ output, elapsedMs, accuracy, report: { nodesBefore, nodesAfter, steps, referenceSteps, quantization } }: BuildResult & { readonly accuracy?: AccuracyReport }, key: string | undefined, asJson: boolean): void {
  const file = EngineFile.open(output);
  const { sizeBytes } = file;
  file.close();
  if (asJson) {
    printJson({ output, elapsedMs, sizeBytes, nodesBefore, nodesAfter, steps: steps.length, referenceSteps, signedBy: key, ...(quantization ? { quantization } : {}), ...(accuracy ? { accuracy } : {}) });
    return;
  }
  console.log(`${output}: ${bytes(sizeBytes)}, ${nodesBefore} nodes became ${steps.length} steps, in ${(elapsedMs / 1000).toFixed(1)} s${key === undefined ? "" : `; signed by this machine's key ${key}`}`);
  if (quantization) {
    const int8 = Object.values(quantization.layers).filter(({ precision }) => precision === "int8");
    console.log(`${int8.length} of ${Object.keys(quantization.layers).length} layers in int8; their weights ${bytes(quantization.bytes)} instead of ${bytes(quantization.floatBytes)}`);
  }
  if (referenceSteps.length > 0) console.log(`${referenceSteps.length} operators run on the reference, not as native code: ${some(referenceSteps, 8)}`);
}

/** Signs with this machine's key. Where none can be kept the engine is good all the same; servers will not take it. */
function signIfPossible(engine: string): string | undefined {
  try {
    return signEngine(engine, keyFolder(process.env));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    process.stderr.write(`${engine} is not signed: ${error.message}\n`);
    return undefined;
  }
}
