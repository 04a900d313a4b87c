/**
 * The linker: a plan and its compiled kernels become the content of an engine file. Equal machine code, equal packed
 * weights and equal dimension expressions are stored once; only weights that some kernel reads are stored at all.
 */
import { assert, byteLength, elementCount } from "../base/index.ts";
import { DimRows, ENGINE_FORMAT, type EngineContent, type Manifest, type ManifestCode, type ManifestFail, type ManifestJump, type ManifestKernel, type ManifestLaunch, type ManifestParam, type ManifestProfile, type ManifestReference, type ManifestSize, type ManifestSource, type ManifestStep, type ManifestStorage, type ManifestTarget, type ManifestValue, type WeightPiece } from "../engine/index.ts";
import { type Buffer, type CompiledKernel, type Dim, graphToJson, type Kernel, type Launch, mul, type PackedData, type Param, type Range, type Value } from "../ir/index.ts";
import { type FailStep, type HostSource, type JumpStep, type KernelStep, layoutArena, lifetimes, type Plan, type ReferenceStep, type SizeStep, type Step, type Storage, type SymbolProfile, type View } from "../schedule/index.ts";

const CODE_ALIGNMENT = 64;
const WEIGHT_ALIGNMENT = 64;

export type ManifestIdentity = Pick<Manifest, "version" | "model" | "target" | "precision" | "level" | "modelWeightBytes" | "saturation">;

/** What runs a kernel step: one kernel, or several that do the same, each from so many operations on (ascending). */
export interface KernelChoice {
  readonly kernel: CompiledKernel;
  readonly larger: readonly { readonly from: number; readonly kernel: CompiledKernel }[];
}

export interface LinkInput {
  readonly plan: Plan;
  /** One per kernel step, in order of `plan.steps`; undefined for reference steps. */
  readonly kernels: readonly (KernelChoice | undefined)[];
  readonly profiles: readonly SymbolProfile[];
  readonly identity: ManifestIdentity;
  readonly report: unknown;
}

export function link(input: LinkInput): EngineContent {
  return new Linker(input).run();
}

class Linker {
  private readonly input: LinkInput;
  private readonly dims = new DimRows();
  private readonly storages: Storage[] = [];
  private readonly storageIndex = new Map<Storage, number>();
  private readonly storageOffsets = new Map<Storage, number>();
  private readonly code: Uint8Array[] = [];
  private readonly codeIndex = new Map<string, number>();
  private codeBytes = 0;
  private readonly pieces: WeightPiece[] = [];
  private readonly packedOffsets = new Map<string, number>();
  private weightBytes = 0;
  private readonly hosts = new Map<Value, number>();
  private readonly lastWriters: ReadonlyMap<Storage, KernelStep>;

  constructor(input: LinkInput) {
    this.input = input;
    this.lastWriters = lastWriters(input.plan);
  }

  run(): EngineContent {
    const { plan, identity } = this.input;
    const inputs = plan.graph.inputs.map((value, i) => this.value(value, plan.inputs[i]));
    const steps = plan.steps.map((step, i) => this.step(step, i));
    const outputs = plan.outputs.map((output): ManifestValue => {
      if (output.kind === "dims") return { ...this.value(output.value, undefined), elements: output.elements.map((dim) => this.dim(dim)) };
      return this.value(output.value, output.kind === "view" ? output.view : undefined);
    });
    const placements = lifetimes(plan);
    const storages = this.storages.map((storage): ManifestStorage => {
      const offset = this.storageOffsets.get(storage);
      return { place: storage.place, size: this.dim(storage.sizeBytes), ...(offset === undefined ? {} : { offset }) };
    });
    const profiles = this.input.profiles.map((profile): ManifestProfile => {
      const layout = layoutArena(placements, new Map<string, Range>(Object.entries(profile.symbols)));
      return { symbols: profile.symbols, arenaBytes: layout.sizeBytes, offsets: this.storages.map((storage) => layout.offsets.get(storage) ?? -1) };
    });
    const manifest: Manifest = { format: ENGINE_FORMAT, ...identity, target: this.target(), inputs, outputs, profiles, dims: this.dims.rows, storages, steps };
    return { manifest, report: this.input.report, code: concat(this.code, this.codeBytes), weights: this.pieces, weightBytes: this.weightBytes };
  }

  /** The target with what its kernels need beyond it. */
  private target(): ManifestTarget {
    const { target } = this.input.identity;
    if (target.arch !== "x64") return target;
    const kernels = this.input.kernels.flatMap((choice) => (choice ? [choice.kernel, ...choice.larger.map(({ kernel }) => kernel)] : []));
    const needed = kernels.flatMap((kernel) => kernel.features ?? []);
    return { ...target, features: [...new Set([...target.features, ...needed])] };
  }

  private dim(dim: Dim): number {
    return this.dims.add(dim);
  }

  private storage(storage: Storage): number {
    let index = this.storageIndex.get(storage);
    if (index === undefined) {
      index = this.storages.push(storage) - 1;
      this.storageIndex.set(storage, index);
      const constant = this.input.plan.constants.get(storage);
      if (constant) this.storageOffsets.set(storage, this.rawWeights(constant));
    }
    return index;
  }

  private value(value: Value, view: View | undefined): ManifestValue {
    assert(value.dtype, `value "${value.name}" without a type`);
    const shape = value.dims && value.kind === "tensor" ? { shape: value.dims.map((dim) => this.dim(dim)) } : {};
    const where = view ? { storage: this.storage(view.storage) } : { host: this.host(value) };
    return { name: value.name, dtype: value.dtype, ...shape, ...where };
  }

  private host(value: Value): number {
    const known = this.hosts.get(value) ?? this.hosts.size;
    this.hosts.set(value, known);
    return known;
  }

  private kernel(step: KernelStep, { kernel, larger }: KernelChoice): ManifestKernel {
    return {
      kind: "kernel", ...this.codeOf(step, kernel), flops: this.dim(kernel.flops), bytes: this.dim(kernel.bytes),
      label: { name: kernel.name, operators: step.operators, origins: step.origins, tactic: kernel.tactic },
      completes: this.completes(step),
      ...(larger.length > 0 && { larger: larger.map(({ from, kernel: other }) => ({ from, ...this.codeOf(step, other), tactic: other.tactic })) }),
    };
  }

  private codeOf(step: KernelStep, { code, params, packed, tiles, scratchBytes, launch }: CompiledKernel): ManifestCode {
    return {
      code: this.placeCode(code), params: params.map((param) => this.param(param, packed)), tiles: this.dim(tiles), scratchBytes,
      ...(launch && { launch: this.launch(step, launch, code.byteLength) }),
    };
  }

  private launch(step: KernelStep, { grid, tensorMaps, ...launch }: Launch, codeBytes: number): ManifestLaunch {
    return {
      ...launch, codeBytes, writes: [...writtenStorages(step, this.input.plan)].map((storage) => this.storage(storage)), grid: grid.map((dim) => this.dim(dim)),
      tensorMaps: tensorMaps.map(({ dims, strideBytes, offsetBytes, pixels, ...map }) => ({
        ...map, dims: dims.map((dim) => this.dim(dim)), strideBytes: strideBytes.map((dim) => this.dim(dim)),
        ...(offsetBytes === undefined ? {} : { offsetBytes: this.dim(offsetBytes) }),
        ...(pixels === undefined ? {} : { pixels: { ...pixels, upper: [this.dim(pixels.upper[0]), this.dim(pixels.upper[1])] as const } }),
      })),
    };
  }

  private completes(step: KernelStep): ManifestValue[] {
    return [...writtenStorages(step, this.input.plan)].flatMap((storage): ManifestValue[] => {
      const { value } = storage;
      if (!value?.dtype || !value.dims || this.lastWriters.get(storage) !== step) return [];
      return [{ name: value.name, dtype: value.dtype, shape: value.dims.map((dim) => this.dim(dim)), storage: this.storage(storage) }];
    });
  }

  private param(param: Param, packed: readonly PackedData[]): ManifestParam {
    if (param.kind === "dim") return [0, this.dim(param.value)];
    if (param.kind === "packed") return [2, this.packedWeights(packed[param.index]!)];
    if (param.kind === "workspace") return [3];
    if (param.kind === "counters") return [4];
    const view = this.input.plan.views.get(param.buffer);
    assert(view, `buffer "${param.buffer.name}" has no place`);
    return [1, this.storage(view.storage), this.dim(mul(view.offset, byteLength(view.dtype, 1)))];
  }

  private step(step: Step, index: number): ManifestStep {
    switch (step.kind) {
      case "kernel": return this.kernel(step, this.input.kernels[index]!);
      case "reference": return this.reference(step);
      case "jump": return this.jump(step);
      case "fail": return this.fail(step);
      case "size": return this.size(step);
    }
  }

  private fail({ message, operators, origins }: FailStep): ManifestFail {
    return { kind: "fail", message, inputs: [], outputs: [], label: { name: "no such branch", operators, origins, tactic: "fail" } };
  }

  private size({ symbol, given, inputs, operators, origins }: SizeStep): ManifestSize {
    const values = inputs.map((item): ManifestSource => {
      assert(item.kind === "view", "a size that is not in memory");
      return { name: "size", dtype: "int64", shape: [], storage: this.storage(item.view.storage) };
    });
    return {
      kind: "size", symbol: this.dim(symbol), inputs: values, outputs: [], ...(given === undefined ? {} : { given: this.dim(given) }),
      label: { name: "size", operators, origins, tactic: "size" },
    };
  }

  private source(item: HostSource, value: Value): ManifestSource {
    if (item.kind === "dims") return { ...this.value(value, undefined), elements: item.elements.map((dim) => this.dim(dim)) };
    return this.value(value, item.kind === "view" ? item.view : undefined);
  }

  private jump(step: JumpStep): ManifestJump {
    return {
      kind: "jump", target: step.target, inputs: step.inputs.map((item) => this.condition(item)), outputs: [],
      label: { name: step.inputs.length > 0 ? "branch" : "end of branch", operators: step.operators, origins: step.origins, tactic: "jump" },
    };
  }

  private condition(item: HostSource): ManifestSource {
    assert(item.kind === "view", "a condition that is not in memory");
    return { name: "condition", dtype: item.view.dtype, shape: [], storage: this.storage(item.view.storage) };
  }

  private reference(step: ReferenceStep): ManifestReference {
    const graph = graphToJson(step.graph, (bytes) => this.append({ sizeBytes: bytes.byteLength, bytes }));
    return {
      kind: "reference", graph, reason: step.reason,
      inputs: step.inputs.map((item, i) => this.source(item, step.graph.inputs[i]!)),
      outputs: step.outputs.map((item) => this.value(item.value, item.kind === "view" ? item.view : undefined)),
      label: { name: step.graph.name, operators: step.operators, origins: step.origins, tactic: "reference" },
    };
  }

  private placeCode(code: Uint8Array): number {
    const key = Buffer.from(code.buffer, code.byteOffset, code.byteLength).toString("latin1");
    let offset = this.codeIndex.get(key);
    if (offset === undefined) {
      offset = this.codeBytes;
      this.codeIndex.set(key, offset);
      const padded = new Uint8Array(Math.ceil(code.byteLength / CODE_ALIGNMENT) * CODE_ALIGNMENT).fill(0xcc);
      padded.set(code);
      this.code.push(padded);
      this.codeBytes += padded.byteLength;
    }
    return offset;
  }

  private rawWeights(value: Value): number {
    const { bytes } = value.constant!;
    const needed = byteLength(value.dtype!, elementCount(value.dims as readonly number[]));
    assert(bytes.byteLength >= needed, `constant "${value.name}" is too short`);
    return this.append({ sizeBytes: needed, bytes: bytes.subarray(0, needed) });
  }

  private packedWeights(packed: PackedData): number {
    let offset = this.packedOffsets.get(packed.key);
    if (offset === undefined) {
      offset = this.append({ sizeBytes: packed.sizeBytes, write: (into) => packed.write(into) });
      this.packedOffsets.set(packed.key, offset);
    }
    return offset;
  }

  private append(piece: Omit<WeightPiece, "offset">): number {
    const offset = this.weightBytes;
    this.pieces.push({ ...piece, offset });
    this.weightBytes = Math.ceil((offset + piece.sizeBytes) / WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT;
    return offset;
  }
}

function writtenBuffers(kernel: Kernel): readonly Buffer[] {
  switch (kernel.kind) {
    case "loop": return kernel.outputs.map((output) => output.buffer);
    case "sequential": return kernel.outputs;
    case "attention": return [kernel.output.buffer];
    case "bands": return [(kernel.projection ?? kernel.depthwise).output];
    default: return [kernel.output];
  }
}

function writtenStorages({ kernel }: KernelStep, plan: Plan): Set<Storage> {
  const buffers = writtenBuffers(kernel);
  return new Set(buffers.map((buffer) => plan.views.get(buffer)!.storage));
}

/** A concatenation is written part by part: its value is whole after the last. */
function lastWriters(plan: Plan): Map<Storage, KernelStep> {
  const last = new Map<Storage, KernelStep>();
  for (const step of plan.steps) {
    if (step.kind !== "kernel") continue;
    for (const storage of writtenStorages(step, plan)) last.set(storage, step);
  }
  return last;
}

function concat(parts: readonly Uint8Array[], sizeBytes: number): Uint8Array {
  const whole = new Uint8Array(sizeBytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
