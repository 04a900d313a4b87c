/**
 * Native segments as programs: every size and address of their kernels filled in, once for each shape. Addresses that
 * move are patched before each run, and kernels whose sizes only the data of a run decide are filled anew.
 */
import { assert } from "../base/index.ts";
import type { ManifestKernel } from "../engine/index.ts";
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

export class NativeSegments {
  private readonly memory: RunMemory;
  private readonly codeAddress: number;

  constructor(engine: LoadedEngine, memory: RunMemory) {
    assert(engine.code, "an engine without code for the processor");
    this.memory = memory;
    this.codeAddress = Number(engine.code.address);
  }

  /** The segment with the sizes and addresses of this run. */
  bound(index: number, segment: NativeSegment, run: Run): BoundSegment {
    let bound = run.shape.bound.get(index);
    if (!bound) run.shape.bound.set(index, (bound = this.bindSegment(segment, run)));
    if (bound.open.length > 0) this.fillOpen(bound, segment, run);
    this.patch(bound.program, bound.patches, run);
    this.patch(bound.program, bound.openPatches, run);
    return bound;
  }

  private bindSegment(segment: NativeSegment, run: Run): BoundSegment {
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
