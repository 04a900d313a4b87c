/**
 * Threads of the operating system and what they wait on. Threads made here run generated code only, never JavaScript.
 * Sources: pthread_create(3), futex(2), setpriority(2), sched_setattr(2), setenv(3); Linux, kernel/sched/fair.c (do_preempt_short).
 */
import { SinterError } from "../base/index.ts";
import { libc } from "./koffi.ts";
import { NativeMemory } from "./memory.ts";

const pthreadCreate = libc("int pthread_create(int64_t thread, int64_t attributes, int64_t entry, int64_t argument)");
const pthreadDetach = libc("int pthread_detach(uint64_t thread)");
const gettid = libc("int gettid()");
const tgkill = libc("int tgkill(int group, int thread, int signal)");
const setpriority = libc("int setpriority(int which, unsigned int who, int nice)");
const syscall = libc("int64_t syscall(int64_t number, int64_t a, int64_t b, int64_t c)");
const setenv = libc("int setenv(const char *name, const char *value, int overwrite)");
const getenv = libc("const char *getenv(const char *name)");

const SIGSET_BYTES = 128;
const SIG_SETMASK = 2;
const pthreadSigmask = libc("int pthread_sigmask(int how, int64_t set, int64_t old)");

/**
 * Starts a detached thread at `entry(argument)`. It takes no signals: handlers belong to the threads that run JavaScript.
 * @throws SinterError when the system refuses another thread
 */
export function startThread(entry: bigint | number, argument: bigint | number): void {
  using scratch = NativeMemory.allocate(2 * SIGSET_BYTES + 8);
  const all = scratch.address;
  const previous = all + BigInt(SIGSET_BYTES);
  const thread = previous + BigInt(SIGSET_BYTES);
  scratch.view(0, SIGSET_BYTES).fill(0xff);
  pthreadSigmask(SIG_SETMASK, all, previous);
  const status = Number(
    pthreadCreate(thread, 0, entry, argument),
  );
  pthreadSigmask(SIG_SETMASK, previous, 0);
  if (status !== 0) throw new SinterError("limit-exceeded", `Thread: the system refused another one (error ${status}); raise the limit on processes.`);
  const handle = new BigUint64Array(scratch.view().buffer, 2 * SIGSET_BYTES, 1)[0]!;
  pthreadDetach(handle);
}

/** The calling thread's id. */
export function threadId(): number {
  return Number(gettid());
}

/** Whether a thread of this process has this id. */
export function threadExists(id: number): boolean {
  return Number(tgkill(process.pid, id, 0)) === 0;
}

/**
 * Sets one thread's nice value, from -20 (first) to 19 (last). Raising it again may need a privilege.
 * @returns whether the system allowed it
 */
export function setThreadPriority(id: number, nice: number): boolean {
  const whichProcess = 0;
  return Number(setpriority(whichProcess, id, nice)) === 0;
}

/** Bytes of what `setThreadScheduling` reads: `struct sched_attr` in its first version. */
export const SCHEDULING_BYTES = 48;
/**
 * How long a thread that computes asks to run at a time, the most that Linux grants. A long slice gives no more of the processor; it
 * lets whoever wakes with a shorter one run at once, instead of after what is left of this one's slice and at the next tick.
 */
const COMPUTING_SLICE_NS = 100_000_000;

/** Writes the description of a thread that computes: its nice value, and that it gives way to all who wake. */
export function describeComputing(words: Int32Array, nice: number): void {
  words.fill(0, 0, SCHEDULING_BYTES / 4);
  words[0] = SCHEDULING_BYTES;
  words[4] = nice;
  words[6] = COMPUTING_SLICE_NS;
}

/**
 * Schedules a thread (0: the calling one, whose new threads inherit it) as described at `address`. Linux before 6.12 takes the nice value alone.
 * @returns whether the system allowed it
 */
export function setThreadScheduling(id: number, address: bigint | number): boolean {
  const schedSetattr = 314;
  return Number(syscall(schedSetattr, id, address, 0)) === 0;
}

/** The calling thread, and those it starts, compute from now on: whoever wakes goes first. */
export function computeInBackground(nice: number): void {
  using memory = NativeMemory.allocate(SCHEDULING_BYTES);
  describeComputing(new Int32Array(memory.view().buffer, 0, SCHEDULING_BYTES / 4), nice);
  if (!setThreadScheduling(0, memory.address)) setThreadPriority(0, nice);
}

/** Wakes up to `count` threads that wait on the 32-bit word at `address`. @returns how many woke */
export function futexWake(address: bigint | number, count: number): number {
  const futex = 202;
  const wakePrivate = 129;
  return Number(syscall(futex, address, wakePrivate, count));
}

/** Sets a variable in the process's own environment, which native libraries read and workers share. */
export function setEnvironment(name: string, value: string): void {
  setenv(name, value, 1);
}

/** Reads a variable of the process's own environment. */
export function getEnvironment(name: string): string | undefined {
  const value = getenv(name) as unknown;
  return typeof value === "string" ? value : undefined;
}
