/** What `inspect` shows of an engine: its manifest and the report of its build. Nothing of it is loaded or run. */
import type { BuildReport } from "../compile.ts";
import { DimTable, EngineFile, type Manifest, type ManifestProfile, type ManifestStep, type ManifestValue } from "../engine/index.ts";
import type { Bindings } from "../ir/index.ts";
import type { TacticReport } from "../tune/index.ts";
import { type AccuracyReport, readAccuracy } from "../quantize/index.ts";
import { accuracyText } from "./accuracy-text.ts";
import { type InspectOptions, type ValueText, valueTable } from "./inspect-text.ts";
import { memoryPlan, type MemoryPlan, memoryText, type PlannedValue } from "./memory-plan.ts";
import { bytes, heading, list, milliseconds, printJson, some } from "./output.ts";

interface LayerText {
  readonly name: string;
  readonly kind: string;
  readonly operators: readonly string[];
  readonly nodes: readonly string[];
  readonly tactic: string;
  /** On a GPU, what runs instead from so many operations on. */
  readonly larger: readonly { readonly from: number; readonly tactic: string }[];
  readonly description: string;
  readonly tactics: readonly TacticReport[];
  readonly scratchBytes: number;
  /** Values it makes whole. */
  readonly writes: readonly string[];
}

/** All that is said of an engine; with --json, as it is. */
interface EngineText extends Pick<Manifest, "version" | "format" | "model" | "target" | "precision" | "level" | "modelWeightBytes">, Pick<BuildReport, "nodesBefore" | "nodesAfter" | "passes" | "referenceSteps" | "quantization"> {
  readonly kind: "engine";
  readonly file: string;
  readonly sizeBytes: number;
  readonly codeBytes: number;
  readonly weightBytes: number;
  readonly inputs: readonly ValueText[];
  readonly outputs: readonly ValueText[];
  readonly profiles: readonly Pick<ManifestProfile, "symbols" | "arenaBytes">[];
  /** What lies beside the engine. */
  readonly accuracy?: AccuracyReport;
  readonly layers: readonly LayerText[];
  /** One per profile. */
  readonly memory: readonly MemoryPlan[];
}

export function inspectEngine(path: string, options: InspectOptions): void {
  const engine = describeEngine(path);
  if (options.json) {
    printJson(engine);
    return;
  }
  print(engine);
  if (engine.accuracy) console.log(accuracyText(engine.accuracy));
  if (options.layers) console.log(`${heading("Kernels")}\n${engine.layers.map(layerText).join("\n")}`);
  if (options.memory) for (const plan of engine.memory) console.log(memoryText(plan));
}

function describeEngine(path: string): EngineText {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    const report = file.report() as BuildReport;
    const { version, format, model, target, precision, level, modelWeightBytes } = manifest;
    const dims = new DimTable(manifest.dims);
    const accuracy = readAccuracy(path, model.digest);
    const { nodesBefore, nodesAfter, passes, referenceSteps } = report;
    return {
      kind: "engine", file: path, version, format, model, target, precision, level,
      sizeBytes: file.sizeBytes, codeBytes: file.sizeOf("code"), weightBytes: file.sizeOf("weights"), modelWeightBytes,
      inputs: manifest.inputs.map((value) => valueText(value, dims)), outputs: manifest.outputs.map((value) => valueText(value, dims)),
      profiles: manifest.profiles.map(({ symbols, arenaBytes }) => ({ symbols, arenaBytes })),
      nodesBefore, nodesAfter, passes, referenceSteps, ...(report.quantization ? { quantization: report.quantization } : {}), ...(accuracy ? { accuracy } : {}),
      layers: manifest.steps.map((step, i) => layerOf(step, report, i)), memory: manifest.profiles.map((_, i) => planOf(manifest, i)),
    };
  } finally {
    file.close();
  }
}

function valueText(value: ManifestValue, dims: DimTable): ValueText {
  return { name: value.name, type: value.dtype, dims: value.shape?.map((index) => dims.text(index)) };
}

function layerOf(step: ManifestStep, report: BuildReport, index: number): LayerText {
  const { label } = step;
  const made = report.steps[index];
  return {
    name: label.name || label.operators.join("+"), kind: made?.kind ?? step.kind, operators: label.operators, nodes: label.origins, tactic: label.tactic,
    larger: step.kind === "kernel" ? (step.larger ?? []).map(({ from, tactic }) => ({ from, tactic })) : [],
    description: made?.description ?? "", tactics: made?.tactics ?? [], scratchBytes: step.kind === "kernel" ? step.scratchBytes : 0,
    writes: (step.kind === "kernel" ? step.completes : step.outputs).map((value) => value.name),
  };
}

function planOf(manifest: Manifest, index: number): MemoryPlan {
  const profile = manifest.profiles[index]!;
  const symbols = Object.fromEntries(Object.entries(profile.symbols).map(([name, range]) => [name, range.max]));
  const bindings: Bindings = new Map(Object.entries(symbols));
  return memoryPlan(symbols, profile.arenaBytes, plannedValues(manifest, profile.offsets, bindings));
}

/** Lifetimes as the steps tell them: from the first step that touches a storage to the last. */
function plannedValues(manifest: Manifest, offsets: readonly number[], bindings: Bindings): PlannedValue[] {
  const values = new DimTable(manifest.dims).evaluate(bindings);
  const names = new Map<number, string>();
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  for (const [index, step] of manifest.steps.entries()) {
    for (const value of step.kind === "kernel" ? step.completes : step.outputs) if (value.storage !== undefined) names.set(value.storage, value.name);
    for (const storage of storagesOf(step)) {
      if (!first.has(storage)) first.set(storage, index);
      last.set(storage, index);
    }
  }
  return [...first].filter(([storage]) => manifest.storages[storage]!.place === "arena").map(([storage, firstStep]): PlannedValue => {
    const size = values[manifest.storages[storage]!.size]!;
    const offset = offsets[storage]!;
    return { value: names.get(storage) ?? `storage ${storage}`, sizeBytes: Number.isNaN(size) ? 0 : size, firstStep, lastStep: last.get(storage)!, ...(offset < 0 ? {} : { offset }) };
  });
}

function storagesOf(step: ManifestStep): number[] {
  if (step.kind === "kernel") return step.params.flatMap((param) => (param[0] === 1 ? [param[1]] : []));
  return [...step.inputs, ...step.outputs].flatMap((value) => (value.storage === undefined ? [] : [value.storage]));
}

function print(engine: EngineText): void {
  const { model, target } = engine;
  console.log(list([
    ["engine", `${engine.file}, format ${engine.format}, by sinter ${engine.version}`],
    ["model", `${model.name || "unnamed"}, ${model.producer || "producer not said"}, opset ${model.opset}`],
    ["model digest", `sha256:${model.digest}`],
    ["built for", `${target.isa}: ${target.arch === "x64" ? target.cpu : `${target.gpu}, driver ${target.driver}`}`],
    ["precision", `${engine.precision}, tuning level ${engine.level}`],
    ["size", `${bytes(engine.sizeBytes)}: code ${bytes(engine.codeBytes)}, weights ${bytes(engine.weightBytes)} (the model's ${bytes(engine.modelWeightBytes)})`],
    ["nodes", `${engine.nodesBefore}, after the passes ${engine.nodesAfter}, in ${engine.layers.length} kernels`],
    ...engine.profiles.map((profile, i): [string, string] => [`profile ${i}`, `peak arena ${bytes(profile.arenaBytes)}; ${Object.entries(profile.symbols).map(([name, range]) => `${name} ${range.min}/${range.opt}/${range.max}`).join(", ") || "fixed shapes"}`]),
    ["not native", engine.referenceSteps.length === 0 ? "nothing" : some(engine.referenceSteps, 8)],
  ]));
  console.log(valueTable("Inputs", engine.inputs));
  console.log(valueTable("Outputs", engine.outputs));
  const counts = new Map<string, number>();
  for (const operator of engine.layers.flatMap((layer) => layer.operators)) counts.set(operator, (counts.get(operator) ?? 0) + 1);
  console.log(`${heading("Operators")}\n  ${[...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).map(([name, count]) => `${name} ${count}`).join(", ")}`);
}

function layerText(layer: LayerText, index: number): string {
  const lines = [`${index}  ${layer.name}  ${layer.kind}: ${layer.operators.join(" ")}`];
  if (layer.nodes.length > 0) lines.push(`    nodes    ${layer.nodes.join(" ")}`);
  if (layer.writes.length > 0) lines.push(`    writes   ${layer.writes.join(" ")}`);
  lines.push(`    tactic   ${layer.tactic}${layer.scratchBytes > 0 ? `, scratch ${bytes(layer.scratchBytes)}` : ""}`);
  for (const { from, tactic } of layer.larger) lines.push(`    from     ${operations(from)}: ${tactic}`);
  for (const { tactic, ns, outcome, reason } of layer.tactics.filter((item) => item.outcome === "slower" || item.outcome === "refused")) {
    lines.push(`    ${outcome.padEnd(8)} ${tactic}${ns === undefined ? "" : `: ${milliseconds(ns / 1e6)} ms`}${reason === undefined ? "" : `: ${reason}`}`);
  }
  for (const [reason, tactics] of skippedByReason(layer.tactics)) lines.push(`    skipped  ${tactics.length}: ${reason}: ${some(tactics, 3)}`);
  return lines.join("\n");
}

/** As people count them: 1.5 GFLOP. */
function operations(count: number): string {
  const step = Math.min(4, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${Number((count / 1000 ** step).toPrecision(3))} ${["", "k", "M", "G", "T"][step]}FLOP`;
}

function skippedByReason(tactics: readonly TacticReport[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { tactic, outcome, reason = "" } of tactics) {
    if (outcome !== "skipped") continue;
    groups.set(reason, [...(groups.get(reason) ?? []), tactic]);
  }
  return groups;
}
