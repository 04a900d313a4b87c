/**
 * Where a model's bytes come from. The importer asks for windows of files; whoever calls it may answer with mapped
 * memory. The source here reads with plain system calls, each window into memory of its own, once.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { fileError } from "../base/index.ts";

/** An open file whose bytes can be viewed. Views stay valid until `close`. */
export interface MappedFile {
  readonly size: number;
  /** @param length at most 4 GiB; offset + length lies within the file */
  bytes(offset: number, length: number): Uint8Array;
  close(): void;
}

export type MapFile = (path: string) => MappedFile;

/** Largest single window. */
export const MAX_WINDOW_BYTES = 2 ** 32;

const READ_CHUNK_BYTES = 1 << 30;

/** Reads windows of a file. @throws UserError "file-io" when it cannot be opened or read */
export const readFileWindows: MapFile = (path) => {
  const handle = attempt(path, () => openSync(path, "r"));
  const size = attempt(path, () => {
    const status = fstatSync(handle);
    if (!status.isFile()) {
      closeSync(handle);
      throw new Error("it is not a regular file");
    }
    return status.size;
  });
  let isOpen = true;
  return {
    size,
    bytes: (offset, length) => attempt(path, () => readWindow(handle, offset, length)),
    close: () => {
      if (isOpen) closeSync(handle);
      isOpen = false;
    },
  };
};

function readWindow(handle: number, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  while (at < length) {
    const count = readSync(handle, bytes, at, Math.min(length - at, READ_CHUNK_BYTES), offset + at);
    if (count === 0) throw new Error(`it ended at byte ${offset + at} while being read`);
    at += count;
  }
  return bytes;
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw fileError(`${path}: cannot be read`, error);
  }
}
