/** The system calls that walker code makes. Numbers are those of Linux on x86-64; each clobbers rax, rcx, r11. */
import type { StubAssembler } from "../native/index.ts";

export const SYSCALL = { write: 1, munmap: 11, setpriority: 141, gettid: 186, futex: 202, setaffinity: 203, setattr: 314 } as const;
const FUTEX = { waitPrivate: 128, wakePrivate: 129 } as const;
/** For a wake: all who wait. */
export const EVERYONE = 0x7fff_ffff;

/** Sleeps while the 32-bit word at rdi equals edx; clobbers rsi, r10. */
export function emitFutexWait(a: StubAssembler): void {
  a.constant("rsi", FUTEX.waitPrivate);
  a.zero("r10");
  a.constant("rax", SYSCALL.futex);
  a.syscall();
}

/** Writes the byte at rsi to the descriptor in rdi; clobbers rdx. */
export function emitWriteByte(a: StubAssembler): void {
  a.constant("rdx", 1);
  a.constant("rax", SYSCALL.write);
  a.syscall();
}

/** Wakes up to edx threads that sleep on the word at rdi; clobbers rsi. */
export function emitFutexWake(a: StubAssembler): void {
  a.constant("rsi", FUTEX.wakePrivate);
  a.constant("rax", SYSCALL.futex);
  a.syscall();
}
