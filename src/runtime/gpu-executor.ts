/**
 * Runs an engine on a GPU: one stream, one arena, and a CUDA graph for each shape, so that a run is one launch whatever
 * the number of kernels, and kernels that do not need each other run side by side. One inference at a time.
 *
 * Inputs go to buffers of the context's own, whose addresses the graphs keep, and outputs come from such: directly where the
 * caller's memory is registered with the GPU, else through pinned memory. Steps that leave the GPU (reference operators, conditions) wait for it, read what they need, and write
 * back. What data decides is launched kernel by kernel, since its addresses change.
 */
import { assert, byteLength, elementCount, SinterError, Tensor, UserError } from "../base/index.ts";
import type { ManifestKernel, ManifestLabel, ManifestTensorMap, ManifestValue } from "../engine/index.ts";
import { COUNTER_WORDS } from "../ir/index.ts";
import { addressOf, type Gpu, type GpuGraph, type GpuLaunch, type GpuStream, type HostMemory, type TensorMapValues } from "../native/index.ts";
import { type HostValue, interpret } from "../reference/index.ts";
import { type AllocateOutput, checkGiven, detached, dimsTensor, type Execution, type Feeds, type Results, type StepTiming, unknownInputs } from "./execution.ts";
import { type Access, waitsFor } from "./gpu-order.ts";
import type { GpuResidence } from "./gpu-residence.ts";
import { variantAt } from "./kernel-variant.ts";
import type { LoadedEngine, Segment } from "./loaded-engine.ts";
import { ShapeCache } from "./shape-cache.ts";

type NativeSegment = Extract<Segment, { kind: "native" }>;

/** Graphs kept per context; the least recently used goes first. */
const MAX_SHAPES = 64;
/** Most memory that values of data-dependent size may take, together, per context. */
const MAX_DYNAMIC_BYTES = 4 * 2 ** 30;

interface Shape {
  readonly bindings: ReadonlyMap<string, number>;
  /** Every size of the program. */
  readonly values: Float64Array;
  readonly profile: number;
  readonly graphs: Map<number, GpuGraph>;
  /** By segment, the kernels that are right for this shape. */
  readonly kernels: Map<NativeSegment, readonly ManifestKernel[]>;
}

/** One run in the making. */
interface Run {
  readonly feeds: Feeds;
  readonly given: Readonly<Record<string, Tensor>>;
  readonly allocate: AllocateOutput | undefined;
  shape: Shape;
  readonly hosts: Map<number, HostValue>;
  /** Where the caller wants outputs, by name, once that was asked. */
  readonly wanted: Map<string, Tensor | undefined>;
}

/** A buffer on the device, and its twin on the host where the caller's memory is not reached directly. */
interface Staged {
  readonly address: number;
  readonly sizeBytes: number;
  host: HostMemory | undefined;
}

export class GpuExecutor implements Execution {
  private readonly engine: LoadedEngine;
  private readonly residence: GpuResidence;
  private readonly gpu: Gpu;
  private readonly stream: GpuStream;
  private readonly arena: number;
  private readonly workspace: number;
  private readonly counters: number;
  private readonly staging = new Map<number, Staged>();
  private readonly dynamic = new Map<number, { readonly address: number; readonly sizeBytes: number }>();
  private bounce: HostMemory | undefined;
  private readonly shapes: ShapeCache<Shape>;
  private readonly inputNames: ReadonlySet<string>;

  constructor(engine: LoadedEngine, residence: GpuResidence) {
    this.engine = engine;
    this.residence = residence;
    this.gpu = residence.gpu;
    this.shapes = new ShapeCache(engine, {
      most: MAX_SHAPES,
      make: (bindings, profile) => ({ bindings, profile, values: engine.dims.evaluate(bindings), graphs: new Map<number, GpuGraph>(), kernels: new Map<NativeSegment, readonly ManifestKernel[]>() }),
      release: releaseGraphs,
    });
    this.inputNames = new Set(engine.manifest.inputs.map((input) => input.name));
    this.stream = this.gpu.createStream();
    this.arena = this.gpu.allocate(engine.arenaBytes);
    this.workspace = this.gpu.allocate(engine.scratchBytes);
    this.counters = this.gpu.allocate(4 * COUNTER_WORDS);
    this.gpu.zero(this.counters, 4 * COUNTER_WORDS);
  }

  get isLost(): boolean {
    return this.gpu.isLost;
  }

  /** On the device, and pinned on the host. */
  get memoryBytes(): number {
    let bytes = this.engine.arenaBytes + this.engine.scratchBytes + 4 * COUNTER_WORDS + (this.bounce?.sizeBytes ?? 0);
    for (const { sizeBytes, host } of this.staging.values()) bytes += sizeBytes + (host?.sizeBytes ?? 0);
    for (const { sizeBytes } of this.dynamic.values()) bytes += sizeBytes;
    return bytes;
  }

  async run(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}, allocate?: AllocateOutput): Promise<Results> {
    assert(!this.engine.hasReferenceSteps, "an asynchronous run with a reference step");
    const run = this.begin(feeds, outputs, allocate);
    for (let index = 0; index < this.engine.segments.length; ) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "native") this.launch(index, segment, run);
      if (segment.kind === "jump" && segment.condition) await this.stream.finished();
      index = this.next(index, run);
    }
    this.copyOut(run);
    await this.stream.finished();
    return this.results(run);
  }

  runSync(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}): Results {
    const run = this.begin(feeds, outputs);
    this.walk(run, (index, segment) => this.launch(index, segment, run));
    return this.finish(run);
  }

  profile(feeds: Feeds): StepTiming[] {
    const run = this.begin(feeds, {});
    const timings: StepTiming[] = [];
    this.walk(run, (_, segment) => timings.push(...this.timeKernels(segment, run)), (label, ns) => timings.push({ label, ns, flops: 0, bytes: 0 }));
    this.stream.synchronize();
    return timings;
  }

  trace(feeds: Feeds, onStep: (label: ManifestLabel, values: Readonly<Record<string, HostValue>>) => void): Results {
    const run = this.begin(feeds, {});
    const show = (label: ManifestLabel, values: readonly ManifestValue[]): void => onStep(label, Object.fromEntries(values.map((value) => [value.name, this.hostValue(value, run)])));
    this.walk(run, (_, segment) => {
      for (const kernel of kernelsOf(segment, run)) {
        this.stream.launch(this.launchOf(kernel, run));
        this.stream.synchronize();
        show(kernel.label, kernel.completes);
      }
    }, (label, _, outputs) => show(label, outputs));
    return this.finish(run);
  }

  /**
   * Milliseconds on the device of runs with the data already there, by events around each.
   * @throws UserError when the engine leaves the GPU on its way
   */
  deviceTimes(feeds: Feeds, count: number): number[] {
    if (this.engine.segments.length !== 1 || this.engine.segments[0]!.kind !== "native") throw new UserError("option-invalid", "The device's own time is measured of engines that stay on the GPU; this one has steps that leave it.");
    const run = this.begin(feeds, {});
    const segment = this.engine.segments[0]!;
    const moments = Array.from({ length: 2 * count }, () => this.stream.event());
    try {
      for (let i = 0; i < count; i++) {
        moments[2 * i]!.record();
        this.launch(0, segment, run);
        moments[2 * i + 1]!.record();
      }
      this.stream.synchronize();
      return Array.from({ length: count }, (_, i) => moments[2 * i + 1]!.since(moments[2 * i]!));
    } finally {
      for (const moment of moments) moment.dispose();
    }
  }

  dispose(): void {
    this.forgetShapes();
    this.stream.dispose();
    for (const staged of this.staging.values()) this.releaseStaged(staged);
    for (const { address } of this.dynamic.values()) this.gpu.free(address);
    for (const address of [this.arena, this.workspace, this.counters]) this.gpu.free(address);
    this.bounce?.dispose();
  }

  // ---- before and after ---------------------------------------------------------------------------------------

  private begin(feeds: Feeds, given: Readonly<Record<string, Tensor>>, allocate?: AllocateOutput): Run {
    const { manifest } = this.engine;
    for (const name in feeds) if (!this.inputNames.has(name)) throw unknownInputs(feeds, manifest.inputs, this.engine.dims);
    const run: Run = { feeds, given, allocate, shape: this.shapes.of(feeds), hosts: new Map(), wanted: new Map() };
    for (const input of manifest.inputs) {
      const value = feeds[input.name];
      if (input.storage === undefined) run.hosts.set(input.host!, value);
      else this.feed(input.storage, (value as Tensor).bytes);
    }
    return run;
  }

  private feed(storage: number, bytes: Uint8Array): void {
    const staged = this.stage(storage, bytes.byteLength);
    let from = this.reached(bytes);
    if (from === undefined) {
      const host = this.twinOf(staged);
      host.view(0, bytes.byteLength).set(bytes);
      from = Number(host.address);
    }
    this.stream.copyIn(staged.address, from, bytes.byteLength);
  }

  /** The address of the caller's bytes, if copies reach them directly. */
  private reached(bytes: Uint8Array): number | undefined {
    const address = addressOf(bytes);
    return address !== undefined && this.gpu.reaches(address, bytes.byteLength) ? address : undefined;
  }

  /** Waits, reads back, answers. */
  private finish(run: Run): Results {
    this.copyOut(run);
    this.stream.synchronize();
    return this.results(run);
  }

  /** All memory is asked for before the first copy: one that was begun cannot be taken back. */
  private copyOut(run: Run): void {
    const copied = this.engine.manifest.outputs.filter(({ elements, storage }) => !elements && storage !== undefined && this.placeOf(storage) !== "weights");
    for (const output of copied) this.wantedFor(output, this.dimsOf(output, run), run);
    for (const output of copied) {
      const storage = output.storage!;
      const sizeBytes = byteLength(output.dtype, elementCount(this.dimsOf(output, run)));
      const wanted = run.wanted.get(output.name);
      const to = (wanted && this.reached(wanted.bytes)) ?? Number(this.twinOf(this.stage(storage, sizeBytes)).address);
      this.stream.copyOut(to, this.addressOf(storage, run), sizeBytes);
    }
  }

  /** The caller's memory for an output, if it gives any. */
  private wantedFor(output: ManifestValue, dims: readonly number[], { given, allocate, wanted }: Run): Tensor | undefined {
    if (wanted.has(output.name)) return wanted.get(output.name);
    const tensor = given[output.name] ?? allocate?.(output.name, output.dtype, dims);
    if (tensor) checkGiven(output, tensor, dims);
    wanted.set(output.name, tensor);
    return tensor;
  }

  private results(run: Run): Results {
    const results: Results = {};
    for (const output of this.engine.manifest.outputs) results[output.name] = this.result(output, run);
    return results;
  }

  private result(output: ManifestValue, run: Run): HostValue {
    if (output.elements) return dimsTensor(output, run.shape.values);
    if (output.storage === undefined) return run.hosts.get(output.host!);
    const dims = this.dimsOf(output, run);
    const sizeBytes = byteLength(output.dtype, elementCount(dims));
    const wanted = this.wantedFor(output, dims, run);
    const isConstant = this.placeOf(output.storage) === "weights";
    if (wanted && !isConstant && this.reached(wanted.bytes) !== undefined) return wanted;
    const bytes = isConstant ? this.engine.file.weights(this.engine.manifest.storages[output.storage]!.offset!, sizeBytes) : this.twinOf(this.staging.get(output.storage)!).view(0, sizeBytes);
    if (!wanted) return Tensor.fromBytes(output.dtype as Exclude<ManifestValue["dtype"], "string">, bytes.slice(), dims);
    wanted.bytes.set(bytes);
    return wanted;
  }

  private dimsOf(value: ManifestValue, run: Run): number[] {
    const dims = value.shape!.map((index) => run.shape.values[index]!);
    assert(dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0), `dims [${dims}] of "${value.name}"`);
    return dims;
  }

  // ---- memory -------------------------------------------------------------------------------------------------

  private placeOf(storage: number): "arena" | "weights" | "input" | "output" {
    return this.engine.manifest.storages[storage]!.place;
  }

  /** Buffers of an input or output, at least that large. Graphs know the address, so a larger one makes them anew. */
  private stage(storage: number, sizeBytes: number): Staged {
    const known = this.staging.get(storage);
    if (known && known.sizeBytes >= sizeBytes) return known;
    if (known) {
      this.stream.synchronize();
      this.forgetShapes();
      this.releaseStaged(known);
      this.staging.delete(storage);
    }
    const staged: Staged = { address: this.gpu.allocate(sizeBytes), sizeBytes, host: undefined };
    this.staging.set(storage, staged);
    return staged;
  }

  private twinOf(staged: Staged): HostMemory {
    return (staged.host ??= this.gpu.allocateHost(staged.sizeBytes));
  }

  private releaseStaged({ address, host }: Staged): void {
    this.gpu.free(address);
    host?.dispose();
  }

  private forgetShapes(): void {
    for (const shape of this.shapes.all()) releaseGraphs(shape);
  }

  private dynamicMemory(storage: number, sizeBytes: number): number {
    const known = this.dynamic.get(storage);
    if (known && known.sizeBytes >= sizeBytes) return known.address;
    let taken = sizeBytes;
    for (const other of this.dynamic.values()) taken += other.sizeBytes;
    if (taken > MAX_DYNAMIC_BYTES) throw new SinterError("limit-exceeded", `A value of data-dependent size needs ${sizeBytes} bytes; all of them together may take ${MAX_DYNAMIC_BYTES}.`);
    if (known) {
      this.stream.synchronize();
      this.gpu.free(known.address);
    }
    const address = this.gpu.allocate(sizeBytes);
    this.dynamic.set(storage, { address, sizeBytes });
    return address;
  }

  private offsetOf(storage: number, run: Run): number {
    return this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]!;
  }

  private addressOf(storage: number, run: Run): number {
    const { place, offset, size } = this.engine.manifest.storages[storage]!;
    if (place === "weights") return this.residence.weights + offset!;
    const sizeBytes = run.shape.values[size]!;
    if (place === "input" || place === "output") return this.stage(storage, sizeBytes).address;
    const at = this.offsetOf(storage, run);
    return at >= 0 ? this.arena + at : this.dynamicMemory(storage, sizeBytes);
  }

  // ---- segments -----------------------------------------------------------------------------------------------

  /** All segments in order on the calling thread. */
  private walk(run: Run, native: (index: number, segment: NativeSegment) => void, reference?: (label: ManifestLabel, ns: number, outputs: readonly ManifestValue[]) => void): void {
    for (let index = 0; index < this.engine.segments.length; ) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "native") native(index, segment);
      if (segment.kind === "reference") {
        const before = performance.now();
        this.runReference(segment, run);
        reference?.(segment.step.label, (performance.now() - before) * 1e6, segment.step.outputs);
      }
      if (segment.kind === "jump" && segment.condition) this.stream.synchronize();
      index = this.next(index, run);
    }
  }

  private next(index: number, run: Run): number {
    const segment = this.engine.segments[index]!;
    if (segment.kind === "fail") throw new UserError("input-invalid", segment.message);
    if (segment.kind !== "jump") return index + 1;
    return segment.condition && this.read(segment.condition.storage!, 1, run)[0] !== 0 ? index + 1 : segment.target;
  }

  private launch(index: number, segment: NativeSegment, run: Run): void {
    const { graphs } = run.shape;
    let graph = graphs.get(index);
    if (!graph) {
      const kernels = kernelsOf(segment, run);
      const launches = kernels.map((kernel) => this.launchOf(kernel, run));
      if (!kernels.every((kernel) => this.isSteady(kernel, run))) {
        for (const launch of launches) this.stream.launch(launch);
        return;
      }
      graphs.set(index, (graph = this.stream.graph(launches, waitsFor(kernels.map((kernel) => this.accessesOf(kernel, run))))));
    }
    this.stream.launchGraph(graph);
  }

  /** Whether all its addresses are the same in every run of this shape. */
  private isSteady(kernel: ManifestKernel, run: Run): boolean {
    return kernel.params.every((param) => param[0] !== 1 || this.placeOf(param[1]) !== "arena" || this.offsetOf(param[1], run) >= 0);
  }

  private launchOf(kernel: ManifestKernel, run: Run): GpuLaunch {
    const { values } = run.shape;
    const { grid, block, cluster, sharedBytes, tensorMaps, blocksPerMultiprocessor } = kernel.launch!;
    const slots = kernel.params.map((param): number => {
      switch (param[0]) {
        case 0: return values[param[1]]!;
        case 1: return this.addressOf(param[1], run) + values[param[2]]!;
        case 2: return this.residence.weights + param[1];
        case 3: return this.workspace;
        case 4: return this.counters;
      }
    });
    const [x, y, z] = grid.map((dim) => values[dim]!) as [number, number, number];
    const most = blocksPerMultiprocessor === undefined ? x : blocksPerMultiprocessor * this.gpu.description.multiprocessors;
    return {
      kernel: this.residence.kernel(kernel), grid: [Math.min(x, most), y, z], block, sharedBytes, slots, ...(cluster ? { cluster } : {}),
      tensorMaps: tensorMaps.map((map) => tensorMapValues(map, values, slots)),
    };
  }

  /** Whole storages, since kernels may lie at any stride in them. */
  private accessesOf({ params, launch, scratchBytes }: ManifestKernel, run: Run): Access[] {
    return params.flatMap((param): Access[] => {
      if (param[0] === 3) return [{ begin: this.workspace, end: this.workspace + scratchBytes, isWritten: true }];
      if (param[0] === 4) return [{ begin: this.counters, end: this.counters + 4 * COUNTER_WORDS, isWritten: true }];
      if (param[0] !== 1) return [];
      const begin = this.addressOf(param[1], run);
      return [{ begin, end: begin + run.shape.values[this.engine.manifest.storages[param[1]]!.size]!, isWritten: launch!.writes.includes(param[1]) }];
    });
  }

  private timeKernels(segment: NativeSegment, run: Run): StepTiming[] {
    const kernels = kernelsOf(segment, run);
    const launches = kernels.map((kernel) => this.launchOf(kernel, run));
    const moments = Array.from({ length: launches.length + 1 }, () => this.stream.event());
    try {
      moments[0]!.record();
      for (const [i, launch] of launches.entries()) {
        this.stream.launch(launch);
        moments[i + 1]!.record();
      }
      this.stream.synchronize();
      return kernels.map((kernel, i) => ({ label: kernel.label, ns: moments[i + 1]!.since(moments[i]!) * 1e6, flops: run.shape.values[kernel.flops]!, bytes: run.shape.values[kernel.bytes]! }));
    } finally {
      for (const moment of moments) moment.dispose();
    }
  }

  // ---- reference steps ----------------------------------------------------------------------------------------

  private runReference({ step, graph }: Extract<Segment, { kind: "reference" }>, run: Run): void {
    this.stream.synchronize();
    const feeds = new Map(graph.inputs.map((value, i) => [value, this.hostValue(step.inputs[i]!, run)]));
    const outputs = interpret(graph, feeds);
    for (const [i, target] of step.outputs.entries()) this.store(target, outputs[i], run);
  }

  private hostValue(source: ManifestValue, run: Run): HostValue {
    if (source.elements) return dimsTensor(source, run.shape.values);
    if (source.storage === undefined) return run.hosts.get(source.host!);
    const dims = this.dimsOf(source, run);
    return Tensor.fromBytes(source.dtype as Exclude<ManifestValue["dtype"], "string">, this.read(source.storage, byteLength(source.dtype, elementCount(dims)), run), dims);
  }

  /** A copy of what the device holds now. */
  private read(storage: number, sizeBytes: number, run: Run): Uint8Array {
    const bounce = this.bounceOf(sizeBytes);
    this.gpu.download(bounce.address, this.addressOf(storage, run), sizeBytes);
    return bounce.view(0, sizeBytes).slice();
  }

  private write(storage: number, bytes: Uint8Array, run: Run): void {
    const bounce = this.bounceOf(bytes.byteLength);
    bounce.view(0, bytes.byteLength).set(bytes);
    this.gpu.upload(this.addressOf(storage, run), bounce.address, bytes.byteLength);
  }

  private bounceOf(sizeBytes: number): HostMemory {
    if (!this.bounce || this.bounce.sizeBytes < sizeBytes) {
      this.bounce?.dispose();
      this.bounce = this.gpu.allocateHost(sizeBytes);
    }
    return this.bounce;
  }

  private store(target: ManifestValue, value: HostValue, run: Run): void {
    if (target.storage === undefined) {
      run.hosts.set(target.host!, detached(value));
      return;
    }
    assert(value instanceof Tensor && value.type === target.dtype, `reference result for "${target.name}"`);
    this.learnDims(target, value.dims, run);
    this.write(target.storage, value.bytes, run);
  }

  /** Binds the symbols that only this step's data decide. */
  private learnDims(target: ManifestValue, actual: readonly number[], run: Run): void {
    const learned = new Map<string, number>();
    for (const [axis, index] of target.shape!.entries()) {
      const symbol = this.engine.dims.symbol(index);
      if (symbol !== undefined && !run.shape.bindings.has(symbol)) learned.set(symbol, actual[axis]!);
    }
    if (learned.size > 0) run.shape = this.shapes.at(new Map([...run.shape.bindings, ...learned]), run.shape.profile);
  }
}

function kernelsOf(segment: NativeSegment, { shape }: Run): readonly ManifestKernel[] {
  const known = shape.kernels.get(segment) ?? segment.kernels.map((kernel) => variantAt(kernel, shape.values));
  shape.kernels.set(segment, known);
  return known;
}

function releaseGraphs({ graphs }: Shape): void {
  for (const graph of graphs.values()) graph.dispose();
  graphs.clear();
}

function tensorMapValues({ param, element, dims, strideBytes, offsetBytes, pixels, box, swizzle, promotion }: ManifestTensorMap, values: Float64Array, slots: readonly number[]): TensorMapValues {
  const address = slots[param]! + (offsetBytes === undefined ? 0 : values[offsetBytes]!);
  const corners = pixels && { pixels: { ...pixels, upper: [values[pixels.upper[0]]!, values[pixels.upper[1]]!] as const } };
  return { element, box, swizzle, ...(promotion ? { promotion } : {}), ...corners, address, dims: dims.map((dim) => values[dim]!), strideBytes: strideBytes.map((dim) => values[dim]!) };
}
