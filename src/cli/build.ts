/** `sinter build`: an ONNX model to an engine file. */
import { dirname, resolve } from "node:path";
import { Command, Option } from "commander";
import { type Precision, PRECISIONS, UserError } from "../base/index.ts";
import { build, type BuildResult } from "../compile.ts";
import { EngineFile } from "../engine/index.ts";
import { checkWritable } from "./folders.ts";
import { withInterrupt } from "./interrupt.ts";
import { type BuildTuning, levelOption, parseBytes, parseCount, parseProfile, profileOptions, type ShapeOptions, tuningOf } from "./options.ts";
import { bytes, describeProgress, printJson, ProgressLine, some } from "./output.ts";

interface BuildCommandOptions extends ShapeOptions, BuildTuning {
  readonly output?: string;
  readonly precision: Precision;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export function buildCommand(): Command {
  const command = new Command("build")
    .description("Compile an ONNX model into an engine for this processor.")
    .argument("<model>", "the .onnx file")
    .option("-o, --output <file>", "engine file to write (default: the model's name with .engine)");
  profileOptions(command)
    .option("--threads <n>", "threads the kernels are tuned for (default: all that this process may use)", parseCount("threads"))
    .addOption(levelOption())
    .addOption(new Option("--precision <type>", "what products are computed in").choices(PRECISIONS).default("fp32"))
    .option("--workspace <size>", "most scratch memory per thread for one kernel, e.g. 16M", parseBytes)
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
  sinter build bert.onnx --level 5 --timing-cache timings.json -o bert.engine`);
}

async function run(model: string, options: BuildCommandOptions): Promise<void> {
  const output = options.output ?? model.replace(/(\.onnx)?$/, ".engine");
  if (resolve(output) === resolve(model)) throw new UserError("option-invalid", `--output ${output} is the model itself; name another file.`);
  checkWritable(dirname(output));
  const line = new ProgressLine();
  try {
    const result = await withInterrupt((signal) => build(model, {
      output, profiles: parseProfile(options), signal, precision: options.precision, ...tuningOf(options),
      ...(options.strict ? { strict: true } : {}),
      onProgress: (progress) => line.show(describeProgress(progress), progress.stage),
    }));
    line.clear();
    report(result, options.json === true);
  } finally {
    line.clear();
  }
}

function report({ output, elapsedMs, report: { nodesBefore, nodesAfter, steps, referenceSteps } }: BuildResult, asJson: boolean): void {
  const file = EngineFile.open(output);
  const { sizeBytes } = file;
  file.close();
  if (asJson) {
    printJson({ output, elapsedMs, sizeBytes, nodesBefore, nodesAfter, steps: steps.length, referenceSteps });
    return;
  }
  console.log(`${output}: ${bytes(sizeBytes)}, ${nodesBefore} nodes became ${steps.length} steps, in ${(elapsedMs / 1000).toFixed(1)} s`);
  if (referenceSteps.length > 0) console.log(`${referenceSteps.length} operators run on the reference, not as native code: ${some(referenceSteps, 8)}`);
}
