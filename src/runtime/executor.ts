/**
 * Runs an engine: binds shapes, places memory, walks native segments and reference steps. One inference at a time.
 *
 * A bound shape is every size and address of the program filled in; it is made once per shape and kept. What data
 * decide (the count of NonZero's results) is known when the step that counts it has run; the segments after it that need
 * it are filled anew in each run. The caller's memory is used where it lies when it is native.
 */
import { assert, Tensor, UserError } from "../base/index.ts";
import type { DimIndex, ManifestLabel, ManifestSize, ManifestValue } from "../engine/index.ts";
import { type HostValue, interpret } from "../reference/index.ts";
import type { LoadedEngine, Segment } from "./loaded-engine.ts";
import { INLINE_NS, NativeSegments, noticeStep } from "./native-segments.ts";
import { nativeAddress } from "./native-tensors.ts";
import type { BoundSegment, Run, Shape } from "./run.ts";
import { RunMemory, viewOf } from "./run-memory.ts";
import { ShapeCache } from "./shape-cache.ts";
import { describe } from "./shapes.ts";
import { type AllocateOutput, checkGiven, detached, dimsTensor, type Execution, type Feeds, type Results, type StepTiming, unknownInputs } from "./execution.ts";

/** Shapes kept per context; the least recently used goes first. */
const MAX_SHAPES = 256;

export class Executor implements Execution {
  private readonly engine: LoadedEngine;
  private readonly threads: number;
  private readonly memory: RunMemory;
  private readonly segments: NativeSegments;
  private readonly shapes: ShapeCache<Shape>;
  private readonly inputNames: ReadonlySet<string>;
  private readonly conditions = new Map<string, Uint8Array>();

  constructor(engine: LoadedEngine, threads: number) {
    this.engine = engine;
    this.threads = threads;
    this.inputNames = new Set(engine.manifest.inputs.map((input) => input.name));
    this.shapes = new ShapeCache(engine, {
      most: MAX_SHAPES,
      make: (bindings, profile) => ({ profile, values: this.newSizes(bindings, profile), bound: new Map<number, BoundSegment>() }),
      release,
    });
    this.memory = new RunMemory(engine);
    this.segments = new NativeSegments(engine, this.memory);
  }

  /** All steps on native threads. For engines without reference steps: those would hold the event loop. */
  async run(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}, allocate?: AllocateOutput, threads = this.threads): Promise<Results> {
    assert(!this.engine.hasReferenceSteps, "an asynchronous run with a reference step");
    const run = this.begin(feeds, outputs, allocate);
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind !== "native") continue;
      const bound = this.segments.bound(index, segment, run);
      if (bound.inline) bound.program.runSync({ threads: 1 });
      else if (bound.untimed > 0) await this.runTimed(bound, threads);
      else await bound.program.run({ threads, notice: bound.notice });
    }
    return this.results(run);
  }

  private async runTimed(bound: BoundSegment, threads: number): Promise<void> {
    await bound.program.run({ threads, profile: true });
    bound.untimed--;
    const elapsed = bound.program.profile();
    if (threads * elapsed.reduce((sum, ns) => sum + ns, 0) < INLINE_NS) bound.inline = true;
    bound.notice = noticeStep(elapsed);
  }

  /** The same on the calling thread, with the pool's help when there is more than one thread. */
  runSync(feeds: Feeds, outputs: Readonly<Record<string, Tensor>> = {}): Results {
    const run = this.begin(feeds, outputs);
    for (let index = 0; index < this.engine.segments.length; index = this.next(index, run)) {
      const segment = this.engine.segments[index]!;
      if (segment.kind === "reference") this.runReference(segment, run);
      if (segment.kind !== "native") continue;
      const { program, inline } = this.segments.bound(index, segment, run);
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
      const { program } = this.segments.bound(index, segment, run);
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
      const { program } = this.segments.bound(index, segment, run);
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
    return this.memory.sizeBytes;
  }

  dispose(): void {
    this.shapes.clear();
    this.segments.dispose();
    this.memory.dispose();
  }

  // ---- before and after ---------------------------------------------------------------------------------------

  private begin(feeds: Feeds, given: Readonly<Record<string, Tensor>>, allocate?: AllocateOutput): Run {
    const { manifest } = this.engine;
    for (const name in feeds) if (!this.inputNames.has(name)) throw unknownInputs(feeds, manifest.inputs, this.engine.dims);
    const shape = this.shapes.of(feeds);
    const run: Run = { feeds, shape, values: shape.values, external: new Map(), hosts: new Map(), given: allocate ? { ...given } : given };
    for (const input of manifest.inputs) this.bindInput(input, feeds[input.name], run);
    for (const output of manifest.outputs) if (output.storage !== undefined) this.bindOutput(output, run, output.name === this.engine.saturation?.output ? undefined : allocate);
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
    const memory = this.memory.stage(input.storage, tensor.bytes.byteLength);
    viewOf(memory).set(tensor.bytes);
    run.external.set(input.storage, Number(memory.address));
  }

  private bindOutput(output: ManifestValue, run: Run, allocate: AllocateOutput | undefined): void {
    const storage = output.storage!;
    if (this.engine.manifest.storages[storage]!.place !== "output") return;
    const size = run.values[this.engine.manifest.storages[storage]!.size]!;
    if (allocate && !Number.isNaN(size) && !run.given[output.name] && !run.external.has(storage)) {
      const made = allocate(output.name, output.dtype, this.memory.dimsOf(output, run));
      if (made) run.given[output.name] = made;
    }
    const given = run.given[output.name];
    const address = given && nativeAddress(given);
    if (address !== undefined) run.external.set(storage, Number(address));
    else if (!Number.isNaN(size) && !run.external.has(storage)) run.external.set(storage, Number(this.memory.stage(storage, size).address));
  }

  private results(run: Run): Results {
    const results: Results = {};
    for (const output of this.engine.manifest.outputs) results[output.name] = this.result(output, run);
    return this.engine.saturation?.take(results) ?? results;
  }

  private result(output: ManifestValue, run: Run): HostValue {
    if (output.elements) return dimsTensor(output, run.values);
    if (output.storage === undefined) return run.hosts.get(output.host!);
    const dims = this.memory.dimsOf(output, run);
    const given = run.given[output.name];
    if (given) {
      checkGiven(output, given, dims);
      if (nativeAddress(given) === undefined) given.bytes.set(this.memory.bytesOf(output, dims, run));
      return given;
    }
    return Tensor.fromBytes(output.dtype as Exclude<ManifestValue["dtype"], "string">, this.memory.bytesOf(output, dims, run).slice(), dims);
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
    if (place === "input" || place === "output") return this.memory.externalBytes(condition, [], run)[0] !== 0;
    const key = `${run.shape.profile}|${condition.storage}`;
    let byte = this.conditions.get(key);
    if (!byte) this.conditions.set(key, (byte = this.memory.bytesOf(condition, [], run)));
    return byte[0] !== 0;
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
    const dims = this.memory.dimsOf(source, run);
    const given = this.engine.manifest.storages[source.storage]!.place;
    const bytes = given === "input" || given === "output" ? this.memory.externalBytes(source, dims, run) : this.memory.bytesOf(source, dims, run);
    return Tensor.fromBytes(source.dtype as Exclude<ManifestValue["dtype"], "string">, bytes, dims);
  }

  private store(target: ManifestValue, value: HostValue, run: Run): void {
    if (target.storage === undefined) {
      run.hosts.set(target.host!, detached(value));
      return;
    }
    assert(value instanceof Tensor && value.type === target.dtype, `reference result for "${target.name}"`);
    this.learnDims(target, value.dims, run);
    const bytes = this.engine.manifest.storages[target.storage]!.place === "arena" ? this.memory.bytesOf(target, value.dims, run) : this.memory.outputBytes(target, value, run);
    bytes.set(value.bytes);
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
    const size = step.given === undefined ? Number(new BigInt64Array(this.memory.wholeBytes(step.inputs[0]!, run).slice(0, 8).buffer)[0]) : run.values[step.given]!;
    this.learn(step.symbol, size, run, () => `${step.label.operators.join("+")} gives ${size} results`);
  }

  private learn(symbol: DimIndex, size: number, run: Run, what: () => string): void {
    const known = run.values[symbol]!;
    if (!Number.isSafeInteger(size) || size < 0 || (!Number.isNaN(known) && known !== size)) throw new UserError("input-invalid", `${what()}; the model's dimension "${this.engine.dims.text(symbol)}" ${Number.isNaN(known) ? "is a whole number of at least 0" : `is ${known} in this run`}.`);
    if (known === size) return;
    if (run.values === run.shape.values) run.values = run.shape.values.slice();
    this.engine.dims.learn(run.values, symbol, size);
  }
}

function release(shape: Shape): void {
  for (const { program } of shape.bound.values()) program.dispose();
}

/** Of the monotonic clock. */
function nowNs(): number {
  return Number(process.hrtime.bigint());
}
