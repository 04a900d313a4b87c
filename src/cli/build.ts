/** `sinter build`: an ONNX model to an engine file. */
import { Command, Option } from "commander";
import { build, type BuildProgress } from "../compile.ts";
import type { TuneLevel } from "../tune/index.ts";
import { EngineFile } from "../engine/index.ts";
import { parseBytes, parseProfile, type ShapeOptions } from "./options.ts";
import { bytes, milliseconds, printJson, ProgressLine } from "./output.ts";

interface BuildCommandOptions extends ShapeOptions {
  readonly output?: string;
  readonly level: string;
  readonly workspace?: number;
  readonly timingCache?: string;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export function buildCommand(): Command {
  return new Command("build")
    .description("Compile an ONNX model into an engine for this processor.")
    .argument("<model>", "the .onnx file")
    .option("-o, --output <file>", "engine file to write (default: the model's name with .engine)")
    .option("--shapes <list>", "fixed shapes of inputs, e.g. input_ids:1x128,mask:1x128")
    .option("--min-shapes <list>", "smallest shapes the engine must serve")
    .option("--opt-shapes <list>", "shapes it is tuned for")
    .option("--max-shapes <list>", "largest shapes it must serve")
    .addOption(new Option("--level <n>", "how hard to tune: 0 measures nothing, 5 tries everything").choices(["0", "1", "2", "3", "4", "5"]).default("3"))
    .option("--workspace <size>", "most scratch memory per thread for one kernel, e.g. 16M", parseBytes)
    .option("--timing-cache <file>", "measured times, read and updated: makes later builds fast and reproducible")
    .option("--strict", "refuse a model that needs a reference step instead of a native kernel")
    .option("--keep-going", "build it all the same and report such steps (default)")
    .option("--json", "print the result as JSON")
    .action(run);
}

async function run(model: string, options: BuildCommandOptions): Promise<void> {
  const output = options.output ?? model.replace(/(\.onnx)?$/, ".engine");
  const line = new ProgressLine();
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  try {
    const result = await build(model, {
      output, profiles: parseProfile(options), level: Number(options.level) as TuneLevel, signal: abort.signal,
      ...(options.workspace === undefined ? {} : { workspaceBytes: options.workspace }),
      ...(options.timingCache === undefined ? {} : { timingCache: options.timingCache }),
      ...(options.strict ? { strict: true } : {}),
      onProgress: (progress) => line.show(describe(progress), progress.stage),
    });
    line.clear();
    const { report } = result;
    const file = EngineFile.open(output);
    const sizeBytes = file.sizeBytes;
    file.close();
    if (options.json) return printJson({ output, elapsedMs: result.elapsedMs, sizeBytes, nodesBefore: report.nodesBefore, nodesAfter: report.nodesAfter, steps: report.steps.length, referenceSteps: report.referenceSteps });
    console.log(`${output}: ${bytes(sizeBytes)}, ${report.nodesBefore} nodes became ${report.steps.length} steps in ${milliseconds(result.elapsedMs / 1000)} s`);
    if (report.referenceSteps.length > 0) console.log(`${report.referenceSteps.length} operators run on the reference, not as native code: ${report.referenceSteps.slice(0, 8).join(", ")}${report.referenceSteps.length > 8 ? ", …" : ""}`);
  } finally {
    line.clear();
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
  }
}

function describe(progress: BuildProgress): string {
  const left = progress.remainingMs === undefined ? "" : `, ${Math.ceil(progress.remainingMs / 1000)} s left`;
  const count = progress.total > 1 ? ` ${progress.done + 1}/${progress.total}` : "";
  return `[${(progress.elapsedMs / 1000).toFixed(1)} s] ${progress.stage}${count}${left}: ${progress.detail}`;
}
