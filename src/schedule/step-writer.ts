/**
 * Where the values of a graph lie, and the steps that have been written so far.
 *
 * A value has memory (a view of a storage), or is computed where it is read. Memory is found in the best place: the
 * caller's for a graph output, a part of the result for what a Concat joins. Loop kernels, which fill memory with any
 * value's elements, are written here, since a value that was to be inlined may be wanted in memory at any time.
 */
import { type DType, DTYPE_BITS } from "../base/index.ts";
import { type Buffer, type Dim, type Graph, type Kernel, type LoopKernel, mul, type Node, product, sub, type Value } from "../ir/index.ts";
import { axesOf, axisExpr, elementOf, type ExpressionContext } from "./expression.ts";
import { decideFusion, type Fusion, isReshape } from "./fusion.ts";
import type { HostSource, HostTarget, Step } from "./plan.ts";
import type { TargetKernels } from "./target-kernels.ts";
import { alignmentOf, contiguousView, isContiguous, type Storage, type View } from "./view.ts";

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

export class StepWriter {
  readonly graph: Graph;
  readonly kernels: TargetKernels;
  readonly fusion: Fusion;
  readonly shared: Shared;
  readonly viewOfValue: Map<Value, View>;
  /** The caller's memory for values that are outputs of the graph. */
  readonly outputStorage = new Map<Value, Storage>();
  /** Casts to bfloat16 that the kernel which made their input has written as well. */
  readonly narrowed = new Set<Value>();
  /** Results of Concats that have memory, and where their inputs lie in it. */
  private readonly concatTargets = new Map<Value, View>();
  private readonly partsOfConcat = new Map<Node, readonly View[]>();

  /** @param outer of a branch: where it stands */
  constructor(graph: Graph, kernels: TargetKernels, outer?: StepWriter) {
    this.graph = graph;
    this.kernels = kernels;
    this.shared = outer?.shared ?? { steps: [], bufferViews: new Map(), buffersByKey: new Map(), constants: new Map(), constantViews: new Map(), hostValues: new Set(), storages: 0 };
    this.viewOfValue = new Map(outer?.viewOfValue);
    this.fusion = decideFusion(graph, kernels);
  }

  isRead(value: Value): boolean {
    return this.fusion.users.has(value) || this.graph.outputs.includes(value);
  }

  newStorage(value: Value, place: Storage["place"]): Storage {
    const bits = DTYPE_BITS[value.dtype!];
    const count = product(value.dims!);
    const sizeBytes = bits >= 8 ? mul(count, bits / 8) : typeof count === "number" ? Math.ceil((count * bits) / 8) : count;
    return { name: `${this.shared.storages++}:${value.name}`, place, sizeBytes, value };
  }

  newView(value: Value, place: Storage["place"] = "arena"): View {
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
  readonly viewOf = (value: Value): View | undefined => {
    const known = this.viewOfValue.get(value) ?? this.shared.constantViews.get(value);
    if (known || !value.constant || !isMemory(value)) return known;
    const view = contiguousView(this.newStorage(value, "weights"), value.dtype!, value.dims!);
    this.shared.constants.set(view.storage, value);
    this.shared.constantViews.set(value, view);
    return view;
  };

  readonly bufferOf = (view: View): Buffer => {
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
  materialize(value: Value): View {
    const known = this.viewOf(value);
    if (known) return known;
    const view = this.newView(value);
    this.emitLoop(value, view, value.producer?.origins ?? []);
    this.viewOfValue.set(value, view);
    return view;
  }

  materializeContiguous(value: Value): View {
    const view = this.materialize(value);
    return isContiguous(view) ? view : this.copyOf(value);
  }

  /** At the beginning of its memory, as what runs on the host takes it. */
  materializeWhole(value: Value): View {
    const view = this.materialize(value);
    return isContiguous(view) && view.offset === 0 ? view : this.copyOf(value);
  }

  private copyOf(value: Value): View {
    const copy = contiguousView(this.newStorage(value, "arena"), value.dtype!, value.dims!);
    this.emitLoop(value, copy, value.producer?.origins ?? []);
    return copy;
  }

  /** Memory that no value of the graph has. */
  scratch(name: string, dtype: DType, dims: readonly Dim[]): View {
    const storage: Storage = { name: `${this.shared.storages++}:${name}`, place: "arena", sizeBytes: mul(product(dims), DTYPE_BITS[dtype] / 8) };
    return contiguousView(storage, dtype, dims);
  }

  // ---- steps --------------------------------------------------------------------------------------------------

  /** Memory for the value rounded to bfloat16, when somebody reads that beside the value itself: one kernel writes both. */
  placeNarrow(value: Value): View | undefined {
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
  emitLoop(value: Value, target: View, origins: readonly string[], narrow?: View): void {
    const axes = axesOf(value.dims!);
    const trace = new InlineTrace();
    const context: ExpressionContext = { viewOf: this.viewOf, bufferOf: this.bufferOf, onInline: trace.note };
    const element = elementOf(value, axes.map(axisExpr), context);
    const outputs = [target, ...(narrow ? [narrow] : [])].map((view) => ({ buffer: this.bufferOf(view), value: element }));
    const kernel: LoopKernel = { kind: "loop", name: value.producer?.op ?? "Copy", axes, outputs };
    this.push(kernel, [...trace.origins, ...origins], trace.operators);
  }

  /** Each input is written to its place in the result, unless it was made there; what can be computed on the way is. */
  emitConcat(node: Node, value: Value): void {
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
  place(value: Value): View {
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

  push(kernel: Kernel, origins: readonly string[], operators: readonly string[]): void {
    this.shared.steps.push({ kind: "kernel", kernel, origins: [...new Set(origins)], operators });
  }
  hostTarget(value: Value): HostTarget {
    if (!isMemory(value)) {
      this.shared.hostValues.add(value);
      return { kind: "host", value };
    }
    const view = this.newView(value);
    this.viewOfValue.set(value, view);
    return { kind: "view", view, value };
  }

  hostSource(value: Value): HostSource {
    if (this.shared.hostValues.has(value)) return { kind: "host", value };
    if (value.elements && !this.viewOf(value)) return { kind: "dims", value, elements: value.elements };
    return { kind: "view", view: this.materializeWhole(value) };
  }
}

/** Collects what was put inside a kernel. */
export class InlineTrace {
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

export function isMemory(value: Value): boolean {
  return value.kind === "tensor" && value.dtype !== undefined && value.dtype !== "string" && value.dims !== undefined;
}

function addDims(a: Dim, b: Dim): Dim {
  return sub(a, mul(b, -1));
}
