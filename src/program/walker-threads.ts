/**
 * Who takes part in runs, in machine code: pool threads from their first instruction, and the caller of a synchronous
 * run. The last participant to leave tells whoever waits.
 */
import { at, type Label, type StubAssembler } from "../native/index.ts";
import { AFFINITY_BYTES, CHANNEL, POOL, RUN, RUN_FLAG, SCRATCH_HEADER_BYTES, THREAD } from "./layout.ts";
import { emitFutexWait, emitFutexWake, emitWriteByte, SYSCALL } from "./walker-syscalls.ts";

/** The routines these call. */
export interface Internals {
  readonly lock: Label;
  readonly unlock: Label;
  readonly walkAlone: Label;
  readonly walkShared: Label;
  readonly enqueue: Label;
  readonly remove: Label;
  readonly leave: Label;
}

/** runSync(pool, run, scratch): the caller counts as a participant from the start. */
export function emitRunSync(a: StubAssembler, { enqueue, walkShared, leave }: Internals): void {
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

/** threadMain(thread): rbx thread, r12 pool, rbp run, r13 participant index. */
export function emitThreadMain(a: StubAssembler, internals: Internals): void {
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
  emitIdleSpins(a);
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
  emitPlace(a);
  emitTakePart(a, internals);
  a.move("rdi", "r12");
  a.move("rsi", "rbp");
  a.call(internals.leave);
  a.test("rax", "rax", 32);
  a.jumpIf("equal", idle);
  emitComplete(a, idle);
  a.jump(idle);
}

/** How often an idle thread polls before it sleeps, to ecx: long only while a processor is left over. */
function emitIdleSpins(a: StubAssembler): void {
  const decided = a.label();
  a.load("rcx", at("r12", POOL.idleSpins), 32);
  a.load("rax", at("r12", POOL.threads), 32);
  a.load("rdx", at("r12", POOL.sleepers), 32);
  a.arithmetic("sub", "rax", "rdx", 32);
  a.load("rdx", at("r12", POOL.budget), 32);
  a.arithmetic("cmp", "rax", "rdx", 32);
  a.jumpIf("aboveOrEqual", decided);
  a.load("rcx", at("r12", POOL.roomySpins), 32);
  a.bind(decided);
}

/** Gives this thread the pool's nice value, where that is not what it was born with, and its way of being scheduled. */
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
  a.zero("rdi");
  a.lea("rsi", at("r12", POOL.scheduling));
  a.zero("rdx");
  a.constant("rax", SYSCALL.setattr);
  a.syscall();
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

/**
 * Threads that share a run keep to a processor each, since the system often wakes them on one and leaves them there for
 * longer than a run takes. A run of one thread, and one that its caller shares, is left to the system's choice.
 */
function emitPlace(a: StubAssembler): void {
  const spread = a.label();
  const decided = a.label();
  const keep = a.label();
  a.load("rax", at("rbp", RUN.flags), 32);
  a.arithmetic("and", "rax", RUN_FLAG.single | RUN_FLAG.synchronous, 32);
  a.jumpIf("equal", spread);
  a.zero("rcx");
  a.lea("rdx", at("r12", POOL.allowed));
  a.jump(decided);
  a.bind(spread);
  a.constant("rcx", 1);
  a.lea("rdx", at("rbx", THREAD.own));
  a.bind(decided);
  a.load("rax", at("rbx", THREAD.placed), 32);
  a.arithmetic("cmp", "rax", "rcx", 32);
  a.jumpIf("equal", keep);
  a.store(at("rbx", THREAD.placed), "rcx", 32);
  a.zero("rdi");
  a.constant("rsi", AFFINITY_BYTES);
  a.constant("rax", SYSCALL.setaffinity);
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
  a.move("r9", "rbp");
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
  emitWriteByte(a);
  a.bind(written);
  a.atomicAdd(at("r13", CHANNEL.inFlight), -1);
}
