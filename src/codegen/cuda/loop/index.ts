/** Loop kernels as CUDA C++: the generic lowering, which takes every expression of the loop IR. */
import { flattenKernel } from "../../flatten.ts";
import { bytesMoved, totalWork } from "../../loop-cost.ts";
import { type Axis, type Buffer, type Dim, type LoopKernel, visitExpr } from "../../loop-ir.ts";
import type { FlatKernel } from "../../flatten.ts";
import { CodeWriter } from "../code-writer.ts";
import type { CudaKernel, CudaTactic } from "../contract.ts";
import { ExpressionEmitter } from "../expression.ts";
import { indexTypeFor, KernelParams } from "../kernel-params.ts";
import { emitElements } from "./elements.ts";
import { emitRows } from "./rows.ts";
import { BLOCK_THREADS, countOf, ELEMENTS_PER_THREAD, type LoopShape, shapeOf } from "./shape.ts";

/** One way for most kernels; rows that are reduced are shared by few threads or by many, which the number of rows decides. */
export function loopTactics(kernel: LoopKernel): CudaTactic[] {
  const flat = flattenKernel(kernel);
  const shapes = ELEMENTS_PER_THREAD.map((perThread) => shapeOf(flat, perThread));
  const [first, second] = shapes as [LoopShape, LoopShape];
  const differ = first.kind === "rows" && second.kind === "rows" && first.threads !== second.threads;
  return (differ ? shapes : [first]).map((shape, i) => ({ name: nameOf(shape), estimate: i, compile: () => loopOf(kernel, flat, shape) }));
}

export function cudaLoop(kernel: LoopKernel): CudaKernel {
  const flat = flattenKernel(kernel);
  return loopOf(kernel, flat, shapeOf(flat));
}

const nameOf = (shape: LoopShape): string => (shape.kind === "rows" ? `loop rows of ${shape.threads} threads` : `loop elements by ${shape.width}`);

function loopOf(kernel: LoopKernel, flat: FlatKernel, shape: LoopShape): CudaKernel {
  const code = new CodeWriter();
  const params = new KernelParams(kernel.outputs.map(({ buffer }) => buffer), indexTypeFor(buffersOf(flat), extentsOf(flat)));
  const emitter = new ExpressionEmitter(code, params, flat.safe);
  const block = shape.kind === "rows" ? shape.threads * shape.rowsPerBlock : BLOCK_THREADS;
  let blocks: Dim = 0;
  code.block("", () => { blocks = shape.kind === "rows" ? emitRows(flat, shape, emitter) : emitElements(flat, shape, emitter); });
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
