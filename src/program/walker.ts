/**
 * The machine code that runs programs: what pool threads do from their first instruction, and the few calls that
 * JavaScript makes. Made once per process, from this description.
 *
 * Steps run in order. The tiles of a step are claimed in chunks from an atomic counter, so a thread that loses its
 * processor delays one chunk; a step has ended when all its tiles are counted as done. Neighbouring steps of one chunk
 * each are claimed as one. Participants come while a run is queued and leave when nothing is left to claim; the run
 * has ended when the last one left, so nobody touches its memory afterwards.
 *
 * Order of memory: every hand-over goes through a locked instruction; x86 keeps stores in order (Intel SDM vol. 3, 9.2).
 * Sleeping follows Drepper, "Futexes are tricky".
 */
import { at, type Label, type Register, StubAssembler } from "../native/index.ts";
import { CHANNEL, COUNTER, POOL, RUN, RUN_FLAG, SCRATCH_HEADER_BYTES, STEP, THREAD } from "./layout.ts";

/** Entry points with their prototypes; all addresses and counts are 64-bit integers. */
export const WALKER_ENTRIES = {
  /** Runs `count` steps on the calling thread alone. */
  walkAlone: "void f(int64_t step, int64_t count, int64_t scratch, int64_t counterOrNull, int64_t index)",
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

const SYSCALL = { write: 1, munmap: 11, setpriority: 141, gettid: 186, futex: 202 } as const;
const FUTEX = { waitPrivate: 128, wakePrivate: 129 } as const;
const EVERYONE = 0x7fff_ffff;
/** Kept over calls by the System V ABI. With the return address and 8 more bytes the stack is aligned to 16. */
const SAVED: readonly Register[] = ["rbx", "rbp", "r12", "r13", "r14", "r15"];

interface Internals {
  readonly lock: Label;
  readonly unlock: Label;
  readonly walkAlone: Label;
  readonly walkShared: Label;
  readonly enqueue: Label;
  readonly remove: Label;
  readonly leave: Label;
}

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
  emitCancel(a, internals);
  emitThreadMain(a, internals);
  emitAtomics(a);
  return a.finish();
}

function emitFutexWait(a: StubAssembler): void {
  a.constant("rsi", FUTEX.waitPrivate);
  a.zero("r10");
  a.constant("rax", SYSCALL.futex);
  a.syscall();
}

function emitFutexWake(a: StubAssembler): void {
  a.constant("rsi", FUTEX.wakePrivate);
  a.constant("rax", SYSCALL.futex);
  a.syscall();
}

/** Takes the lock of the pool in rdi; keeps rdi, r8, r9. */
function emitLock(a: StubAssembler): Label {
  const entry = a.entry("lock");
  const slow = a.label();
  const done = a.label();
  const word = at("rdi", POOL.lock);
  a.constant("rcx", 1);
  a.zero("rax");
  a.compareExchange(word, "rcx", 32);
  a.jumpIf("equal", done);
  a.bind(slow);
  a.constant("rax", 2);
  a.exchange(word, "rax", 32);
  a.test("rax", "rax", 32);
  a.jumpIf("equal", done);
  a.push("rdi");
  a.lea("rdi", word);
  a.constant("rdx", 2);
  emitFutexWait(a);
  a.pop("rdi");
  a.jump(slow);
  a.bind(done);
  a.ret();
  return entry;
}

/** Frees the lock of the pool in rdi; keeps rdi, r8, r9. */
function emitUnlock(a: StubAssembler): Label {
  const entry = a.entry("unlock");
  const done = a.label();
  a.zero("rax");
  a.exchange(at("rdi", POOL.lock), "rax", 32);
  a.arithmetic("cmp", "rax", 2, 32);
  a.jumpIf("notEqual", done);
  a.push("rdi");
  a.lea("rdi", at("rdi", POOL.lock));
  a.constant("rdx", 1);
  emitFutexWake(a);
  a.pop("rdi");
  a.bind(done);
  a.ret();
  return entry;
}

/** Takes the run in rsi out of the queue; under the lock; uses rax, rcx. */
function emitRemove(a: StubAssembler): Label {
  const entry = a.entry("remove");
  a.load("rax", at("rsi", RUN.previous));
  a.load("rcx", at("rsi", RUN.next));
  a.store(at("rax", RUN.next), "rcx");
  a.store(at("rcx", RUN.previous), "rax");
  a.storeConstant(at("rsi", RUN.queued), 0, 32);
  a.ret();
  return entry;
}

/** leave(pool, run): the participant is done with the run; eax 1 when it was the last, and the run is then its alone. */
function emitLeave(a: StubAssembler, lock: Label, unlock: Label, remove: Label): Label {
  const entry = a.entry("leave");
  const removed = a.label();
  a.push("rbx", "rbp");
  a.move("rbx", "rdi");
  a.move("rbp", "rsi");
  a.call(lock);
  a.move("rsi", "rbp");
  a.arithmeticMemory("cmp", at("rsi", RUN.queued), 0, 32);
  a.jumpIf("equal", removed);
  a.call(remove);
  a.bind(removed);
  a.arithmeticMemory("sub", at("rbp", RUN.active), 1, 32);
  a.load("rbp", at("rbp", RUN.active), 32);
  a.move("rdi", "rbx");
  a.call(unlock);
  a.zero("rax");
  const stays = a.label();
  a.test("rbp", "rbp", 32);
  a.jumpIf("notEqual", stays);
  a.constant("rax", 1);
  a.bind(stays);
  a.pop("rbx", "rbp");
  a.ret();
  return entry;
}

/**
 * enqueue(pool, run): appends the run to the queue and wakes as many idle threads as it wants.
 * submit(pool, run): the same for a run that its channel counts.
 */
function emitSubmit(a: StubAssembler, lock: Label, unlock: Label): Label {
  a.entry("submit");
  const entry = a.label("enqueue");
  a.load("rax", at("rsi", RUN.channel));
  a.atomicAdd(at("rax", CHANNEL.inFlight), 1);
  a.bind(entry);
  const enough = a.label();
  const nobody = a.label();
  a.push("rbx", "rbp");
  a.move("rbx", "rdi");
  a.move("rbp", "rsi");
  a.call(lock);
  a.load("rax", at("rbx", POOL.queuePrevious));
  a.store(at("rbp", RUN.previous), "rax");
  a.store(at("rbp", RUN.next), "rbx");
  a.store(at("rax", RUN.next), "rbp");
  a.store(at("rbx", POOL.queuePrevious), "rbp");
  a.storeConstant(at("rbp", RUN.queued), 1, 32);
  a.load("r8", at("rbp", RUN.wanted), 32);
  a.load("rax", at("rbx", POOL.sleepers), 32);
  a.arithmetic("cmp", "r8", "rax", 32);
  a.jumpIf("belowOrEqual", enough);
  a.move("r8", "rax", 32);
  a.bind(enough);
  a.arithmeticMemory("add", at("rbx", POOL.sequence), 1, 32);
  a.move("rdi", "rbx");
  a.call(unlock);
  a.test("r8", "r8", 32);
  a.jumpIf("equal", nobody);
  a.lea("rdi", at("rbx", POOL.sequence));
  a.move("rdx", "r8", 32);
  emitFutexWake(a);
  a.bind(nobody);
  a.pop("rbx", "rbp");
  a.ret();
  return entry;
}

/** Writes the time-stamp counter to memory; uses rax, rdx. */
function emitMark(a: StubAssembler, base: Register, offset: number): void {
  a.rdtsc();
  a.store(at(base, offset), "rax", 32);
  a.store(at(base, offset + 4), "rdx", 32);
}

/** walkAlone(step, count, scratch, counter or 0, index) */
function emitWalkAlone(a: StubAssembler): Label {
  const entry = a.entry("walkAlone");
  const loop = a.label();
  const next = a.label();
  const done = a.label();
  a.push(...SAVED);
  a.arithmetic("sub", "rsp", 8);
  a.move("rbx", "rdi");
  a.move("rbp", "rsi");
  a.move("r12", "rdx");
  a.move("r13", "rcx");
  a.move("r14", "r8");
  a.bind(loop);
  a.test("rbp", "rbp");
  a.jumpIf("equal", done);
  emitMarkWhenProfiling(a, COUNTER.begin);
  a.load("rdx", at("rbx", STEP.tiles));
  a.test("rdx", "rdx");
  a.jumpIf("equal", next);
  a.load("rdi", at("rbx", STEP.params));
  a.zero("rsi");
  a.move("rcx", "r12");
  a.move("r8", "r14");
  a.callMemory(at("rbx", STEP.code));
  a.bind(next);
  emitMarkWhenProfiling(a, COUNTER.end);
  a.arithmetic("add", "rbx", STEP.bytes);
  a.arithmetic("sub", "rbp", 1);
  const unprofiled = a.label();
  a.test("r13", "r13");
  a.jumpIf("equal", unprofiled);
  a.arithmetic("add", "r13", COUNTER.bytes);
  a.bind(unprofiled);
  a.jump(loop);
  a.bind(done);
  a.arithmetic("add", "rsp", 8);
  a.pop(...SAVED);
  a.ret();
  return entry;
}

function emitMarkWhenProfiling(a: StubAssembler, offset: number): void {
  const skip = a.label();
  a.test("r13", "r13");
  a.jumpIf("equal", skip);
  emitMark(a, "r13", offset);
  a.bind(skip);
}

/** Stack slots of walkShared, from rsp. */
const SLOT = { index: 0, begin: 8, chunkEnd: 16, pool: 24, stride: 32, bytes: 40 } as const;

/**
 * walkShared(run, scratch, index, pool): takes part in a run until nothing is left to claim.
 * rbx run, rbp step, r12 scratch, r13 counter, r14 end of steps, r15 count of `done` that ends the step.
 */
function emitWalkShared(a: StubAssembler, walkAlone: Label): Label {
  const entry = a.entry("walkShared");
  const labels = { step: a.label(), serial: a.label(), wait: a.label(), finished: a.label(), next: a.label(), out: a.label() };
  a.push(...SAVED);
  a.arithmetic("sub", "rsp", SLOT.bytes);
  a.move("rbx", "rdi");
  a.move("r12", "rsi");
  a.store(at("rsp", SLOT.index), "rdx");
  a.store(at("rsp", SLOT.pool), "rcx");
  a.atomicAdd(at("rcx", POOL.active), 1, 32);
  a.load("rax", at("rbx", RUN.current));
  a.shiftLeft("rax", 6);
  a.load("rbp", at("rbx", RUN.steps));
  a.load("r14", at("rbx", RUN.end));
  a.shiftLeft("r14", 6);
  a.arithmetic("add", "r14", "rbp");
  a.arithmetic("add", "rbp", "rax");
  a.load("r13", at("rbx", RUN.counters));
  a.arithmetic("add", "r13", "rax");

  a.bind(labels.step);
  a.arithmetic("cmp", "rbp", "r14");
  a.jumpIf("aboveOrEqual", labels.out);
  a.load("rax", at("rbp", STEP.serial), 32);
  a.test("rax", "rax", 32);
  a.jumpIf("notEqual", labels.serial);
  emitSharedStep(a, labels);
  a.bind(labels.serial);
  emitSerialSteps(a, walkAlone, labels);
  a.bind(labels.finished);
  emitFinished(a);
  a.jump(labels.next);
  a.bind(labels.wait);
  emitWait(a, labels);
  a.bind(labels.next);
  a.load("rax", at("rsp", SLOT.stride));
  a.arithmetic("add", "rbp", "rax");
  a.arithmetic("add", "r13", "rax");
  a.jump(labels.step);

  a.bind(labels.out);
  a.load("rcx", at("rsp", SLOT.pool));
  a.atomicAdd(at("rcx", POOL.active), -1, 32);
  a.arithmetic("add", "rsp", SLOT.bytes);
  a.pop(...SAVED);
  a.ret();
  return entry;
}

type WalkLabels = { readonly wait: Label; readonly finished: Label; readonly next: Label; readonly out: Label };

/** Claims and runs chunks of a step; goes to `finished` after its last tile was done here, else to `wait`. */
function emitSharedStep(a: StubAssembler, labels: WalkLabels): void {
  const claim = a.label();
  const whole = a.label();
  const unmarked = a.label();
  a.storeConstant(at("rsp", SLOT.stride), STEP.bytes);
  a.load("r15", at("rbp", STEP.tiles));
  a.bind(claim);
  a.load("rax", at("r13", COUNTER.claimed));
  a.arithmetic("cmp", "rax", "r15");
  a.jumpIf("aboveOrEqual", labels.wait);
  a.load("rax", at("rbp", STEP.grain));
  a.fetchAdd(at("r13", COUNTER.claimed), "rax");
  a.arithmetic("cmp", "rax", "r15");
  a.jumpIf("aboveOrEqual", labels.wait);
  a.store(at("rsp", SLOT.begin), "rax");
  a.move("rsi", "rax");
  a.move("rdi", "rax");
  a.arithmetic("add", "rdi", at("rbp", STEP.grain));
  a.arithmetic("cmp", "rdi", "r15");
  a.jumpIf("belowOrEqual", whole);
  a.move("rdi", "r15");
  a.bind(whole);
  a.store(at("rsp", SLOT.chunkEnd), "rdi");
  a.test("rsi", "rsi");
  a.jumpIf("notEqual", unmarked);
  emitMark(a, "r13", COUNTER.begin);
  a.bind(unmarked);
  a.load("rdi", at("rbp", STEP.params));
  a.load("rdx", at("rsp", SLOT.chunkEnd));
  a.move("rcx", "r12");
  a.load("r8", at("rsp", SLOT.index));
  a.callMemory(at("rbp", STEP.code));
  a.load("rax", at("rsp", SLOT.chunkEnd));
  a.arithmetic("sub", "rax", at("rsp", SLOT.begin));
  a.move("rcx", "rax");
  a.fetchAdd(at("r13", COUNTER.done), "rax");
  a.arithmetic("add", "rax", "rcx");
  a.arithmetic("cmp", "rax", "r15");
  a.jumpIf("notEqual", claim);
  emitMark(a, "r13", COUNTER.end);
  a.jump(labels.finished);
}

/** Claims neighbouring steps of one chunk as a whole; eax says how many there are. Falls through to `finished`. */
function emitSerialSteps(a: StubAssembler, walkAlone: Label, labels: WalkLabels): void {
  const inside = a.label();
  const unprofiled = a.label();
  a.move("rcx", "r14");
  a.arithmetic("sub", "rcx", "rbp");
  a.shiftLeft("rax", 6);
  a.arithmetic("cmp", "rax", "rcx");
  a.jumpIf("belowOrEqual", inside);
  a.move("rax", "rcx");
  a.bind(inside);
  a.store(at("rsp", SLOT.stride), "rax");
  a.constant("r15", 1);
  a.load("rax", at("r13", COUNTER.claimed));
  a.test("rax", "rax");
  a.jumpIf("notEqual", labels.wait);
  a.constant("rax", 1);
  a.fetchAdd(at("r13", COUNTER.claimed), "rax");
  a.test("rax", "rax");
  a.jumpIf("notEqual", labels.wait);
  a.move("rdi", "rbp");
  a.load("rsi", at("rsp", SLOT.stride));
  a.shiftRight("rsi", 6);
  a.move("rdx", "r12");
  a.load("rax", at("rbx", RUN.flags), 32);
  a.zero("rcx");
  a.arithmetic("and", "rax", RUN_FLAG.profile, 32);
  a.jumpIf("equal", unprofiled);
  a.move("rcx", "r13");
  a.bind(unprofiled);
  a.load("r8", at("rsp", SLOT.index));
  a.call(walkAlone);
  a.atomicAdd(at("r13", COUNTER.done), 1);
}

/** The step has ended here: tell late participants where to begin, and wake those who sleep on it. */
function emitFinished(a: StubAssembler): void {
  const nobody = a.label();
  a.move("rax", "rbp");
  a.arithmetic("sub", "rax", at("rbx", RUN.steps));
  a.arithmetic("add", "rax", at("rsp", SLOT.stride));
  a.shiftRight("rax", 6);
  a.store(at("rbx", RUN.current), "rax");
  a.arithmeticMemory("cmp", at("r13", COUNTER.waiters), 0, 32);
  a.jumpIf("equal", nobody);
  a.lea("rdi", at("r13", COUNTER.done));
  a.constant("rdx", EVERYONE);
  emitFutexWake(a);
  a.bind(nobody);
}

/** Waits until the step has ended: polls, briefly when there are more threads than processors, then sleeps. */
function emitWait(a: StubAssembler, labels: WalkLabels): void {
  const poll = a.label();
  const sleep = a.label();
  const roomy = a.label();
  a.load("rax", at("rsp", SLOT.stride));
  a.arithmetic("add", "rax", "rbp");
  a.arithmetic("cmp", "rax", "r14");
  a.jumpIf("aboveOrEqual", labels.out);
  a.load("rdx", at("rsp", SLOT.pool));
  a.load("rcx", at("rdx", POOL.stepSpins), 32);
  a.load("rax", at("rdx", POOL.active), 32);
  a.arithmetic("cmp", "rax", at("rdx", POOL.budget), 32);
  a.jumpIf("belowOrEqual", roomy);
  a.load("rcx", at("rdx", POOL.crowdedSpins), 32);
  a.bind(roomy);
  a.bind(poll);
  a.load("rax", at("r13", COUNTER.done));
  a.arithmetic("cmp", "rax", "r15");
  a.jumpIf("aboveOrEqual", labels.next);
  a.pause();
  a.arithmetic("sub", "rcx", 1, 32);
  a.jumpIf("greater", poll);
  a.bind(sleep);
  a.constant("rax", 1);
  a.exchange(at("r13", COUNTER.waiters), "rax", 32);
  a.load("rdx", at("r13", COUNTER.done));
  a.arithmetic("cmp", "rdx", "r15");
  a.jumpIf("aboveOrEqual", labels.next);
  a.lea("rdi", at("r13", COUNTER.done));
  emitFutexWait(a);
  a.jump(sleep);
}

/** runSync(pool, run, scratch): the caller counts as a participant from the start. */
function emitRunSync(a: StubAssembler, { enqueue, walkShared, leave }: Internals): void {
  a.entry("runSync");
  const done = a.label();
  const poll = a.label();
  const sleep = a.label();
  a.push("rbx", "rbp", "r12");
  a.move("rbx", "rdi");
  a.move("rbp", "rsi");
  a.move("r12", "rdx");
  a.call(enqueue);
  a.move("rdi", "rbp");
  a.move("rsi", "r12");
  a.zero("rdx");
  a.move("rcx", "rbx");
  a.call(walkShared);
  a.move("rdi", "rbx");
  a.move("rsi", "rbp");
  a.call(leave);
  a.test("rax", "rax", 32);
  a.jumpIf("notEqual", done);
  a.load("rcx", at("rbx", POOL.stepSpins), 32);
  a.bind(poll);
  a.load("rax", at("rbp", RUN.state), 32);
  a.arithmetic("cmp", "rax", 1, 32);
  a.jumpIf("equal", done);
  a.pause();
  a.arithmetic("sub", "rcx", 1, 32);
  a.jumpIf("greater", poll);
  a.zero("rax");
  a.constant("rcx", 2);
  a.compareExchange(at("rbp", RUN.state), "rcx", 32);
  a.bind(sleep);
  a.load("rax", at("rbp", RUN.state), 32);
  a.arithmetic("cmp", "rax", 1, 32);
  a.jumpIf("equal", done);
  a.lea("rdi", at("rbp", RUN.state));
  a.constant("rdx", 2);
  emitFutexWait(a);
  a.jump(sleep);
  a.bind(done);
  a.pop("rbx", "rbp", "r12");
  a.ret();
}

/** cancel(pool, run) */
function emitCancel(a: StubAssembler, { lock, unlock, remove }: Internals): void {
  a.entry("cancel");
  const tooLate = a.label();
  a.push("rbx", "rbp", "r12");
  a.move("rbx", "rdi");
  a.move("rbp", "rsi");
  a.zero("r12");
  a.call(lock);
  a.arithmeticMemory("cmp", at("rbp", RUN.queued), 0, 32);
  a.jumpIf("equal", tooLate);
  a.arithmeticMemory("cmp", at("rbp", RUN.nextIndex), 0, 32);
  a.jumpIf("notEqual", tooLate);
  a.move("rsi", "rbp");
  a.call(remove);
  a.constant("r12", 1);
  a.bind(tooLate);
  a.move("rdi", "rbx");
  a.call(unlock);
  a.move("rax", "r12");
  a.pop("rbx", "rbp", "r12");
  a.ret();
}

/** threadMain(thread): rbx thread, r12 pool, rbp run, r13 participant index. */
function emitThreadMain(a: StubAssembler, internals: Internals): void {
  a.entry("threadMain");
  const idle = a.label();
  const poll = a.label();
  const take = a.label();
  const join = a.label();
  a.arithmetic("sub", "rsp", 8);
  a.move("rbx", "rdi");
  a.load("r12", at("rbx", THREAD.pool));
  a.constant("rax", SYSCALL.gettid);
  a.syscall();
  a.store(at("rbx", THREAD.id), "rax", 32);
  emitSetPriority(a);
  a.bind(idle);
  a.load("rcx", at("r12", POOL.idleSpins), 32);
  a.bind(poll);
  a.load("rax", at("r12", POOL.queueNext));
  a.arithmetic("cmp", "rax", "r12");
  a.jumpIf("notEqual", take);
  a.pause();
  a.arithmetic("sub", "rcx", 1, 32);
  a.jumpIf("greater", poll);
  a.bind(take);
  a.move("rdi", "r12");
  a.call(internals.lock);
  a.load("rbp", at("r12", POOL.queueNext));
  a.arithmetic("cmp", "rbp", "r12");
  a.jumpIf("notEqual", join);
  emitSleepIdle(a, internals);
  a.jump(idle);
  a.bind(join);
  emitJoin(a, internals);
  emitTakeScratch(a);
  emitTakePart(a, internals);
  a.move("rdi", "r12");
  a.move("rsi", "rbp");
  a.call(internals.leave);
  a.test("rax", "rax", 32);
  a.jumpIf("equal", idle);
  emitComplete(a, idle);
  a.jump(idle);
}

/** Gives this thread the pool's nice value; 0 is what it was born with. */
function emitSetPriority(a: StubAssembler): void {
  const usual = a.label();
  a.load("rdx", at("r12", POOL.nice), 32);
  a.test("rdx", "rdx", 32);
  a.jumpIf("equal", usual);
  a.zero("rdi");
  a.zero("rsi");
  a.constant("rax", SYSCALL.setpriority);
  a.syscall();
  a.bind(usual);
}

/** Sleeps until the next submission; the lock is held on entry and free afterwards. */
function emitSleepIdle(a: StubAssembler, { unlock }: Internals): void {
  a.load("r13", at("r12", POOL.sequence), 32);
  a.atomicAdd(at("r12", POOL.sleepers), 1, 32);
  a.move("rdi", "r12");
  a.call(unlock);
  a.lea("rdi", at("r12", POOL.sequence));
  a.move("rdx", "r13", 32);
  emitFutexWait(a);
  a.atomicAdd(at("r12", POOL.sleepers), -1, 32);
}

/** Joins the run in rbp; the lock is held on entry and free afterwards. */
function emitJoin(a: StubAssembler, { remove, unlock }: Internals): void {
  const wanted = a.label();
  a.load("r13", at("rbp", RUN.nextIndex), 32);
  a.arithmeticMemory("add", at("rbp", RUN.nextIndex), 1, 32);
  a.arithmeticMemory("add", at("rbp", RUN.active), 1, 32);
  a.arithmeticMemory("sub", at("rbp", RUN.wanted), 1, 32);
  a.jumpIf("notEqual", wanted);
  a.move("rsi", "rbp");
  a.call(remove);
  a.bind(wanted);
  a.move("rdi", "r12");
  a.call(unlock);
}

/** Moves to the larger scratch area when one was left for this thread. */
function emitTakeScratch(a: StubAssembler): void {
  const keep = a.label();
  a.zero("rax");
  a.exchange(at("rbx", THREAD.pendingScratch), "rax");
  a.test("rax", "rax");
  a.jumpIf("equal", keep);
  a.load("rdi", at("rbx", THREAD.scratch));
  a.store(at("rbx", THREAD.scratch), "rax");
  a.test("rdi", "rdi");
  a.jumpIf("equal", keep);
  a.load("rsi", at("rdi", 0));
  a.constant("rax", SYSCALL.munmap);
  a.syscall();
  a.bind(keep);
}

/** Runs the steps: alone without counters when the run wants one participant, else sharing them. */
function emitTakePart(a: StubAssembler, { walkAlone, walkShared }: Internals): void {
  const shared = a.label();
  const unprofiled = a.label();
  const done = a.label();
  a.load("r9", at("rbx", THREAD.scratch));
  a.arithmetic("add", "r9", SCRATCH_HEADER_BYTES);
  a.load("rax", at("rbp", RUN.flags), 32);
  a.move("rdx", "rax", 32);
  a.arithmetic("and", "rdx", RUN_FLAG.single, 32);
  a.jumpIf("equal", shared);
  a.load("rdi", at("rbp", RUN.first));
  a.load("rsi", at("rbp", RUN.end));
  a.arithmetic("sub", "rsi", "rdi");
  a.shiftLeft("rdi", 6);
  a.zero("rcx");
  a.arithmetic("and", "rax", RUN_FLAG.profile, 32);
  a.jumpIf("equal", unprofiled);
  a.move("rcx", "rdi");
  a.arithmetic("add", "rcx", at("rbp", RUN.counters));
  a.bind(unprofiled);
  a.arithmetic("add", "rdi", at("rbp", RUN.steps));
  a.move("rdx", "r9");
  a.zero("r8");
  a.call(walkAlone);
  a.jump(done);
  a.bind(shared);
  a.move("rdi", "rbp");
  a.move("rsi", "r9");
  a.move("rdx", "r13");
  a.move("rcx", "r12");
  a.call(walkShared);
  a.bind(done);
}

/** Tells whoever waits for the run in rbp that it has ended. The run may be gone as soon as they know. */
function emitComplete(a: StubAssembler, done: Label): void {
  const listed = a.label();
  const push = a.label();
  const written = a.label();
  a.load("rax", at("rbp", RUN.flags), 32);
  a.arithmetic("and", "rax", RUN_FLAG.synchronous, 32);
  a.jumpIf("equal", listed);
  a.constant("rax", 1);
  a.exchange(at("rbp", RUN.state), "rax", 32);
  a.arithmetic("cmp", "rax", 2, 32);
  a.jumpIf("notEqual", done);
  a.lea("rdi", at("rbp", RUN.state));
  a.constant("rdx", 1);
  emitFutexWake(a);
  a.jump(done);
  a.bind(listed);
  a.load("r13", at("rbp", RUN.channel));
  a.load("rax", at("r13", CHANNEL.finished));
  a.bind(push);
  a.store(at("rbp", RUN.nextDone), "rax");
  a.compareExchange(at("r13", CHANNEL.finished), "rbp");
  a.jumpIf("notEqual", push);
  a.test("rax", "rax");
  a.jumpIf("notEqual", written);
  a.load("rdi", at("r13", CHANNEL.fd));
  a.lea("rsi", at("r13", CHANNEL.fd));
  a.constant("rdx", 1);
  a.constant("rax", SYSCALL.write);
  a.syscall();
  a.bind(written);
  a.atomicAdd(at("r13", CHANNEL.inFlight), -1);
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
