/**
 * How many threads may compute at once: the processors this process may run on, cut to its container's quota.
 * The smallest limit of the control groups from the process's own up to the root counts.
 *
 * Sources: sched_getaffinity(2); Linux Documentation/admin-guide/cgroup-v2.rst ("cpu.max") and
 * scheduler/sched-bwc.rst ("cpu.cfs_quota_us").
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { libc } from "./koffi.ts";
import { NativeMemory } from "./memory.ts";

const schedGetaffinity = libc("int sched_getaffinity(int pid, size_t size, int64_t mask)");

/** Room for 8192 processors, the most Linux on x86-64 can have. */
const AFFINITY_BYTES = 1024;

/** Numbers of the processors that this process may use. */
export function allowedCpus(): readonly number[] {
  using mask = NativeMemory.allocate(AFFINITY_BYTES);
  const filled = Number(schedGetaffinity(process.pid, AFFINITY_BYTES, mask.address));
  if (filled !== 0) return [0];
  const cpus: number[] = [];
  mask.view().forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) cpus.push(index * 8 + bit);
  });
  return cpus;
}

export type ReadText = (path: string) => string | undefined;

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Processors' worth of time the control group grants, or infinity. */
export function cgroupQuota(read: ReadText = readText): number {
  let quota = Number.POSITIVE_INFINITY;
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    if (controllers === "") quota = Math.min(quota, smallest("/sys/fs/cgroup", path, (folder) => quotaV2(read, folder)));
    else if (controllers.split(",").includes("cpu")) {
      const root = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") === undefined ? `/sys/fs/cgroup/${controllers}` : "/sys/fs/cgroup/cpu";
      quota = Math.min(quota, smallest(root, path, (folder) => quotaV1(read, folder)));
    }
  }
  return quota;
}

/** The least of `limit` over the group's folder and its parents. Inside a container the path may not exist; the root does. */
function smallest(root: string, path: string, limit: (folder: string) => number): number {
  let least = limit(root);
  for (let folder = path; folder !== "/" && folder !== "." && folder !== ""; folder = dirname(folder)) {
    least = Math.min(least, limit(join(root, folder)));
  }
  return least;
}

function quotaV2(read: ReadText, folder: string): number {
  const [limit, period] = (read(join(folder, "cpu.max")) ?? "max 100000").trim().split(" ");
  return limit === "max" ? Number.POSITIVE_INFINITY : Number(limit) / Number(period ?? 100_000);
}

function quotaV1(read: ReadText, folder: string): number {
  const quota = Number(read(join(folder, "cpu.cfs_quota_us")) ?? -1);
  const period = Number(read(join(folder, "cpu.cfs_period_us")) ?? 100_000);
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY;
}

/** Threads that can compute at once without waiting for each other; at least 1. */
export function availableThreads(): number {
  return Math.max(1, Math.min(allowedCpus().length, Math.ceil(cgroupQuota())));
}
