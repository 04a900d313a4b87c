/**
 * Runs an engine: binds shapes, places memory, walks native segments and reference steps. One inference at a time.
 *
 * A bound shape is every size and address of the program filled in; it is made once per shape and kept. What data
 * decide (the count of NonZero's results) is known when the step that counts it has run; the segments after it that need
 * it are filled anew in each run. The caller's memory is used where it lies when it is native.
 */
import { assert, byteLength, elementCount, SinterError, Tensor, UserError } from "../base/index.ts";
import type { DimIndex, ManifestKernel, ManifestLabel, ManifestSize, ManifestValue } from "../engine/index.ts";
import { NativeMemory, viewMemory } from "../native/index.ts";
import { Program } from "../program/index.ts";
import { type HostValue, interpret } from "../reference/index.ts";
import type { LoadedEngine, Segment } from "./loaded-engine.ts";
import { nativeAddress } from "./native-tensors.ts";
import { ShapeCache } from "./shape-cache.ts";
import { describe } from "./shapes.ts";
import { type AllocateOutput, checkGiven, detached, dimsTensor, type Execution, type Feeds, type Results, type StepTiming, unknownInputs } from "./execution.ts";

/** Shapes kept per context; the least recently used goes first. */
const MAX_SHAPES = 256;
/** Most memory that values of data-dependent size may take, together, per context. */
const MAX_DYNAMIC_BYTES = 4 * 2 ** 30;

/** A slot that holds an address which changes from run to run. */
interface Patch {
  readonly step: number;
  readonly slot: number;
  readonly storage: number;
  readonly byteOffset: number;
}

interface BoundSegment {
  readonly program: Program;
  readonly patches: readonly Patch[];
  /** Kernels some of whose sizes the data of each run decide: they are filled anew, and have these patches. */
  readonly open: readonly number[];
  openPatches: readonly Patch[];
  /** Short enough to run at once on the calling thread: predicted, or seen in a run on other threads. */
  inline: boolean;
  /** Runs on other threads that are still to be timed. */
  untimed: number;
  /** The step that begins shortly before the end, once runs were timed. */
  notice: number | undefined;
}

/** Runs shorter than this are done inline: handing them to another thread costs as much. */
const INLINE_NS = 50_000;
/** Runs to time before a segment counts as long; the first ones find cold caches. */
const TIMED_RUNS = 4;
/** How long before its end a run gives notice: what waking the event loop takes where processors sleep deeply, as on virtual machines. */
const NOTICE_NS = 250_000;
/** What one core does at least, for that prediction: operations and bytes per nanosecond, and nanoseconds per kernel. */
const PREDICTION = { opsPerNs: 40, bytesPerNs: 10, perKernelNs: 150 };

/** One run in the making. */
interface Run {
  /** Kept so that memory of the caller's tensors stays while it is read. */
  readonly feeds: Feeds;
  readonly shape: Shape;
  /** Every size of the program: the shape's, and from the first that the data decide on, a copy. */
  values: Float64Array;
  /** Addresses of input and output storages. */
  readonly external: Map<number, number>;
  readonly hosts: Map<number, HostValue>;
  /** Memory of the caller's for outputs, by name. */
  readonly given: Record<string, Tensor>;
}

/** All that follows from the sizes of a run: made once and kept. */
interface Shape {
  /** Every size of the program; NaN where only the data decide it. */
  readonly values: Float64Array;
  readonly profile: number;
  /** Native segments with this shape's sizes, by their index. */
  readonly bound: Map<number, BoundSegment>;
}

export class Executor implements Execution {
  private readonly engine: LoadedEngine;
  private readonly threads: number;
  private readonly codeAddress: number;
  private readonly arena: NativeMemory;
  private readonly arenaAddress: number;
  private readonly weightsAddress: number;
  private readonly staging = new Map<number, NativeMemory>();
  private readonly dynamic = new Map<number, NativeMemory>();
  private readonly shapes: ShapeCache<Shape>;
  private readonly inputNames: ReadonlySet<string>;
  private readonly conditions = new Map<string, Uint8Array>();

  constructor(engine: LoadedEngine, threads: number) {
    this.engine = engine;
    assert(engine.code, "an engine without code for the processor");
    this.threads = threads;
    this.codeAddress = Number(engine.code.address);
    this.inputNames = new Set(engine.manifest.inputs.map((input) => input.name));
    this.shapes = new ShapeCache(engine, {
      most: MAX_SHAPES,
      make: (bindings, profile) => ({ profile, values: this.newSizes(bindings, profile), bound: new Map<number, BoundSegment>() }),
      release,
    });
    this.arena = NativeMemory.allocate(engine.arenaBytes);
    this.arenaAddress = Number(this.arena.address);
    this.weightsAddress = Number(engine.file.weightsAddress);
  }

  /** All steps on native threads. For engines without reference steps: those would hold the event loop. */
  async run(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}, allocate?: AllocateOutput): Promise<Results> {
    assert(!this.engine.hasReferenceSteps, "an asynchronous run with a reference step");
    const run = this.begin(feeds, outputs, allocate);
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind !== "native") continue;
      const bound = this.boundSegment(index, segment, run);
      if (bound.inline) bound.program.runSync({ threads: 1 });
      else if (bound.untimed > 0) await this.runTimed(bound);
      else await bound.program.run({ threads: this.threads, notice: bound.notice });
    }
    return this.results(run);
  }

  private async runTimed(bound: BoundSegment): Promise<void> {
    await bound.program.run({ threads: this.threads, profile: true });
    bound.untimed--;
    const elapsed = bound.program.profile();
    if (this.threads * elapsed.reduce((sum, ns) => sum + ns, 0) < INLINE_NS) bound.inline = true;
    bound.notice = noticeStep(elapsed);
  }

  /** The same on the calling thread, with the pool's help when there is more than one thread. */
  runSync(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}): Results {
    const run = this.begin(feeds, outputs);
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "reference") this.runReference(segment, run);
      if (segment.kind !== "native") continue;
      const { program, inline } = this.boundSegment(index, segment, run);
      program.runSync({ threads: inline ? 1 : this.threads });
    }
    return this.results(run);
  }

  /**
   * Runs once on the calling thread and times every step that this run takes.
   * @param options `spans`: what each thread did when, at the cost of some precision
   * @returns nanoseconds per step, with its operations and bytes
   */
  profile(feeds: Feeds, options: { readonly spans?: boolean } = {}): StepTiming[] {
    const run = this.begin(feeds, {});
    const timings: StepTiming[] = [];
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "reference") {
        const beginNs = nowNs();
        this.runReference(segment, run);
        const endNs = nowNs();
        timings.push({ label: segment.step.label, ns: endNs - beginNs, flops: 0, bytes: 0, ...(options.spans && { spans: [{ thread: 0, beginNs, endNs }] }) });
      }
      if (segment.kind !== "native") continue;
      const { program } = this.boundSegment(index, segment, run);
      const spans = options.spans ? program.runTraced({ threads: this.threads }) : undefined;
      if (!spans) program.runSync({ threads: this.threads, profile: true });
      const elapsed = program.profile();
      for (const [i, kernel] of segment.kernels.entries()) {
        const own = spans && { spans: spans.filter(({ step }) => step === i).map(({ participant, beginNs, endNs }) => ({ thread: participant, beginNs, endNs })) };
        timings.push({ label: kernel.label, ns: elapsed[i]!, flops: run.values[kernel.flops]!, bytes: run.values[kernel.bytes]!, ...own });
      }
    }
    return timings;
  }

  /**
   * Runs step by step on the calling thread. `onStep` sees the values that each step has made whole; they are views,
   * valid during the call. Fusions stay as they are: a value inside a kernel is not seen.
   */
  trace(feeds: Feeds, onStep: (label: ManifestLabel, values: Readonly<Record<string, HostValue>>) => void): Results {
    const run = this.begin(feeds, {});
    const show = (label: ManifestLabel, values: readonly ManifestValue[]): void => onStep(label, Object.fromEntries(values.map((value) => [value.name, this.hostValue(value, run)])));
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "reference") {
        this.runReference(segment, run);
        show(segment.step.label, segment.step.outputs);
      }
      if (segment.kind !== "native") continue;
      const { program } = this.boundSegment(index, segment, run);
      for (const [i, { label, completes }] of segment.kernels.entries()) {
        program.runSync({ threads: 1, first: i, end: i + 1 });
        show(label, completes);
      }
    }
    return this.results(run);
  }

  /** Memory of the host is not lost. */
  readonly isLost = false;

  /** Bytes of arena, staging and data-dependent values this context holds. */
  get memoryBytes(): number {
    return this.arena.sizeBytes + sumBytes(this.staging) + sumBytes(this.dynamic);
  }

  dispose(): void {
    this.shapes.clear();
    for (const memory of [this.arena, ...this.staging.values(), ...this.dynamic.values()]) memory.dispose();
  }

  // ---- before and after ---------------------------------------------------------------------------------------

  private begin(feeds: Feeds, given: Readonly<Record<string, Tensor>>, allocate?: AllocateOutput): Run {
    const { manifest } = this.engine;
    for (const name in feeds) if (!this.inputNames.has(name)) throw unknownInputs(feeds, manifest.inputs, this.engine.dims);
    const shape = this.shapes.of(feeds);
    const run: Run = { feeds, shape, values: shape.values, external: new Map(), hosts: new Map(), given: allocate ? { ...given } : given };
    for (const input of manifest.inputs) this.bindInput(input, feeds[input.name], run);
    for (const output of manifest.outputs) if (output.storage !== undefined) this.bindOutput(output, run, allocate);
    return run;
  }

  private bindInput(input: ManifestValue, value: HostValue, run: Run): void {
    if (input.storage === undefined) {
      run.hosts.set(input.host!, value);
      return;
    }
    const tensor = value as Tensor;
    const address = nativeAddress(tensor);
    if (address !== undefined) {
      run.external.set(input.storage, Number(address));
      return;
    }
    const memory = this.stage(input.storage, tensor.bytes.byteLength);
    viewOf(memory).set(tensor.bytes);
    run.external.set(input.storage, Number(memory.address));
  }

  private bindOutput(output: ManifestValue, run: Run, allocate: AllocateOutput | undefined): void {
    const storage = output.storage!;
    if (this.engine.manifest.storages[storage]!.place !== "output") return;
    const size = run.values[this.engine.manifest.storages[storage]!.size]!;
    if (allocate && !Number.isNaN(size) && !run.given[output.name] && !run.external.has(storage)) {
      const made = allocate(output.name, output.dtype, this.dimsOf(output, run));
      if (made) run.given[output.name] = made;
    }
    const given = run.given[output.name];
    const address = given && nativeAddress(given);
    if (address !== undefined) run.external.set(storage, Number(address));
    else if (!Number.isNaN(size) && !run.external.has(storage)) run.external.set(storage, Number(this.stage(storage, size).address));
  }

  private results(run: Run): Results {
    const results: Results = {};
    for (const output of this.engine.manifest.outputs) results[output.name] = this.result(output, run);
    return results;
  }

  private result(output: ManifestValue, run: Run): HostValue {
    if (output.elements) return dimsTensor(output, run.values);
    if (output.storage === undefined) return run.hosts.get(output.host!);
    const dims = this.dimsOf(output, run);
    const given = run.given[output.name];
    if (given) {
      checkGiven(output, given, dims);
      if (nativeAddress(given) === undefined) given.bytes.set(this.bytesOf(output, dims, run));
      return given;
    }
    return Tensor.fromBytes(output.dtype as Exclude<ManifestValue["dtype"], "string">, this.bytesOf(output, dims, run).slice(), dims);
  }

  private dimsOf(value: ManifestValue, run: Run): number[] {
    const dims = value.shape!.map((index) => run.values[index]!);
    assert(dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0), `dims [${dims}] of "${value.name}"`);
    return dims;
  }

  /** A view of a value in memory, valid until the next run. */
  private bytesOf(value: ManifestValue, dims: readonly number[], run: Run): Uint8Array {
    const sizeBytes = byteLength(value.dtype, elementCount(dims));
    const storage = value.storage!;
    const { place, offset } = this.engine.manifest.storages[storage]!;
    if (place === "weights") return this.engine.file.weights(offset!, sizeBytes);
    if (place === "arena") {
      const at = this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]!;
      return at >= 0 ? this.arena.view(at, sizeBytes) : this.dynamicMemory(storage, sizeBytes).view(0, sizeBytes);
    }
    const staged = this.staging.get(storage);
    if (staged && Number(staged.address) === run.external.get(storage)) return viewOf(staged).subarray(0, sizeBytes);
    return this.externalBytes(value, dims, run);
  }

  // ---- memory -------------------------------------------------------------------------------------------------

  private stage(storage: number, sizeBytes: number): NativeMemory {
    return grow(this.staging, storage, sizeBytes);
  }

  private dynamicMemory(storage: number, sizeBytes: number): NativeMemory {
    if (sizeBytes + sumBytes(this.dynamic) > MAX_DYNAMIC_BYTES) {
      throw new SinterError("limit-exceeded", `A value of data-dependent size needs ${sizeBytes} bytes; all of them together may take ${MAX_DYNAMIC_BYTES}.`);
    }
    return grow(this.dynamic, storage, sizeBytes);
  }

  private addressOf(storage: number, run: Run): number {
    const { place, offset, size } = this.engine.manifest.storages[storage]!;
    if (place === "weights") return this.weightsAddress + offset!;
    if (place === "arena") {
      const at = this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]!;
      return at >= 0 ? this.arenaAddress + at : Number(this.dynamicMemory(storage, run.values[size]!).address);
    }
    let address = run.external.get(storage);
    if (address === undefined) {
      address = Number(this.stage(storage, run.values[size]!).address);
      run.external.set(storage, address);
    }
    return address;
  }

  /** Whether a storage's address may differ in the next run of the same shape. */
  private moves(storage: number, run: Run): boolean {
    const { place } = this.engine.manifest.storages[storage]!;
    return place === "input" || place === "output" || (place === "arena" && this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]! < 0);
  }

  /** The segment to go on with. */
  private next(index: number, run: Run): number {
    const segment = this.engine.segments[index]!;
    if (segment.kind === "fail") throw new UserError("input-invalid", segment.message);
    if (segment.kind === "size") this.runSize(segment.step, run);
    if (segment.kind !== "jump") return index + 1;
    return segment.condition && this.isTrue(segment.condition, run) ? index + 1 : segment.target;
  }

  private isTrue(condition: ManifestValue, run: Run): boolean {
    const { place } = this.engine.manifest.storages[condition.storage!]!;
    if (place === "input" || place === "output") return this.externalBytes(condition, [], run)[0] !== 0;
    const key = `${run.shape.profile}|${condition.storage}`;
    let byte = this.conditions.get(key);
    if (!byte) this.conditions.set(key, (byte = this.bytesOf(condition, [], run)));
    return byte[0] !== 0;
  }

  // ---- native segments ----------------------------------------------------------------------------------------

  private boundSegment(index: number, segment: Extract<Segment, { kind: "native" }>, run: Run): BoundSegment {
    let bound = run.shape.bound.get(index);
    if (!bound) run.shape.bound.set(index, (bound = this.bindSegment(segment, run)));
    if (bound.open.length > 0) this.fillOpen(bound, segment, run);
    this.patch(bound.program, bound.patches, run);
    this.patch(bound.program, bound.openPatches, run);
    return bound;
  }

  private newSizes(bindings: ReadonlyMap<string, number>, profile: number): Float64Array {
    const values = this.engine.dims.evaluate(bindings);
    const { storages, profiles } = this.engine.manifest;
    const { offsets, arenaBytes } = profiles[profile]!;
    for (let i = 0; i < storages.length; i++) {
      if (offsets[i]! < 0) continue;
      const end = offsets[i]! + values[storages[i]!.size]!;
      if (end > arenaBytes) assert(false, `storage ${i} ends at byte ${end} of an arena of ${arenaBytes}`);
    }
    return values;
  }

  private bindSegment(segment: Extract<Segment, { kind: "native" }>, run: Run): BoundSegment {
    const program = new Program(segment.kernels.map((kernel) => ({
      code: this.codeAddress + kernel.code, params: kernel.params.length, tiles: run.values[kernel.tiles]!, scratchBytes: kernel.scratchBytes,
    })));
    const patches: Patch[] = [];
    const open: number[] = [];
    for (const [step, kernel] of segment.kernels.entries()) {
      if (isUnknown(kernel, run.shape.values)) open.push(step);
      else this.fillParams(program, step, kernel, run, patches);
    }
    return { program, patches, open, openPatches: [], inline: predictedNs(segment.kernels, run.values) < INLINE_NS, untimed: open.length > 0 ? 0 : TIMED_RUNS, notice: undefined };
  }

  private patch(program: Program, patches: readonly Patch[], run: Run): void {
    for (const { step, slot, storage, byteOffset } of patches) program.setParam(step, slot, this.addressOf(storage, run) + byteOffset);
  }

  /** Sizes and addresses of a run whose data decide some. */
  private fillOpen(bound: BoundSegment, segment: Extract<Segment, { kind: "native" }>, run: Run): void {
    const patches: Patch[] = [];
    for (const step of bound.open) {
      const kernel = segment.kernels[step]!;
      bound.program.setTiles(step, run.values[kernel.tiles]!);
      this.fillParams(bound.program, step, kernel, run, patches);
    }
    bound.openPatches = patches;
    bound.inline = predictedNs(segment.kernels, run.values) < INLINE_NS;
  }

  private fillParams(program: Program, step: number, kernel: ManifestKernel, run: Run, patches: Patch[]): void {
    const { params } = kernel;
    for (let slot = 0; slot < params.length; slot++) {
      const param = params[slot]!;
      if (param[0] === 0) program.setParam(step, slot, run.values[param[1]]!);
      else if (param[0] === 2) program.setParam(step, slot, this.weightsAddress + param[1]);
      else if (param[0] === 1) {
        const byteOffset = run.values[param[2]]!;
        if (this.moves(param[1], run)) patches.push({ step, slot, storage: param[1], byteOffset });
        else program.setParam(step, slot, this.addressOf(param[1], run) + byteOffset);
      }
    }
  }

  // ---- reference steps ----------------------------------------------------------------------------------------

  private runReference(segment: Extract<Segment, { kind: "reference" }>, run: Run): void {
    const { step, graph } = segment;
    const feeds = new Map(graph.inputs.map((value, i) => [value, this.hostValue(step.inputs[i]!, run)]));
    const outputs = interpret(graph, feeds);
    for (const [i, target] of step.outputs.entries()) this.store(target, outputs[i], run);
  }

  private hostValue(source: ManifestValue, run: Run): HostValue {
    if (source.elements) return dimsTensor(source, run.values);
    if (source.storage === undefined) return run.hosts.get(source.host!);
    const dims = this.dimsOf(source, run);
    const given = this.engine.manifest.storages[source.storage]!.place;
    const bytes = given === "input" || given === "output" ? this.externalBytes(source, dims, run) : this.bytesOf(source, dims, run);
    return Tensor.fromBytes(source.dtype as Exclude<ManifestValue["dtype"], "string">, bytes, dims);
  }

  /** Bytes of an input or output where the caller put it. */
  private externalBytes(value: ManifestValue, dims: readonly number[], run: Run): Uint8Array {
    const address = run.external.get(value.storage!)!;
    const sizeBytes = byteLength(value.dtype, elementCount(dims));
    return sizeBytes === 0 ? new Uint8Array(0) : new Uint8Array(viewMemory(address, sizeBytes));
  }

  private store(target: ManifestValue, value: HostValue, run: Run): void {
    if (target.storage === undefined) {
      run.hosts.set(target.host!, detached(value));
      return;
    }
    assert(value instanceof Tensor && value.type === target.dtype, `reference result for "${target.name}"`);
    this.learnDims(target, value.dims, run);
    const bytes = this.engine.manifest.storages[target.storage]!.place === "arena" ? this.bytesOf(target, value.dims, run) : this.outputBytes(target, value, run);
    bytes.set(value.bytes);
  }

  private outputBytes(target: ManifestValue, value: Tensor, run: Run): Uint8Array {
    if (!run.external.has(target.storage!)) run.external.set(target.storage!, Number(this.stage(target.storage!, value.bytes.byteLength).address));
    return this.externalBytes(target, value.dims, run);
  }

  /** Makes the symbols known that only this step's data decide. */
  private learnDims(target: ManifestValue, actual: readonly number[], run: Run): void {
    for (const [axis, index] of target.shape!.entries()) {
      const size = run.values[index]!;
      if (this.engine.dims.symbol(index) !== undefined) this.learn(index, actual[axis]!, run, () => `"${target.name}" has dims [${actual}]`);
      else assert(Number.isNaN(size) || size === actual[axis], `"${target.name}": dims [${actual}], expected ${describe(target, this.engine.dims)}`);
    }
  }

  private runSize(step: ManifestSize, run: Run): void {
    const size = step.given === undefined ? Number(new BigInt64Array(this.wholeBytes(step.inputs[0]!, run).slice(0, 8).buffer)[0]) : run.values[step.given]!;
    this.learn(step.symbol, size, run, () => `${step.label.operators.join("+")} gives ${size} results`);
  }

  private learn(symbol: DimIndex, size: number, run: Run, what: () => string): void {
    const known = run.values[symbol]!;
    if (!Number.isSafeInteger(size) || size < 0 || (!Number.isNaN(known) && known !== size)) throw new UserError("input-invalid", `${what()}; the model's dimension "${this.engine.dims.text(symbol)}" ${Number.isNaN(known) ? "is a whole number of at least 0" : `is ${known} in this run`}.`);
    if (known === size) return;
    if (run.values === run.shape.values) run.values = run.shape.values.slice();
    this.engine.dims.learn(run.values, symbol, size);
  }

  /** Bytes of a small value, wherever it lies. */
  private wholeBytes(value: ManifestValue, run: Run): Uint8Array {
    const { place } = this.engine.manifest.storages[value.storage!]!;
    return place === "input" || place === "output" ? this.externalBytes(value, [], run) : this.bytesOf(value, [], run);
  }
}

function predictedNs(kernels: readonly ManifestKernel[], values: Float64Array): number {
  let ns = 0;
  for (const kernel of kernels) ns += PREDICTION.perKernelNs + Math.max(values[kernel.flops]! / PREDICTION.opsPerNs, values[kernel.bytes]! / PREDICTION.bytesPerNs);
  return ns;
}

/** The last step after whose begin there is at least `NOTICE_NS` to go; the first when the whole run is shorter. */
function noticeStep(elapsedNs: Float64Array): number {
  let [step, left] = [elapsedNs.length, 0];
  while (step > 0 && left < NOTICE_NS) left += elapsedNs[--step]!;
  return step;
}

/** Whether some size of the kernel is not among those known. */
function isUnknown(kernel: ManifestKernel, values: Float64Array): boolean {
  return Number.isNaN(values[kernel.tiles]!) || kernel.params.some((param) => (param[0] === 0 && Number.isNaN(values[param[1]]!)) || (param[0] === 1 && Number.isNaN(values[param[2]]!)));
}

function sumBytes(memories: ReadonlyMap<number, NativeMemory>): number {
  let sum = 0;
  for (const memory of memories.values()) sum += memory.sizeBytes;
  return sum;
}

/** Reserved at once for a value of the caller's; pages are taken as they are touched. */
const LEAST_BYTES = 64 * 1024;

/** Memory of at least this size under this number; what was there is given back when it is too small. Sizes double, so that shapes that grow step by step seldom ask for more. */
function grow(memories: Map<number, NativeMemory>, key: number, sizeBytes: number): NativeMemory {
  const known = memories.get(key);
  if (known && known.sizeBytes >= sizeBytes) return known;
  known?.dispose();
  const memory = NativeMemory.allocate(Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(Math.max(1, sizeBytes)))));
  memories.set(key, memory);
  return memory;
}

function release(shape: Shape): void {
  for (const { program } of shape.bound.values()) program.dispose();
}

const views = new WeakMap<NativeMemory, Uint8Array>();

/** All bytes of a memory that is used again and again: making a view costs more than a small run. */
function viewOf(memory: NativeMemory): Uint8Array {
  let view = views.get(memory);
  if (!view) views.set(memory, (view = memory.view()));
  return view;
}

/** Of the monotonic clock. */
function nowNs(): number {
  return Number(process.hrtime.bigint());
}
