/**
 * Who waits for a stream so that JavaScript need not: a native thread that sleeps in `cuEventSynchronize`, then writes
 * a byte to the pipe that wakes the event loop. The thread runs generated code, never JavaScript, and takes no signals.
 * (A host function in the stream would cost no thread, but CUDA does not call it when the stream has failed.)
 *
 * Waiters are kept for the next stream that needs one. Their memory is never freed, since a thread reads it.
 */
import { SinterError } from "../../base/index.ts";
import { errnoName, libc } from "../koffi.ts";
import { allocateExecutable, NativeMemory } from "../memory.ts";
import { at, StubAssembler } from "../stub-assembler.ts";
import { startThread } from "../threads.ts";
import { createWakePipe, type WakePipe } from "../wake-pipe.ts";
import type { CudaDriver } from "./driver.ts";

const pipe2 = libc("int pipe2(int64_t ends, int flags)");
const write = libc("int64_t write(int fd, int64_t bytes, size_t count)");

/** The block that a waiter's thread and JavaScript share; byte offsets. */
const BLOCK = { requestFd: 0, wakeFd: 8, context: 16, setCurrent: 24, wait: 32, event: 40, status: 48, done: 56, message: 64, bytes: 128 } as const;
const SYSCALL = { read: 0, write: 1 } as const;

/** `void *waiter(block)`: reads a request, makes the context current, waits for the event, tells; ends when the pipe does. */
function waiterCode(): Uint8Array {
  const a = new StubAssembler();
  a.entry("waiter");
  a.push("rbx");
  a.move("rbx", "rdi");
  const next = a.bind(a.label("next"));
  const end = a.label("end");
  a.load("rdi", at("rbx", BLOCK.requestFd), 32);
  a.lea("rsi", at("rbx", BLOCK.message));
  a.constant("rdx", 1);
  a.constant("rax", SYSCALL.read);
  a.syscall();
  a.arithmetic("cmp", "rax", 1);
  a.jumpIf("notEqual", end);
  a.load("rdi", at("rbx", BLOCK.context));
  a.callMemory(at("rbx", BLOCK.setCurrent));
  a.load("rdi", at("rbx", BLOCK.event));
  a.callMemory(at("rbx", BLOCK.wait));
  a.store(at("rbx", BLOCK.status), "rax", 32);
  a.atomicAdd(at("rbx", BLOCK.done), 1);
  a.load("rdi", at("rbx", BLOCK.wakeFd), 32);
  a.lea("rsi", at("rbx", BLOCK.message));
  a.constant("rdx", 1);
  a.constant("rax", SYSCALL.write);
  a.syscall();
  a.jump(next);
  a.bind(end);
  a.zero("rax");
  a.pop("rbx");
  a.ret();
  return a.finish().code;
}

let code: NativeMemory | undefined;
let pipe: WakePipe | undefined;
const idle: Waiter[] = [];
const busy = new Set<Waiter>();

function wake(): void {
  for (const waiter of [...busy]) waiter.settle();
}

export class Waiter {
  readonly #memory = NativeMemory.allocate(BLOCK.bytes);
  readonly #view = new DataView(this.#memory.view().buffer);
  readonly #requestFd: number;
  #seen = 0n;
  #settle: ((status: number) => void) | undefined;

  private constructor(driver: CudaDriver) {
    using ends = NativeMemory.allocate(8);
    const closeOnExec = 0x8_0000;
    if (pipe2(ends.address, closeOnExec) !== 0) throw new SinterError("limit-exceeded", `Pipe: refused by the system (${errnoName()}); raise the limit on open files.`);
    const [readFd, writeFd] = new Int32Array(ends.view().buffer);
    this.#requestFd = writeFd!;
    pipe ??= createWakePipe(wake);
    code ??= allocateExecutable(waiterCode());
    this.#view.setInt32(BLOCK.requestFd, readFd!, true);
    this.#view.setInt32(BLOCK.wakeFd, pipe.writeFd, true);
    this.#put(BLOCK.setCurrent, driver.functionAddress("cuCtxSetCurrent"));
    this.#put(BLOCK.wait, driver.functionAddress("cuEventSynchronize"));
    startThread(code.address, this.#memory.address);
  }

  /** One that waits for nothing; give it back with `release`. */
  static take(driver: CudaDriver): Waiter {
    return idle.pop() ?? new Waiter(driver);
  }

  release(): void {
    idle.push(this);
  }

  /** Settles with CUDA's status when the event has passed, or its context has failed. */
  wait(context: number, event: number): Promise<number> {
    this.#put(BLOCK.context, context);
    this.#put(BLOCK.event, event);
    if (busy.size === 0) pipe!.ref();
    busy.add(this);
    const waiting = new Promise<number>((resolve) => { this.#settle = resolve; });
    write(this.#requestFd, Number(this.#memory.address) + BLOCK.message, 1);
    return waiting;
  }

  /** Whether the thread has told; then the promise is settled. */
  settle(): void {
    const done = this.#view.getBigUint64(BLOCK.done, true);
    if (done === this.#seen) return;
    this.#seen = done;
    busy.delete(this);
    if (busy.size === 0) pipe!.unref();
    this.#settle?.(this.#view.getInt32(BLOCK.status, true));
  }

  #put(offset: number, value: number): void {
    this.#view.setBigUint64(offset, BigInt(value), true);
  }
}
