/**
 * Native segments as programs: every size and address of their kernels filled in, once for each shape. What all shapes
 * have in common is filled in once and copied. Addresses that move are patched before each run, and kernels whose sizes only
 * the data of a run decide are filled anew.
 */
import { assert } from "../base/index.ts";
import type { DimIndex, DimTable, ManifestKernel } from "../engine/index.ts";
import { Program } from "../program/index.ts";
import type { LoadedEngine, Segment } from "./loaded-engine.ts";
import type { BoundSegment, Patch, Run } from "./run.ts";
import type { RunMemory } from "./run-memory.ts";

export type NativeSegment = Extract<Segment, { kind: "native" }>;

/** Runs shorter than this are done inline: handing them to another thread costs as much. */
export const INLINE_NS = 50_000;
/** Runs to time before a segment counts as long; the first ones find cold caches. */
const TIMED_RUNS = 4;
/** How long before its end a run gives notice: what waking the event loop takes where processors sleep deeply, as on virtual machines. */
const NOTICE_NS = 250_000;
/** What one core does at least, for that prediction: operations and bytes per nanosecond, and nanoseconds per kernel. */
const PREDICTION = { opsPerNs: 40, bytesPerNs: 10, perKernelNs: 150 };

/** A segment as all shapes of a profile have it, and what each of them fills in. */
interface Template {
  /** Copied, never run. */
  readonly program: Program;
  /** Steps whose tiles the shape decides. */
  readonly tiles: readonly { readonly step: number; readonly size: DimIndex }[];
  /** Slots that hold a size of the shape, or an address that far from `base`. */
  readonly slots: readonly { readonly step: number; readonly slot: number; readonly base: number; readonly size: DimIndex }[];
  /** Slots whose address may differ from run to run. */
  readonly moving: readonly { readonly step: number; readonly slot: number; readonly storage: number; readonly offset: DimIndex }[];
  /** Steps that only the data of a run decide. */
  readonly open: readonly number[];
}

export class NativeSegments {
  private readonly dims: DimTable;
  private readonly memory: RunMemory;
  private readonly codeAddress: number;
  /** By profile and segment. */
  private readonly templates = new Map<string, Template>();

  constructor(engine: LoadedEngine, memory: RunMemory) {
    assert(engine.code, "an engine without code for the processor");
    this.dims = engine.dims;
    this.memory = memory;
    this.codeAddress = Number(engine.code.address);
  }

  /** The segment with the sizes and addresses of this run. */
  bound(index: number, segment: NativeSegment, run: Run): BoundSegment {
    let bound = run.shape.bound.get(index);
    if (!bound) run.shape.bound.set(index, (bound = this.bindSegment(this.template(index, segment, run), segment, run)));
    if (bound.open.length > 0) this.fillOpen(bound, segment, run);
    this.patch(bound.program, bound.patches, run);
    this.patch(bound.program, bound.openPatches, run);
    return bound;
  }

  dispose(): void {
    for (const { program } of this.templates.values()) program.dispose();
  }

  private bindSegment(template: Template, { kernels }: NativeSegment, { values }: Run): BoundSegment {
    const program = new Program(template.program);
    for (const { step, size } of template.tiles) program.setTiles(step, values[size]!);
    for (const { step, slot, base, size } of template.slots) program.setParam(step, slot, base + values[size]!);
    const patches = template.moving.map(({ step, slot, storage, offset }): Patch => ({ step, slot, storage, byteOffset: values[offset]! }));
    const { open } = template;
    return { program, patches, open, openPatches: [], inline: predictedNs(kernels, values) < INLINE_NS, untimed: open.length > 0 ? 0 : TIMED_RUNS, notice: undefined };
  }

  private template(index: number, segment: NativeSegment, run: Run): Template {
    const key = `${run.shape.profile}|${index}`;
    let template = this.templates.get(key);
    if (!template) this.templates.set(key, (template = this.makeTemplate(segment, run)));
    return template;
  }

  /** Which sizes are known from the inputs is the same for all shapes. */
  private makeTemplate({ kernels }: NativeSegment, run: Run): Template {
    const open = kernels.flatMap((kernel, step) => (isUnknown(kernel, run.shape.values) ? [step] : []));
    const isOpen = new Set(open);
    const tilesOf = (kernel: ManifestKernel, step: number): number => (!isOpen.has(step) && this.dims.isNumber(kernel.tiles) ? run.values[kernel.tiles]! : 0);
    const program = new Program(kernels.map((kernel, step) => ({ code: this.codeAddress + kernel.code, params: kernel.params.length, tiles: tilesOf(kernel, step), scratchBytes: kernel.scratchBytes })));
    const known = [...kernels.entries()].filter(([step]) => !isOpen.has(step));
    const all = known.flatMap(([step, kernel]) => this.fillFixed(program, step, kernel, run));
    return {
      program, open,
      tiles: known.flatMap(([step, { tiles }]) => (this.dims.isNumber(tiles) ? [] : [{ step, size: tiles }])),
      slots: all.flatMap(({ moving, ...slot }) => (moving === undefined ? [slot] : [])),
      moving: all.flatMap(({ step, slot, moving, size }) => (moving === undefined ? [] : [{ step, slot, storage: moving, offset: size }])),
    };
  }

  /** Sets the slots that are the same for all shapes. @returns the others; `moving`: the storage whose address is not known yet */
  private fillFixed(program: Program, step: number, { params }: ManifestKernel, run: Run): { step: number; slot: number; base: number; size: DimIndex; moving?: number }[] {
    return params.flatMap((param, slot) => {
      if (param[0] === 2) program.setParam(step, slot, this.memory.weightsAddress + param[1]);
      if (param[0] !== 0 && param[0] !== 1) return [];
      const size = param[0] === 0 ? param[1] : param[2];
      if (param[0] === 1 && this.memory.moves(param[1], run)) return [{ step, slot, base: 0, size, moving: param[1] }];
      const base = param[0] === 0 ? 0 : this.memory.addressOf(param[1], run);
      if (!this.dims.isNumber(size)) return [{ step, slot, base, size }];
      program.setParam(step, slot, base + run.values[size]!);
      return [];
    });
  }

  private patch(program: Program, patches: readonly Patch[], run: Run): void {
    for (const { step, slot, storage, byteOffset } of patches) program.setParam(step, slot, this.memory.addressOf(storage, run) + byteOffset);
  }

  /** Sizes and addresses of a run whose data decide some. */
  private fillOpen(bound: BoundSegment, segment: NativeSegment, run: Run): void {
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
      else if (param[0] === 2) program.setParam(step, slot, this.memory.weightsAddress + param[1]);
      else if (param[0] === 1) {
        const byteOffset = run.values[param[2]]!;
        if (this.memory.moves(param[1], run)) patches.push({ step, slot, storage: param[1], byteOffset });
        else program.setParam(step, slot, this.memory.addressOf(param[1], run) + byteOffset);
      }
    }
  }
}

function predictedNs(kernels: readonly ManifestKernel[], values: Float64Array): number {
  let ns = 0;
  for (const kernel of kernels) ns += PREDICTION.perKernelNs + Math.max(values[kernel.flops]! / PREDICTION.opsPerNs, values[kernel.bytes]! / PREDICTION.bytesPerNs);
  return ns;
}

/** The last step after whose begin there is at least `NOTICE_NS` to go; the first when the whole run is shorter. */
export function noticeStep(elapsedNs: Float64Array): number {
  let [step, left] = [elapsedNs.length, 0];
  while (step > 0 && left < NOTICE_NS) left += elapsedNs[--step]!;
  return step;
}

/** Whether some size of the kernel is not among those known. */
function isUnknown(kernel: ManifestKernel, values: Float64Array): boolean {
  return Number.isNaN(values[kernel.tiles]!) || kernel.params.some((param) => (param[0] === 0 && Number.isNaN(values[param[1]]!)) || (param[0] === 1 && Number.isNaN(values[param[2]]!)));
}
