/** Time as the scheduler sees it, so that tests can hold it in their hands. */

export interface Clock {
  /** Nanoseconds since some moment, rising. */
  nowNs(): number;
  /** Calls back at or after that time. @returns how to forget it */
  at(timeNs: number, callback: () => void): () => void;
  /** Calls back once whatever has arrived by now has been taken in. */
  soon(callback: () => void): void;
}

const NS_PER_MS = 1e6;

/**
 * The process's own clock and event loop: `soon` is after the sockets that are readable now have been read. Timers count in
 * milliseconds, so the last one of a wait is spent in turns of the event loop.
 */
export const systemClock: Clock = {
  nowNs: () => performance.now() * NS_PER_MS,
  at: (timeNs, callback) => {
    let timer: NodeJS.Timeout | undefined;
    let turn: NodeJS.Immediate | undefined;
    const wait = (): void => {
      const leftMs = timeNs / NS_PER_MS - performance.now();
      if (leftMs <= 0 && turn) callback();
      else if (leftMs < 1) turn = setImmediate(wait);
      else timer = setTimeout(wait, Math.floor(leftMs));
    };
    wait();
    return () => {
      clearTimeout(timer);
      clearImmediate(turn);
    };
  },
  soon: (callback) => void setImmediate(callback),
};
