/** An engine in memory: its file mapped, its code executable, its tables parsed. Shared by all contexts; immutable. */
import { UnsupportedError } from "../base/index.ts";
import { DimTable, EngineFile, type Manifest, type ManifestKernel, type ManifestReference, type ManifestValue } from "../engine/index.ts";
import { type Graph, graphFromJson } from "../ir/index.ts";
import type { Cpu, NativeMemory } from "../native/index.ts";
import { ShapeBinder } from "./shapes.ts";

/** Steps between two exits to JavaScript, or one exit. A jump goes on at segment `target` unless its condition holds. */
export type Segment =
  | { readonly kind: "native"; readonly kernels: readonly ManifestKernel[]; readonly firstStep: number }
  | { readonly kind: "reference"; readonly step: ManifestReference; readonly graph: Graph }
  | { readonly kind: "jump"; readonly condition: ManifestValue | undefined; readonly target: number }
  | { readonly kind: "fail"; readonly message: string };

export class LoadedEngine {
  readonly path: string;
  readonly manifest: Manifest;
  readonly file: EngineFile;
  readonly code: NativeMemory;
  readonly binder: ShapeBinder;
  readonly dims: DimTable;
  readonly segments: readonly Segment[];
  /** Largest arena of any profile. */
  readonly arenaBytes: number;
  readonly scratchBytes: number;

  private constructor(path: string, file: EngineFile, manifest: Manifest) {
    this.path = path;
    this.file = file;
    this.manifest = manifest;
    this.code = file.executableCode();
    this.dims = new DimTable(manifest.dims);
    this.binder = new ShapeBinder(manifest, this.dims);
    this.segments = segmentsOf(manifest, file);
    this.arenaBytes = Math.max(0, ...manifest.profiles.map((profile) => profile.arenaBytes));
    this.scratchBytes = manifest.steps.reduce((most, step) => Math.max(most, step.kind === "kernel" ? step.scratchBytes : 0), 0);
  }

  /** @throws UserError for a damaged file, UnsupportedError when this processor lacks what the engine's code uses */
  static open(path: string, cpu: Cpu): LoadedEngine {
    const file = EngineFile.open(path);
    try {
      const manifest = file.manifest();
      checkProcessor(path, manifest, cpu);
      return new LoadedEngine(path, file, manifest);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get hasReferenceSteps(): boolean {
    return this.segments.some((segment) => segment.kind === "reference");
  }

  dispose(): void {
    this.code.dispose();
    this.file.close();
  }
}

function checkProcessor(path: string, manifest: Manifest, cpu: Cpu): void {
  const { target } = manifest;
  if (target.arch !== "x64") throw new UnsupportedError("engine-incompatible", `${path}: built for ${target.gpu}, not for processors.`);
  const features: ReadonlySet<string> = cpu.features;
  const needed = target.isa === "avx512" ? target.features.filter((name) => !/^(amx|avxvnni|avx512(fp16|vbmi))/.test(name)) : ["avx2", "fma", "f16c"];
  const missing = needed.filter((name) => !features.has(name));
  if (missing.length === 0) return;
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
    else if (step.kind === "fail") segments.push({ kind: "fail", message: step.message });
    else segments.push({ kind: "reference", step, graph: graphFromJson(step.graph, (at, sizeBytes) => file.weights(at, sizeBytes)) });
  }
  flush();
  return segments.map((segment) => (segment.kind === "jump" ? { ...segment, target: segmentAt.get(segment.target) ?? segments.length } : segment));
}
