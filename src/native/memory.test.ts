import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, fstatSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { UserError } from "../base/index.ts";
import { allocateExecutable, allocateGuarded, closeDescriptor, createMemoryFile, MappedFile, NativeMemory, nativeFunction, PAGE_BYTES } from "./index.ts";

/** lea rax, [rdi + rsi]; ret */
const ADD = Uint8Array.of(0x48, 0x8d, 0x04, 0x37, 0xc3);

test("allocated memory is zeroed, page-aligned and the same through every view", () => {
  using memory = NativeMemory.allocate(10_000);
  assert.equal(memory.address % BigInt(PAGE_BYTES), 0n);
  const a = memory.view();
  assert.equal(a.length, 10_000);
  assert.ok(a.every((byte) => byte === 0));
  a[9_999] = 7;
  assert.equal(memory.view(9_999, 1)[0], 7);
  assert.throws(() => memory.view(9_999, 2), /view/);
});

test("memory reserved but not touched takes nothing", () => {
  using memory = NativeMemory.allocate(2 ** 36);
  const end = memory.view(2 ** 36 - 8, 8);
  end[0] = 1;
  assert.equal(end[0], 1);
});

test("dispose unmaps once and forbids new views", () => {
  const memory = NativeMemory.allocate(64);
  memory.dispose();
  memory.dispose();
  assert.ok(memory.disposed);
  assert.throws(() => memory.view(), /disposed/);
});

test("machine code runs, also with two prototypes of one name", () => {
  using code = allocateExecutable(ADD);
  assert.equal(nativeFunction(code.address, "int64_t f(int64_t, int64_t)")(40, 2n), 42);
  assert.equal(nativeFunction(code.address, "int f(int a, int b)")(40, 3), 43);
  assert.equal(nativeFunction(code.address, "int f(int a, int b)")(40, 4), 44);
});

/** Runs `body` with the module in a child process, since it may be killed. */
function inChild(body: string): ReturnType<typeof spawnSync> {
  const door = fileURLToPath(new URL("./index.js", import.meta.url));
  return spawnSync(process.execPath, ["--input-type=module", "-e", `import * as native from ${JSON.stringify(door)}; ${body}`], { encoding: "utf8" });
}

for (const edge of ["end", "start"] as const) {
  test(`guarded memory stops the first byte past its ${edge}`, () => {
    const touch = (index: string) =>
      inChild(`const n = 100; const m = native.allocateGuarded(n, "${edge}"); m.view().fill(1);
        const b = new Uint8Array(native.viewMemory(m.address - 1n, n + 2)); b[${index}] = 1; console.log("alive");`);
    assert.equal(touch("1").stdout, "alive\n");
    assert.equal(touch("n").stdout, "alive\n");
    assert.equal(touch(edge === "end" ? "n + 1" : "0").signal, "SIGSEGV");
  });
}

test("executable memory cannot be written", () => {
  const child = inChild(`const m = native.allocateExecutable(Uint8Array.of(0xc3)); const v = m.view(); console.log(v[0]); v[0] = 1; console.log("alive");`);
  assert.equal(child.stdout, "195\n");
  assert.equal(child.signal, "SIGSEGV");
});

test("guarded memory has exactly the bytes asked for", () => {
  using memory = allocateGuarded(5000, "end");
  assert.equal((memory.address + 5000n) % BigInt(PAGE_BYTES), 0n);
  assert.equal(memory.view().length, 5000);
});

test("a mapped file reads as it was when opened", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "file");
  writeFileSync(path, "hello world");
  using file = MappedFile.open(path);
  appendFileSync(path, ", longer");
  assert.equal(file.size, 11);
  assert.equal(Buffer.from(file.bytes(6, 5)).toString(), "world");
  assert.throws(() => file.bytes(6, 6), UserError);
  assert.throws(() => file.bytes(-1, 2), UserError);
  assert.throws(() => MappedFile.open(join(folder, "none")), UserError);
  assert.throws(() => MappedFile.open(folder), UserError);
  writeFileSync(path, "");
  using empty = MappedFile.open(path);
  assert.equal(empty.bytes().length, 0);
});

test("a memory file has its size", () => {
  const fd = createMemoryFile("sinter-test", 8192);
  assert.equal(fstatSync(fd).size, 8192);
  closeDescriptor(fd);
});

test("a worker thread sees the same memory and calls the same code", async () => {
  using memory = NativeMemory.allocate(64);
  using code = allocateExecutable(ADD);
  const door = new URL("./index.js", import.meta.url).href;
  const worker = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     import(${JSON.stringify(door)}).then((native) => {
       new Uint8Array(native.viewMemory(workerData.memory, 64))[5] = 9;
       parentPort.postMessage(native.nativeFunction(workerData.code, "int64_t f(int64_t, int64_t)")(1, 2));
     });`,
    { eval: true, workerData: { memory: memory.address, code: code.address } },
  );
  const answer = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  assert.equal(answer, 3);
  assert.equal(memory.view()[5], 9);
  await worker.terminate();
});
