/** An engine in memory: its file mapped, its code executable, its tables parsed. Shared by all contexts; immutable. */
import { UnsupportedError } from "../base/index.ts";
import { DimTable, EngineFile, type Manifest, type ManifestKernel, type ManifestReference, type ManifestSize, type ManifestTarget, type ManifestValue } from "../engine/index.ts";
import { type Graph, graphFromJson } from "../ir/index.ts";
import type { Cpu, Gpu, NativeMemory } from "../native/index.ts";
import { checkGpu, GpuResidence } from "./gpu-residence.ts";
import { ShapeBinder } from "./shapes.ts";
import { SaturationCounter } from "./saturation.ts";

/** Steps between two exits to JavaScript, or one exit. A jump goes on at segment `target` unless its condition holds. */
export type Segment =
  | { readonly kind: "native"; readonly kernels: readonly ManifestKernel[]; readonly firstStep: number }
  | { readonly kind: "reference"; readonly step: ManifestReference; readonly graph: Graph }
  | { readonly kind: "jump"; readonly condition: ManifestValue | undefined; readonly target: number }
  | { readonly kind: "fail"; readonly message: string }
  | { readonly kind: "size"; readonly step: ManifestSize };

export class LoadedEngine {
  readonly path: string;
  readonly manifest: Manifest;
  readonly file: EngineFile;
  /** Executable code; of an engine for a GPU there is none on the host. */
  readonly code: NativeMemory | undefined;
  readonly binder: ShapeBinder;
  readonly dims: DimTable;
  readonly segments: readonly Segment[];
  /** Largest arena of any profile. */
  readonly arenaBytes: number;
  readonly scratchBytes: number;
  /** Of engines that count. */
  readonly saturation: SaturationCounter | undefined;

  private readonly openGpu: () => Gpu;
  private onGpu: GpuResidence | undefined;

  private constructor(path: string, file: EngineFile, manifest: Manifest, openGpu: () => Gpu) {
    this.path = path;
    this.file = file;
    this.manifest = manifest;
    this.openGpu = openGpu;
    this.code = manifest.target.arch === "x64" ? file.executableCode() : undefined;
    this.dims = new DimTable(manifest.dims);
    this.saturation = manifest.saturation && new SaturationCounter(manifest.saturation);
    this.binder = new ShapeBinder(manifest, this.dims);
    this.segments = segmentsOf(manifest, file);
    this.arenaBytes = Math.max(0, ...manifest.profiles.map((profile) => profile.arenaBytes));
    this.scratchBytes = manifest.steps.reduce((most, step) => Math.max(most, ...(step.kind === "kernel" ? [step, ...(step.larger ?? [])].map(({ scratchBytes }) => scratchBytes) : [])), 0);
  }

  /**
   * @param device what this machine has: the processor, and a GPU that is opened for engines that need one
   * @throws UserError for a damaged file, UnsupportedError when the device lacks what the engine's code uses
   */
  static open(path: string, device: { readonly cpu: Cpu; openGpu(): Gpu }): LoadedEngine {
    const file = EngineFile.open(path);
    try {
      const manifest = file.manifest();
      if (manifest.target.arch === "cuda") checkGpu(path, manifest, device.openGpu().description);
      else checkProcessor(path, manifest.target, device.cpu);
      return new LoadedEngine(path, file, manifest, () => device.openGpu());
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get hasReferenceSteps(): boolean {
    return this.segments.some((segment) => segment.kind === "reference");
  }

  /** The engine's weights and modules on its GPU: made when first asked for, and anew when the device has lost them. */
  residence(): GpuResidence {
    if (this.onGpu?.gpu.isLost) this.onGpu = undefined;
    this.onGpu ??= new GpuResidence(this.openGpu(), this.file);
    return this.onGpu;
  }

  dispose(): void {
    this.code?.dispose();
    this.onGpu?.dispose();
    this.file.close();
  }
}

function checkProcessor(path: string, target: Extract<ManifestTarget, { arch: "x64" }>, cpu: Cpu): void {
  const features: ReadonlySet<string> = cpu.features;
  const needed = target.isa === "avx512" ? target.features.filter((name) => !/^(avxvnni|avx512(fp16|vbmi))/.test(name)) : ["avx2", "fma", "f16c"];
  const missing = needed.filter((name) => !features.has(name));
  if (missing.length === 0) return;
  if (missing.every((name) => name.startsWith("amx"))) {
    throw new UnsupportedError("engine-incompatible", `${path}: some of its kernels multiply with AMX tiles; this processor (${cpu.brand}) has none, or they are hidden from this process. Build the model again on this machine, or with SINTER_CPU=avx512 for both.`);
  }
  throw new UnsupportedError("engine-incompatible", `${path}: built for ${target.cpu}; this processor (${cpu.brand}) lacks ${missing.join(", ")}. Build the model again on this machine.`);
}

function segmentsOf(manifest: Manifest, file: EngineFile): Segment[] {
  const segments: Segment[] = [];
  const targets = new Set(manifest.steps.flatMap((step) => (step.kind === "jump" ? [step.target] : [])));
  const segmentAt = new Map<number, number>();
  let kernels: ManifestKernel[] = [];
  let firstStep = 0;
  const flush = (): void => {
    if (kernels.length > 0) segments.push({ kind: "native", kernels, firstStep });
    kernels = [];
  };
  for (const [index, step] of manifest.steps.entries()) {
    if (targets.has(index)) {
      flush();
      segmentAt.set(index, segments.length);
    }
    if (step.kind === "kernel") {
      if (kernels.length === 0) firstStep = index;
      kernels.push(step);
      continue;
    }
    flush();
    if (step.kind === "jump") segments.push({ kind: "jump", condition: step.inputs[0], target: step.target });
    else if (step.kind === "size") segments.push({ kind: "size", step });
    else if (step.kind === "fail") segments.push({ kind: "fail", message: step.message });
    else segments.push({ kind: "reference", step, graph: graphFromJson(step.graph, (at, sizeBytes) => file.weights(at, sizeBytes)) });
  }
  flush();
  return segments.map((segment) => (segment.kind === "jump" ? { ...segment, target: segmentAt.get(segment.target) ?? segments.length } : segment));
}
