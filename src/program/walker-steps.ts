/**
 * How a participant goes through a run's steps, in machine code: alone, or claiming chunks of tiles beside others and
 * waiting for each step's end.
 */
import { at, type Label, type Register, type StubAssembler } from "../native/index.ts";
import { CHANNEL, COUNTER, MOST_SPANS, POOL, RUN, RUN_FLAG, SPAN, STEP } from "./layout.ts";
import { EVERYONE, emitFutexWait, emitFutexWake, emitWriteByte } from "./walker-syscalls.ts";

/** Kept over calls by the System V ABI. With the return address and 8 more bytes the stack is aligned to 16. */
const SAVED: readonly Register[] = ["rbx", "rbp", "r12", "r13", "r14", "r15"];

/** Writes the time-stamp counter to memory; uses rax, rdx. */
function emitMark(a: StubAssembler, base: Register, offset: number): void {
  a.rdtsc();
  a.store(at(base, offset), "rax", 32);
  a.store(at(base, offset + 4), "rdx", 32);
}

/** walkAlone(step, count, scratch, counter or 0, index, run whose notice is sent or 0) */
export function emitWalkAlone(a: StubAssembler): Label {
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
  a.move("r15", "r9");
  a.bind(loop);
  a.test("rbp", "rbp");
  a.jumpIf("equal", done);
  emitNotice(a);
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

/** Before the step in rbx: wakes the event loop of the run in r15 when that is where its notice is due. */
function emitNotice(a: StubAssembler): void {
  const later = a.label();
  a.test("r15", "r15");
  a.jumpIf("equal", later);
  a.arithmetic("cmp", "rbx", at("r15", RUN.notice));
  a.jumpIf("notEqual", later);
  a.load("rsi", at("r15", RUN.channel));
  a.storeConstant(at("rsi", CHANNEL.endsSoon), 1, 32);
  a.load("rdi", at("rsi", CHANNEL.fd));
  a.arithmetic("add", "rsi", CHANNEL.fd);
  emitWriteByte(a);
  a.bind(later);
}

function emitMarkWhenProfiling(a: StubAssembler, offset: number): void {
  const skip = a.label();
  a.test("r13", "r13");
  a.jumpIf("equal", skip);
  emitMark(a, "r13", offset);
  a.store(at("r13", COUNTER.participant), "r14", 32);
  a.bind(skip);
}

/** Where spans are asked for: marks this participant's part in the step in rbp, its begin only once. Uses rax, rcx, rdx. */
function emitSpan(a: StubAssembler, field: typeof SPAN.begin | typeof SPAN.end): void {
  const skip = a.label();
  a.load("rax", at("rbx", RUN.spans));
  a.test("rax", "rax");
  a.jumpIf("equal", skip);
  a.move("rcx", "rbp");
  a.arithmetic("sub", "rcx", at("rbx", RUN.steps));
  a.shiftLeft("rcx", Math.log2((MOST_SPANS * SPAN.bytes) / STEP.bytes));
  a.arithmetic("add", "rcx", "rax");
  a.load("rax", at("rsp", SLOT.index));
  a.shiftLeft("rax", Math.log2(SPAN.bytes));
  a.arithmetic("add", "rcx", "rax");
  if (field === SPAN.begin) {
    a.arithmeticMemory("cmp", at("rcx", SPAN.begin), 0);
    a.jumpIf("notEqual", skip);
  }
  emitMark(a, "rcx", field);
  a.bind(skip);
}

/** Stack slots of walkShared, from rsp. */
const SLOT = { index: 0, begin: 8, chunkEnd: 16, pool: 24, stride: 32, bytes: 40 } as const;

/**
 * walkShared(run, scratch, index, pool): takes part in a run until nothing is left to claim.
 * rbx run, rbp step, r12 scratch, r13 counter, r14 end of steps, r15 count of `done` that ends the step.
 */
export function emitWalkShared(a: StubAssembler, walkAlone: Label): Label {
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

/**
 * Claims and runs chunks of a step; goes to `finished` after its last tile was done here, else to `wait`.
 *
 * Participants of even index claim from the front and those of odd index from the back, so that in each step a thread
 * finds most of what it reads in its own caches: neighbouring steps divide their results alike. The two counts are the
 * halves of one word, so that one atomic addition both claims and tells what the others have claimed; what is added past
 * the end is cut off by the other count.
 */
function emitSharedStep(a: StubAssembler, labels: WalkLabels): void {
  const claim = a.label();
  const unmarked = a.label();
  a.storeConstant(at("rsp", SLOT.stride), STEP.bytes);
  a.load("r15", at("rbp", STEP.tiles));
  a.bind(claim);
  emitChunkSize(a, labels);
  emitClaim(a, labels);
  a.store(at("rsp", SLOT.begin), "rsi");
  a.store(at("rsp", SLOT.chunkEnd), "rdi");
  a.test("rax", "rax");
  a.jumpIf("notEqual", unmarked);
  emitMark(a, "r13", COUNTER.begin);
  a.bind(unmarked);
  emitSpan(a, SPAN.begin);
  a.load("rdi", at("rbp", STEP.params));
  a.load("rsi", at("rsp", SLOT.begin));
  a.load("rdx", at("rsp", SLOT.chunkEnd));
  a.move("rcx", "r12");
  a.load("r8", at("rsp", SLOT.index));
  a.callMemory(at("rbp", STEP.code));
  emitSpan(a, SPAN.end);
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

/** How many tiles to claim now, to rdi: a share of those that are left, and at least the step's grain. */
function emitChunkSize(a: StubAssembler, labels: WalkLabels): void {
  const sized = a.label();
  emitClaimed(a);
  a.move("rdi", "r15");
  a.arithmetic("sub", "rdi", "rsi");
  a.arithmetic("sub", "rdi", "rdx");
  a.arithmetic("cmp", "rdi", 0);
  a.jumpIf("less", labels.wait);
  a.jumpIf("equal", labels.wait);
  a.load("rcx", at("rbx", RUN.share), 32);
  a.shiftRightByCl("rdi");
  a.load("rax", at("rbp", STEP.grain));
  a.arithmetic("cmp", "rdi", "rax");
  a.jumpIf("aboveOrEqual", sized);
  a.move("rdi", "rax");
  a.bind(sized);
}

/** The tiles claimed so far, to rax; those from the front to rsi, from the back to rdx. */
function emitClaimed(a: StubAssembler): void {
  a.load("rax", at("r13", COUNTER.claimed));
  emitHalves(a);
}

function emitHalves(a: StubAssembler): void {
  a.move("rsi", "rax", 32);
  a.move("rdx", "rax");
  a.shiftRight("rdx", 32);
}

/** Claims rdi tiles at this participant's end, fewer where fewer are left: rsi to rdi. rax holds what was claimed before. */
function emitClaim(a: StubAssembler, labels: WalkLabels): void {
  const back = a.label();
  const claimed = a.label();
  a.move("rcx", "rdi");
  a.load("rax", at("rsp", SLOT.index));
  a.arithmetic("and", "rax", 1);
  a.jumpIf("notEqual", back);
  a.move("rax", "rdi");
  a.fetchAdd(at("r13", COUNTER.claimed), "rax");
  emitHalves(a);
  emitBackEnd(a, labels);
  a.arithmetic("add", "rcx", "rsi");
  a.arithmetic("cmp", "rdi", "rcx");
  a.jumpIf("less", claimed);
  a.move("rdi", "rcx");
  a.jump(claimed);
  a.bind(back);
  a.move("rax", "rdi");
  a.shiftLeft("rax", 32);
  a.fetchAdd(at("r13", COUNTER.claimed), "rax");
  emitHalves(a);
  emitBackEnd(a, labels);
  a.move("rdx", "rdi");
  a.arithmetic("sub", "rdx", "rcx");
  a.arithmetic("cmp", "rdx", "rsi");
  a.jumpIf("less", claimed);
  a.move("rsi", "rdx");
  a.bind(claimed);
}

/** The first tile that was claimed from the back, to rdi; leaves when none is before it. */
function emitBackEnd(a: StubAssembler, labels: WalkLabels): void {
  a.move("rdi", "r15");
  a.arithmetic("sub", "rdi", "rdx");
  a.arithmetic("cmp", "rdi", "rsi");
  a.jumpIf("less", labels.wait);
  a.jumpIf("equal", labels.wait);
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
  a.zero("r9");
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
