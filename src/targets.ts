/**
 * What the compiler can build for: this processor, this machine's GPU, or a GPU that is elsewhere. A target names itself
 * for the engine, proposes tactics for a kernel, and times them.
 */
import { assert, type Precision, UnsupportedError, UserError } from "./base/index.ts";
import { archName, attentionTactics, compileLoop, compileSequential, convTactics, type CudaArch, type CudaKernel, cudaTactics, HOPPER, type Isa, isaOf, matmulTactics, PRELUDE } from "./codegen/index.ts";
import type { ManifestTarget } from "./engine/index.ts";
import type { Bindings, CompiledKernel, ConstantLookup, Kernel, Tactic } from "./ir/index.ts";
import { mul } from "./ir/index.ts";
import { compileMany, type Cpu, type CudaCompiler, detectCpu, type Gpu, openCudaCompiler, openGpu, requireCpu } from "./native/index.ts";
import { PROCESSOR_KERNELS, type TargetKernels } from "./schedule/index.ts";
import { CpuDevice, GpuDevice, type TuneDevice, type TuneLevel } from "./tune/index.ts";

export interface TargetOptions {
  /** "x64" (this processor, the default), "cuda" (this machine's GPU), or "cuda:sm_90" and the like (a GPU elsewhere, at level 0). */
  readonly target?: string;
  /** Engines for GPUs: let newer GPUs run them too. Their code is PTX, which the driver translates when it loads it, without instructions of one architecture alone. */
  readonly compatibility?: boolean;
  /** How hard to tune. */
  readonly level?: TuneLevel;
  /**
   * Offer fast convolutions (Winograd): less work for larger weights. The engine's weight section may then be up to one
   * and a half times the model's weights. Off by default.
   */
  readonly fastConvolution?: boolean;
  /** Threads that runs will mostly use: tactics are judged by the longest share of that many; 1 by default. */
  readonly threads?: number;
  /** The GPU and the compiler of CUDA C++ to build with; by default those that are found. */
  readonly gpu?: Gpu;
  readonly cudaCompiler?: CudaCompiler;
  /** Environment variables: SINTER_CPU limits the instruction set, SINTER_GPU numbers the GPU, SINTER_NVRTC names the compiler. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

const DEFAULT_LEVEL: TuneLevel = 3;

export interface Target {
  readonly identity: ManifestTarget;
  readonly device: TuneDevice;
  readonly level: TuneLevel;
  /** What it has kernels for. */
  readonly kernels: TargetKernels;
  /** @throws UnsupportedError when the device does not multiply in the precision */
  requirePrecision(precision: Precision): void;
  /** Whether kernels are chosen apart for shapes that are far from each other. */
  readonly tunesByShape: boolean;
  tactics(kernel: Kernel, constants: ConstantLookup, bindings: Bindings): Tactic[];
  /** Has the code of these tactics, of its own, made beforehand where that is faster than one by one. */
  prepare(tactics: readonly Tactic[], options: PrepareOptions): Promise<void>;
}

export interface PrepareOptions {
  readonly onProgress: (done: number, total: number) => Promise<void>;
  readonly signal?: AbortSignal;
}

/** @throws UserError for a target that is none, UnsupportedError when the machine lacks it */
export function openTarget(options: TargetOptions): Target {
  const name = options.target ?? "x64";
  if (name === "x64") return new X64Target(options);
  if (name === "cuda") return CudaTarget.here(options);
  const elsewhere = /^cuda:sm_(\d+)$/.exec(name);
  if (!elsewhere) throw new UserError("option-invalid", `target is "${name}"; expected x64, cuda, or cuda:sm_90 (a GPU elsewhere, by its compute capability).`);
  return CudaTarget.elsewhere(Number(elsewhere[1]), options);
}

class X64Target implements Target {
  readonly identity: ManifestTarget;
  readonly device: TuneDevice;
  readonly level: TuneLevel;
  readonly kernels: TargetKernels;
  readonly #cpu: Cpu;
  readonly #isa: Isa;
  readonly #isLimited: boolean;
  readonly #fastConvolution: boolean;
  /** One code for all shapes costs a few percent; generating it anew for others would cost every build. */
  readonly tunesByShape = false;

  constructor(options: TargetOptions) {
    const env = options.env ?? process.env;
    const cpu = detectCpu(env);
    requireCpu(cpu);
    const isa = isaOf(cpu.features);
    assert(isa, "a processor without AVX2 that was not refused");
    this.#cpu = cpu;
    this.#isa = isa;
    this.#isLimited = Boolean(env["SINTER_CPU"]);
    this.kernels = { ...PROCESSOR_KERNELS, bfloat16: isa.bf16 };
    this.#fastConvolution = options.fastConvolution ?? false;
    this.level = options.level ?? DEFAULT_LEVEL;
    // Tiles are no part of an instruction set: an engine needs them when one of its kernels says so.
    this.identity = { arch: "x64", isa: isa.name, cpu: cpu.id, features: [...cpu.features].filter((name) => !name.startsWith("amx")) };
    this.device = new CpuDevice(`${cpu.id} ${isa.name}`, options.threads ?? 1);
  }

  requirePrecision(precision: Precision): void {
    const isa = this.#isa;
    if (precision === "fp16") throw new UnsupportedError("unsupported-cpu", "Precision fp16 is one of GPUs (--target cuda); processors have bf16, with AVX512-BF16. Build with --precision fp32 or bf16.");
    if (precision !== "bf16" || isa.bf16) return;
    throw new UnsupportedError("unsupported-cpu", `Precision bf16 needs AVX512-BF16 (AMD Zen 4, Intel Cooper Lake or Sapphire Rapids, or later); "${this.#cpu.brand || this.#cpu.vendor}" has ${isa.name === "avx2" ? "AVX2" : "AVX-512"}${this.#isLimited ? " as SINTER_CPU limits it" : ""}. Build with --precision fp32, or with --precision int8${isa.vnni ? ", which it multiplies fastest (VNNI)" : ""}.`);
  }

  /** Generating machine code takes no time worth saving. */
  async prepare(): Promise<void> {}

  tactics(kernel: Kernel, constants: ConstantLookup, bindings: Bindings): Tactic[] {
    const isa = this.#isa;
    switch (kernel.kind) {
      case "loop": return [{ name: "loop", estimate: 0, compile: () => compileLoop(kernel, isa) }];
      case "sequential": return [{ name: "sequential", estimate: 0, compile: () => compileSequential(kernel, isa) }];
      case "matmul": return matmulTactics(kernel, isa, constants, bindings);
      case "conv": return convTactics(kernel, isa, constants, bindings, { fastConvolution: this.#fastConvolution });
      case "attention": return attentionTactics(kernel, isa, constants, bindings);
    }
  }
}

class CudaTarget implements Target {
  readonly identity: ManifestTarget;
  readonly device: TuneDevice;
  readonly level: TuneLevel;
  readonly kernels: TargetKernels = { bfloat16: true, float16: true, narrowAttention: true, narrowCopies: false, integers: true, blockWeights: false, sequential: false };
  readonly #arch: CudaArch;
  readonly #compiler: CudaCompiler;
  readonly #form: "cubin" | "ptx";
  readonly tunesByShape = true;
  readonly #env: Environment;
  /** Modules by source: the layers of a network are alike. */
  readonly #compiled = new Map<string, Uint8Array>();
  readonly #sources = new WeakMap<Tactic, () => string>();

  private constructor(arch: CudaArch, compiler: CudaCompiler, gpu: { readonly name: string; readonly driver: string }, device: TuneDevice, level: TuneLevel, form: "cubin" | "ptx", env: Environment) {
    this.#env = env;
    this.#arch = arch;
    this.#compiler = compiler;
    this.#form = form;
    this.device = device;
    this.level = level;
    this.identity = { arch: "cuda", isa: archName(arch), gpu: gpu.name, multiprocessors: arch.multiprocessors, driver: gpu.driver, compiler: compiler.identity, ptx: form === "ptx" };
  }

  static here(options: TargetOptions): CudaTarget {
    const gpu = options.gpu ?? openGpu(options.env);
    const { capability, multiprocessors, sharedBytesPerBlock } = gpu.description;
    const compiler = options.cudaCompiler ?? openCudaCompiler(options.env);
    return new CudaTarget({ capability, multiprocessors, sharedBytesPerBlock, ownInstructions: !options.compatibility }, compiler, gpu.description, new GpuDevice(gpu, compiler.identity), options.level ?? DEFAULT_LEVEL, options.compatibility ? "ptx" : "cubin", options.env ?? process.env);
  }

  /** Nothing can be timed, so tactics are chosen by their estimates. */
  static elsewhere(capability: number, options: TargetOptions): CudaTarget {
    if ((options.level ?? 0) !== 0) throw new UserError("option-invalid", `A GPU elsewhere (sm_${capability}) cannot be measured here; build with --level 0, or on a machine that has it.`);
    const compiler = options.cudaCompiler ?? openCudaCompiler(options.env);
    const absent: TuneDevice = { identity: `sm_${capability}`, prepare: () => { throw new Error("Bug in sinter: a kernel timed on a GPU that is elsewhere"); } };
    return new CudaTarget({ ...HOPPER, capability, ownInstructions: !options.compatibility }, compiler, { name: `a GPU of sm_${capability}`, driver: "unknown" }, absent, 0, options.compatibility ? "ptx" : "cubin", options.env ?? process.env);
  }

  requirePrecision(precision: Precision): void {
    if (precision !== "fp32" && this.#arch.capability < 80) throw new UnsupportedError("unsupported", `Precision ${precision} needs a GPU of compute capability 8.0 or later; this one has ${this.#arch.capability / 10}. Build with --precision fp32.`);
  }

  tactics(kernel: Kernel, constants: ConstantLookup, bindings: Bindings): Tactic[] {
    return cudaTactics(kernel, this.#arch, constants, bindings).map(({ name, estimate, compile }) => {
      let generated: CudaKernel | undefined;
      const generate = (): CudaKernel => (generated ??= compile());
      const tactic: Tactic = { name, estimate, compile: () => this.#compile(generate()) };
      this.#sources.set(tactic, () => wholeSource(generate()));
      return tactic;
    });
  }

  async prepare(tactics: readonly Tactic[], { onProgress, signal }: PrepareOptions): Promise<void> {
    const missing = [...new Set(tactics.map((tactic) => this.#sources.get(tactic)!()))].filter((source) => !this.#compiled.has(source));
    if (missing.length === 0) return;
    await onProgress(0, missing.length);
    const images = await compileMany(this.#compiler, missing, archName(this.#arch), this.#form, {
      env: this.#env, ...(signal ? { signal } : {}), onDone: (done) => void onProgress(done, missing.length).catch(() => undefined),
    });
    missing.forEach((source, i) => this.#compiled.set(source, images[i]!));
  }

  #compile(generated: CudaKernel): CompiledKernel {
    const whole = wholeSource(generated);
    const { source, ...kernel } = generated;
    let code = this.#compiled.get(whole);
    if (!code) this.#compiled.set(whole, (code = this.#compiler.compile(whole, archName(this.#arch), this.#form)));
    return { ...kernel, code, tiles: mul(...kernel.launch.grid) };
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

const wholeSource = ({ source }: CudaKernel): string => `${PRELUDE}\n${source}`;
