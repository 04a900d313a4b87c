/** Watching a descriptor from the event loop, without one of libuv's threads. */
import { koffi } from "./koffi.ts";

/** The handle keeps the process alive between `ref` and `unref`. */
export interface Poll {
  ref(): void;
  unref(): void;
  close(): void;
}

/** Calls `onReadable` on this thread's event loop while `fd` has something to read. Starts without keeping the process alive. */
export function pollReadable(fd: number, onReadable: () => void): Poll {
  const handle = koffi().node.poll(fd, { readable: true }, () => onReadable());
  handle.unref();
  return handle;
}
