/**
 * The machine's limits, measured: multiplications on registers, and a copy between arrays that no cache holds. They are
 * what a kernel's speed is compared with.
 */
import { assert } from "../base/index.ts";
import { compilePeak, compileLoop, type Isa, type PeakName } from "../codegen/index.ts";
import type { Axis, Buffer, CompiledKernel, LoopKernel } from "../ir/index.ts";
import { allocateExecutable, NativeMemory } from "../native/index.ts";
import { Program } from "../program/index.ts";

export interface Peaks {
  /** 10^9 float32 operations per second, a multiply-add being two. */
  readonly gflops: number;
  /** The same of the other products that the processor has: `bfloat`, and of integers `bytes` and `pairs`; and on tiles. */
  readonly products: Readonly<Partial<Record<PeakName, number>>>;
  /** 10^9 bytes per second, read and written. */
  readonly gbps: number;
  readonly threads: number;
}

/** Each array of the copy. */
const COPY_BYTES = 128 * 2 ** 20;
const ROUNDS = 7;
const FMA_TILES_PER_THREAD = 64;

export function measurePeaks(isa: Isa, threads: number): Peaks {
  const products: Partial<Record<PeakName, number>> = {};
  for (const name of ["bfloat", "bytes", "pairs", "bfloat tiles", "bytes tiles"] as const) {
    const speed = measureProduct(isa, name, threads);
    if (speed !== undefined) products[name] = speed;
  }
  const gflops = measureProduct(isa, "float", threads);
  assert(gflops !== undefined, "a processor without multiply-adds");
  return { gflops, products, gbps: measureCopy(isa, threads), threads };
}

/** Undefined where the processor has no such product. */
function measureProduct(isa: Isa, name: PeakName, threads: number): number | undefined {
  const kernel = compilePeak(isa, name);
  if (!kernel) return undefined;
  assert(typeof kernel.flops === "number" && typeof kernel.tiles === "number" && kernel.params.length === 0, "a peak kernel of known size");
  const tiles = FMA_TILES_PER_THREAD * threads;
  const ns = fastest(kernel, tiles, [], threads);
  return (kernel.flops / kernel.tiles) * tiles / ns;
}

function measureCopy(isa: Isa, threads: number): number {
  const count = COPY_BYTES / 4;
  const source: Buffer = { name: "source", dtype: "float32", dims: [count] };
  const target: Buffer = { name: "target", dtype: "float32", dims: [count] };
  const axis: Axis = { name: "i", extent: count };
  const loop: LoopKernel = {
    kind: "loop", name: "copy", axes: [axis],
    outputs: [{ buffer: target, value: { kind: "load", type: "f32", buffer: source, index: [{ kind: "axis", type: "i64", axis }] } }],
  };
  const kernel = compileLoop(loop, isa);
  using from = NativeMemory.allocate(COPY_BYTES);
  using to = NativeMemory.allocate(COPY_BYTES);
  from.view().fill(1);
  const params = kernel.params.map((param) => {
    assert(param.kind === "pointer", "a copy kernel whose parameters are its arrays");
    return param.buffer === source ? from.address : to.address;
  });
  assert(typeof kernel.tiles === "number", "a copy of known size");
  return (2 * COPY_BYTES) / fastest(kernel, kernel.tiles, params, threads);
}

/** Nanoseconds of the fastest of several runs. */
function fastest(kernel: CompiledKernel, tiles: number, params: readonly bigint[], threads: number): number {
  using code = allocateExecutable(kernel.code);
  using program = new Program([{ code: code.address, params: params.length, tiles, scratchBytes: kernel.scratchBytes }]);
  for (const [slot, address] of params.entries()) program.setParam(0, slot, address);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.hrtime.bigint();
    program.runSync({ threads });
    best = Math.min(best, Number(process.hrtime.bigint() - before));
  }
  return best;
}
