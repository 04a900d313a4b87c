/** `sinter run`: one inference on given or random inputs. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { fileError, type Precision, PRECISIONS, Tensor } from "../base/index.ts";
import type { HostValue } from "../reference/index.ts";
import { makeFeeds } from "./feeds.ts";
import { hasNpyType, writeNpy } from "../data/index.ts";
import { checkWritable, makeFolder } from "./folders.ts";
import { openEngine, optimumSizes } from "./open.ts";
import { collect, hereOption, parseCount, parseOptional, parseProfile, type ShapeOptions } from "./options.ts";
import { milliseconds, printJson } from "./output.ts";
import { summarizeValue, summaryText } from "./summary.ts";

interface RunCommandOptions extends Pick<ShapeOptions, "shapes"> {
  readonly input?: readonly string[];
  readonly output?: string;
  readonly threads?: number;
  readonly seed: number;
  readonly target?: string;
  readonly precision: Precision;
  readonly json?: boolean;
}

export function runCommand(): Command {
  return new Command("run")
    .description("Run an engine or a model once, on files or random numbers, and summarise each output.")
    .argument("<file>", "an engine, or an .onnx file, which is built first and kept in a cache")
    .option("-i, --input <name=file>", "a .npy file, or a .pb file with a TensorProto; again for each input", collect)
    .option("--shapes <list>", "shapes of the other inputs, e.g. input_ids:1x128; they get random numbers")
    .option("-o, --output <folder>", "write each output to NAME.npy in this folder")
    .addOption(hereOption())
    .addOption(new Option("--precision <type>", "what a model is built for").choices(PRECISIONS).default("fp32"))
    .option("--threads <n>", "native threads (default: all that this process may use)", parseCount("threads"))
    .option("--seed <n>", "of the random inputs", parseCount("seed", 0), 1)
    .option("--json", "print the result as JSON")
    .addHelpText("after", `
A model is built for the shapes given. Random inputs are seeded; masks are ones, token types zeros, positions count up.

Examples:
  sinter run resnet50.engine --input input=cat.npy --output out
  sinter run bert.onnx --shapes input_ids:1x16,attention_mask:1x16
  sinter run bert.onnx --shapes input_ids:1x16,attention_mask:1x16 --target cuda --precision fp16`)
    .action(run);
}

async function run(path: string, options: RunCommandOptions): Promise<void> {
  if (options.output !== undefined) {
    makeFolder(options.output);
    checkWritable(options.output);
  }
  const { engine } = await openEngine(path, { profiles: parseProfile(options), precision: options.precision, ...(options.target === undefined ? {} : { target: options.target }), ...(options.threads === undefined ? {} : { threads: options.threads }) });
  try {
    const feeds = makeFeeds(engine.inputs, { shapes: parseOptional(options.shapes), files: options.input ?? [], seed: options.seed }, optimumSizes(engine));
    const before = performance.now();
    const results = await engine.run(feeds);
    const elapsedMs = performance.now() - before;
    const files = options.output === undefined ? [] : Object.entries(results).flatMap(([name, value]) => save(options.output!, name, value));
    const outputs = Object.entries(results).map(([name, value]) => summarizeValue(name, value));
    if (options.json) {
      printJson({ elapsedMs, threads: engine.threads, outputs, files });
      return;
    }
    for (const output of outputs) console.log(summaryText(output));
    for (const file of files) console.log(`wrote ${file}`);
    console.log(`${milliseconds(elapsedMs)} ms, first run, ${engine.threads} threads`);
  } finally {
    engine.dispose();
  }
}

/** @returns the files written: one, or none for what is not a tensor */
function save(folder: string, name: string, value: HostValue): string[] {
  if (!(value instanceof Tensor)) return [];
  const file = join(folder, `${name.replace(/[^\w.-]/g, "_")}${hasNpyType(value.type) ? ".npy" : ".json"}`);
  if (hasNpyType(value.type)) writeNpy(file, value);
  else writeText(file, JSON.stringify({ type: value.type, dims: value.dims, data: Array.from(value.data as ArrayLike<unknown>, String) }));
  return [file];
}

function writeText(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw fileError(file, cause);
  }
}
