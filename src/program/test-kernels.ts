/** Kernels for the tests of the walker: they count what was run. */
import { allocateExecutable, at, type NativeMemory, StubAssembler } from "../native/index.ts";

export interface TestKernels {
  readonly memory: NativeMemory;
  /** Slots: address of one int32 per tile. Adds 1 to each of its tiles. */
  readonly count: bigint;
  /** Slots: address of an int64, polls per tile. Passes time and adds the tiles run. */
  readonly work: bigint;
  /** Slots: address of an int64, value expected there. Replaces it by the value after, or by a large number when it differs. */
  readonly sequence: bigint;
  /** Slots: bytes. Writes the last 8 of its scratch memory. */
  readonly scratch: bigint;
}

export function assembleTestKernels(): TestKernels {
  const a = new StubAssembler();
  emitCount(a);
  emitWork(a);
  emitSequence(a);
  emitScratch(a);
  const { code, entries } = a.finish();
  const memory = allocateExecutable(code);
  const address = (name: string) => memory.address + BigInt(entries.get(name)!);
  return { memory, count: address("count"), work: address("work"), sequence: address("sequence"), scratch: address("scratch") };
}

function emitCount(a: StubAssembler): void {
  a.entry("count");
  const loop = a.label();
  a.load("rax", at("rdi", 0));
  a.move("rcx", "rsi");
  a.shiftLeft("rcx", 2);
  a.arithmetic("add", "rax", "rcx");
  a.bind(loop);
  a.atomicAdd(at("rax"), 1, 32);
  a.arithmetic("add", "rax", 4);
  a.arithmetic("add", "rsi", 1);
  a.arithmetic("cmp", "rsi", "rdx");
  a.jumpIf("below", loop);
  a.ret();
}

function emitWork(a: StubAssembler): void {
  a.entry("work");
  const tile = a.label();
  const poll = a.label();
  a.load("rax", at("rdi", 0));
  a.bind(tile);
  a.load("rcx", at("rdi", 8));
  a.bind(poll);
  a.pause();
  a.arithmetic("sub", "rcx", 1);
  a.jumpIf("greater", poll);
  a.atomicAdd(at("rax"), 1);
  a.arithmetic("add", "rsi", 1);
  a.arithmetic("cmp", "rsi", "rdx");
  a.jumpIf("below", tile);
  a.ret();
}

function emitSequence(a: StubAssembler): void {
  a.entry("sequence");
  const right = a.label();
  a.load("rax", at("rdi", 0));
  a.load("rcx", at("rdi", 8));
  a.load("rdx", at("rax"));
  a.arithmetic("cmp", "rdx", "rcx");
  a.jumpIf("equal", right);
  a.constant("rcx", 0x4000_0000);
  a.bind(right);
  a.arithmetic("add", "rcx", 1);
  a.store(at("rax"), "rcx");
  a.ret();
}

function emitScratch(a: StubAssembler): void {
  a.entry("scratch");
  a.load("rax", at("rdi", 0));
  a.arithmetic("add", "rcx", "rax");
  a.store(at("rcx", -8), "rax");
  a.ret();
}
