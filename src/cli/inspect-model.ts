/** What `inspect` shows of a model: before and after the graph passes, and the plan that a build would make. */
import { optimizeModel } from "../compile.ts";
import { boundsOf, type Graph, type Node, type Range, subgraphsOf, type Value } from "../ir/index.ts";
import { MappedFile } from "../native/index.ts";
import { type ImportedModel, importModel } from "../onnx/index.ts";
import { layoutArena, lifetimes, type Plan, type Profile, resolveProfiles, schedule, type SymbolProfile } from "../schedule/index.ts";
import { type InspectOptions, type ValueText, valueTable } from "./inspect-text.ts";
import { memoryPlan, type MemoryPlan, memoryText } from "./memory-plan.ts";
import { bytes, heading, list, printJson, some, table } from "./output.ts";

interface LayerText {
  readonly name: string;
  readonly kind: string;
  readonly operators: readonly string[];
  readonly nodes: readonly string[];
  /** Of a reference step: why it is not native. */
  readonly reason?: string;
}

interface ModelText {
  readonly kind: "model";
  readonly file: string;
  readonly producer: string;
  readonly opsets: Readonly<Record<string, number>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly inputs: readonly ValueText[];
  readonly outputs: readonly ValueText[];
  readonly weightBytes: number;
  /** Nodes by operator, as imported. */
  readonly operators: Readonly<Record<string, number>>;
  /** The same after the graph passes. */
  readonly optimized: Readonly<Record<string, number>>;
  readonly passes: unknown;
  readonly layers: readonly LayerText[];
  readonly memory: MemoryPlan;
}

export function inspectModel(path: string, options: InspectOptions, profiles: readonly Profile[]): void {
  const before = describeImported(path);
  const { imported, graph, passes } = optimizeModel(path);
  try {
    const plan = schedule(graph);
    const memory = planOf(plan, resolveProfiles(graph, profiles)[0]!);
    const outputs = before.outputs.map((output, i) => (output.dims ? output : { ...output, dims: valueText(graph.outputs[i]!).dims }));
    const model: ModelText = { kind: "model", file: path, ...before, outputs, optimized: countOperators(graph), passes, layers: plan.steps.map(layerOf), memory };
    if (options.json) printJson(model);
    else print(model, options);
  } finally {
    imported.close();
  }
}

function describeImported(path: string): Omit<ModelText, "kind" | "file" | "optimized" | "passes" | "layers" | "memory"> {
  const imported: ImportedModel = importModel(path, { mapFile: (file) => MappedFile.open(file) });
  try {
    const { graph, metadata } = imported;
    return {
      producer: metadata.producer, opsets: metadata.opsets, metadata: metadata.metadataProps,
      inputs: graph.inputs.map(valueText), outputs: graph.outputs.map(valueText),
      weightBytes: weightBytesOf(graph), operators: countOperators(graph),
    };
  } finally {
    imported.close();
  }
}

function valueText(value: Value): ValueText {
  const type = value.dtype ?? "unknown";
  return { name: value.name, type: value.kind === "tensor" ? type : `${value.kind}(${type})`, dims: value.dims?.map((dim) => (typeof dim === "number" ? dim : String(dim))) };
}

function weightBytesOf(graph: Graph): number {
  const constants = new Set(allNodes(graph).flatMap((node) => node.inputs).filter((value) => value?.constant));
  return [...constants].reduce((sum, value) => sum + value!.constant!.bytes.byteLength, 0);
}

function allNodes(graph: Graph): Node[] {
  return graph.nodes.flatMap((node) => [node, ...subgraphsOf(node).flatMap(allNodes)]);
}

function countOperators(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op, domain } of allNodes(graph)) {
    const name = domain === "" ? op : `${domain}.${op}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(counts).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)));
}

function layerOf(step: Plan["steps"][number]): LayerText {
  if (step.kind === "reference") return { name: step.graph.name, kind: "reference", operators: step.operators, nodes: step.origins, reason: step.reason };
  if (step.kind === "jump") return { name: step.inputs.length > 0 ? "branch" : "end of branch", kind: "jump", operators: step.operators, nodes: step.origins };
  if (step.kind === "fail") return { name: "no such branch", kind: "fail", operators: step.operators, nodes: step.origins, reason: step.message };
  if (step.kind === "size") return { name: "size", kind: "size", operators: step.operators, nodes: step.origins };
  return { name: step.kernel.name || step.operators.join("+"), kind: step.kernel.kind, operators: step.operators, nodes: step.origins };
}

function planOf(plan: Plan, profile: SymbolProfile): MemoryPlan {
  const ranges = new Map<string, Range>(Object.entries(profile.symbols));
  const placements = lifetimes(plan);
  const layout = layoutArena(placements, ranges);
  const values = placements.map(({ storage, firstStep, lastStep }) => {
    const offset = layout.offsets.get(storage);
    const { max } = boundsOf(storage.sizeBytes, ranges);
    return { value: storage.value?.name ?? storage.name, sizeBytes: Number.isFinite(max) ? max : 0, firstStep, lastStep, ...(offset === undefined ? {} : { offset }) };
  });
  return memoryPlan(Object.fromEntries(Object.entries(profile.symbols).map(([name, range]) => [name, range.max])), layout.sizeBytes, values);
}

function print(model: ModelText, options: InspectOptions): void {
  const nodes = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((sum, count) => sum + count, 0);
  console.log(list([
    ["model", model.file],
    ["producer", model.producer || "not said"],
    ["opsets", Object.entries(model.opsets).map(([domain, version]) => `${domain || "ai.onnx"} ${version}`).join(", ")],
    ...Object.entries(model.metadata).slice(0, 8).map(([key, value]): [string, string] => [key, value.length > 100 ? `${value.slice(0, 100)}…` : value]),
    ["weights", bytes(model.weightBytes)],
    ["nodes", `${nodes(model.operators)}, after the passes ${nodes(model.optimized)}, in ${model.layers.length} kernels`],
    ["peak arena", `${bytes(model.memory.arenaBytes)} at the profile's maximum`],
  ]));
  console.log(valueTable("Inputs", model.inputs));
  console.log(valueTable("Outputs", model.outputs));
  const names = [...new Set([...Object.keys(model.operators), ...Object.keys(model.optimized)])];
  console.log(`${heading("Operators")}\n${table(["operator", "imported", "after the passes"], names.map((name) => [name, String(model.operators[name] ?? "-"), String(model.optimized[name] ?? "-")]))}`);
  const references = model.layers.filter((layer) => layer.kind === "reference");
  if (references.length > 0) console.log(`\nNot native: ${some(references.map((layer) => `${layer.operators.join("+")} "${layer.name}" (${layer.reason})`), 8)}`);
  if (options.layers) console.log(`${heading("Kernels")}\n${table(["", "kernel", "kind", "operators", "nodes"], model.layers.map((layer, i) => [String(i), layer.name, layer.kind, layer.operators.join(" "), layer.nodes.join(" ")]))}`);
  if (options.memory) console.log(memoryText(model.memory));
}
