/**
 * The whole compiler on one page: import, infer, passes, schedule, code generation and tuning, link, write.
 */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { type Precision, Tensor, UnsupportedError, UserError } from "./base/index.ts";
import { writeEngine } from "./engine/index.ts";
import { type Bindings, type Buffer, type CompiledKernel, evaluate, type Graph, printKernel, symbolsOf, type Tactic } from "./ir/index.ts";
import { type KernelChoice, link, type ManifestIdentity } from "./link/index.ts";
import { MappedFile, SpillFile } from "./native/index.ts";
import { type ImportedModel, importModel } from "./onnx/index.ts";
import { inferTypes, isDataDependent } from "./ops/index.ts";
import { type Evaluate, type Layer, type LayerPlan, type Narrow, type Quantization, type QuantizationPlan, runPasses } from "./passes/index.ts";
import { evaluateNode, type HostValue } from "./reference/index.ts";
import { assumeProfiles, type KernelStep, type Plan, type Profile, resolveProfiles, schedule, type Step, type SymbolProfile } from "./schedule/index.ts";
import { openTarget, type Target, type TargetOptions } from "./targets.ts";
import { limitExtraWeights, otherShapes, shapeLadder, type TacticReport, tacticsToCompile, TimingCache, tune, type Tuned, type TuneLevel, type TuneOptions, type WeightChoice } from "./tune/index.ts";
import { VERSION } from "./version.ts";

export type BuildStage = "import" | "optimize" | "plan" | "compile" | "tune" | "write";

export interface BuildProgress {
  readonly stage: BuildStage;
  /** Work done and known to be there, in units of the stage (kernels when compiling and tuning). */
  readonly done: number;
  readonly total: number;
  /** What is being worked on. */
  readonly detail: string;
  readonly elapsedMs: number;
  /** Estimated from the pace so far; absent while unknown. */
  readonly remainingMs?: number;
}

export interface BuildOptions extends TargetOptions {
  /** Engine file to write; replaced by rename. */
  readonly output: string;
  /**
   * fp32 keeps every layer as the model has it; bf16 computes products of bfloat16 with float32 sums, where the processor
   * has AVX512-BF16, and on GPUs; fp16 the same with float16, on GPUs; int8 quantizes float layers by `quantization`. Models that come quantized stay so in each.
   */
  readonly precision?: Precision;
  /** With int8: what to do to each layer. Without it, matrix products get a scale per row as they run, and convolutions stay. */
  readonly quantization?: QuantizationPlan;
  /** Shapes the engine must serve; a dimension that no profile names gets a documented default range. */
  readonly profiles?: readonly Profile[];
  /** How hard to tune, 0 to 5; 3 by default. Level 0 measures nothing. */
  readonly level?: TuneLevel;
  /** Most scratch memory one kernel may take per thread, in bytes. */
  readonly workspaceBytes?: number;
  /** File of measured times, read and updated. */
  readonly timingCache?: string;
  /** Refuse a model that needs a reference step; by default it is built and the report says so. */
  readonly strict?: boolean;
  readonly onProgress?: (progress: BuildProgress) => void;
  readonly signal?: AbortSignal;
}

/** What the build did to one step of the program. */
export interface StepReport {
  readonly name: string;
  readonly kind: "loop" | "matmul" | "conv" | "attention" | "sequential" | "size" | "reference" | "jump" | "fail";
  readonly description: string;
  readonly tactics: readonly TacticReport[];
}

export interface BuildReport {
  readonly passes: unknown;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  readonly steps: readonly StepReport[];
  readonly referenceSteps: readonly string[];
  /** With int8: what was done to each layer, and the bytes of the weights concerned, scales included. */
  readonly quantization?: { readonly layers: QuantizationPlan["layers"]; readonly floatBytes: number; readonly bytes: number };
}

export interface BuildResult {
  readonly output: string;
  readonly report: BuildReport;
  readonly elapsedMs: number;
}

/**
 * Compiles an ONNX model into an engine file for this processor, or for an NVIDIA GPU.
 * @param model path of the model, or its bytes
 * @throws UserError for a broken model or profile and when aborted; UnsupportedError for what Sinter does not have
 */
export async function build(model: string | Uint8Array, options: BuildOptions): Promise<BuildResult> {
  return buildQuantized(model, options, options.precision === "int8" ? { plan: (layers) => options.quantization ?? dynamicPlan(layers) } : undefined);
}

/** A scale per row for every matrix product; convolutions have no rows. */
export function dynamicPlan(layers: readonly Layer[]): QuantizationPlan {
  return { layers: Object.fromEntries(layers.map(({ name, kind }): [string, LayerPlan] => [name, kind === "MatMul" ? { precision: "int8", input: "dynamic" } : { precision: "fp32", reason: "a convolution, and there is no calibration" }])) };
}

/** The same with quantization as the caller wants it, for measuring: values observed, layers switched. */
export async function buildQuantized(model: string | Uint8Array, options: BuildOptions, quantization: Quantization | undefined): Promise<BuildResult> {
  const started = performance.now();
  const target = openTarget(options);
  target.requirePrecision(options.precision ?? "fp32");
  const progress = new Progress(options, started);
  await progress.report("import", 0, 1, typeof model === "string" ? model : "model in memory");
  using spill = new SpillFile(dirname(options.output));
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  try {
    const { graph } = imported;
    const nodesBefore = graph.nodes.length;
    const identity = identityOf(imported, model, target, options);
    await progress.report("optimize", 0, 1, `${nodesBefore} nodes`);
    const profiles = resolveProfiles(graph, options.profiles ?? []);
    assumeProfiles(graph, profiles);
    inferTypes(graph);
    const quantized = quantization && withReport(quantization);
    const passes = runPasses(graph, { evaluate: evaluateInto(spill), ...forTarget(options.precision, target), ...(quantized ? { quantization: quantized.quantization } : {}) });
    await progress.report("plan", 0, 1, `${graph.nodes.length} nodes`);
    const plan = schedule(graph, target.kernels);
    refuseReferences(plan, options);
    const compiled = await compileKernels(plan, profiles[0]!, target, options, progress).finally(() => target.device.release?.());
    const report: BuildReport = { passes, nodesBefore, nodesAfter: graph.nodes.length, steps: compiled.reports, referenceSteps: plan.steps.flatMap((step) => (step.kind === "reference" ? [step.graph.name] : [])), ...(quantized?.report ? { quantization: quantized.report } : {}) };
    await progress.report("write", 0, 1, options.output);
    writeEngine(options.output, link({ plan, kernels: compiled.kernels, profiles, identity, report }));
    return { output: options.output, report, elapsedMs: performance.now() - started };
  } finally {
    imported.close();
  }
}

/** What the passes do for a target, and narrow for a precision: on a GPU, what is not quantized takes 16 bits. */
function forTarget(precision: Precision | undefined, target: Target): { readonly narrow?: Narrow; readonly wholePixels?: boolean; readonly blockWeights?: boolean } {
  const isGpu = target.identity.arch === "cuda";
  const type = precision === "bf16" ? "bfloat16" : precision === "fp16" || (precision === "int8" && isGpu) ? "float16" : undefined;
  return { ...(isGpu && { wholePixels: true }), ...(target.kernels.blockWeights && { blockWeights: true }), ...(type && { narrow: { type, attention: target.kernels.narrowAttention, everywhere: isGpu } }) };
}

/** Notes the plan when it is made, and what it saves. */
function withReport(quantization: Quantization): { readonly quantization: Quantization; report?: NonNullable<BuildReport["quantization"]> } {
  const noted: { quantization: Quantization; report?: NonNullable<BuildReport["quantization"]> } = {
    quantization: {
      ...quantization,
      plan: (layers) => {
        const plan = quantization.plan(layers);
        const concerned = layers.filter(({ name }) => plan.layers[name]?.precision === "int8");
        const sum = (bytesOf: (layer: Layer) => number): number => concerned.reduce((total, layer) => total + bytesOf(layer), 0);
        const elements = ({ weights }: Layer): number => weights.constant!.bytes.byteLength / 4;
        noted.report = { layers: plan.layers, floatBytes: sum((layer) => 4 * elements(layer)), bytes: sum((layer) => elements(layer) + 4 * Number(layer.weights.dims![layer.channelAxis])) };
        return plan;
      },
    },
  };
  return noted;
}

/** Folded results of at least this size go to a file: a model's transposed weights are as large as the model. */
const SPILL_BYTES = 1 << 20;

function evaluateInto(spill: SpillFile): Evaluate {
  const keep = (value: HostValue): HostValue =>
    value instanceof Tensor && value.type !== "string" && value.bytes.byteLength >= SPILL_BYTES ? Tensor.fromBytes(value.type, spill.store(value.bytes), value.dims) : value;
  return (node, inputs) => evaluateNode(node, inputs).map(keep);
}

/** Graph passes without code generation: what `inspect` shows of a model. */
export function optimizeModel(model: string | Uint8Array): { imported: ImportedModel; graph: Graph; passes: unknown } {
  const imported = importModel(model, { mapFile: (path) => MappedFile.open(path) });
  assumeProfiles(imported.graph, resolveProfiles(imported.graph, []));
  inferTypes(imported.graph);
  const passes = runPasses(imported.graph, { evaluate: evaluateNode });
  return { imported, graph: imported.graph, passes };
}

function refuseReferences(plan: Plan, options: BuildOptions): void {
  const steps = plan.steps.filter((step) => step.kind === "reference");
  if (!options.strict || steps.length === 0) return;
  const named = steps.slice(0, 10).map((step) => `${step.operators[0]} "${step.graph.name}": ${step.reason}`);
  throw new UnsupportedError("unsupported", `${steps.length} operators of the model would run on the reference, not as native code:\n  ${named.join("\n  ")}\nBuild with --keep-going to accept that.`);
}

interface CompiledPlan {
  readonly kernels: (KernelChoice | undefined)[];
  readonly reports: StepReport[];
}

/** A kernel step, and the shapes it is tuned at with what can run it there: the optimum, or on a GPU several, ascending. */
interface Tunable {
  readonly index: number;
  readonly step: KernelStep;
  readonly description: string;
  readonly rungs: readonly { readonly bindings: Bindings; readonly tactics: readonly Tactic[] }[];
}

async function compileKernels(plan: Plan, profile: SymbolProfile, target: Target, options: BuildOptions, progress: Progress): Promise<CompiledPlan> {
  const cache = options.timingCache ? TimingCache.load(options.timingCache) : new TimingCache();
  const bindings = optimumOf(profile, plan.graph);
  const ladder = target.tunesByShape ? shapeLadder(profile.symbols, bindings) : [bindings];
  const tuning: TuneOptions = {
    device: target.device, cache, level: target.level,
    alternatives: target.tunesByShape ? [] : otherShapes(profile.symbols, bindings),
    ...(options.workspaceBytes === undefined ? {} : { workspaceBytes: options.workspaceBytes }),
    ...(options.signal ? { signal: options.signal } : {}),
  };
  const tunables = tunablesOf(plan, bindings, ladder, target);
  await target.prepare(tunables.flatMap(({ description, rungs }) => rungs.flatMap(({ tactics, bindings }) => tacticsToCompile(description, tactics, bindings, tuning))), {
    onProgress: (done, total) => progress.report("compile", done, total, "kernels"),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  const kernels: (KernelChoice | undefined)[] = plan.steps.map(() => undefined);
  const reports: StepReport[] = plan.steps.map((step) => (step.kind === "kernel" ? undefined : reportOf(step))!);
  const weighty: (WeightChoice & { readonly index: number })[] = [];
  for (const [done, { index, step, description, rungs }] of tunables.entries()) {
    await progress.report("tune", done, tunables.length, nameOf(step));
    const choices = rungs.map(({ bindings, tactics }) => {
      const again = (some: readonly Tactic[]): Tuned => tune(description, some, bindings, tuning);
      const tuned = again(tactics);
      if (tactics.some(({ extraWeightBytes }) => extraWeightBytes)) weighty.push({ index, tactics, tuned, again });
      return { bindings, tuned };
    });
    kernels[index] = chooseByWork(choices);
    reports[index] = { name: nameOf(step), kind: step.kernel.kind, description, tactics: choices.flatMap(({ bindings, tuned }) => tuned.report.map((line) => (choices.length === 1 ? line : { ...line, shape: Object.fromEntries(bindings) }))) };
  }
  limitExtraWeights(weighty, EXTRA_WEIGHTS * weightBytesOf(plan.graph)).forEach(({ tuned }, i) => {
    const { index } = weighty[i]!;
    kernels[index] = { kernel: tuned.kernel, larger: [] };
    reports[index] = { ...reports[index]!, tactics: tuned.report };
  });
  if (options.timingCache) cache.save(options.timingCache);
  return { kernels, reports };
}

/** Shapes that a kernel does not depend on, or at which nothing is to be chosen, are left out. */
function tunablesOf(plan: Plan, optimum: Bindings, ladder: readonly Bindings[], target: Target): Tunable[] {
  const constants = (buffer: Buffer): Uint8Array | undefined => {
    const view = plan.views.get(buffer);
    return view && plan.constants.get(view.storage)?.constant?.bytes;
  };
  return plan.steps.flatMap((step, index): Tunable[] => {
    if (step.kind !== "kernel") return [];
    const description = printKernel(step.kernel);
    const first = { bindings: optimum, tactics: target.tactics(step.kernel, constants, optimum) };
    const depends = [...optimum.keys()].some((name) => description.includes(name));
    if (first.tactics.length < 2 || !depends) return [{ index, step, description, rungs: [first] }];
    return [{ index, step, description, rungs: ladder.map((bindings) => ({ bindings, tactics: target.tactics(step.kernel, constants, bindings) })) }];
  });
}

/** Between two shapes the kernel changes where the work, as the first kernel counts it, is the geometric mean of theirs. */
function chooseByWork(choices: readonly { readonly bindings: Bindings; readonly tuned: Tuned }[]): KernelChoice {
  const [first, ...rest] = choices;
  const larger: { from: number; kernel: CompiledKernel }[] = [];
  let last = first!;
  for (const choice of rest) {
    const [below, here] = [last, choice].map(({ bindings }) => Math.max(1, evaluate(first!.tuned.kernel.flops, bindings))) as [number, number];
    if (choice.tuned.tactic !== last.tuned.tactic) larger.push({ from: Math.round(Math.sqrt(below * here)), kernel: choice.tuned.kernel });
    last = choice;
  }
  return { kernel: first!.tuned.kernel, larger };
}

function reportOf(step: Exclude<Step, KernelStep>): StepReport {
  switch (step.kind) {
    case "reference": return { name: step.graph.name, kind: "reference", description: step.reason, tactics: [] };
    case "jump": return { name: step.inputs.length > 0 ? "branch" : "end of branch", kind: "jump", description: `goes on at step ${step.target}${step.inputs.length > 0 ? " when the condition is false" : ""}`, tactics: [] };
    case "size": return { name: "size", kind: "size", description: `reads how large the results of ${step.operators.join("+")} are`, tactics: [] };
    case "fail": return { name: "no such branch", kind: "fail", description: step.message, tactics: [] };
  }
}

function nameOf(step: KernelStep): string {
  return step.kernel.name || step.operators.join("+");
}

/** Bytes that fast convolutions may add, as a share of the model's weights. */
const EXTRA_WEIGHTS = 0.45;

/** What kernels are tuned for: a profile's optimum; sizes that data decides are taken for this. */
const EXPECTED_DATA_SIZE = 64;

function optimumOf(profile: SymbolProfile, graph: Graph): Map<string, number> {
  const values = graph.nodes.flatMap((node) => node.outputs.flatMap((value) => value?.dims ?? []));
  const decidedByData = values.filter(isDataDependent).flatMap((dim) => [...symbolsOf(dim)]);
  return new Map([...decidedByData.map((name) => [name, EXPECTED_DATA_SIZE] as const), ...Object.entries(profile.symbols).map(([name, range]) => [name, range.opt] as const)]);
}

function identityOf(imported: ImportedModel, model: string | Uint8Array, target: Target, options: BuildOptions): ManifestIdentity {
  const { metadata, graph } = imported;
  return {
    version: VERSION, precision: options.precision ?? "fp32", level: target.level,
    model: { name: graph.name, producer: metadata.producer, opset: metadata.opsets[""] ?? 0, digest: digestOf(model), metadata: metadata.metadataProps },
    target: target.identity,
    modelWeightBytes: weightBytesOf(graph),
  };
}

/** SHA-256 of the model file; weights in files beside it are not part of it. */
export function digestOf(model: string | Uint8Array): string {
  if (typeof model !== "string") return createHash("sha256").update(model).digest("hex");
  using file = MappedFile.open(model);
  return createHash("sha256").update(file.bytes()).digest("hex");
}

function weightBytesOf(graph: Graph): number {
  const constants = new Set(graph.nodes.flatMap((node) => node.inputs).filter((value) => value?.constant));
  return [...constants].reduce((sum, value) => sum + value!.constant!.bytes.byteLength, 0);
}

/** Reports progress, estimates what is left, and gives the event loop a turn so that signals arrive. */
class Progress {
  private readonly options: BuildOptions;
  private readonly started: number;
  private stageStarted = 0;
  private stage: BuildStage | undefined;

  constructor(options: BuildOptions, started: number) {
    this.options = options;
    this.started = started;
  }

  async report(stage: BuildStage, done: number, total: number, detail: string): Promise<void> {
    const now = performance.now();
    if (stage !== this.stage) {
      this.stage = stage;
      this.stageStarted = now;
    }
    const remaining = done > 0 ? { remainingMs: ((now - this.stageStarted) / done) * (total - done) } : {};
    this.options.onProgress?.({ stage, done, total, detail, elapsedMs: now - this.started, ...remaining });
    await new Promise((resolve) => setImmediate(resolve));
    if (this.options.signal?.aborted) throw new UserError("aborted", "The build was cancelled; nothing was written.");
  }
}
