/**
 * A nameless file that holds large intermediate results of a build. Its pages are the system's to write out and drop, so
 * that folding a model's weights takes disk space and no anonymous memory. It has no name from the start: nothing is left
 * behind, however the process ends.
 * Source: mmap(2), unlink(2).
 */
import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { assert, fileError, UserError } from "../base/index.ts";
import { errnoName, viewMemory } from "./koffi.ts";
import { MAP, MAX_VIEW_BYTES, mmap, munmap, PROT, roundUpToPage } from "./memory.ts";

export class SpillFile {
  readonly #folder: string;
  readonly #mappings: { readonly address: number; readonly sizeBytes: number }[] = [];
  #fd: number | undefined;
  #sizeBytes = 0;

  /** @param folder where there is space; the file is made there when something is first stored */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Stores a copy. @returns it, to be read until `close` and never written. @throws UserError "file-io" when the disk is full */
  store(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    assert(bytes.byteLength > 0 && bytes.byteLength <= MAX_VIEW_BYTES, `${bytes.byteLength} bytes to store`);
    const offset = this.#sizeBytes;
    try {
      this.#fd ??= openNameless(this.#folder);
      for (let done = 0; done < bytes.byteLength; ) done += writeSync(this.#fd, bytes, done, Math.min(1 << 28, bytes.byteLength - done), offset + done);
    } catch (cause) {
      throw fileError(`${this.#folder}: intermediate results could not be written`, cause);
    }
    this.#sizeBytes += roundUpToPage(bytes.byteLength);
    const address = mmap(0, bytes.byteLength, PROT.read, MAP.shared, this.#fd, offset);
    if (address === -1) throw new UserError("file-io", `${this.#folder}: intermediate results could not be mapped (${errnoName()}).`);
    this.#mappings.push({ address, sizeBytes: bytes.byteLength });
    return new Uint8Array(viewMemory(address, bytes.byteLength));
  }

  close(): void {
    for (const { address, sizeBytes } of this.#mappings.splice(0)) munmap(address, sizeBytes);
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openNameless(folder: string): number {
  const path = join(folder, `.sinter-${randomUUID()}.tmp`);
  const fd = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  return fd;
}
