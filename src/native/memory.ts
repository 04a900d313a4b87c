/**
 * Memory outside the JavaScript heap: anonymous mappings, and machine code in memory that is never writable and
 * executable at once. Native code only ever sees such memory, since the garbage collector neither moves nor frees it.
 *
 * Invariant: nothing here is freed by the garbage collector. The owner disposes, after the last native user.
 * Sources: mmap(2), mprotect(2), madvise(2).
 */
import { assert, SinterError } from "../base/index.ts";
import { errnoName, libc, viewMemory } from "./koffi.ts";

export const PAGE_BYTES = 4096;
/** The longest view that every supported Node version can make. */
export const MAX_VIEW_BYTES = 2 ** 32;

export const PROT = { none: 0, read: 1, write: 2, execute: 4 } as const;
export const MAP = { shared: 1, private: 2, fixed: 0x10, anonymous: 0x20, noreserve: 0x4000, populate: 0x8000, fixedNoReplace: 0x10_0000 } as const;
export const MADVISE = { dontNeed: 4, hugePages: 14 } as const;

const sysMmap = libc("int64_t mmap(int64_t address, int64_t length, int prot, int flags, int fd, int64_t offset)");
const sysMunmap = libc("int munmap(int64_t address, int64_t length)");
const sysMprotect = libc("int mprotect(int64_t address, int64_t length, int prot)");
const sysMadvise = libc("int madvise(int64_t address, int64_t length, int advice)");

export function roundUpToPage(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

/** @returns the address, or -1 with errno set */
export function mmap(address: number, sizeBytes: number, prot: number, flags: number, fd = -1, offset = 0): number {
  return Number(sysMmap(address, sizeBytes, prot, flags, fd, offset));
}

export function munmap(address: number, sizeBytes: number): void {
  assert(Number(sysMunmap(address, sizeBytes)) === 0, `munmap of ${sizeBytes} bytes failed: ${errnoName()}`);
}

export function mprotect(address: number, sizeBytes: number, prot: number): void {
  assert(Number(sysMprotect(address, sizeBytes, prot)) === 0, `mprotect of ${sizeBytes} bytes failed: ${errnoName()}`);
}

/** Advice may be refused; that changes speed and nothing else. */
export function madvise(address: number, sizeBytes: number, advice: number): boolean {
  return Number(sysMadvise(address, sizeBytes, advice)) === 0;
}

/** Maps anonymous, zeroed, page-aligned memory. @throws SinterError when there is none */
export function mapAnonymous(sizeBytes: number, flags = 0): number {
  const address = mmap(0, roundUpToPage(Math.max(sizeBytes, 1)), PROT.read | PROT.write, MAP.private | MAP.anonymous | MAP.noreserve | flags);
  if (address === -1) {
    throw new SinterError("limit-exceeded", `Memory: the system refused ${sizeBytes} bytes (${errnoName()}); free some or raise the limit.`);
  }
  return address;
}

/** A range of native memory that its holder owns. */
export class NativeMemory {
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly #mappedAddress: number;
  readonly #mappedBytes: number;
  /** Made once: making a view while a worker thread is being terminated ends the process. */
  #buffer: ArrayBuffer | undefined;
  #disposed = false;

  /** Takes ownership of a mapping; `address` may lie inside it. */
  constructor(address: number, sizeBytes: number, mappedAddress: number, mappedBytes: number) {
    this.address = BigInt(address);
    this.sizeBytes = sizeBytes;
    this.#mappedAddress = mappedAddress;
    this.#mappedBytes = mappedBytes;
  }

  /** Zeroed memory, reserved now and taken from the system page by page as it is touched; with `populate` all at once, which is cheaper. */
  static allocate(sizeBytes: number, options: { readonly hugePages?: boolean; readonly populate?: boolean } = {}): NativeMemory {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, `allocation of ${sizeBytes} bytes`);
    const address = mapAnonymous(sizeBytes, options.populate ? MAP.populate : 0);
    const mapped = roundUpToPage(Math.max(sizeBytes, 1));
    if (options.hugePages) madvise(address, mapped, MADVISE.hugePages);
    return new NativeMemory(address, sizeBytes, address, mapped);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Bytes of the range as an array over the memory itself. It must not be used after `dispose`. */
  view(offset = 0, length = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    assert(!this.#disposed, "view of disposed memory");
    assert(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes, `view [${offset}, ${offset + length}) of ${this.sizeBytes} bytes`);
    assert(length <= MAX_VIEW_BYTES, `view of ${length} bytes; at most ${MAX_VIEW_BYTES}`);
    if (length === 0) return new Uint8Array(0);
    if (this.sizeBytes > MAX_VIEW_BYTES) return new Uint8Array(viewMemory(this.address + BigInt(offset), length));
    this.#buffer ??= viewMemory(this.address, this.sizeBytes);
    return new Uint8Array(this.#buffer, offset, length);
  }

  /** Gives the pages' contents back to the system; they read as zero afterwards. */
  discard(): void {
    madvise(this.#mappedAddress, this.#mappedBytes, MADVISE.dontNeed);
  }

  /** Makes the range read-only, for constants. */
  protect(): void {
    mprotect(this.#mappedAddress, this.#mappedBytes, PROT.read);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#buffer = undefined;
    munmap(this.#mappedAddress, this.#mappedBytes);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Copies machine code to fresh memory, then makes it executable and read-only. The caller disposes it after the last call. */
export function allocateExecutable(code: Uint8Array): NativeMemory {
  const memory = NativeMemory.allocate(code.byteLength);
  memory.view().set(code);
  mprotect(Number(memory.address), roundUpToPage(Math.max(code.byteLength, 1)), PROT.read | PROT.execute);
  return memory;
}

/**
 * Memory next to an unmapped page, so that code reading or writing one byte too far stops the process at once.
 * @param edge `"end"`: the last byte touches the forbidden page; `"start"`: the first one does
 */
export function allocateGuarded(sizeBytes: number, edge: "end" | "start"): NativeMemory {
  const inner = roundUpToPage(Math.max(sizeBytes, 1));
  const mappedBytes = inner + 2 * PAGE_BYTES;
  const mapped = mapAnonymous(mappedBytes);
  mprotect(mapped, PAGE_BYTES, PROT.none);
  mprotect(mapped + PAGE_BYTES + inner, PAGE_BYTES, PROT.none);
  const address = edge === "end" ? mapped + PAGE_BYTES + inner - sizeBytes : mapped + PAGE_BYTES;
  return new NativeMemory(address, sizeBytes, mapped, mappedBytes);
}
