/**
 * A compiled kernel with memory of its own: code made executable, parameter block filled for one shape, constants packed,
 * scratch at hand. For timing tactics and for testing generated code; engines bind kernels in the runtime.
 */
import { assert, DTYPE_BITS } from "../base/index.ts";
import { type Bindings, type Buffer, type CompiledKernel, evaluate, type PackedData } from "../ir/index.ts";
import { allocateExecutable, type NativeFunction, nativeFunction, NativeMemory } from "../native/index.ts";

/** How many elements a buffer spans at the bound shape, gaps included. */
export function spanOf(buffer: Buffer, bindings: Bindings): number {
  const dims = buffer.dims.map((dim) => evaluate(dim, bindings));
  if (dims.includes(0)) return 0;
  if (!buffer.strides) return dims.reduce((product, dim) => product * dim, 1);
  return buffer.strides.reduce<number>((last, stride, i) => last + (dims[i]! - 1) * evaluate(stride, bindings), 1);
}

export function spanBytes(buffer: Buffer, bindings: Bindings): number {
  return Math.ceil((spanOf(buffer, bindings) * DTYPE_BITS[buffer.dtype]) / 8);
}

export interface BindOptions {
  /** Gives the memory of a size; `NativeMemory.allocate` when absent. Owned by the bound kernel. */
  readonly allocate?: (sizeBytes: number) => NativeMemory;
  /**
   * Gives the address of packed constants and keeps them for as long as the kernel is bound; packed into memory of its
   * own when absent. Several addresses are copies, which runs use in turn.
   */
  readonly pack?: (data: PackedData) => readonly bigint[];
}

/** Constants as kernels read them, in whole cache lines. */
export function packInto(memory: NativeMemory, data: PackedData): NativeMemory {
  data.write(memory.view(0, data.sizeBytes));
  return memory;
}

export function packedBytes(data: PackedData): number {
  return roundUp(data.sizeBytes);
}

export class BoundKernel {
  readonly tiles: number;
  readonly #owned: NativeMemory[] = [];
  readonly #buffers = new Map<Buffer, NativeMemory>();
  readonly #call: NativeFunction;
  /** Parameter blocks that differ in the copies of packed constants. */
  readonly #blocks: readonly bigint[];
  readonly #scratch: bigint;
  #runs = 0;

  constructor(kernel: CompiledKernel, bindings: Bindings, options: BindOptions = {}) {
    const allocate = options.allocate ?? ((sizeBytes: number) => NativeMemory.allocate(sizeBytes));
    const own = (memory: NativeMemory): NativeMemory => {
      this.#owned.push(memory);
      return memory;
    };
    this.tiles = evaluate(kernel.tiles, bindings);
    const pack = options.pack ?? ((data: PackedData) => [packInto(own(allocate(packedBytes(data))), data).address]);
    const packed = kernel.packed.map(pack);
    const valuesWith = (copy: number): bigint[] => kernel.params.map((param): bigint => {
      if (param.kind === "dim") return BigInt(evaluate(param.value, bindings));
      if (param.kind === "packed") return packed[param.index]![copy % packed[param.index]!.length]!;
      assert(param.kind === "pointer", `a parameter of kind ${param.kind} on a processor`);
      const known = this.#buffers.get(param.buffer);
      if (known) return known.address;
      const memory = own(allocate(spanBytes(param.buffer, bindings)));
      this.#buffers.set(param.buffer, memory);
      return memory.address;
    });
    const copies = Math.max(1, ...packed.map(({ length }) => length));
    this.#blocks = Array.from({ length: copies }, (_, copy) => {
      const block = own(NativeMemory.allocate(Math.max(8, 8 * kernel.params.length)));
      new BigInt64Array(block.view().buffer).set(valuesWith(copy));
      return block.address;
    });
    this.#scratch = own(allocate(roundUp(kernel.scratchBytes))).address;
    const code = own(allocateExecutable(kernel.code));
    this.#call = nativeFunction(code.address, "void kernel(int64_t params, int64_t tileBegin, int64_t tileEnd, int64_t scratch)");
  }

  /** Memory of a buffer the kernel reads or writes; undefined when it touches none of it. */
  memory(buffer: Buffer): NativeMemory | undefined {
    return this.#buffers.get(buffer);
  }

  get buffers(): IterableIterator<Buffer> {
    return this.#buffers.keys();
  }

  run(tileBegin = 0, tileEnd = this.tiles): void {
    this.#call(this.#blocks[this.#runs++ % this.#blocks.length]!, tileBegin, tileEnd, this.#scratch);
  }

  dispose(): void {
    for (const memory of this.#owned.splice(0)) memory.dispose();
  }
}

/** Scratch and constants come in whole cache lines. */
function roundUp(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
