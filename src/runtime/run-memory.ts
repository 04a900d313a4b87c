/**
 * Where the values of a run lie: weights in the engine's file, the arena, memory of the caller's, staging for what the
 * caller keeps in the heap, and memory that grows for values whose size the data decide.
 */
import { assert, byteLength, elementCount, SinterError, type Tensor } from "../base/index.ts";
import type { ManifestValue } from "../engine/index.ts";
import { NativeMemory, viewMemory } from "../native/index.ts";
import type { LoadedEngine } from "./loaded-engine.ts";
import type { Run } from "./run.ts";

/** Most memory that values of data-dependent size may take, together, per context. */
const MAX_DYNAMIC_BYTES = 4 * 2 ** 30;
/** Reserved at once for a value of the caller's; pages are taken as they are touched. */
const LEAST_BYTES = 64 * 1024;

export class RunMemory {
  readonly weightsAddress: number;
  private readonly engine: LoadedEngine;
  private readonly arena: NativeMemory;
  private readonly arenaAddress: number;
  private readonly staging = new Map<number, NativeMemory>();
  private readonly dynamic = new Map<number, NativeMemory>();

  constructor(engine: LoadedEngine) {
    this.engine = engine;
    // A page costs a virtual machine so much that small ones would make up most of a new shape's first run.
    this.arena = NativeMemory.allocate(engine.arenaBytes, { hugePages: true });
    this.arenaAddress = Number(this.arena.address);
    this.weightsAddress = Number(engine.file.weightsAddress);
  }

  /** Bytes of arena, staging and data-dependent values. */
  get sizeBytes(): number {
    return this.arena.sizeBytes + sumBytes(this.staging) + sumBytes(this.dynamic);
  }

  dispose(): void {
    for (const memory of [this.arena, ...this.staging.values(), ...this.dynamic.values()]) memory.dispose();
  }

  /** A view of a value in memory, valid until the next run. */
  bytesOf(value: ManifestValue, dims: readonly number[], run: Run): Uint8Array {
    const sizeBytes = byteLength(value.dtype, elementCount(dims));
    const storage = value.storage!;
    const { place, offset } = this.engine.manifest.storages[storage]!;
    if (place === "weights") return this.engine.file.weights(offset!, sizeBytes);
    if (place === "arena") {
      const at = this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]!;
      return at >= 0 ? this.arena.view(at, sizeBytes) : this.dynamicMemory(storage, sizeBytes).view(0, sizeBytes);
    }
    const staged = this.staging.get(storage);
    if (staged && Number(staged.address) === run.external.get(storage)) return viewOf(staged).subarray(0, sizeBytes);
    return this.externalBytes(value, dims, run);
  }

  stage(storage: number, sizeBytes: number): NativeMemory {
    return grow(this.staging, storage, sizeBytes);
  }

  private dynamicMemory(storage: number, sizeBytes: number): NativeMemory {
    if (sizeBytes + sumBytes(this.dynamic) > MAX_DYNAMIC_BYTES) {
      throw new SinterError("limit-exceeded", `A value of data-dependent size needs ${sizeBytes} bytes; all of them together may take ${MAX_DYNAMIC_BYTES}.`);
    }
    return grow(this.dynamic, storage, sizeBytes);
  }

  addressOf(storage: number, run: Run): number {
    const { place, offset, size } = this.engine.manifest.storages[storage]!;
    if (place === "weights") return this.weightsAddress + offset!;
    if (place === "arena") {
      const at = this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]!;
      return at >= 0 ? this.arenaAddress + at : Number(this.dynamicMemory(storage, run.values[size]!).address);
    }
    let address = run.external.get(storage);
    if (address === undefined) {
      address = Number(this.stage(storage, run.values[size]!).address);
      run.external.set(storage, address);
    }
    return address;
  }

  /** Whether a storage's address may differ in the next run of the same shape. */
  moves(storage: number, run: Run): boolean {
    const { place } = this.engine.manifest.storages[storage]!;
    return place === "input" || place === "output" || (place === "arena" && this.engine.manifest.profiles[run.shape.profile]!.offsets[storage]! < 0);
  }

  /** Bytes of an input or output where the caller put it. */
  externalBytes(value: ManifestValue, dims: readonly number[], run: Run): Uint8Array {
    const address = run.external.get(value.storage!)!;
    const sizeBytes = byteLength(value.dtype, elementCount(dims));
    return sizeBytes === 0 ? new Uint8Array(0) : new Uint8Array(viewMemory(address, sizeBytes));
  }

  /** Bytes of a small value, wherever it lies. */
  wholeBytes(value: ManifestValue, run: Run): Uint8Array {
    const { place } = this.engine.manifest.storages[value.storage!]!;
    return place === "input" || place === "output" ? this.externalBytes(value, [], run) : this.bytesOf(value, [], run);
  }

  dimsOf(value: ManifestValue, run: Run): number[] {
    const dims = value.shape!.map((index) => run.values[index]!);
    assert(dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0), `dims [${dims}] of "${value.name}"`);
    return dims;
  }

  outputBytes(target: ManifestValue, value: Tensor, run: Run): Uint8Array {
    if (!run.external.has(target.storage!)) run.external.set(target.storage!, Number(this.stage(target.storage!, value.bytes.byteLength).address));
    return this.externalBytes(target, value.dims, run);
  }
}

function sumBytes(memories: ReadonlyMap<number, NativeMemory>): number {
  let sum = 0;
  for (const memory of memories.values()) sum += memory.sizeBytes;
  return sum;
}

/** Memory of at least this size under this number; what was there is given back when it is too small. Sizes double, so that shapes that grow step by step seldom ask for more. */
function grow(memories: Map<number, NativeMemory>, key: number, sizeBytes: number): NativeMemory {
  const known = memories.get(key);
  if (known && known.sizeBytes >= sizeBytes) return known;
  known?.dispose();
  const memory = NativeMemory.allocate(Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(Math.max(1, sizeBytes)))));
  memories.set(key, memory);
  return memory;
}

const views = new WeakMap<NativeMemory, Uint8Array>();

/** All bytes of a memory that is used again and again: making a view costs more than a small run. */
export function viewOf(memory: NativeMemory): Uint8Array {
  let view = views.get(memory);
  if (!view) views.set(memory, (view = memory.view()));
  return view;
}
