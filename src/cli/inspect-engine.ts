/** What `inspect` shows of an engine: its manifest and the report of its build. Nothing of it is loaded or run. */
import type { BuildReport } from "../compile.ts";
import { EngineFile, type Manifest, type ManifestStep, type ManifestValue } from "../engine/index.ts";
import { type Bindings, dimFromJson, evaluate, symbolsOf } from "../ir/index.ts";
import type { TacticReport } from "../tune/index.ts";
import { valueTable } from "./inspect-model.ts";
import type { InspectOptions } from "./inspect.ts";
import { memoryPlan, type MemoryPlan, memoryText, type PlannedValue } from "./memory-plan.ts";
import { bytes, heading, list, milliseconds, printJson, some } from "./output.ts";

interface LayerText {
  readonly name: string;
  readonly kind: string;
  readonly operators: readonly string[];
  readonly nodes: readonly string[];
  readonly tactic: string;
  readonly description: string;
  readonly tactics: readonly TacticReport[];
  readonly scratchBytes: number;
  /** Values it makes whole. */
  readonly writes: readonly string[];
}

export function inspectEngine(path: string, options: InspectOptions): void {
  const file = EngineFile.open(path);
  try {
    const manifest = file.manifest();
    const report = file.report() as BuildReport;
    const layers = manifest.steps.map((step, i) => layerOf(step, report, i));
    const memory = manifest.profiles.map((_, i) => planOf(manifest, i));
    const sizes = { sizeBytes: file.sizeBytes, codeBytes: file.sizeOf("code"), weightBytes: file.sizeOf("weights") };
    if (options.json) {
      const { version, format, model, target, precision, level, profiles, modelWeightBytes } = manifest;
      return printJson({
        kind: "engine", file: path, version, format, model, target, precision, level, inputs: manifest.inputs.map(valueText), outputs: manifest.outputs.map(valueText),
        profiles: profiles.map(({ symbols, arenaBytes }) => ({ symbols, arenaBytes })), ...sizes, modelWeightBytes,
        nodesBefore: report.nodesBefore, nodesAfter: report.nodesAfter, passes: report.passes, referenceSteps: report.referenceSteps, layers, memory,
      });
    }
    print(path, manifest, report, sizes);
    if (options.layers) console.log(`${heading("Kernels")}\n${layers.map(layerText).join("\n")}`);
    if (options.memory) for (const plan of memory) console.log(memoryText(plan));
  } finally {
    file.close();
  }
}

function valueText(value: ManifestValue): { name: string; type: string; dims: readonly (number | string)[] | undefined } {
  return { name: value.name, type: value.dtype, dims: value.dims?.map((dim) => (typeof dim === "number" ? dim : String(dimFromJson(dim)))) };
}

function layerOf(step: ManifestStep, report: BuildReport, index: number): LayerText {
  const { label } = step;
  const made = report.steps[index];
  return {
    name: label.name || label.operators.join("+"), kind: made?.kind ?? step.kind, operators: label.operators, nodes: label.origins, tactic: label.tactic,
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
    const size = dimFromJson(manifest.dims[manifest.storages[storage]!.size]!);
    const known = typeof size === "number" || [...symbolsOf(size)].every((name) => bindings.has(name));
    const offset = offsets[storage]!;
    return { value: names.get(storage) ?? `storage ${storage}`, sizeBytes: known ? evaluate(size, bindings) : 0, firstStep, lastStep: last.get(storage)!, ...(offset < 0 ? {} : { offset }) };
  });
}

function storagesOf(step: ManifestStep): number[] {
  if (step.kind === "kernel") return step.params.flatMap((param) => (param[0] === 1 ? [param[1]] : []));
  return [...step.inputs, ...step.outputs].flatMap((value) => (value.storage === undefined ? [] : [value.storage]));
}

function print(path: string, manifest: Manifest, report: BuildReport, sizes: { readonly sizeBytes: number; readonly codeBytes: number; readonly weightBytes: number }): void {
  const { model, target } = manifest;
  console.log(list([
    ["engine", `${path}, format ${manifest.format}, by sinter ${manifest.version}`],
    ["model", `${model.name || "unnamed"}, ${model.producer || "producer not said"}, opset ${model.opset}`],
    ["model digest", `sha256:${model.digest}`],
    ["built for", `${target.isa}: ${target.cpu}`],
    ["precision", `${manifest.precision}, tuning level ${manifest.level}`],
    ["size", `${bytes(sizes.sizeBytes)}: code ${bytes(sizes.codeBytes)}, weights ${bytes(sizes.weightBytes)} (the model's ${bytes(manifest.modelWeightBytes)})`],
    ["nodes", `${report.nodesBefore}, after the passes ${report.nodesAfter}, in ${manifest.steps.length} kernels`],
    ...manifest.profiles.map((profile, i): [string, string] => [`profile ${i}`, `peak arena ${bytes(profile.arenaBytes)}; ${Object.entries(profile.symbols).map(([name, range]) => `${name} ${range.min}/${range.opt}/${range.max}`).join(", ") || "fixed shapes"}`]),
    ["not native", report.referenceSteps.length === 0 ? "nothing" : some(report.referenceSteps, 8)],
  ]));
  console.log(valueTable("Inputs", manifest.inputs.map(valueText)));
  console.log(valueTable("Outputs", manifest.outputs.map(valueText)));
  const counts = new Map<string, number>();
  for (const operator of manifest.steps.flatMap((step) => step.label.operators)) counts.set(operator, (counts.get(operator) ?? 0) + 1);
  console.log(`${heading("Operators")}\n  ${[...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).map(([name, count]) => `${name} ${count}`).join(", ")}`);
}

function layerText(layer: LayerText, index: number): string {
  const lines = [`${index}  ${layer.name}  ${layer.kind}: ${layer.operators.join(" ")}`];
  if (layer.nodes.length > 0) lines.push(`    nodes    ${layer.nodes.join(" ")}`);
  if (layer.writes.length > 0) lines.push(`    writes   ${layer.writes.join(" ")}`);
  lines.push(`    tactic   ${layer.tactic}${layer.scratchBytes > 0 ? `, scratch ${bytes(layer.scratchBytes)}` : ""}`);
  for (const { tactic, ns, outcome, reason } of layer.tactics.filter((item) => item.outcome === "slower" || item.outcome === "refused")) {
    lines.push(`    ${outcome.padEnd(8)} ${tactic}${ns === undefined ? "" : `: ${milliseconds(ns / 1e6)} ms`}${reason === undefined ? "" : `: ${reason}`}`);
  }
  for (const [reason, tactics] of skippedByReason(layer.tactics)) lines.push(`    skipped  ${tactics.length}: ${reason}: ${some(tactics, 3)}`);
  return lines.join("\n");
}

function skippedByReason(tactics: readonly TacticReport[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { tactic, outcome, reason = "" } of tactics) {
    if (outcome !== "skipped") continue;
    groups.set(reason, [...(groups.get(reason) ?? []), tactic]);
  }
  return groups;
}
