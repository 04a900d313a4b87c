/**
 * Keeps this thread's event loop awake for a moment: turn follows turn, each looks at every socket and pipe, and what comes is met
 * within microseconds. Waking a loop that sleeps takes a virtual machine up to 0.1 ms, more than many a run. It costs a processor for
 * that long, so it is only done for what is expected soon, and where there are processors to spare.
 */
import { availableThreads } from "./cpu-budget.ts";

/** With fewer, others need them more. */
const LEAST_PROCESSORS = 4;
/** Nothing that takes longer is waited for in that way. */
const MOST_MS = 5;

let untilMs = 0;
let isTurning = false;
let spare: boolean | undefined;

function turn(): void {
  if (performance.now() < untilMs) setImmediate(turn);
  else isTurning = false;
}

/** @param ms from now on, within which something will come */
export function stayAwake(ms: number): void {
  spare ??= availableThreads() >= LEAST_PROCESSORS;
  if (!spare || ms > MOST_MS) return;
  untilMs = Math.max(untilMs, performance.now() + ms);
  if (isTurning) return;
  isTurning = true;
  setImmediate(turn);
}
