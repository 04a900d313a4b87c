import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { allocateExecutable, at, nativeFunction, type Register, StubAssembler } from "./index.ts";

const hasDisassembler = spawnSync("objdump", ["--version"]).status === 0;

/** What binutils reads in the bytes, one instruction a line. */
function disassemble(code: Uint8Array): string[] {
  const folder = mkdtempSync(join(tmpdir(), "sinter-"));
  try {
    const path = join(folder, "code");
    writeFileSync(path, code);
    const listing = execFileSync("objdump", ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn", path], { encoding: "utf8" });
    return [...listing.matchAll(/^\s+[0-9a-f]+:\s+(.*?)\s*$/gm)].map(([, line]) => line!.replace(/\s+/g, " "));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const PAIRS: readonly (readonly [Register, Register])[] = [["rax", "rcx"], ["rbx", "r9"], ["r12", "rsp"], ["r13", "rbp"], ["rsi", "r15"], ["r8", "rdi"]];

test("a disassembler reads back what was written", { skip: !hasDisassembler && "no objdump" }, () => {
  const a = new StubAssembler();
  const expected: string[] = [];
  const expect = (text: string) => expected.push(text);
  for (const [x, y] of PAIRS) {
    a.load(x, at(y, 64));
    expect(`mov ${x},QWORD PTR [${y}+0x40]`);
    a.store(at(y, -8), x);
    expect(`mov QWORD PTR [${y}-0x8],${x}`);
    a.move(x, y);
    expect(`mov ${x},${y}`);
    a.lea(x, at(y, 256));
    expect(`lea ${x},[${y}+0x100]`);
    a.arithmetic("sub", x, at(y, 8));
    expect(`sub ${x},QWORD PTR [${y}+0x8]`);
    a.arithmetic("cmp", x, y);
    expect(`cmp ${x},${y}`);
    a.arithmetic("and", x, 5);
    expect(`and ${x},0x5`);
    a.test(x, y);
    expect(`test ${x},${y}`);
    a.storeConstant(at(x, 4), 7, 32);
    expect(`mov DWORD PTR [${x}+0x4],0x7`);
    a.arithmeticMemory("add", at(x, 4), 1);
    expect(`add QWORD PTR [${x}+0x4],0x1`);
    a.fetchAdd(at(x, 8), y);
    expect(`lock xadd QWORD PTR [${x}+0x8],${y}`);
    a.compareExchange(at(x, 8), y);
    expect(`lock cmpxchg QWORD PTR [${x}+0x8],${y}`);
    a.exchange(at(x, 8), y);
    expect(`xchg QWORD PTR [${x}+0x8],${y}`);
    a.atomicAdd(at(x, 8), 3, 32);
    expect(`lock add DWORD PTR [${x}+0x8],0x3`);
    a.callMemory(at(x, 16));
    expect(`call QWORD PTR [${x}+0x10]`);
    a.shiftLeft(x, 6);
    expect(`shl ${x},0x6`);
    a.shiftRight(x, 3);
    expect(`shr ${x},0x3`);
    a.shiftRightByCl(x);
    expect(`shr ${x},cl`);
    a.push(x, y);
    expect(`push ${x}`);
    expect(`push ${y}`);
    a.pop(x, y);
    expect(`pop ${y}`);
    expect(`pop ${x}`);
  }
  a.pause();
  a.syscall();
  a.rdtsc();
  a.cpuid();
  a.xgetbv();
  a.ret();
  expected.push("pause", "syscall", "rdtsc", "cpuid", "xgetbv", "ret");
  assert.deepEqual(disassemble(a.finish().code), expected);
});

test("jumps go forwards and backwards", () => {
  const a = new StubAssembler();
  const loop = a.label("loop");
  const done = a.label("done");
  a.zero("rax");
  a.bind(loop);
  a.arithmetic("cmp", "rdi", 0);
  a.jumpIf("equal", done);
  a.arithmetic("add", "rax", "rdi");
  a.arithmetic("sub", "rdi", 1);
  a.jump(loop);
  a.bind(done);
  a.ret();
  using code = allocateExecutable(a.finish().code);
  assert.equal(nativeFunction(code.address, "int64_t f(int64_t)")(10), 55);
});

test("a label must be bound, and once", () => {
  const a = new StubAssembler();
  const label = a.label("nowhere");
  a.jump(label);
  assert.throws(() => a.finish(), /nowhere/);
  a.bind(label);
  assert.throws(() => a.bind(label), /twice/);
});
