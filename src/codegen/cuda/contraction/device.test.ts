/** Candidates for a few small products, convolutions and attentions on the GPU of this machine, against plain loops. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { byteLength, type NumericArray, viewArray } from "../../../base/index.ts";
import { type AttentionKernel, type Bindings, type Buffer, COUNTER_WORDS, type ConvKernel, type Dim, evaluate, type MatmulKernel, type PackedData, symbol } from "../../../ir/index.ts";
import { compileMany, type Gpu, NativeMemory, openCudaCompiler, openGpu } from "../../../native/index.ts";
import { spanOf } from "../../../tune/index.ts";
import { archName, type CudaArch, type CudaKernel, type CudaTactic } from "../contract.ts";
import { PRELUDE } from "../prelude.ts";
import { attentionTactics, convTactics, matmulTactics } from "./index.ts";
import { attentionSample, codecOf, type Contents, convSample, type Expected, expectedAttention, expectedConv, expectedMatmul, matmulSample, randomContents, type Sample } from "./testing.ts";

function found<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch {
    return undefined;
  }
}

const gpu = found(() => openGpu());
const compiler = gpu && found(() => openCudaCompiler());
const skip = !(gpu && compiler) && "no GPU, or no compiler for it";

/** One run of a kernel on memory of its own. */
class DeviceRun {
  readonly #gpu: Gpu;
  readonly #bindings: Bindings;
  readonly #owned: number[] = [];

  constructor(device: Gpu, bindings: Bindings) {
    this.#gpu = device;
    this.#bindings = bindings;
  }

  /** @returns the output's elements; those that the kernel does not write are bytes of 0x7f, which is NaN in every type */
  run(kernel: CudaKernel, code: Uint8Array, output: Buffer, contents: Contents): NumericArray {
    const places = new Map<Buffer, number>();
    const at = (dim: Dim): number => evaluate(dim, this.#bindings);
    const slots = kernel.params.map((param): number => {
      switch (param.kind) {
        case "dim": return at(param.value);
        case "workspace": return this.#put(new Uint8Array(kernel.scratchBytes));
        case "counters": return this.#put(new Uint8Array(4 * COUNTER_WORDS));
        case "packed": return this.#packed(kernel.packed[param.index]!);
        case "pointer": {
          const place = this.#put(this.#bytesOf(param.buffer, output, contents));
          places.set(param.buffer, place);
          return place;
        }
      }
    });
    const { launch } = kernel;
    using module = new Disposable(this.#gpu.loadModule(code));
    using stream = new Disposable(this.#gpu.createStream());
    stream.item.launch({
      kernel: module.item.kernel(launch.entry, launch.sharedBytes), grid: [at(launch.grid[0]), at(launch.grid[1]), at(launch.grid[2])], block: launch.block, sharedBytes: launch.sharedBytes, slots,
      ...(launch.cluster ? { cluster: launch.cluster } : {}),
      tensorMaps: launch.tensorMaps.map(({ param, dims, strideBytes, offsetBytes = 0, pixels, ...map }) => ({
        ...map, ...(pixels && { pixels: { ...pixels, upper: [at(pixels.upper[0]), at(pixels.upper[1])] as const } }),
        address: slots[param]! + at(offsetBytes), dims: dims.map(at), strideBytes: strideBytes.map(at),
      })),
    });
    stream.item.synchronize();
    const sizeBytes = byteLength(output.dtype, spanOf(output, this.#bindings));
    using memory = NativeMemory.allocate(sizeBytes);
    this.#gpu.download(memory.address, places.get(output)!, sizeBytes);
    const bytes = memory.view().slice();
    return viewArray(output.dtype as "float32", bytes) as NumericArray;
  }

  dispose(): void {
    for (const address of this.#owned.splice(0)) this.#gpu.free(address);
  }

  #bytesOf(buffer: Buffer, output: Buffer, contents: Contents): Uint8Array {
    if (buffer === output) return new Uint8Array(byteLength(buffer.dtype, spanOf(buffer, this.#bindings))).fill(0x7f);
    const given = contents.get(buffer)!;
    return new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  }

  #packed(data: PackedData): number {
    const bytes = new Uint8Array(data.sizeBytes);
    data.write(bytes);
    return this.#put(bytes);
  }

  #put(bytes: Uint8Array): number {
    using memory = NativeMemory.allocate(Math.max(16, bytes.byteLength));
    memory.view().set(bytes);
    const address = this.#gpu.allocate(memory.sizeBytes);
    this.#owned.push(address);
    this.#gpu.upload(address, memory.address, memory.sizeBytes);
    return address;
  }
}

class Disposable<T extends { dispose(): void }> {
  readonly item: T;
  constructor(item: T) {
    this.item = item;
  }
  [Symbol.dispose](): void {
    this.item.dispose();
  }
}

type Kernel = MatmulKernel | ConvKernel | AttentionKernel;

interface Problem {
  readonly name: string;
  readonly sample: Sample<Kernel>;
  readonly output: Buffer;
  readonly tactics: (arch: CudaArch, contents: Contents) => CudaTactic[];
  readonly expected: (contents: Contents) => Expected;
}

function problemOf<K extends Kernel>(name: string, sample: Sample<K>, output: Buffer, tactics: (kernel: K, arch: CudaArch, constants: (buffer: Buffer) => Uint8Array | undefined, bindings: Bindings) => CudaTactic[], expected: (kernel: K, bindings: Bindings, contents: Contents) => Expected): Problem {
  const constants = (contents: Contents) => (buffer: Buffer): Uint8Array | undefined => {
    const given = buffer === sample.constant ? contents.get(buffer)! : undefined;
    return given && new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  };
  return {
    name, sample, output,
    tactics: (arch, contents) => tactics(sample.kernel, arch, constants(contents), sample.bindings),
    expected: (contents) => expected(sample.kernel, sample.bindings, contents),
  };
}

const n = symbol("n");
const of = (value: number): Bindings => new Map([["n", value]]);

function problems(): Problem[] {
  const matmuls = [
    { dtype: "bfloat16", m: n, n: 264, k: 200, constant: true, epilogue: true, bindings: of(140) },
    { dtype: "float16", m: n, n: 136, k: 72, batch: [3], epilogue: true, bindings: of(70) },
    { dtype: "float16", m: n, n: 75, k: 33, output: "float32", constant: true, bindings: of(5) },
    { dtype: "float32", m: 50, n: 40, k: 36 },
    { dtype: "bfloat16", m: 260, n: 1300, k: 128, constant: true },
    { dtype: "uint8", right: "int8", output: "int32", m: n, n: 136, k: 200, constant: true, bindings: of(140) },
    { dtype: "uint8", right: "int8", m: n, n: 256, k: 64, constant: true, zero: 7, requantize: "uint8", bindings: of(300) },
    { dtype: "int8", m: n, n: 320, k: 144, constant: true, requantize: "float16", bindings: of(70) },
    { dtype: "int8", right: "uint8", m: n, n: 72, k: 2048, constant: true, zero: -3, requantize: "alone", bindings: of(90) },
    { dtype: "uint8", right: "int8", output: "int32", m: 50, n: 40, k: 36, batch: [3] },
  ] as const;
  const convs = [
    { dtype: "float16", batch: n, channels: 64, size: 9, outputs: 72, kernel: 3, pad: 1, epilogue: true, bindings: of(3) },
    { dtype: "bfloat16", batch: n, channels: 64, size: 9, outputs: 40, kernel: 3, stride: 2, pad: 1, bindings: of(2) },
    { dtype: "float16", batch: 2, channels: 128, size: 7, outputs: 64, kernel: 1 },
    { dtype: "float16", batch: 2, channels: 3, size: 17, outputs: 16, kernel: 7, stride: 2, pad: 3, channelsFirst: true },
    { dtype: "float16", batch: 2, channels: 32, size: 9, outputs: 64, kernel: 3, pad: 2, dilation: 2, groups: 4, epilogue: true },
    { dtype: "float16", batch: 2, channels: 24, size: 9, outputs: 24, kernel: 3, pad: 1, groups: 24, epilogue: true },
    { dtype: "bfloat16", batch: 2, channels: 16, size: 11, outputs: 16, kernel: 5, stride: 2, pad: 2, groups: 16 },
    { dtype: "uint8", right: "int8", batch: n, channels: 128, size: 9, outputs: 128, kernel: 3, pad: 1, requantize: true, bindings: of(3) },
    { dtype: "uint8", right: "int8", batch: n, channels: 64, size: 10, outputs: 64, kernel: 3, stride: 2, pad: 1, requantize: true, bindings: of(5) },
    { dtype: "float16", batch: n, channels: 32, size: 10, outputs: 64, kernel: 3, pad: 1, bindings: of(5) },
    { dtype: "uint8", right: "int8", batch: 2, channels: 4, size: 23, outputs: 64, kernel: 7, stride: 2, zero: 114, requantize: true },
    { dtype: "uint8", right: "int8", batch: 2, channels: 24, size: 9, outputs: 24, kernel: 3, pad: 1, groups: 24, zero: 5, requantize: true },
  ] as const;
  const attentions = [
    { dtype: "float16", batch: 1, heads: 3, queries: n, keys: n, size: 64, bindings: of(150) },
    { dtype: "bfloat16", batch: 2, heads: 2, queries: n, keys: n, size: 128, causal: true, bindings: of(140) },
    { dtype: "float16", batch: 2, heads: 4, headsPerKv: 2, queries: n, keys: 90, size: 40, masked: true, bindings: of(33) },
    { dtype: "bfloat16", batch: 1, heads: 2, queries: n, keys: n, size: 80, causal: true, masked: true, bindings: of(70) },
    { dtype: "float32", batch: 2, heads: 3, queries: n, keys: n, size: 64, masked: true, bindings: of(150) },
    { dtype: "float32", batch: 1, heads: 4, headsPerKv: 2, queries: n, keys: n, size: 44, causal: true, bindings: of(70) },
  ] as const;
  return [
    ...matmuls.map((options) => { const sample = matmulSample(options); return problemOf(`matmul ${JSON.stringify(options)}`, sample, sample.kernel.output, matmulTactics, expectedMatmul); }),
    ...convs.map((options) => { const sample = convSample(options); return problemOf(`conv ${JSON.stringify(options)}`, sample, sample.kernel.output, convTactics, expectedConv); }),
    ...attentions.map((options) => {
      const sample = attentionSample(options);
      return problemOf(`attention ${JSON.stringify(options)}`, sample, sample.kernel.output.buffer, (kernel, arch, _constants, bindings) => attentionTactics(kernel, arch, bindings), expectedAttention);
    }),
  ];
}

/** Relative to the size of all results. */
const TOLERANCE: Readonly<Record<string, number>> = { float32: 1e-5, float16: 1e-3, bfloat16: 8e-3, int32: 0, int8: 0, uint8: 0 };

const TRIED = 6;

/** The best, the last and some between: compiling takes longer than running. */
function someOf(tactics: readonly CudaTactic[]): CudaTactic[] {
  const step = (tactics.length - 1) / (TRIED - 1);
  return tactics.length <= TRIED ? [...tactics] : Array.from({ length: TRIED }, (_, i) => tactics[Math.round(i * step)]!);
}

/** A kernel of a problem, and its source: what is compiled before any of them runs, since that takes longest. */
interface Trial {
  readonly name: string;
  readonly kernel: CudaKernel;
  readonly source: string;
}

const SEED = 7;

function trialsOf({ sample, tactics }: Problem, arch: CudaArch): Trial[] {
  return someOf(tactics(arch, randomContents(sample.inputs, sample.bindings, SEED))).map((tactic) => {
    const kernel = tactic.compile();
    return { name: tactic.name, kernel, source: PRELUDE + kernel.source };
  });
}

function check(device: Gpu, { name, sample, output, expected: expect }: Problem, trials: readonly Trial[], images: ReadonlyMap<string, Uint8Array>): void {
  const contents = randomContents(sample.inputs, sample.bindings, SEED);
  const expected = expect(contents);
  const size = Math.sqrt([...expected.values()].reduce((sum, value) => sum + value * value, 0));
  const { read } = codecOf(output.dtype);
  for (const trial of trials) {
    const run = new DeviceRun(device, sample.bindings);
    try {
      const got = run.run(trial.kernel, images.get(trial.source)!, output, contents);
      const error = Math.sqrt([...expected].reduce((sum, [at, value]) => sum + (read(Number(got[at])) - value) ** 2, 0)) / size;
      assert.ok(error <= TOLERANCE[output.dtype]!, `${name}, ${trial.name}: relative error ${error}`);
    } finally {
      run.dispose();
    }
  }
}

const all = problems();
const trials = new Map<Problem, Trial[]>();
const images = new Map<string, Uint8Array>();

before(async () => {
  if (!gpu || !compiler) return;
  const { capability, multiprocessors, sharedBytesPerBlock } = gpu.description;
  const arch: CudaArch = { capability, multiprocessors, sharedBytesPerBlock, ownInstructions: true };
  for (const problem of all) trials.set(problem, trialsOf(problem, arch));
  const sources = [...new Set([...trials.values()].flat().map(({ source }) => source))];
  (await compileMany(compiler, sources, archName(arch), "cubin")).forEach((image, i) => images.set(sources[i]!, image));
}, { timeout: 240_000 });

for (const problem of all) test(problem.name, { skip, timeout: 120_000 }, () => check(gpu!, problem, trials.get(problem)!, images));
