/** `sinter bench`: latency, throughput and what they are made of, beside a peer's in the same run. */
import { writeFileSync } from "node:fs";
import { Command, Option } from "commander";
import { type Precision, PRECISIONS, Tensor, UserError } from "../base/index.ts";
import { isaOf } from "../codegen/index.ts";
import { detectCpu } from "../native/index.ts";
import type { Engine, ExecutionContext, Feeds, Results } from "../runtime/index.ts";
import type { TuneLevel } from "../tune/index.ts";
import { chromeTrace } from "./chrome-trace.ts";
import { makeFeeds } from "./feeds.ts";
import { type KernelTime, kernelTable, timeKernels } from "./kernel-times.ts";
import { type Candidate, concurrentRuns, FAIR_TURNS, type Latency, measureInTurns, oneRun, summarize } from "./measure.ts";
import { type Opened, openEngine, optimumSizes } from "./open.ts";
import { collect, fastConvolutionOption, hereOption, levelOption, parseCount, parseOptional, parseProfile, parseSeconds, type ShapeOptions } from "./options.ts";
import { bytes, heading, list, milliseconds, printJson, table } from "./output.ts";
import { measurePeaks, type Peaks } from "./peaks.ts";
import { openOnnxruntime, type Peer, relativeError } from "./peer.ts";

interface BenchOptions extends Pick<ShapeOptions, "shapes"> {
  readonly input?: readonly string[];
  readonly threads?: number;
  readonly duration: number;
  readonly warmup: number;
  readonly contexts: number;
  readonly seed: number;
  readonly level: string;
  readonly precision: Precision;
  readonly target?: string;
  readonly fastConvolution?: boolean;
  readonly compare?: string;
  readonly model?: string;
  readonly profile?: boolean;
  readonly trace?: string;
  readonly json?: boolean;
}

interface BenchResult {
  readonly file: string;
  readonly latencyMs: Latency;
  /** Inferences per second. */
  readonly throughput: number;
  /** On a GPU, a run with the data already there. */
  readonly deviceMs?: number;
  /** Median run less the time of its steps, or of the device: binding, copying inputs and outputs, threads, promises. */
  readonly overheadMs: number;
  readonly loadMs: number;
  readonly buildMs?: number;
  readonly threads: number;
  readonly contexts: number;
  readonly precision: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly memory: { readonly engineBytes: number; readonly contextBytes: number; readonly processBytes: number };
  readonly peer?: { readonly name: string; readonly version: string; readonly latencyMs: Latency; readonly throughput: number };
  readonly speedup?: number;
  readonly maxRelativeError?: number;
  readonly peaks?: Peaks;
  readonly kernels?: readonly KernelTime[];
}

/** Length of a turn when several contexts run at once. */
const TURN_MS = 200;
const MINIMUM_RUNS = 10;

export function benchCommand(): Command {
  return new Command("bench")
    .description("Measure an engine or a model: latency, throughput, overhead, load time, memory.")
    .argument("<file>", "an engine, or an .onnx file, which is built first and kept in a cache")
    .option("--shapes <list>", "shapes of inputs, e.g. input_ids:1x128 (default: the profile's optimum)")
    .option("-i, --input <name=file>", "a .npy or .pb file instead of random numbers; again for each input", collect)
    .addOption(hereOption())
    .addOption(new Option("--precision <type>", "what a model is built for").choices(PRECISIONS).default("fp32"))
    .addOption(levelOption())
    .addOption(fastConvolutionOption())
    .option("--threads <n>", "native threads per run (default: all that this process may use)", parseCount("threads"))
    .option("--duration <seconds>", "how long to measure", parseSeconds, 3)
    .option("--warmup <seconds>", "how long to run before that", parseSeconds, 0.5)
    .option("--contexts <n>", "run on this many execution contexts at once", parseCount("contexts"), 1)
    .addOption(new Option("--compare <peer>", "run a peer in turns on the same input").choices(["onnxruntime"]))
    .option("--model <file>", "with --compare and an engine: the .onnx file it was built from")
    .option("--profile", "time each kernel, of a processor beside the machine's measured peaks")
    .option("--trace <file>", "write one run as a timeline for Chrome or Perfetto: a track per thread, a slice per kernel")
    .option("--seed <n>", "of the random inputs", parseCount("seed", 0), 1)
    .option("--json", "print the result as JSON")
    .addHelpText("after", `
A model is built for the shapes given. Random inputs are seeded; masks are ones, token types zeros, positions count up.

Examples:
  sinter bench resnet50.onnx --compare onnxruntime --threads 1
  sinter bench bert.engine --shapes input_ids:1x64,attention_mask:1x64 --profile
  sinter bench bert.engine --model bert.onnx --compare onnxruntime --json`)
    .action(run);
}

async function run(path: string, options: BenchOptions): Promise<void> {
  const opened = await openEngine(path, { profiles: parseProfile(options), level: Number(options.level) as TuneLevel, precision: options.precision, ...(options.target === undefined ? {} : { target: options.target }), ...(options.fastConvolution ? { fastConvolution: true } : {}), ...(options.threads === undefined ? {} : { threads: options.threads }) });
  const { engine } = opened;
  try {
    const feeds = makeFeeds(engine.inputs, { shapes: parseOptional(options.shapes), files: options.input ?? [], seed: options.seed }, optimumSizes(engine));
    const peer = options.compare === undefined ? undefined : await openOnnxruntime(modelOf(opened, options), feeds, engine.threads, options.contexts);
    try {
      const result = await measure(path, opened, feeds, peer, options);
      if (options.json) printJson(result);
      else print(result, options.trace);
    } finally {
      await peer?.release();
    }
  } finally {
    engine.dispose();
  }
}

function modelOf({ model, path }: Opened, options: BenchOptions): string {
  const file = model ?? options.model;
  if (file === undefined) throw new UserError("option-invalid", `--compare needs the model that ${path} was built from: --model FILE.onnx.`);
  return file;
}

async function measure(file: string, opened: Opened, feeds: Record<string, Tensor>, peer: Peer | undefined, options: BenchOptions): Promise<BenchResult> {
  const { engine, loadMs, buildMs } = opened;
  const contexts = Array.from({ length: options.contexts }, () => engine.createContext());
  const error = peer && largestError(await contexts[0]!.run(feeds), await peer.run());
  const candidates = [candidate(contexts.map((context) => () => context.run(feeds))), ...(peer ? [candidate(contexts.map(() => () => peer.start()))] : [])];
  const [own, others] = await measureInTurns(candidates, { durationMs: options.duration * 1000 * candidates.length, warmupMs: options.warmup * 1000 * candidates.length, minimumRuns: MINIMUM_RUNS, ...(candidates.length > 1 ? FAIR_TURNS : {}) });
  const latencyMs = summarize(own!.samplesMs);
  const kernels = timeKernels(contexts[0]!, feeds);
  if (options.trace !== undefined) writeFileSync(options.trace, JSON.stringify(chromeTrace(file, contexts[0]!.profile(feeds, { spans: true }))));
  const deviceMs = deviceMedian(engine, contexts[0]!, feeds);
  const stepsMs = deviceMs ?? kernels.reduce((sum, kernel) => sum + kernel.ms, 0);
  const peerLatency = others && summarize(others.samplesMs);
  return {
    file, latencyMs, throughput: own!.throughput, ...(deviceMs === undefined ? {} : { deviceMs }), overheadMs: Math.max(0, (await soloMedian(contexts[0]!, feeds, latencyMs, options.contexts)) - stepsMs), loadMs,
    ...(buildMs === undefined ? {} : { buildMs }),
    threads: engine.threads, contexts: options.contexts, precision: engine.metadata.precision,
    shapes: Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, tensor.dims])),
    memory: { engineBytes: opened.sizeBytes, contextBytes: contexts[0]!.memoryBytes, processBytes: process.memoryUsage.rss() },
    ...(peer && peerLatency ? { peer: { name: peer.name, version: peer.version, latencyMs: peerLatency, throughput: others!.throughput }, speedup: peerLatency.median / latencyMs.median, maxRelativeError: error! } : {}),
    ...(options.profile ? { ...(engine.metadata.target.arch === "x64" ? { peaks: peaksOf(engine) } : {}), kernels } : {}),
  };
}

function candidate(runs: readonly (() => Promise<unknown>)[]): Candidate {
  return runs.length === 1 ? oneRun(runs[0]!) : concurrentRuns(runs, TURN_MS);
}

/** What one context takes when it runs alone: what its steps' times can be compared with. */
async function soloMedian(context: ExecutionContext, feeds: Feeds, measured: Latency, contexts: number): Promise<number> {
  if (contexts === 1) return measured.median;
  const [alone] = await measureInTurns([oneRun(() => context.run(feeds))], { durationMs: 200, warmupMs: 0, minimumRuns: MINIMUM_RUNS });
  return summarize(alone!.samplesMs).median;
}

const DEVICE_RUNS = 50;

/** Of an engine that stays on its GPU; undefined for others. */
function deviceMedian({ metadata, hasReferenceSteps }: Engine, context: ExecutionContext, feeds: Feeds): number | undefined {
  if (metadata.target.arch !== "cuda" || hasReferenceSteps || metadata.steps.some(({ kind }) => kind !== "kernel")) return undefined;
  return context.deviceTimes(feeds, DEVICE_RUNS).sort((a, b) => a - b)[DEVICE_RUNS >> 1]!;
}

function largestError(results: Results, expected: Readonly<Record<string, Tensor>>): number {
  return Math.max(...Object.entries(expected).map(([name, tensor]) => {
    const own = results[name];
    return own instanceof Tensor ? relativeError(own, tensor) : Number.POSITIVE_INFINITY;
  }));
}

function peaksOf(engine: Engine): Peaks {
  const isa = isaOf(detectCpu(process.env).features);
  if (!isa) throw new UserError("unsupported-cpu", "This processor has no AVX2 and FMA; its peaks cannot be measured.");
  return measurePeaks(isa, engine.threads);
}

function print(result: BenchResult, trace: string | undefined): void {
  const { peer, memory } = result;
  const columns = (["min", "mean", "median", "p90", "p95", "p99", "max"] as const);
  const row = (name: string, latency: Latency, throughput: number): string[] => [name, ...columns.map((column) => milliseconds(latency[column])), throughput.toFixed(1), String(latency.count)];
  const inputs = Object.entries(result.shapes).map(([name, dims]) => `${name}:${dims.join("x")}`).join(",");
  console.log(`${result.file}  ${inputs}  ${result.precision}, ${result.threads} thread${result.threads === 1 ? "" : "s"}${result.contexts > 1 ? `, ${result.contexts} contexts` : ""}\n`);
  console.log(table(["milliseconds", ...columns, "per second", "runs"], [
    row("sinter", result.latencyMs, result.throughput),
    ...(peer ? [row(`${peer.name} ${peer.version}`, peer.latencyMs, peer.throughput)] : []),
  ]));
  console.log("");
  console.log(list([
    ...(result.speedup === undefined ? [] : [["speedup", `${result.speedup.toFixed(2)} (peer's median over ours)`], ["largest relative error", result.maxRelativeError!.toExponential(1)]] as const),
    ...(result.deviceMs === undefined ? [] : [["device", `${milliseconds(result.deviceMs)} ms with the data there`]] as const),
    ["overhead", `${milliseconds(result.overheadMs)} ms of the median are not ${result.deviceMs === undefined ? "in kernels" : "the device's"}`],
    ["load", `${milliseconds(result.loadMs)} ms`],
    ...(result.buildMs === undefined ? [] : [["build", `${(result.buildMs / 1000).toFixed(1)} s`]] as const),
    ["memory", `engine file ${bytes(memory.engineBytes)}, context ${bytes(memory.contextBytes)}, process ${bytes(memory.processBytes)}`],
  ]));
  if (trace !== undefined) console.log(`\n${trace}: a timeline of one run, for chrome://tracing or ui.perfetto.dev`);
  if (result.kernels) console.log(`${heading("Kernels")}\n${kernelTable(result.kernels, result.peaks)}`);
}
