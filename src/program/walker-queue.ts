/**
 * The pool's queue of runs, in machine code: its lock, and how a run enters, loses participants and leaves. The queue is
 * a ring through the pool's head; it holds the runs that still want participants, oldest first.
 */
import { at, type Label, type StubAssembler } from "../native/index.ts";
import { CHANNEL, POOL, RUN } from "./layout.ts";
import { emitFutexWait, emitFutexWake } from "./walker-syscalls.ts";

/** Takes the lock of the pool in rdi; keeps rdi, r8, r9. */
export function emitLock(a: StubAssembler): Label {
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
export function emitUnlock(a: StubAssembler): Label {
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
export function emitRemove(a: StubAssembler): Label {
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
export function emitLeave(a: StubAssembler, lock: Label, unlock: Label, remove: Label): Label {
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
export function emitSubmit(a: StubAssembler, lock: Label, unlock: Label): Label {
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

/** cancel(pool, run) */
export function emitCancel(a: StubAssembler, lock: Label, unlock: Label, remove: Label): void {
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
