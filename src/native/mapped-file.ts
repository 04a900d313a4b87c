/**
 * Files as memory: a read-only mapping of a file, shared by all processes that map it, and nameless files in memory
 * that one process hands to another.
 *
 * The size is taken once, when the file is opened, and every access is checked against it, so a file that grows later
 * is seen as it was. A file that is cut short while mapped kills the process: map only files that nobody rewrites.
 * Sources: mmap(2), memfd_create(2).
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { assert, fileError, SinterError, UserError } from "../base/index.ts";
import { errnoName, libc, viewMemory } from "./koffi.ts";
import { MAP, MAX_VIEW_BYTES, mmap, munmap, PROT } from "./memory.ts";

const close = libc("int close(int fd)");
const memfdCreate = libc("int memfd_create(const char *name, unsigned int flags)");
const ftruncate = libc("int ftruncate(int fd, int64_t length)");

export class MappedFile {
  readonly path: string;
  readonly size: number;
  readonly address: bigint;
  #closed = false;

  private constructor(path: string, size: number, address: number) {
    this.path = path;
    this.size = size;
    this.address = BigInt(address);
  }

  /** Maps the whole file. @throws UserError when it cannot be read */
  static open(path: string): MappedFile {
    const fd = openFile(path);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw new UserError("file-io", `${path}: not a regular file; give the path of a file.`);
      const address = stat.size === 0 ? 0 : mmap(0, stat.size, PROT.read, MAP.shared, fd);
      if (address === -1) throw new UserError("file-io", `${path}: could not be mapped (${errnoName()}).`);
      return new MappedFile(path, stat.size, address);
    } finally {
      closeSync(fd);
    }
  }

  /** A view of bytes in the file, without a copy; not to be used after `close`. At most 4 GiB. */
  bytes(offset = 0, length = this.size - offset): Uint8Array<ArrayBuffer> {
    assert(!this.#closed, `${this.path} read after close`);
    assert(Number.isSafeInteger(offset) && Number.isSafeInteger(length), `${this.path}: range [${offset}, +${length})`);
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new UserError("file-io", `${this.path}: bytes ${offset} to ${offset + length} asked for, but the file has ${this.size}.`);
    }
    assert(length <= MAX_VIEW_BYTES, `view of ${length} bytes; at most ${MAX_VIEW_BYTES}`);
    if (length === 0) return new Uint8Array(0);
    return new Uint8Array(viewMemory(this.address + BigInt(offset), length));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.size > 0) munmap(Number(this.address), this.size);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw fileError(path, cause);
  }
}

/** Closes a descriptor that was not opened through `node:fs`, which would complain in workers. */
export function closeDescriptor(fd: number): void {
  close(fd);
}

/** A nameless file in memory of `sizeBytes`; the caller closes it with `closeDescriptor`. The name shows in `/proc`. */
export function createMemoryFile(name: string, sizeBytes: number): number {
  const closeOnExec = 1;
  const fd = Number(memfdCreate(name, closeOnExec));
  if (fd < 0) throw new SinterError("limit-exceeded", `Memory file ${name}: refused by the system (${errnoName()}).`);
  if (Number(ftruncate(fd, sizeBytes)) !== 0) {
    const reason = errnoName();
    closeDescriptor(fd);
    throw new SinterError("limit-exceeded", `Memory file ${name}: could not grow to ${sizeBytes} bytes (${reason}).`);
  }
  return fd;
}

/** A memory file's bytes, mapped for reading and writing, seen by every process that maps it; mapped until the view is collected. */
export function viewShared(fd: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const address = mmap(0, sizeBytes, PROT.read | PROT.write, MAP.shared | MAP.noreserve, fd);
  if (address === -1) throw new SinterError("limit-exceeded", `Memory file: ${sizeBytes} bytes could not be mapped (${errnoName()}).`);
  const buffer = viewMemory(address, sizeBytes);
  sharedViews.register(buffer, { address, sizeBytes });
  return new Uint8Array(buffer);
}

const sharedViews = new FinalizationRegistry<{ readonly address: number; readonly sizeBytes: number }>(({ address, sizeBytes }) => munmap(address, sizeBytes));
