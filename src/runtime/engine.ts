/**
 * The runtime's public face, in the shapes of onnxruntime's: an `Engine` is shared and immutable, an `ExecutionContext`
 * runs one inference at a time in its own arena.
 */
import { type DType, type Tensor, UserError } from "../base/index.ts";
import type { DimTable, Manifest, ManifestValue } from "../engine/index.ts";
import { availableThreads, detectCpu, type Gpu, openGpu } from "../native/index.ts";
import { Executor } from "./executor.ts";
import { writePerfMap } from "./perf-map.ts";
import type { AllocateOutput, Execution, Feeds, Results, StepTiming, TensorResults } from "./execution.ts";
import { GpuExecutor } from "./gpu-executor.ts";
import { LoadedEngine } from "./loaded-engine.ts";
import { allocateTensor } from "./native-tensors.ts";
import { ReferenceWorker } from "./reference-worker.ts";

export interface EngineOptions {
  /** Native threads per run, 1 up to the processors this process may use; all of them by default. */
  readonly threads?: number;
  /** Opens the GPU that engines for one run on, again after a fault; that of SINTER_GPU by default. */
  readonly openGpu?: () => Gpu;
  /** Environment variables; SINTER_CPU limits the instruction set, SINTER_GPU numbers the GPU. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface RunOptions {
  /** Gives up a run that has not started. */
  readonly signal?: AbortSignal;
  /** Tensors to put results in, by output name. */
  readonly outputs?: Readonly<Record<string, Tensor>>;
  /** Gives memory for the others when their shape is known; engines with reference steps do not ask. */
  readonly allocate?: AllocateOutput;
  /** Threads of this run, at most the engine's, which is the default; engines with reference steps and for GPUs do not ask. */
  readonly threads?: number;
}

/** An input or output: a dimension is a number, or an expression of the model's dimension names. */
export interface ValueInfo {
  readonly name: string;
  readonly type: DType;
  readonly dims: readonly (number | string)[] | undefined;
}

export class Engine {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly threads: number;
  private readonly loaded: LoadedEngine;
  private readonly worker: ReferenceWorker | undefined;
  private readonly contexts = new Set<ExecutionContext>();
  private readonly idle: ExecutionContext[] = [];
  private disposed = false;

  private constructor(loaded: LoadedEngine, threads: number, env: EngineOptions["env"]) {
    this.loaded = loaded;
    this.threads = threads;
    this.inputs = loaded.manifest.inputs.map((value) => valueInfo(value, loaded.dims));
    this.outputs = loaded.manifest.outputs.map((value) => valueInfo(value, loaded.dims));
    this.worker = loaded.hasReferenceSteps ? new ReferenceWorker(loaded.path, threads, env) : undefined;
  }

  /**
   * Maps an engine file and makes its code executable.
   * @throws UserError for a damaged file, UnsupportedError for an engine of another processor
   */
  static async load(path: string, options: EngineOptions = {}): Promise<Engine> {
    return Engine.loadSync(path, options);
  }

  static loadSync(path: string, options: EngineOptions = {}): Engine {
    const most = availableThreads();
    const threads = options.threads ?? most;
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024) throw new UserError("option-invalid", `threads is ${threads}; expected a whole number from 1 (this process may use ${most} processors).`);
    const env = options.env ?? process.env;
    const loaded = LoadedEngine.open(path, { cpu: detectCpu(env), openGpu: options.openGpu ?? (() => openGpu(env)) });
    if (loaded.code) writePerfMap(loaded.manifest, loaded.code.address, loaded.code.sizeBytes, env);
    return new Engine(loaded, threads, env);
  }

  /** What the engine was made from and for. */
  get metadata(): Manifest {
    return this.loaded.manifest;
  }

  /** Whether some operators run on the plain reference, in a worker. */
  get hasReferenceSteps(): boolean {
    return this.loaded.hasReferenceSteps;
  }

  /** A context with its own arena; the caller disposes it, or the engine does. */
  createContext(): ExecutionContext {
    this.checkAlive();
    const context = new ExecutionContext(this.loaded, this.threads, this.worker, () => this.contexts.delete(context));
    this.contexts.add(context);
    return context;
  }

  /** Runs on a context of the engine's own; runs at the same time get one each. @typeParam Outputs as of `ExecutionContext.run` */
  async run<Outputs extends Results = TensorResults>(feeds: Feeds, options: RunOptions = {}): Promise<Outputs> {
    this.checkAlive();
    const context = this.idle.pop() ?? this.createContext();
    try {
      return await context.run<Outputs>(feeds, options);
    } finally {
      if (this.disposed) context.dispose();
      else this.idle.push(context);
    }
  }

  /** Memory for an input or output that runs use where it lies. @param dims its shape */
  allocate(name: string, dims: readonly number[]): Tensor {
    this.checkAlive();
    const value = [...this.inputs, ...this.outputs].find((item) => item.name === name);
    if (!value) throw new UserError("input-invalid", `The model has no input or output "${name}"; it has ${[...this.inputs, ...this.outputs].map((item) => item.name).join(", ")}.`);
    return allocateTensor(value.type, dims);
  }

  /** Frees contexts, code and mapping once runs in flight have ended. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    const busy = [...this.contexts].map((context) => context.dispose());
    const worker = this.worker?.dispose();
    if (busy.some((wait) => wait) || worker) void Promise.all([...busy, worker]).then(() => this.loaded.dispose());
    else this.loaded.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private checkAlive(): void {
    if (this.disposed) throw new UserError("disposed", `The engine ${this.loaded.path} was disposed.`);
  }
}

export class ExecutionContext {
  private readonly loaded: LoadedEngine;
  private readonly threads: number;
  private readonly worker: ReferenceWorker | undefined;
  /** Tells the engine that nothing of this context runs any more. */
  private readonly released: () => void;
  private readonly workerContext: number;
  private executor: Execution | undefined;
  /** Settles when the last run asked for has ended. */
  private last: Promise<unknown> | undefined;
  private disposed = false;
  private freed: Promise<void> | undefined;

  constructor(loaded: LoadedEngine, threads: number, worker: ReferenceWorker | undefined, released: () => void) {
    this.loaded = loaded;
    this.threads = threads;
    this.worker = worker;
    this.released = released;
    this.workerContext = worker ? worker.createContext() : -1;
  }

  /**
   * @typeParam Outputs what the model answers, tensors unless said: `Results` where sequences or optional values are among them
   * @throws UserError for wrong inputs, a shape outside the profiles, or an aborted wait
   */
  async run<Outputs extends Results = TensorResults>(feeds: Feeds, options: RunOptions = {}): Promise<Outputs> {
    this.checkAlive();
    const before = this.last;
    const mine = this.afterwards(before, feeds, options);
    this.last = mine.catch(() => undefined);
    const settled = this.last;
    try {
      return await mine as Outputs;
    } finally {
      if (this.last === settled) this.last = undefined;
    }
  }

  /** Runs on the calling thread and holds it. @typeParam Outputs as of `run` */
  runSync<Outputs extends Results = TensorResults>(feeds: Feeds, options: Pick<RunOptions, "outputs"> = {}): Outputs {
    this.checkAlive();
    this.checkIdle();
    return this.own().runSync(feeds, options.outputs) as Outputs;
  }

  /** Takes the memory that runs need now, so that who has none is told now. In a worker it is taken by the first run. */
  prepare(): void {
    this.checkAlive();
    if (!this.worker) this.own();
  }

  /** Runs once, holding the calling thread, and times every step: see `Executor.profile`. */
  profile(feeds: Feeds, options: { readonly spans?: boolean } = {}): StepTiming[] {
    this.checkAlive();
    this.checkIdle();
    return this.own().profile(feeds, options);
  }

  /** Of an engine for a GPU: milliseconds on the device of `count` runs with the data there, holding the calling thread. */
  deviceTimes(feeds: Feeds, count: number): number[] {
    this.checkAlive();
    this.checkIdle();
    const executor = this.own();
    if (!(executor instanceof GpuExecutor)) throw new UserError("option-invalid", `${this.loaded.path} is built for a processor; times on a device are those of engines for a GPU.`);
    return executor.deviceTimes(feeds, count);
  }

  /** Runs once, holding the calling thread, and shows what each step wrote: see `Executor.trace`. */
  trace(feeds: Feeds, onStep: Parameters<Execution["trace"]>[1]): Results {
    this.checkAlive();
    this.checkIdle();
    return this.own().trace(feeds, onStep);
  }

  /** Bytes of arena and staging memory, reserved; pages are taken as they are used. */
  get memoryBytes(): number {
    return this.executor?.memoryBytes ?? this.loaded.arenaBytes;
  }

  /** Frees the context's memory, after its run in flight. @returns a promise when there is one */
  dispose(): Promise<void> | undefined {
    if (this.disposed) return this.freed;
    this.disposed = true;
    this.worker?.disposeContext(this.workerContext);
    const free = (): void => {
      this.freed = undefined;
      this.executor?.dispose();
      this.released();
    };
    if (this.last) this.freed = this.last.then(free);
    else free();
    return this.freed;
  }

  [Symbol.dispose](): void {
    void this.dispose();
  }

  private async afterwards(before: Promise<unknown> | undefined, feeds: Feeds, options: RunOptions): Promise<Results> {
    if (before) await before;
    if (options.signal?.aborted) throw new UserError("aborted", "The run was cancelled before it started.");
    if (this.worker) return this.worker.run(this.workerContext, feeds, options.outputs ?? {});
    return this.own().run(feeds, options.outputs, options.allocate, options.threads);
  }

  private own(): Execution {
    if (this.executor?.isLost) this.release();
    this.executor ??= newExecutor(this.loaded, this.threads);
    return this.executor;
  }

  private release(): void {
    this.executor?.dispose();
    this.executor = undefined;
  }

  private checkIdle(): void {
    if (this.last) throw new UserError("input-invalid", "A run that holds the calling thread, on a context whose run is in flight; use another context.");
  }

  private checkAlive(): void {
    if (this.disposed) throw new UserError("disposed", "The execution context was disposed.");
  }
}

/** The executor for the device that the engine's code is for. */
export function newExecutor(engine: LoadedEngine, threads: number): Execution {
  return engine.manifest.target.arch === "cuda" ? new GpuExecutor(engine, engine.residence()) : new Executor(engine, threads);
}

function valueInfo(value: ManifestValue, dims: DimTable): ValueInfo {
  return { name: value.name, type: value.dtype, dims: value.shape?.map((index) => dims.text(index)) };
}
