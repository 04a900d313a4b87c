/**
 * Graph to plan: walks the nodes in order, and emits one step per kernel.
 *
 * A node's results are either inlined (computed where they are used), an alias (a strided view of memory that exists),
 * or written by a step. Contractions carry their epilogue chain; they are emitted where the last node of it stands,
 * when everything the epilogue reads exists. Where values lie is `StepWriter`'s part.
 *
 * An If becomes its branches one after the other, with jumps around them; both write the If's results. What one branch
 * computes is unknown to the other and to what follows, so each has a scheduler of its own over shared memory.
 */
import { type DType, DTYPE_BITS } from "../base/index.ts";
import { type Buffer, captures, type Dim, dimEqual, dimKey, dimsEqual, Graph, type Node, subgraphsOf, symbolsOf, type Value } from "../ir/index.ts";
import { findProblem, isDataDependent, lowerings, opKey, type SequentialMemory, sequentials } from "../ops/index.ts";
import { aliasView } from "./alias.ts";
import { joinBands } from "./bands.ts";
import { ContractionWriter } from "./contraction-writer.ts";
import type { HostSource, HostTarget, JumpStep, OutputSource, Plan } from "./plan.ts";
import { isMemory, StepWriter } from "./step-writer.ts";
import { PROCESSOR_KERNELS, type TargetKernels } from "./target-kernels.ts";
import { contiguousView, rowMajorStrides, type View } from "./view.ts";

export function schedule(graph: Graph, kernels: TargetKernels = PROCESSOR_KERNELS): Plan {
  return new Scheduler(graph, kernels).run();
}

class Scheduler {
  private readonly graph: Graph;
  private readonly writer: StepWriter;
  private readonly contractions: ContractionWriter;
  private readonly emitAt = new Map<Node, Node>();

  /** @param outer of a branch: where it stands */
  constructor(graph: Graph, kernels: TargetKernels, outer?: StepWriter) {
    this.graph = graph;
    this.writer = new StepWriter(graph, kernels, outer);
    this.contractions = new ContractionWriter(this.writer);
    for (const [contraction, chain] of this.writer.fusion.chains) this.emitAt.set(chain[chain.length - 1] ?? contraction, contraction);
  }

  run(): Plan {
    const inputs = this.graph.inputs.map((value) => this.bindInput(value));
    this.reserveOutputs();
    for (const node of this.graph.nodes) this.emit(node);
    const outputs = this.graph.outputs.map((value) => this.bindOutput(value));
    const plan: Plan = { graph: this.graph, steps: this.writer.shared.steps, views: this.writer.shared.bufferViews, inputs, outputs, constants: this.writer.shared.constants };
    return this.writer.kernels.bands ? joinBands(plan) : plan;
  }

  private bindInput(value: Value): View | undefined {
    if (!isMemory(value)) {
      this.writer.shared.hostValues.add(value);
      return undefined;
    }
    const view = this.writer.newView(value, "input");
    this.writer.viewOfValue.set(value, view);
    return view;
  }

  /** Outputs that a step writes go straight to the caller's memory; a value that is an output twice is copied. */
  private reserveOutputs(): void {
    for (const value of new Set(this.graph.outputs)) {
      if (!isMemory(value) || value.constant || !value.producer || this.graph.inputs.includes(value)) continue;
      this.writer.outputStorage.set(value, this.writer.newStorage(value, "output"));
    }
  }

  private bindOutput(value: Value): OutputSource {
    if (this.writer.shared.hostValues.has(value)) return { kind: "host", value };
    const own = this.writer.outputStorage.get(value);
    const view = this.writer.viewOfValue.get(value);
    if (own && view?.storage === own) return { kind: "view", view, value };
    if (value.elements && !value.constant && !view) return { kind: "dims", value, elements: value.elements };
    const target = contiguousView(own ?? this.writer.newStorage(value, "output"), value.dtype!, value.dims!);
    this.writer.emitLoop(value, target, value.producer?.origins ?? []);
    return { kind: "view", view: target, value };
  }

  // ---- steps --------------------------------------------------------------------------------------------------

  private emit(node: Node): void {
    const contraction = this.emitAt.get(node);
    if (contraction) return this.contractions.emit(contraction, this.writer.fusion.chains.get(contraction)!);
    const role = this.writer.fusion.roles.get(node);
    if (role === "dead" || role === "shape" || role === "contraction") return;
    if (role === "sequential") return this.emitSequential(node);
    if (role === "reference") return hasNativeBranch(node) ? this.emitBranches(node) : this.emitReference(node);
    for (const value of node.outputs) {
      if (!value || this.writer.fusion.inlined.has(value) || !this.writer.isRead(value) || this.writer.narrowed.has(value)) continue;
      if (value.elements && !this.writer.outputStorage.has(value)) continue;
      if (this.makeAlias(node, value)) continue;
      if (node.op === "Concat" && node.domain === "") this.writer.emitConcat(node, value);
      else this.writeLoop(value);
    }
  }

  private makeAlias(node: Node, value: Value): boolean {
    const source = node.inputs[0];
    if (!source || !this.writer.viewOf(source)) return false;
    const output = this.writer.outputStorage.get(value);
    if (output && this.writer.viewOf(source)!.storage !== output) return false;
    const view = aliasView(node, value, this.writer.viewOf(source)!);
    if (view) this.writer.viewOfValue.set(value, view);
    return view !== undefined;
  }

  private writeLoop(value: Value): void {
    const view = this.writer.place(value);
    this.writer.emitLoop(value, view, value.producer!.origins, this.writer.placeNarrow(value));
    this.writer.viewOfValue.set(value, view);
  }

  /** Steps that depend on what came before: see `SequentialOperator`. */
  private emitSequential(node: Node): void {
    const views = node.outputs.map((value, i) => (value && this.writer.isRead(value) ? this.writer.newView(value) : this.writer.scratch(`${node.name}.${i}`, value?.dtype ?? "int64", (value ?? node.outputs[0])!.dims!)));
    const typed = (view: View, as: DType | undefined): Buffer => this.writer.bufferOf(as ? { ...view, dtype: as } : view);
    const memory: SequentialMemory = {
      input: (index, as) => typed(this.writer.materializeContiguous(node.inputs[index]!), as),
      output: (index, as) => typed(views[index] ?? this.writer.scratch(`${node.name}.${index}`, "int64", node.outputs[0]!.dims!), as),
      temporary: (name, dtype, dims) => this.writer.bufferOf(this.writer.scratch(`${node.name}.${name}`, dtype, dims)),
    };
    for (const part of sequentials.get(opKey(node))!.parts(node, memory)) {
      if (part.kind === "kernel") this.writer.push(part.kernel, node.origins, [node.op]);
      else if (part.kind === "copy") this.writer.emitLoop(node.inputs[part.input]!, views[part.output]!, node.origins);
      else this.writer.shared.steps.push({ kind: "size", symbol: part.symbol, inputs: [{ kind: "view", view: this.writer.shared.bufferViews.get(part.from)! }], outputs: [], origins: node.origins, operators: [node.op] });
    }
    node.outputs.forEach((value, i) => { if (value) this.writer.viewOfValue.set(value, views[i]!); });
  }

  private emitReference(node: Node): void {
    const graph = new Graph(node.name);
    graph.nodes = [node];
    const read = [...node.inputs, ...subgraphsOf(node).flatMap((subgraph) => [...captures(subgraph)])];
    graph.inputs = [...new Set(read)].filter((value) => value !== undefined).filter((value) => !value.constant);
    graph.outputs = node.outputs.filter((value) => value !== undefined).filter((value) => this.writer.isRead(value));
    const inputs = graph.inputs.map((value) => this.writer.hostSource(value));
    const outputs = graph.outputs.map((value) => this.writer.hostTarget(value));
    const reason = lowerings.has(opKey(node)) ? "these types, attributes or run-time parameters have no native form" : "the operator has no native form";
    this.writer.shared.steps.push({ kind: "reference", graph, inputs, outputs, origins: node.origins, operators: [node.op], reason });
  }

  // ---- branches -----------------------------------------------------------------------------------------------

  private emitBranches(node: Node): void {
    const [taken, otherwise] = branchesOf(node);
    for (const value of [...captures(taken), ...captures(otherwise)]) if (isMemory(value) && !value.elements && !this.writer.shared.hostValues.has(value)) this.writer.materialize(value);
    const skip = this.jump(node, [this.writer.hostSource(node.inputs[0]!)]);
    const results = node.outputs.map((value) => (value && this.writer.isRead(value) ? this.writer.newView(value) : undefined));
    this.emitBranch(node, taken, results);
    const end = this.jump(node, []);
    skip.target = this.writer.shared.steps.length;
    this.emitBranch(node, otherwise, results);
    end.target = this.writer.shared.steps.length;
    node.outputs.forEach((value, i) => { if (results[i]) this.writer.viewOfValue.set(value!, results[i]); });
  }

  private jump(node: Node, inputs: readonly HostSource[]): JumpStep {
    const step: JumpStep = { kind: "jump", target: 0, inputs, outputs: [], origins: node.origins, operators: [node.op] };
    this.writer.shared.steps.push(step);
    return step;
  }

  private emitBranch(node: Node, branch: Graph, results: readonly (View | undefined)[]): void {
    if (givesResults(branch, node)) return new Scheduler(branch, this.writer.kernels, this.writer).runBranch(results);
    const problem = findProblem(branch);
    if (problem === undefined) return this.referenceBranch(node, branch, results);
    const message = `If "${node.name}" takes the branch "${branch.name}", which is wrong for these shapes: ${problem}`;
    this.writer.shared.steps.push({ kind: "fail", message, inputs: [], outputs: [], origins: node.origins, operators: [node.op] });
  }

  /** The steps of a branch, which write the results to where they are wanted. */
  private runBranch(results: readonly (View | undefined)[]): void {
    const own = new Set(this.graph.nodes);
    this.graph.outputs.forEach((value, i) => {
      if (results[i] && value.producer && own.has(value.producer) && dimsEqual(value.dims!, results[i].dims)) this.writer.outputStorage.set(value, results[i].storage);
    });
    for (const node of this.graph.nodes) this.emit(node);
    this.graph.outputs.forEach((value, i) => {
      const target = results[i];
      if (!target || this.writer.viewOfValue.get(value)?.storage === target.storage) return;
      this.tellSizes(value, target);
      this.writer.emitLoop(value, { ...target, dims: value.dims!, strides: rowMajorStrides(value.dims!) }, value.producer?.origins ?? []);
    });
  }

  /** Sizes of an If's result that are those of the branch that was taken. */
  private tellSizes(value: Value, result: View): void {
    for (const [axis, symbol] of result.dims.entries()) {
      const given = value.dims![axis]!;
      if (!dimEqual(symbol, given)) this.writer.shared.steps.push({ kind: "size", symbol, given, inputs: [], outputs: [], origins: value.producer?.origins ?? [], operators: ["If"] });
    }
  }

  /** A branch whose results have other shapes, or none that are known, runs on the reference. */
  private referenceBranch(node: Node, branch: Graph, results: readonly (View | undefined)[]): void {
    const graph = new Graph(branch.name);
    graph.nodes = branch.nodes;
    graph.inputs = [...captures(branch)];
    graph.outputs = branch.outputs.filter((_, i) => results[i]);
    const outputs = node.outputs.flatMap((value, i): HostTarget[] => (results[i] ? [{ kind: "view", view: results[i], value: value! }] : []));
    this.writer.shared.steps.push({
      kind: "reference", graph, inputs: graph.inputs.map((value) => this.writer.hostSource(value)), outputs, origins: node.origins, operators: [node.op],
      reason: "the shapes of this branch's results are not those of the other branch",
    });
  }
}

function branchesOf(node: Node): [Graph, Graph] {
  return [node.attributes["then_branch"] as Graph, node.attributes["else_branch"] as Graph];
}

/** Whether an If is worth its jumps: its results are tensors of known rank and some branch is known to give them. */
function hasNativeBranch(node: Node): boolean {
  if (node.op !== "If" || node.domain !== "") return false;
  return node.outputs.every((value) => !value || (isMemory(value) && DTYPE_BITS[value.dtype!] >= 8)) && branchesOf(node).some((branch) => givesResults(branch, node));
}

/** Whether a branch's results have the types and shapes of the If's. */
function givesResults(branch: Graph, node: Node): boolean {
  return branch.outputs.every((value, i) => {
    const result = node.outputs[i];
    return !result || (isMemory(value) && value.dtype === result.dtype && fitsSizes(value.dims!, result.dims!));
  });
}

/** Whether a branch's dims are those of the result, or tell what a symbol of the result is. */
function fitsSizes(dims: readonly Dim[], result: readonly Dim[]): boolean {
  return dims.length === result.length && dims.every((dim, i) => dimEqual(dim, result[i]!) || (isDataDependent(result[i]!) && symbolsOf(result[i]!).has(dimKey(result[i]!))));
}
