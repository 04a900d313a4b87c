/**
 * The memory plan: when each storage is alive, and where it lies in the arena.
 *
 * Offsets are fixed per profile, from each storage's size at the profile's maximum: two storages share bytes only when
 * no step needs both. Placement is greedy, largest first, at the lowest offset that is free over the whole lifetime.
 */
import { bandParts, boundsOf, type Buffer, type Expr, type Kernel, type Range, sequentialBuffers, type ZeroPoint } from "../ir/index.ts";
import type { Placement, Plan, Step } from "./plan.ts";
import type { Storage } from "./view.ts";

/** Storages start at cache lines. */
const ALIGNMENT = 64;

export interface ArenaLayout {
  readonly sizeBytes: number;
  /** Byte offset of each storage; storages whose size no profile bounds are absent and allocated while running. */
  readonly offsets: ReadonlyMap<Storage, number>;
}

/** The buffers a kernel touches. */
export function kernelBuffers(kernel: Kernel): Set<Buffer> {
  const buffers = new Set<Buffer>();
  const seen = new Set<Expr>();
  const visit = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    if (expr.kind === "load") {
      buffers.add(expr.buffer);
      expr.index.forEach(visit);
    } else if (expr.kind === "op") expr.args.forEach(visit);
    else if (expr.kind === "cast") visit(expr.arg);
    else if (expr.kind === "select") [expr.condition, expr.then, expr.else].forEach(visit);
    else if (expr.kind === "reduce") visit(expr.body);
  };
  switch (kernel.kind) {
    case "loop":
      for (const output of kernel.outputs) {
        buffers.add(output.buffer);
        output.index?.forEach(visit);
        visit(output.value);
      }
      break;
    case "matmul":
      for (const buffer of [kernel.a.buffer, kernel.b.buffer, kernel.output, ...(kernel.copy ? [kernel.copy] : []), ...zeroBuffers(kernel.a.zero, kernel.b.zero)]) buffers.add(buffer);
      if (kernel.epilogue) visit(kernel.epilogue.value);
      break;
    case "conv":
      for (const buffer of [kernel.input, kernel.weights, kernel.output, ...(kernel.copy ? [kernel.copy] : []), ...zeroBuffers(kernel.inputZero, kernel.weightsZero)]) buffers.add(buffer);
      if (kernel.epilogue) visit(kernel.epilogue.value);
      break;
    case "bands":
      for (const part of bandParts(kernel)) for (const buffer of kernelBuffers(part)) buffers.add(buffer);
      if (kernel.expansion) for (const between of [kernel.expansion.output, kernel.depthwise.input]) buffers.delete(between);
      if (kernel.projection) for (const between of [kernel.depthwise.output, kernel.projection.a.buffer]) buffers.delete(between);
      break;
    case "sequential":
      return sequentialBuffers(kernel);
    case "attention":
      for (const operand of [kernel.q, kernel.k, kernel.v, kernel.output]) buffers.add(operand.buffer);
      if (kernel.mask) visit(kernel.mask.value);
      break;
  }
  return buffers;
}

export function stepStorages(step: Step, plan: Plan): Set<Storage> {
  const storages = new Set<Storage>();
  if (step.kind === "kernel") {
    for (const buffer of kernelBuffers(step.kernel)) storages.add(plan.views.get(buffer)!.storage);
  } else {
    for (const item of [...step.inputs, ...step.outputs]) if (item?.kind === "view") storages.add(item.view.storage);
  }
  return storages;
}

/** First and last step that touches each arena storage. Graph outputs that alias the arena live to the end. */
export function lifetimes(plan: Plan): Placement[] {
  const first = new Map<Storage, number>();
  const last = new Map<Storage, number>();
  for (const [index, step] of plan.steps.entries()) {
    for (const storage of stepStorages(step, plan)) {
      if (!first.has(storage)) first.set(storage, index);
      last.set(storage, index);
    }
  }
  for (const output of plan.outputs) if (output.kind === "view") last.set(output.view.storage, plan.steps.length);
  return [...first].filter(([storage]) => storage.place === "arena").map(([storage, firstStep]) => ({ storage, firstStep, lastStep: last.get(storage)! }));
}

/** Places storages for one profile. */
export function layoutArena(placements: readonly Placement[], ranges: ReadonlyMap<string, Range>): ArenaLayout {
  const sized = placements.map((placement) => ({ ...placement, size: roundUp(boundsOf(placement.storage.sizeBytes, ranges).max) }));
  const bounded = sized.filter(({ size }) => Number.isFinite(size)).sort((a, b) => b.size - a.size || a.firstStep - b.firstStep);
  const placed: { offset: number; size: number; firstStep: number; lastStep: number }[] = [];
  const offsets = new Map<Storage, number>();
  let sizeBytes = 0;
  for (const item of bounded) {
    const rivals = placed.filter((other) => other.firstStep <= item.lastStep && item.firstStep <= other.lastStep).sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const rival of rivals) {
      if (offset + item.size <= rival.offset) break;
      offset = Math.max(offset, rival.offset + rival.size);
    }
    offsets.set(item.storage, offset);
    placed.push({ offset, size: item.size, firstStep: item.firstStep, lastStep: item.lastStep });
    sizeBytes = Math.max(sizeBytes, offset + item.size);
  }
  return { sizeBytes, offsets };
}

function roundUp(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

/** Zero points that a run fills in. */
function zeroBuffers(...zeros: readonly (ZeroPoint | undefined)[]): Buffer[] {
  return zeros.filter((zero) => typeof zero === "object");
}
