/**
 * A pipe through which native threads wake a JavaScript thread's event loop: they write a byte, it calls back.
 *
 * The reading end is one of Node's own sockets, since Node stops those by itself when a worker is terminated; an FFI
 * poll handle that becomes ready then ends the process. The writing end is native and never closed by Node, so a late
 * write finds no reader and nothing else. It costs no thread of libuv's.
 * Source: pipe(2); node:net, `onread`.
 */
import { type OnReadOpts, Socket, type SocketConstructorOpts } from "node:net";
import { SinterError } from "../base/index.ts";
import { errnoName, libc } from "./koffi.ts";
import { NativeMemory } from "./memory.ts";

const pipe2 = libc("int pipe2(int64_t ends, int flags)");

const CLOSE_ON_EXEC = 0x8_0000;
const NON_BLOCKING = 0x800;
const BUFFER_BYTES = 64;

export interface WakePipe {
  /** Descriptor to write to; whoever is last to write closes it. */
  readonly writeFd: number;
  /** Keeps the process alive, until `unref`. */
  ref(): void;
  unref(): void;
}

/** Calls `onWake` on this thread's event loop after bytes were written. Does not keep the process alive at first. */
export function createWakePipe(onWake: () => void): WakePipe {
  using ends = NativeMemory.allocate(8);
  if (pipe2(ends.address, CLOSE_ON_EXEC | NON_BLOCKING) !== 0) {
    throw new SinterError("limit-exceeded", `Pipe: refused by the system (${errnoName()}); raise the limit on open files.`);
  }
  const [readFd, writeFd] = new Int32Array(ends.view().buffer);
  const callback = () => {
    onWake();
    return true;
  };
  const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
    fd: readFd!, readable: true, writable: false, onread: { buffer: new Uint8Array(BUFFER_BYTES), callback },
  };
  const reader = new Socket(options);
  reader.unref();
  return { writeFd: writeFd!, ref: () => reader.ref(), unref: () => reader.unref() };
}
