/**
 * What an engine keeps on a GPU: its modules and its weights, one copy for all contexts. Made from the file when the
 * first context needs it, and again after a fault has ended the device's context.
 */
import { UnsupportedError } from "../base/index.ts";
import type { EngineFile, Manifest, ManifestKernel, ManifestTarget } from "../engine/index.ts";
import type { Gpu, GpuDescription, GpuKernel, GpuModule } from "../native/index.ts";

export class GpuResidence {
  readonly gpu: Gpu;
  /** Device address of the weight section. */
  readonly weights: number;
  readonly weightBytes: number;
  readonly #file: EngineFile;
  readonly #code: Uint8Array;
  readonly #modules = new Map<number, GpuModule>();
  readonly #kernels = new Map<string, GpuKernel>();

  constructor(gpu: Gpu, file: EngineFile) {
    this.gpu = gpu;
    this.#file = file;
    this.#code = file.code();
    this.weightBytes = file.sizeOf("weights");
    this.weights = gpu.allocate(this.weightBytes);
    gpu.upload(this.weights, this.#file.weightsAddress, this.weightBytes);
  }

  kernel({ code, launch }: ManifestKernel): GpuKernel {
    const key = `${code} ${launch!.entry}`;
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      let module = this.#modules.get(code);
      if (!module) this.#modules.set(code, (module = this.gpu.loadModule(this.#code.subarray(code, code + launch!.codeBytes))));
      this.#kernels.set(key, (kernel = module.kernel(launch!.entry, launch!.sharedBytes)));
    }
    return kernel;
  }

  dispose(): void {
    for (const module of this.#modules.values()) module.dispose();
    this.gpu.free(this.weights);
  }
}

type CudaTarget = Extract<ManifestTarget, { arch: "cuda" }>;

/** @throws UnsupportedError "engine-incompatible" saying what the engine was built for, what this is, and what to do */
export function checkGpu(path: string, { target }: Manifest, gpu: GpuDescription): void {
  const reason = whyNot(target as CudaTarget, gpu.capability);
  if (reason === undefined) return;
  const { isa, gpu: built } = target as CudaTarget;
  throw new UnsupportedError("engine-incompatible", `${path}: built for ${built} (${isa}); this GPU is ${gpu.name} (sm_${gpu.capability}): ${reason}. Build the model again on this machine.`);
}

/** Machine code runs on GPUs of the same major version that are no older; PTX on all that are no older. */
function whyNot({ isa, ptx }: CudaTarget, capability: number): string | undefined {
  const built = Number(/\d+/.exec(isa)![0]);
  if (isa.endsWith("a")) return capability === built ? undefined : "the code uses instructions of that architecture alone";
  if (capability < built) return "it is older";
  if (!ptx && Math.floor(capability / 10) !== Math.floor(built / 10)) return "the engine holds machine code only (--compatibility adds PTX)";
  return undefined;
}
