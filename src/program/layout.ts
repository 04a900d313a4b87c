/**
 * Where things lie in the memory that JavaScript and the walker's machine code share. Offsets are in bytes; fields are
 * 8 bytes unless a comment says otherwise. What many threads write has a cache line of its own.
 */

export const LINE_BYTES = 64;

/** One step of a program; an array of these. Read-only while a run is in flight. */
export const STEP = {
  bytes: LINE_BYTES,
  code: 0,
  params: 8,
  tiles: 16,
  /** Fewest tiles claimed at once. */
  grain: 24,
  /** uint32. How many steps from this one on are one chunk each: whoever claims the first runs them all. 0: tiles are shared out. */
  serial: 32,
} as const;

/** What threads write while they run a step; an array parallel to the steps. */
export const COUNTER = {
  bytes: LINE_BYTES,
  /** Tiles claimed from the front, and in the upper half from the back; of steps that are one chunk, not zero once it is claimed. */
  claimed: 0,
  done: 8,
  /** uint32. Not zero when threads may sleep on `done`. */
  waiters: 16,
  /** Time-stamp counter at the first tile and after the last. */
  begin: 24,
  end: 32,
  /** uint32: which participant ran it alone. */
  participant: 40,
} as const;

/** One run of a range of steps. */
export const RUN = {
  bytes: 4 * LINE_BYTES,
  /** Links of the pool's queue; valid while `queued`. */
  previous: 0,
  next: 8,
  steps: 16,
  counters: 24,
  /** Indices of the first step and of the one after the last. */
  first: 32,
  end: 40,
  channel: 48,
  /** Link of the channel's list of finished runs. */
  nextDone: 56,
  /** uint32 each, changed only under the pool's lock: participants still wanted, next participant's index, present participants, in the queue. */
  wanted: 64,
  nextIndex: 68,
  active: 72,
  queued: 76,
  /** uint32, see RUN_FLAG. */
  flags: 80,
  /** uint32: a claim takes the tiles that are left, shifted right by this, and at least the step's grain. */
  share: 84,
  /** Address of an array of spans per step, zeroed, or 0: see SPAN. */
  spans: 88,
  /** Address of the step before which a participant that runs alone says that the end is near, or 0. */
  notice: 96,
  /** A step at or before the one being run: where a late participant begins. */
  current: 128,
  /** uint32: 0 running, 1 finished, 2 its caller sleeps. */
  state: 192,
} as const;

export const RUN_FLAG = { synchronous: 1, profile: 2, single: 4 } as const;

/** When a participant was busy with a step: time-stamp counter before its first chunk and after its last. */
export const SPAN = { bytes: 16, begin: 0, end: 8 } as const;
/** Spans per step; a step's lie side by side. */
export const MOST_SPANS = 64;

/** The pool's first page. The queue is a ring of runs through a head that looks like a run's two links. */
export const POOL = {
  queuePrevious: 0,
  queueNext: 8,
  /** uint32: 0 free, 1 held, 2 held and waited for. */
  lock: 64,
  /** uint32, changes with every submission: what idle threads sleep on. */
  sequence: 128,
  /** uint32 */
  sleepers: 132,
  /** uint32: threads walking a program now. */
  active: 192,
  /** uint32 each: threads that may compute at once, polls before sleeping (idle; in a step; in a step when oversubscribed; idle while a processor is left over). */
  budget: 256,
  idleSpins: 260,
  stepSpins: 264,
  crowdedSpins: 268,
  roomySpins: 272,
  /** Address of the walker's code; not zero once the pool is ready. */
  code: 320,
  /** uint32: the id of the thread that changes the pool, 0 when none. */
  owner: 328,
  /** uint32: threads started. */
  threads: 332,
  /** Scratch bytes every thread has. */
  scratchBytes: 336,
  /** Time-stamp counter and monotonic nanoseconds when the pool was made. */
  startTicks: 344,
  startNs: 352,
  /** uint32: nice value of the threads; 0 leaves them as they are. */
  nice: 360,
  /** Bit mask of the processors the process may use, AFFINITY_BYTES long. */
  allowed: 384,
  /** How the system schedules the threads: see `describeComputing`. */
  scheduling: 512,
  threadTable: 4096,
} as const;

/** Length of a bit mask of processors. */
export const AFFINITY_BYTES = 128;

export const THREAD = {
  bytes: 4 * LINE_BYTES,
  pool: 0,
  scratch: 8,
  /** A larger scratch area, taken by the thread before its next run. */
  pendingScratch: 16,
  /** uint32 */
  id: 24,
  /** uint32: 1 while the thread keeps to its own processor. */
  placed: 28,
  /** Bit mask of its own processor. */
  own: 128,
} as const;
export const MAX_THREADS = 512;

/** Where one JavaScript thread hears of finished runs. */
export const CHANNEL = {
  bytes: LINE_BYTES,
  /** Finished runs, newest first. */
  finished: 0,
  /** Writing end of the pipe that wakes the thread; 0 before its first run. Any byte will do. */
  fd: 8,
  /** Runs submitted and not yet listed. */
  inFlight: 24,
  /** uint32: the id of the JavaScript thread that owns the channel, 0 when nobody ever did. */
  owner: 32,
  /** Scratch area of that thread, for runs it takes part in. */
  scratch: 40,
  /** uint32: a run has said that it ends soon; the thread clears it. */
  endsSoon: 48,
} as const;
export const MAX_CHANNELS = 1024;

export const CHANNEL_TABLE = POOL.threadTable + MAX_THREADS * THREAD.bytes;
export const POOL_BYTES = CHANNEL_TABLE + MAX_CHANNELS * CHANNEL.bytes;

/** Scratch areas begin with their mapped size; the part kernels see follows at the next line. */
export const SCRATCH_HEADER_BYTES = LINE_BYTES;
