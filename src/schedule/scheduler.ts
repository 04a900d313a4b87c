/**
 * Graph to plan: walks the nodes in order, gives memory to what needs it, and emits one step per kernel.
 *
 * A node's results are either inlined (computed where they are used), an alias (a strided view of memory that exists),
 * or written by a step. Contractions carry their epilogue chain; they are emitted where the last node of it stands,
 * when everything the epilogue reads exists.
 *
 * An If becomes its branches one after the other, with jumps around them; both write the If's results. What one branch
 * computes is unknown to the other and to what follows, so each has a scheduler of its own over shared memory.
 */
import { assert, type DType, DTYPE_BITS, UnsupportedError } from "../base/index.ts";
import { type AttentionKernel, type Axis, type Buffer, captures, type ConvKernel, type Dim, dimEqual, dimKey, dimsEqual, type Epilogue, type Expr, Graph, i64, type Kernel, type LoopKernel, type MatmulKernel, type MatmulOperand, mul, type Node, op, product, type StridedOperand, sub, subgraphsOf, symbolsOf, type Value, type ZeroPoint } from "../ir/index.ts";
import { findProblem, isDataDependent, lowerings, opKey, type SequentialMemory, sequentials } from "../ops/index.ts";
import { aliasView } from "./alias.ts";
import { axesOf, axisExpr, elementOf, type ExpressionContext, type ReshapedIndex, reshapeIndex } from "./expression.ts";
import { convInputs, convPads, sumType } from "./contractions.ts";
import { decideFusion, type Fusion, isReshape } from "./fusion.ts";
import type { HostSource, HostTarget, JumpStep, OutputSource, Plan, Step } from "./plan.ts";
import { PROCESSOR_KERNELS, type TargetKernels } from "./target-kernels.ts";
import { convPhases } from "./transposed-conv.ts";
import { alignmentOf, contiguousView, expandView, isContiguous, reshapeView, rowMajorStrides, sliceView, type Storage, transposeView, type View } from "./view.ts";

export function schedule(graph: Graph, kernels: TargetKernels = PROCESSOR_KERNELS): Plan {
  return new Scheduler(graph, kernels).run();
}

/** What the schedulers of a graph and its branches have in common. */
interface Shared {
  readonly steps: Step[];
  readonly bufferViews: Map<Buffer, View>;
  readonly buffersByKey: Map<string, Buffer>;
  readonly constants: Map<Storage, Value>;
  readonly constantViews: Map<Value, View>;
  /** Host-only values: sequences, optionals, strings. */
  readonly hostValues: Set<Value>;
  /** How many storages there are. */
  storages: number;
}

class Scheduler {
  private readonly graph: Graph;
  private readonly kernels: TargetKernels;
  private readonly fusion: Fusion;
  private readonly shared: Shared;
  private readonly viewOfValue: Map<Value, View>;
  private readonly outputStorage = new Map<Value, Storage>();
  private readonly emitAt = new Map<Node, Node>();
  /** Results of Concats that have memory, and where their inputs lie in it. */
  private readonly concatTargets = new Map<Value, View>();
  /** Casts to bfloat16 that the kernel which made their input has written as well. */
  private readonly narrowed = new Set<Value>();
  private readonly partsOfConcat = new Map<Node, readonly View[]>();

  /** @param outer of a branch: where it stands */
  constructor(graph: Graph, kernels: TargetKernels, outer?: Scheduler) {
    this.graph = graph;
    this.kernels = kernels;
    this.shared = outer?.shared ?? { steps: [], bufferViews: new Map(), buffersByKey: new Map(), constants: new Map(), constantViews: new Map(), hostValues: new Set(), storages: 0 };
    this.viewOfValue = new Map(outer?.viewOfValue);
    this.fusion = decideFusion(graph, kernels);
    for (const [contraction, chain] of this.fusion.chains) this.emitAt.set(chain[chain.length - 1] ?? contraction, contraction);
  }

  run(): Plan {
    const inputs = this.graph.inputs.map((value) => this.bindInput(value));
    this.reserveOutputs();
    for (const node of this.graph.nodes) this.emit(node);
    const outputs = this.graph.outputs.map((value) => this.bindOutput(value));
    return { graph: this.graph, steps: this.shared.steps, views: this.shared.bufferViews, inputs, outputs, constants: this.shared.constants };
  }

  private bindInput(value: Value): View | undefined {
    if (!isMemory(value)) {
      this.shared.hostValues.add(value);
      return undefined;
    }
    const view = this.newView(value, "input");
    this.viewOfValue.set(value, view);
    return view;
  }

  /** Outputs that a step writes go straight to the caller's memory; a value that is an output twice is copied. */
  private reserveOutputs(): void {
    for (const value of new Set(this.graph.outputs)) {
      if (!isMemory(value) || value.constant || !value.producer || this.graph.inputs.includes(value)) continue;
      this.outputStorage.set(value, this.newStorage(value, "output"));
    }
  }

  private bindOutput(value: Value): OutputSource {
    if (this.shared.hostValues.has(value)) return { kind: "host", value };
    const own = this.outputStorage.get(value);
    const view = this.viewOfValue.get(value);
    if (own && view?.storage === own) return { kind: "view", view, value };
    if (value.elements && !value.constant && !view) return { kind: "dims", value, elements: value.elements };
    const target = contiguousView(own ?? this.newStorage(value, "output"), value.dtype!, value.dims!);
    this.emitLoop(value, target, value.producer?.origins ?? []);
    return { kind: "view", view: target, value };
  }

  // ---- memory -------------------------------------------------------------------------------------------------

  private newStorage(value: Value, place: Storage["place"]): Storage {
    const bits = DTYPE_BITS[value.dtype!];
    const count = product(value.dims!);
    const sizeBytes = bits >= 8 ? mul(count, bits / 8) : typeof count === "number" ? Math.ceil((count * bits) / 8) : count;
    return { name: `${this.shared.storages++}:${value.name}`, place, sizeBytes, value };
  }

  private newView(value: Value, place: Storage["place"] = "arena"): View {
    const storage = (place === "arena" ? this.outputOf(value) : undefined) ?? this.newStorage(value, place);
    return contiguousView(storage, value.dtype!, value.dims!);
  }

  /** The graph output that this value is, or becomes by reshapes alone: it is written there at once. */
  private outputOf(value: Value): Storage | undefined {
    for (let current = value; ; ) {
      const own = this.outputStorage.get(current);
      if (own) return own;
      const users = [...new Set(this.fusion.users.get(current) ?? [])];
      const next = users[0];
      if (users.length !== 1 || !next || !isReshape(next) || next.inputs[0] !== current) return undefined;
      current = next.outputs[0]!;
    }
  }

  /** The value's memory, if it has any by now; constants get theirs on first use. */
  private readonly viewOf = (value: Value): View | undefined => {
    const known = this.viewOfValue.get(value) ?? this.shared.constantViews.get(value);
    if (known || !value.constant || !isMemory(value)) return known;
    const view = contiguousView(this.newStorage(value, "weights"), value.dtype!, value.dims!);
    this.shared.constants.set(view.storage, value);
    this.shared.constantViews.set(value, view);
    return view;
  };

  private readonly bufferOf = (view: View): Buffer => {
    const key = `${view.storage.name}|${view.dtype}|${view.dims.map(String)}|${view.strides.map(String)}|${view.offset}`;
    let buffer = this.shared.buffersByKey.get(key);
    if (!buffer) {
      buffer = { name: view.storage.name, dtype: view.dtype, dims: view.dims, ...(isContiguous(view) ? {} : { strides: view.strides }), ...(view.offset === 0 ? {} : { alignment: alignmentOf(view) }) };
      this.shared.buffersByKey.set(key, buffer);
      this.shared.bufferViews.set(buffer, view);
    }
    return buffer;
  };

  /** The value in memory, computed now if it was to be inlined. */
  private materialize(value: Value): View {
    const known = this.viewOf(value);
    if (known) return known;
    const view = this.newView(value);
    this.emitLoop(value, view, value.producer?.origins ?? []);
    this.viewOfValue.set(value, view);
    return view;
  }

  private materializeContiguous(value: Value): View {
    const view = this.materialize(value);
    return isContiguous(view) ? view : this.copyOf(value);
  }

  /** At the beginning of its memory, as what runs on the host takes it. */
  private materializeWhole(value: Value): View {
    const view = this.materialize(value);
    return isContiguous(view) && view.offset === 0 ? view : this.copyOf(value);
  }

  private copyOf(value: Value): View {
    const copy = contiguousView(this.newStorage(value, "arena"), value.dtype!, value.dims!);
    this.emitLoop(value, copy, value.producer?.origins ?? []);
    return copy;
  }

  // ---- steps --------------------------------------------------------------------------------------------------

  private emit(node: Node): void {
    const contraction = this.emitAt.get(node);
    if (contraction) return this.emitContraction(contraction, this.fusion.chains.get(contraction)!);
    const role = this.fusion.roles.get(node);
    if (role === "dead" || role === "shape" || role === "contraction") return;
    if (role === "sequential") return this.emitSequential(node);
    if (role === "reference") return hasNativeBranch(node) ? this.emitBranches(node) : this.emitReference(node);
    for (const value of node.outputs) {
      if (!value || this.fusion.inlined.has(value) || !this.isRead(value) || this.narrowed.has(value)) continue;
      if (value.elements && !this.outputStorage.has(value)) continue;
      if (this.makeAlias(node, value)) continue;
      if (node.op === "Concat" && node.domain === "") this.emitConcat(node, value);
      else this.writeLoop(value);
    }
  }

  private isRead(value: Value): boolean {
    return this.fusion.users.has(value) || this.graph.outputs.includes(value);
  }

  private makeAlias(node: Node, value: Value): boolean {
    const source = node.inputs[0];
    if (!source || !this.viewOf(source)) return false;
    const output = this.outputStorage.get(value);
    if (output && this.viewOf(source)!.storage !== output) return false;
    const view = aliasView(node, value, this.viewOf(source)!);
    if (view) this.viewOfValue.set(value, view);
    return view !== undefined;
  }

  private writeLoop(value: Value): void {
    const view = this.place(value);
    this.emitLoop(value, view, value.producer!.origins, this.placeNarrow(value));
    this.viewOfValue.set(value, view);
  }

  /** Memory for the value rounded to bfloat16, when somebody reads that beside the value itself: one kernel writes both. */
  private placeNarrow(value: Value): View | undefined {
    if (!this.kernels.narrowCopies) return undefined;
    const casts = (this.fusion.users.get(value) ?? []).filter((user) => user.op === "Cast" && user.outputs[0]?.dtype === "bfloat16" && this.fusion.roles.get(user) === "loop");
    const narrow = casts[0]?.outputs[0];
    if (!this.kernels.narrowCopies || value.dtype !== "float32" || !narrow || this.fusion.inlined.has(narrow) || this.graph.outputs.includes(narrow) || this.narrowed.has(narrow)) return undefined;
    const view = this.newView(narrow);
    this.viewOfValue.set(narrow, view);
    this.narrowed.add(narrow);
    return view;
  }

  /**
   * A loop kernel that writes every element of `value` to `target`, whose dims are the value's.
   * @param narrow where it is written in bfloat16 as well
   */
  private emitLoop(value: Value, target: View, origins: readonly string[], narrow?: View): void {
    const axes = axesOf(value.dims!);
    const trace = new InlineTrace();
    const context: ExpressionContext = { viewOf: this.viewOf, bufferOf: this.bufferOf, onInline: trace.note };
    const element = elementOf(value, axes.map(axisExpr), context);
    const outputs = [target, ...(narrow ? [narrow] : [])].map((view) => ({ buffer: this.bufferOf(view), value: element }));
    const kernel: LoopKernel = { kind: "loop", name: value.producer?.op ?? "Copy", axes, outputs };
    this.push(kernel, [...trace.origins, ...origins], trace.operators);
  }

  /** Each input is written to its place in the result, unless it was made there; what can be computed on the way is. */
  private emitConcat(node: Node, value: Value): void {
    const parts = this.concatParts(node, value);
    for (const [i, input] of node.inputs.entries()) {
      if (input && this.viewOfValue.get(input) !== parts[i]) this.emitLoop(input, parts[i]!, node.origins);
    }
    this.viewOfValue.set(value, this.concatTargets.get(value)!);
  }

  /** Where each input of a Concat lies in its result. */
  private concatParts(node: Node, value: Value): readonly View[] {
    const known = this.partsOfConcat.get(node);
    if (known) return known;
    const target = this.place(value);
    const rank = value.dims!.length;
    const axis = (((node.attributes["axis"] as number) % rank) + rank) % rank;
    let start: Dim = 0;
    const parts = node.inputs.map((input): View => {
      const part: View = { ...target, dims: input!.dims!, offset: addDims(target.offset, mul(start, target.strides[axis]!)) };
      start = addDims(start, input!.dims![axis]!);
      return part;
    });
    this.concatTargets.set(value, target);
    this.partsOfConcat.set(node, parts);
    return parts;
  }

  /** Memory for a value that a step is about to write: its place in the Concat that reads it, where strides suit its other readers. */
  private place(value: Value): View {
    const users = [...new Set(this.fusion.users.get(value) ?? [])];
    const concat = users.find((user) => user.op === "Concat" && user.domain === "" && this.fusion.roles.get(user) === "loop");
    const result = concat?.outputs[0];
    if (!concat || !result?.dims || this.outputOf(value) || this.graph.outputs.includes(value) || !this.isRead(result)) return this.newView(value);
    if (result.elements || concat.inputs.some((input) => !input?.dims) || !users.every((user) => user === concat || this.readsStrided(user))) return this.newView(value);
    return this.concatParts(concat, result)[concat.inputs.indexOf(value)]!;
  }

  private readsStrided(user: Node): boolean {
    return this.fusion.roles.get(user) === "loop" && !isReshape(user);
  }

  private push(kernel: Kernel, origins: readonly string[], operators: readonly string[]): void {
    this.shared.steps.push({ kind: "kernel", kernel, origins: [...new Set(origins)], operators });
  }

  /** Steps that depend on what came before: see `SequentialOperator`. */
  private emitSequential(node: Node): void {
    const views = node.outputs.map((value, i) => (value && this.isRead(value) ? this.newView(value) : this.scratch(`${node.name}.${i}`, value?.dtype ?? "int64", (value ?? node.outputs[0])!.dims!)));
    const typed = (view: View, as: DType | undefined): Buffer => this.bufferOf(as ? { ...view, dtype: as } : view);
    const memory: SequentialMemory = {
      input: (index, as) => typed(this.materializeContiguous(node.inputs[index]!), as),
      output: (index, as) => typed(views[index] ?? this.scratch(`${node.name}.${index}`, "int64", node.outputs[0]!.dims!), as),
      temporary: (name, dtype, dims) => this.bufferOf(this.scratch(`${node.name}.${name}`, dtype, dims)),
    };
    for (const part of sequentials.get(opKey(node))!.parts(node, memory)) {
      if (part.kind === "kernel") this.push(part.kernel, node.origins, [node.op]);
      else if (part.kind === "copy") this.emitLoop(node.inputs[part.input]!, views[part.output]!, node.origins);
      else this.shared.steps.push({ kind: "size", symbol: part.symbol, inputs: [{ kind: "view", view: this.shared.bufferViews.get(part.from)! }], outputs: [], origins: node.origins, operators: [node.op] });
    }
    node.outputs.forEach((value, i) => { if (value) this.viewOfValue.set(value, views[i]!); });
  }

  /** Memory that no value of the graph has. */
  private scratch(name: string, dtype: DType, dims: readonly Dim[]): View {
    const storage: Storage = { name: `${this.shared.storages++}:${name}`, place: "arena", sizeBytes: mul(product(dims), DTYPE_BITS[dtype] / 8) };
    return contiguousView(storage, dtype, dims);
  }

  private emitReference(node: Node): void {
    const graph = new Graph(node.name);
    graph.nodes = [node];
    const read = [...node.inputs, ...subgraphsOf(node).flatMap((subgraph) => [...captures(subgraph)])];
    graph.inputs = [...new Set(read)].filter((value) => value !== undefined).filter((value) => !value.constant);
    graph.outputs = node.outputs.filter((value) => value !== undefined).filter((value) => this.isRead(value));
    const inputs = graph.inputs.map((value) => this.hostSource(value));
    const outputs = graph.outputs.map((value) => this.hostTarget(value));
    const reason = lowerings.has(opKey(node)) ? "these types, attributes or run-time parameters have no native form" : "the operator has no native form";
    this.shared.steps.push({ kind: "reference", graph, inputs, outputs, origins: node.origins, operators: [node.op], reason });
  }

  private hostTarget(value: Value): HostTarget {
    if (!isMemory(value)) {
      this.shared.hostValues.add(value);
      return { kind: "host", value };
    }
    const view = this.newView(value);
    this.viewOfValue.set(value, view);
    return { kind: "view", view, value };
  }

  private hostSource(value: Value): HostSource {
    if (this.shared.hostValues.has(value)) return { kind: "host", value };
    if (value.elements && !this.viewOf(value)) return { kind: "dims", value, elements: value.elements };
    return { kind: "view", view: this.materializeWhole(value) };
  }

  // ---- branches -----------------------------------------------------------------------------------------------

  private emitBranches(node: Node): void {
    const [taken, otherwise] = branchesOf(node);
    for (const value of [...captures(taken), ...captures(otherwise)]) if (isMemory(value) && !value.elements && !this.shared.hostValues.has(value)) this.materialize(value);
    const skip = this.jump(node, [this.hostSource(node.inputs[0]!)]);
    const results = node.outputs.map((value) => (value && this.isRead(value) ? this.newView(value) : undefined));
    this.emitBranch(node, taken, results);
    const end = this.jump(node, []);
    skip.target = this.shared.steps.length;
    this.emitBranch(node, otherwise, results);
    end.target = this.shared.steps.length;
    node.outputs.forEach((value, i) => { if (results[i]) this.viewOfValue.set(value!, results[i]); });
  }

  private jump(node: Node, inputs: readonly HostSource[]): JumpStep {
    const step: JumpStep = { kind: "jump", target: 0, inputs, outputs: [], origins: node.origins, operators: [node.op] };
    this.shared.steps.push(step);
    return step;
  }

  private emitBranch(node: Node, branch: Graph, results: readonly (View | undefined)[]): void {
    if (givesResults(branch, node)) return new Scheduler(branch, this.kernels, this).runBranch(results);
    const problem = findProblem(branch);
    if (problem === undefined) return this.referenceBranch(node, branch, results);
    const message = `If "${node.name}" takes the branch "${branch.name}", which is wrong for these shapes: ${problem}`;
    this.shared.steps.push({ kind: "fail", message, inputs: [], outputs: [], origins: node.origins, operators: [node.op] });
  }

  /** The steps of a branch, which write the results to where they are wanted. */
  private runBranch(results: readonly (View | undefined)[]): void {
    const own = new Set(this.graph.nodes);
    this.graph.outputs.forEach((value, i) => {
      if (results[i] && value.producer && own.has(value.producer) && dimsEqual(value.dims!, results[i].dims)) this.outputStorage.set(value, results[i].storage);
    });
    for (const node of this.graph.nodes) this.emit(node);
    this.graph.outputs.forEach((value, i) => {
      const target = results[i];
      if (!target || this.viewOfValue.get(value)?.storage === target.storage) return;
      this.tellSizes(value, target);
      this.emitLoop(value, { ...target, dims: value.dims!, strides: rowMajorStrides(value.dims!) }, value.producer?.origins ?? []);
    });
  }

  /** Sizes of an If's result that are those of the branch that was taken. */
  private tellSizes(value: Value, result: View): void {
    for (const [axis, symbol] of result.dims.entries()) {
      const given = value.dims![axis]!;
      if (!dimEqual(symbol, given)) this.shared.steps.push({ kind: "size", symbol, given, inputs: [], outputs: [], origins: value.producer?.origins ?? [], operators: ["If"] });
    }
  }

  /** A branch whose results have other shapes, or none that are known, runs on the reference. */
  private referenceBranch(node: Node, branch: Graph, results: readonly (View | undefined)[]): void {
    const graph = new Graph(branch.name);
    graph.nodes = branch.nodes;
    graph.inputs = [...captures(branch)];
    graph.outputs = branch.outputs.filter((_, i) => results[i]);
    const outputs = node.outputs.flatMap((value, i): HostTarget[] => (results[i] ? [{ kind: "view", view: results[i], value: value! }] : []));
    this.shared.steps.push({
      kind: "reference", graph, inputs: graph.inputs.map((value) => this.hostSource(value)), outputs, origins: node.origins, operators: [node.op],
      reason: "the shapes of this branch's results are not those of the other branch",
    });
  }

  // ---- contractions -------------------------------------------------------------------------------------------

  private emitContraction(node: Node, chain: readonly Node[]): void {
    const trace = new InlineTrace();
    if (isMatmul(node)) this.emitMatmul(node, chain, trace);
    else if (node.op === "Conv" || node.op === "ConvInteger") this.emitConv(node, chain, trace);
    else if (node.op === "ConvTranspose") this.emitTransposedConv(node, chain, trace);
    else this.emitAttention(node, chain, trace);
  }

  /** Where a contraction's results go: the last value of its chain, with the axes of the contraction's own output dims. */
  private target(node: Node, chain: readonly Node[]): { result: Value; written: View; own: View } {
    const last = chain[chain.length - 1] ?? node;
    const result = last.outputs[0]!;
    const straighten = (view: View): View | undefined => reshapeView(last.op === "Transpose" && last !== node ? transposeView(view, inverse(last.attributes["perm"] as number[])) : view, node.outputs[0]!.dims!);
    const placed = this.place(result);
    const fits = straighten(placed);
    if (fits && (!isMatmul(node) || joinsRows(fits))) return { result, written: placed, own: fits };
    const written = this.newView(result);
    const own = straighten(written);
    assert(own, `the results of ${node.name} cannot be placed`);
    return { result, written, own };
  }

  /** @param places where in the contraction's value a point of the kernel's output lies, when that is not the point itself */
  private epilogue(node: Node, chain: readonly Node[], axisDims: readonly Dim[], bias: ((axes: readonly Axis[]) => Expr) | undefined, trace: InlineTrace, places?: (axes: readonly Axis[]) => Expr[]): Epilogue | undefined {
    const pointwise = chain.filter((item) => item.op !== "Transpose");
    if (!bias && !pointwise.some((item) => !isReshape(item))) return undefined;
    const axes = axesOf(axisDims, "o");
    const accumulator: Expr = { kind: "accumulator", type: sumType(node) };
    const start: Expr = bias ? { kind: "op", type: "f32", op: "add", args: [accumulator, bias(axes)] } : accumulator;
    const value = node.outputs[0]!;
    let dims: readonly Dim[] = value.dims!;
    const ownIndex = places ? places(axes) : axes.map(axisExpr);
    const ownDims = places ? dims : axisDims;
    let index = reshapeIndex(ownDims, dims, ownIndex);
    const reshaped: ReshapedIndex[] = [{ from: ownDims, fromIndex: ownIndex, to: dims, toIndex: index }];
    const given = new Map<Value, Expr>([[value, start]]);
    let result: Expr = start;
    for (const item of pointwise) {
      const output = item.outputs[0]!;
      if (isReshape(item)) {
        index = reshapeIndex(ownDims, output.dims!, ownIndex);
        dims = output.dims!;
        reshaped.push({ from: ownDims, fromIndex: ownIndex, to: dims, toIndex: index });
      } else {
        const context: ExpressionContext = { viewOf: this.viewOf, bufferOf: this.bufferOf, given, reshaped, onInline: trace.note };
        result = elementOf(output, index, context);
      }
      given.set(output, result);
    }
    return { axes, value: result };
  }

  private emitMatmul(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const operands = matmulOperands(this.materialize(node.inputs[0]!), this.materialize(node.inputs[1]!), node.outputs[0]!.dims!);
    const { result, written, own } = this.target(node, chain);
    const ownDims = [...operands.batch, operands.m, operands.n];
    const output = reshapeView(own, ownDims);
    assert(output, `the results of ${node.name} cannot be placed`);
    const epilogue = this.epilogue(node, chain, ownDims, undefined, trace);
    const [zeroA, zeroB] = node.op === "MatMulInteger" ? node.inputs.slice(2) : [];
    const kernel: MatmulKernel = {
      kind: "matmul", name: node.name, batch: operands.batch, m: operands.m, n: operands.n, k: operands.k,
      a: this.matmulOperand(operands.a, zeroA), b: this.matmulOperand(operands.b, zeroB), output: this.bufferOf(output), ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  private matmulOperand(view: View, zero?: Value): MatmulOperand {
    const rank = view.dims.length;
    return { buffer: this.bufferOf(view), batchStrides: view.strides.slice(0, rank - 2), rowStride: view.strides[rank - 2]!, columnStride: view.strides[rank - 1]!, ...(zero ? { zero: this.zeroPoint(zero) } : {}) };
  }

  /** The number where there is one that is known, else where the run finds it. */
  private zeroPoint(value: Value): ZeroPoint {
    if (value.constant && value.dims!.every((dim) => dim === 1)) return (value.dtype === "int8" ? new Int8Array(value.constant.bytes.slice().buffer) : value.constant.bytes)[0]!;
    return this.bufferOf(this.materializeContiguous(value));
  }

  private finish(kernel: Kernel, node: Node, chain: readonly Node[], trace: InlineTrace, result: Value, written: View): void {
    this.viewOfValue.set(result, written);
    this.push(this.withNarrowCopy(kernel, result, written), [...node.origins, ...trace.origins, ...chain.flatMap((item) => item.origins)], [node.op, ...trace.operators]);
  }

  /** The kernel with its results once more in bfloat16, when both are read and lie alike. */
  private withNarrowCopy(kernel: Kernel, result: Value, written: View): Kernel {
    if ((kernel.kind !== "matmul" && kernel.kind !== "conv") || kernel.output.strides || !dimEqual(product(kernel.output.dims), product(written.dims))) return kernel;
    const narrow = this.placeNarrow(result);
    return narrow ? { ...kernel, copy: this.bufferOf(contiguousView(narrow.storage, narrow.dtype, kernel.output.dims)) } : kernel;
  }

  private emitConv(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    if (isPointwiseConv(node) && this.emitPointwiseConv(node, chain, trace)) return;
    const { input, weights, bias, inputZero, weightsZero } = convInputs(node);
    const { result, written, own } = this.target(node, chain);
    const spatial = weights.dims!.length - 2;
    const channelsFirst = node.attributes["inputLayout"] === "NCHW";
    const source = this.materializeContiguous(input);
    const epilogue = this.epilogue(node, chain, node.outputs[0]!.dims!, this.channelBias(bias), trace);
    const kernel: ConvKernel = {
      kind: "conv", name: node.name, input: this.bufferOf(source), weights: this.bufferOf(this.materializeContiguous(weights)), output: this.bufferOf(own),
      groups: (node.attributes["group"] as number | undefined) ?? 1,
      kernel: weights.dims!.slice(2) as number[],
      strides: (node.attributes["strides"] as number[] | undefined) ?? new Array(spatial).fill(1),
      dilations: (node.attributes["dilations"] as number[] | undefined) ?? new Array(spatial).fill(1),
      pads: convPads(node)!,
      ...(channelsFirst ? { inputChannelsFirst: true } : {}),
      ...(inputZero ? { inputZero: this.zeroPoint(inputZero) } : {}),
      ...(weightsZero ? { weightsZero: this.zeroPoint(weightsZero) } : {}),
      ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  /** A convolution that looks at one pixel is a matrix product whose rows are the pixels of all images. */
  private emitPointwiseConv(node: Node, chain: readonly Node[], trace: InlineTrace): boolean {
    const { input, weights, bias, inputZero, weightsZero } = convInputs(node);
    const dims = node.outputs[0]!.dims!;
    const [n, k] = weights.dims as number[];
    const m = product(dims.slice(0, -1));
    const a = reshapeView(this.materialize(input), [m, k!]);
    if (!a) return false;
    const { result, written, own } = this.target(node, chain);
    const output = reshapeView(own, [m, n!]);
    if (!output) return false;
    const epilogue = this.epilogue(node, chain, [m, n!], this.channelBias(bias), trace);
    const kernel: MatmulKernel = {
      kind: "matmul", name: node.name, batch: [], m, n: n!, k: k!, a: this.matmulOperand(a, inputZero),
      b: { buffer: this.bufferOf(this.materializeContiguous(weights)), batchStrides: [], rowStride: 1, columnStride: k!, ...(weightsZero ? { zero: this.zeroPoint(weightsZero) } : {}) },
      output: this.bufferOf(output), ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
    return true;
  }

  private channelBias(bias: Value | undefined): ((axes: readonly Axis[]) => Expr) | undefined {
    if (!bias) return undefined;
    const buffer = this.bufferOf(this.materializeContiguous(bias));
    return (axes) => ({ kind: "load", type: "f32", buffer, index: [axisExpr(axes[axes.length - 1]!)] });
  }

  /** One convolution per remainder of the output's positions, all writing into one result. */
  private emitTransposedConv(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const [input, , bias] = node.inputs;
    const { result, written, own } = this.target(node, chain);
    const source = this.materializeContiguous(input!);
    const kernels = convPhases(node).map((phase): ConvKernel => {
      let part = own;
      phase.starts.forEach((start, d) => { part = sliceView(part, d + 1, start, phase.strides[d]!, phase.counts[d]!); });
      const places = (axes: readonly Axis[]): Expr[] => axes.map((axis, i) => {
        const d = i - 1;
        return d < 0 || d >= phase.starts.length ? axisExpr(axis) : op("add", op("mul", axisExpr(axis), i64(phase.strides[d]!)), i64(phase.starts[d]!));
      });
      const epilogue = this.epilogue(node, chain, part.dims, this.channelBias(bias), trace, places);
      return {
        kind: "conv", name: node.name, input: this.bufferOf(source), weights: this.bufferOf(this.materializeContiguous(phase.weights)), output: this.bufferOf(part),
        groups: (node.attributes["group"] as number | undefined) ?? 1,
        kernel: phase.kernel, strides: phase.kernel.map(() => 1), dilations: phase.dilations, pads: phase.pads,
        ...(epilogue ? { epilogue } : {}),
      };
    });
    for (const kernel of kernels) this.finish(kernel, node, chain, trace, result, written);
  }

  private emitAttention(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const [q, k, v] = node.inputs.slice(0, 3).map((value) => this.attentionOperand(value!));
    const mask = node.inputs[3];
    const { result, written, own } = this.target(node, chain);
    const [batch, heads, queries, headSize] = q!.dims as [Dim, Dim, Dim, Dim];
    const keys = k!.dims[2]!;
    const kvHeads = k!.dims[1]!;
    const headsPerKv = dimEqual(heads, kvHeads) ? 1 : Number(heads) / Number(kvHeads);
    if (!Number.isInteger(headsPerKv)) throw new UnsupportedError("unsupported", `Attention "${node.name}" has ${heads} query heads and ${kvHeads} key heads; the first must be a multiple of the second.`);
    const kernel: AttentionKernel = {
      kind: "attention", name: node.name, batch, heads, headsPerKv, queries, keys, headSize, valueSize: v!.dims[3]!,
      q: this.strided(q!), k: this.strided(k!), v: this.strided(v!), output: this.strided(own),
      scale: (node.attributes["scale"] as number | undefined) ?? 1,
      ...(node.attributes["causal"] ? { causalOffset: sub(keys, queries) } : {}),
      ...(mask ? { mask: this.maskOf(mask, [batch, heads, queries, keys], trace) } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  /** q, k and v are read through strides; rows must be contiguous, except that keys may be transposed. */
  private attentionOperand(value: Value): View {
    const view = this.materialize(value);
    const last = view.strides[view.strides.length - 1]!;
    return last === 1 || last === 0 ? view : this.materializeContiguous(value);
  }

  private strided(view: View): StridedOperand {
    return { buffer: this.bufferOf(view), strides: view.strides as [Dim, Dim, Dim, Dim] };
  }

  private maskOf(mask: Value, dims: readonly Dim[], trace: InlineTrace): Epilogue {
    const axes = axesOf(dims, "s");
    if (this.fusion.inlined.has(mask)) {
      const context: ExpressionContext = { viewOf: this.viewOf, bufferOf: this.bufferOf, onInline: trace.note };
      return { axes, value: elementOf(mask, axes.map((axis, i) => (mask.dims![i] === 1 ? i64(0) : axisExpr(axis))), context) };
    }
    const expanded = expandView(this.materialize(mask), dims);
    assert(expanded, "an attention mask that does not broadcast to the scores");
    return { axes, value: { kind: "load", type: "f32", buffer: this.bufferOf(expanded), index: axes.map(axisExpr) } };
  }
}

function isMatmul(node: Node): boolean {
  return node.op === "MatMul" || node.op === "MatMulInteger";
}

/** Whether each output pixel is made from the input pixel at its place. */
function isPointwiseConv(node: Node): boolean {
  const [input, weights] = node.inputs;
  const are = (name: string, value: number): boolean => ((node.attributes[name] as number[] | undefined) ?? []).every((item) => item === value);
  return node.attributes["inputLayout"] !== "NCHW" && ((node.attributes["group"] as number | undefined) ?? 1) === 1
    && weights!.dims!.slice(2).every((size) => size === 1) && are("strides", 1)
    && dimsEqual(input!.dims!.slice(0, -1), node.outputs[0]!.dims!.slice(0, -1));
}

/** Collects what was put inside a kernel. */
class InlineTrace {
  readonly origins: string[] = [];
  readonly operators: string[] = [];
  private readonly seen = new Set<Value>();
  readonly note = (value: Value): void => {
    if (this.seen.has(value)) return;
    this.seen.add(value);
    this.operators.push(value.producer!.op);
    this.origins.push(...value.producer!.origins);
  };
}

function isMemory(value: Value): boolean {
  return value.kind === "tensor" && value.dtype !== undefined && value.dtype !== "string" && value.dims !== undefined;
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

function inverse(permutation: readonly number[]): number[] {
  const result = new Array<number>(permutation.length);
  for (const [i, axis] of permutation.entries()) result[axis] = i;
  return result;
}

function addDims(a: Dim, b: Dim): Dim {
  return sub(a, mul(b, -1));
}

/** Whether rows of all batches follow each other at one distance, as a matrix product over all of them writes them. */
function joinsRows(view: View): boolean {
  const rank = view.dims.length;
  return rank < 2 || reshapeView(view, [product(view.dims.slice(0, -1)), view.dims[rank - 1]!]) !== undefined;
}

/** numpy's matmul rules; batch dims of A join M when B has none and A's rows follow each other. */
function matmulOperands(a: View, b: View, outputDims: readonly Dim[]): { a: View; b: View; batch: Dim[]; m: Dim; n: Dim; k: Dim } {
  const left = a.dims.length === 1 ? reshapeView(a, [1, a.dims[0]!])! : a;
  const right = b.dims.length === 1 ? { ...b, dims: [b.dims[0]!, 1], strides: [b.strides[0]!, 1] } : b;
  const [k, n] = right.dims.slice(-2) as [Dim, Dim];
  if (right.dims.length === 2 && left.dims.length > 2) {
    const rows = product(left.dims.slice(0, -1));
    const flat = reshapeView(left, [rows, k]);
    if (flat) return { a: flat, b: right, batch: [], m: rows, n, k };
  }
  const vectors = (a.dims.length === 1 ? 1 : 0) + (b.dims.length === 1 ? 1 : 0);
  const batch = outputDims.slice(0, outputDims.length - 2 + vectors);
  const m = left.dims[left.dims.length - 2]!;
  return { a: expandView(left, [...batch, m, k])!, b: expandView(right, [...batch, k, n])!, batch, m, n, k };
}

