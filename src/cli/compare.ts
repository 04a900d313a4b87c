/** `sinter compare`: an engine's outputs against onnxruntime's, and each kernel's against the plain reference. */
import { Command } from "commander";
import { isFloat, SinterError, Tensor, UserError } from "../base/index.ts";
import type { HostValue } from "../reference/index.ts";
import type { Results } from "../runtime/index.ts";
import { compareLayers, type Layer, layerTable } from "./compare-layers.ts";
import { comparePrecision, type PrecisionOptions, quantizationOf } from "./compare-precision.ts";
import { makeFeeds } from "./feeds.ts";
import { referenceOutputs } from "./layer-values.ts";
import { isEngineFile, type Opened, openEngine, optimumSizes } from "./open.ts";
import { collect, hereOption, parseCount, parseOptional, parsePositive, parseProfile, type ShapeOptions } from "./options.ts";
import { heading, printJson, table } from "./output.ts";
import { openOnnxruntime, relativeError } from "./peer.ts";

interface CompareOptions extends Pick<ShapeOptions, "shapes">, PrecisionOptions {
  readonly input?: readonly string[];
  readonly tolerance: number;
  readonly threads?: number;
  readonly seed: number;
  readonly target?: string;
  readonly layers?: boolean;
  readonly double?: boolean;
}

interface OutputComparison {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly number[];
  readonly relativeError: number;
  readonly matches: boolean;
  /** Errors of both against the reference operators in double precision, when asked for: who is nearer. */
  readonly errorToDouble?: number;
  readonly peerErrorToDouble?: number;
}

export function compareCommand(): Command {
  return new Command("compare")
    .description("Compare outputs with onnxruntime's on the same inputs; exit status 1 when they differ.")
    .argument("<model>", "the .onnx file")
    .argument("[engine]", "an engine built from it (default: built now and kept in a cache)")
    .option("--shapes <list>", "shapes of inputs, e.g. input_ids:1x128 (default: the profile's optimum)")
    .option("-i, --input <name=file>", "a .npy or .pb file instead of random numbers; again for each input", collect)
    .option("--tolerance <n>", "largest relative error of an output: difference over largest absolute value", parsePositive("tolerance"), 1e-4)
    .option("--layers", "compare what each kernel writes with the reference operators, and name the first that departs")
    .option("--double", "compute the reference in double precision too, and say who is nearer to it (a slow run)")
    .option("--data <path>", "with --layers and an int8 engine: samples, as for sinter calibrate (default: random numbers)")
    .option("--preprocess <list>", "of pictures, as for sinter calibrate")
    .option("--samples <n>", "how many of them", parseCount("samples"), 8)
    .option("--html <file>", "with --layers and an int8 engine: write the figures as a page with a picture")
    .addOption(hereOption())
    .option("--threads <n>", "native threads (default: all that this process may use)", parseCount("threads"))
    .option("--seed <n>", "of the random inputs", parseCount("seed", 0), 1)
    .option("--json", "print the result as JSON")
    .addHelpText("after", `
An int8 engine's layers are compared with the float model's: signal over noise along the network.

Examples:
  sinter compare resnet50.onnx
  sinter compare bert.onnx bert.engine --shapes input_ids:1x7,attention_mask:1x7 --layers
  sinter compare resnet50.onnx resnet50-int8.engine --layers --data images --preprocess order=bgr --html accuracy.html`)
    .action(run);
}

async function run(model: string, engineFile: string | undefined, options: CompareOptions): Promise<void> {
  if (isEngineFile(model)) throw new UserError("option-invalid", `${model} is an engine; give the model first: sinter compare MODEL.onnx ${model}`);
  const opened = await openEngine(engineFile ?? model, { profiles: parseProfile(options), ...(options.target === undefined ? {} : { target: options.target }), ...(options.threads === undefined ? {} : { threads: options.threads }) });
  try {
    const feeds = makeFeeds(opened.engine.inputs, { shapes: parseOptional(options.shapes), files: options.input ?? [], seed: options.seed }, optimumSizes(opened.engine));
    const plan = options.layers ? quantizationOf(opened.path) : undefined;
    if (plan) {
      await comparePrecision(model, plan, feeds, parseProfile(options), options);
      return;
    }
    const outputs = await compareOutputs(model, opened, feeds, options);
    const layers = options.layers ? compareLayers(model, opened.engine, feeds, options.tolerance, outputs.every((output) => output.matches), options.double) : undefined;
    const first = layers?.find((layer) => layer.matches === false);
    if (options.json) printJson({ model, engine: opened.path, tolerance: options.tolerance, outputs, ...(layers ? { layers, firstDeparture: first?.name ?? null } : {}) });
    else print(outputs, layers, first);
    const wrong = outputs.filter((output) => !output.matches);
    if (wrong.length > 0) throw new SinterError("mismatch", `${wrong.length} of ${outputs.length} outputs differ by more than ${options.tolerance}: ${wrong.map((output) => output.name).join(", ")}.${options.layers ? "" : " Find the kernel with --layers."}`);
    if (first) throw new SinterError("mismatch", `The outputs agree, but kernel "${first.name}" departs from the reference at "${first.value}".`);
  } finally {
    opened.engine.dispose();
  }
}

async function compareOutputs(model: string, { engine }: Opened, feeds: Record<string, Tensor>, { tolerance, double }: CompareOptions): Promise<OutputComparison[]> {
  const peer = await openOnnxruntime(model, feeds, engine.threads);
  try {
    const expected = await peer.run();
    const results = await engine.run(feeds);
    const exact = double ? new Map(Object.entries(referenceOutputs(model, feeds))) : undefined;
    return Object.entries(expected).map(([name, tensor]) => ({ ...compareOutput(name, results, tensor, tolerance), ...errorsTo(exact?.get(name), results[name], tensor) }));
  } finally {
    await peer.release();
  }
}

function compareOutput(name: string, results: Results, expected: Tensor, tolerance: number): OutputComparison {
  const actual = results[name];
  const error = actual instanceof Tensor ? relativeError(actual, expected) : Number.POSITIVE_INFINITY;
  return { name, type: expected.type, dims: expected.dims, relativeError: error, matches: isFloat(expected.type) ? error <= tolerance : error === 0 };
}

function errorsTo(exact: HostValue, actual: HostValue, peer: Tensor): Pick<OutputComparison, "errorToDouble" | "peerErrorToDouble"> {
  if (!(exact instanceof Tensor) || !(actual instanceof Tensor)) return {};
  return { errorToDouble: relativeError(actual, exact), peerErrorToDouble: relativeError(peer, exact) };
}

function print(outputs: readonly OutputComparison[], layers: readonly Layer[] | undefined, first: Layer | undefined): void {
  const double = outputs.some((output) => output.errorToDouble !== undefined);
  console.log(table(["output", "type", "shape", "relative error", ...(double ? ["to double", "onnxruntime to double"] : []), ""], outputs.map((output) => [
    output.name, output.type, `[${output.dims.join(", ")}]`, output.relativeError.toExponential(1),
    ...(double ? [output.errorToDouble, output.peerErrorToDouble].map((error) => error?.toExponential(1) ?? "-") : []), output.matches ? "agrees" : "DIFFERS",
  ])));
  if (!layers) return;
  console.log(`${heading("Kernels")}\n${layerTable(layers)}`);
  console.log(first ? `\nThe first that departs: ${first.name}, at value "${first.value}".` : "\nNo kernel departs.");
}
