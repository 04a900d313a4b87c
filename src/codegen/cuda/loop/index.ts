/** Loop kernels as CUDA C++: the generic lowering, which takes every expression of the loop IR. */
import { flattenKernel } from "../../flatten.ts";
import { bytesMoved, totalWork } from "../../loop-cost.ts";
import { type Axis, type Buffer, type Dim, type LoopKernel, visitExpr } from "../../loop-ir.ts";
import type { FlatKernel } from "../../flatten.ts";
import { CodeWriter } from "../code-writer.ts";
import type { CudaKernel, CudaTactic } from "../contract.ts";
import { ExpressionEmitter } from "../expression.ts";
import { indexTypeFor, KernelParams } from "../kernel-params.ts";
import { columnShape, emitColumns } from "./columns.ts";
import { emitElements } from "./elements.ts";
import { emitRows } from "./rows.ts";
import { BLOCK_THREADS, countOf, ELEMENTS_PER_THREAD, type LoopShape, shapeOf } from "./shape.ts";

/** One way for most kernels; rows that are reduced are shared by few threads or by many, which the number of rows decides. */
export function loopTactics(kernel: LoopKernel): CudaTactic[] {
  const flat = flattenKernel(kernel);
  const columns = SHARED_BY.map((most) => columnShape(flat, most)).filter((shape) => shape !== undefined);
  if (columns.length > 0) return [...new Map(columns.map((shape) => [nameOf(shape), shape])).values()].map((shape, i) => ({ name: nameOf(shape), estimate: i, compile: () => loopOf(kernel, flat, shape) }));
  const shapes = ELEMENTS_PER_THREAD.map((perThread) => shapeOf(flat, perThread));
  const [first, second] = shapes as [LoopShape, LoopShape];
  const differ = first.kind === "rows" && second.kind === "rows" && first.threads !== second.threads;
  return (differ ? shapes : [first]).map((shape, i) => ({ name: nameOf(shape), estimate: i, compile: () => loopOf(kernel, flat, shape) }));
}

export function cudaLoop(kernel: LoopKernel): CudaKernel {
  const flat = flattenKernel(kernel);
  return loopOf(kernel, flat, columnShape(flat, SHARED_BY[0]) ?? shapeOf(flat));
}

/** Most threads of a block that share a reduction: for many results, and for few. */
const SHARED_BY = [32, 128] as const;

function nameOf(shape: LoopShape): string {
  switch (shape.kind) {
    case "rows": return `loop rows of ${shape.threads} threads`;
    case "columns": return `loop columns by ${shape.width}${shape.splits > 1 ? ` shared by ${shape.splits}` : ""}`;
    case "elements": return `loop elements by ${shape.width}`;
  }
}

function emit(flat: FlatKernel, shape: LoopShape, emitter: ExpressionEmitter): Dim {
  switch (shape.kind) {
    case "rows": return emitRows(flat, shape, emitter);
    case "columns": return emitColumns(flat, shape, emitter);
    case "elements": return emitElements(flat, shape, emitter);
  }
}

function loopOf(kernel: LoopKernel, flat: FlatKernel, shape: LoopShape): CudaKernel {
  const code = new CodeWriter();
  const params = new KernelParams(kernel.outputs.map(({ buffer }) => buffer), indexTypeFor(buffersOf(flat), extentsOf(flat)));
  const emitter = new ExpressionEmitter(code, params, flat.safe);
  const block = shape.kind === "rows" ? shape.threads * shape.rowsPerBlock : BLOCK_THREADS;
  let blocks: Dim = 0;
  code.block("", () => { blocks = emit(flat, shape, emitter); });
  const entry = `loop_${shape.kind}`;
  return {
    name: kernel.name,
    source: `extern "C" __global__ void __launch_bounds__(${block}) ${entry}(${params.declarations()})\n${code.text()}\n`,
    params: params.list, packed: [], scratchBytes: 0,
    launch: { entry, grid: [blocks, 1, 1], block, sharedBytes: 0, tensorMaps: [] },
    flops: totalWork(flat), bytes: bytesMoved(kernel),
    tactic: nameOf(shape),
  };
}

function buffersOf(kernel: FlatKernel): Set<Buffer> {
  const buffers = new Set<Buffer>();
  for (const { buffer, value } of kernel.outputs) {
    buffers.add(buffer);
    visitExpr(value, (e) => { if (e.kind === "load") buffers.add(e.buffer); });
  }
  return buffers;
}

/** Numbers that are counted through: all points of the domain, and of each reduction. */
function extentsOf(kernel: FlatKernel): Dim[] {
  const counts: Dim[] = [countOf(kernel.axes)];
  for (const { value } of kernel.outputs) visitExpr(value, (e) => { if (e.kind === "reduce") counts.push(countOf(e.axes as Axis[])); });
  return counts;
}
