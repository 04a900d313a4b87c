/**
 * The machine code that runs programs: what pool threads do from their first instruction, and the few calls that
 * JavaScript makes. Made once per process, from this description.
 *
 * Steps run in order. The tiles of a step are claimed in chunks, from both ends, from an atomic counter, so a thread that loses its
 * processor delays one chunk; a step has ended when all its tiles are counted as done. Neighbouring steps of one chunk
 * each are claimed as one. Participants come while a run is queued and leave when nothing is left to claim; the run
 * has ended when the last one left, so nobody touches its memory afterwards.
 *
 * Order of memory: every hand-over goes through a locked instruction; x86 keeps stores in order (Intel SDM vol. 3, 9.2).
 * Sleeping follows Drepper, "Futexes are tricky".
 */
import { at, StubAssembler } from "../native/index.ts";
import { CHANNEL } from "./layout.ts";
import { emitCancel, emitLeave, emitLock, emitRemove, emitSubmit, emitUnlock } from "./walker-queue.ts";
import { emitWalkAlone, emitWalkShared } from "./walker-steps.ts";
import { emitRunSync, emitThreadMain } from "./walker-threads.ts";

/** Entry points with their prototypes; all addresses and counts are 64-bit integers. */
export const WALKER_ENTRIES = {
  /** Runs `count` steps on the calling thread alone; with a run, sends its notice. */
  walkAlone: "void f(int64_t step, int64_t count, int64_t scratch, int64_t counterOrNull, int64_t index, int64_t runOrNull)",
  /** Queues a run and takes part in it; returns when it has ended. */
  runSync: "void f(int64_t pool, int64_t run, int64_t scratch)",
  /** Queues a run; its channel hears of the end. */
  submit: "void f(int64_t pool, int64_t run)",
  /** Takes a run that nobody has joined out of the queue; 1 when it did. */
  cancel: "int f(int64_t pool, int64_t run)",
  /** Empties the channel's list of finished runs and returns its first. */
  drain: "int64_t f(int64_t channel)",
  /** Atomically swaps 64 bits of memory. */
  exchange: "int64_t f(int64_t address, int64_t value)",
  /** Atomically replaces 32 bits when they are as expected; 1 when it did. */
  compareExchange: "int f(int64_t address, uint32_t expected, uint32_t value)",
  addTo: "void f(int64_t address, int64_t value)",
  ticks: "int64_t f()",
  /** Where pool threads begin; never called from JavaScript. */
  threadMain: "void f(int64_t thread)",
} as const;

export type WalkerEntry = keyof typeof WALKER_ENTRIES;

export function assembleWalker(): { readonly code: Uint8Array; readonly entries: ReadonlyMap<string, number> } {
  const a = new StubAssembler();
  const lock = emitLock(a);
  const unlock = emitUnlock(a);
  const remove = emitRemove(a);
  const leave = emitLeave(a, lock, unlock, remove);
  const enqueue = emitSubmit(a, lock, unlock);
  const walkAlone = emitWalkAlone(a);
  const walkShared = emitWalkShared(a, walkAlone);
  const internals = { lock, unlock, walkAlone, walkShared, enqueue, remove, leave };
  emitRunSync(a, internals);
  emitCancel(a, lock, unlock, remove);
  emitThreadMain(a, internals);
  emitAtomics(a);
  return a.finish();
}

function emitAtomics(a: StubAssembler): void {
  a.entry("drain");
  a.zero("rax");
  a.exchange(at("rdi", CHANNEL.finished), "rax");
  a.ret();
  a.entry("exchange");
  a.exchange(at("rdi"), "rsi");
  a.move("rax", "rsi");
  a.ret();
  a.entry("compareExchange");
  const swapped = a.label();
  a.move("rax", "rsi", 32);
  a.compareExchange(at("rdi"), "rdx", 32);
  a.constant("rax", 1);
  a.jumpIf("equal", swapped);
  a.zero("rax");
  a.bind(swapped);
  a.ret();
  a.entry("addTo");
  a.fetchAdd(at("rdi"), "rsi");
  a.ret();
  a.entry("ticks");
  a.rdtsc();
  a.shiftLeft("rdx", 32);
  a.arithmetic("or", "rax", "rdx");
  a.ret();
}
