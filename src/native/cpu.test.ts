import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { UnsupportedError, UserError } from "../base/index.ts";
import { allowedCpus, availableThreads, cgroupQuota, type CpuFeature, detectCpu, requireCpu } from "./index.ts";

const FLAGS: Readonly<Partial<Record<CpuFeature, string>>> = {
  avx2: "avx2", fma: "fma", f16c: "f16c", bmi2: "bmi2", avx512f: "avx512f", avx512bw: "avx512bw", avx512dq: "avx512dq", avx512vl: "avx512vl",
  avx512vnni: "avx512_vnni", avx512bf16: "avx512_bf16", avx512vbmi: "avx512vbmi", avxvnni: "avx_vnni", amxtile: "amx_tile", avx512fp16: "avx512_fp16",
};

test("the processor agrees with the kernel's own reading", () => {
  const info = readFileSync("/proc/cpuinfo", "utf8");
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(info)?.[1];
  const flags = new Set(field("flags")!.split(" "));
  const cpu = detectCpu();
  assert.equal(cpu.vendor, field("vendor_id"));
  assert.ok(cpu.brand.length > 0, "the brand that CPUID gives; a kernel may show another");
  assert.equal(cpu.family, Number(field("cpu family")));
  assert.equal(cpu.model, Number(field("model")));
  for (const [feature, flag] of Object.entries(FLAGS)) assert.equal(cpu.features.has(feature as CpuFeature), flags.has(flag), feature);
});

test("SINTER_CPU takes features away and changes the id", () => {
  const full = detectCpu();
  const limited = detectCpu({ SINTER_CPU: "avx2" });
  assert.ok([...limited.features].every((feature) => !feature.startsWith("avx512")));
  assert.ok(limited.features.has("avx2"));
  assert.notEqual(limited.id, detectCpu({ SINTER_CPU: "baseline" }).id);
  assert.equal(full.id, detectCpu({}).id);
  requireCpu(limited);
  assert.throws(() => requireCpu(detectCpu({ SINTER_CPU: "baseline" })), UnsupportedError);
  assert.throws(() => detectCpu({ SINTER_CPU: "fast" }), UserError);
});

test("caches have plausible sizes", () => {
  const { l1d, l2 } = detectCpu().cacheBytes;
  assert.ok(l1d >= 16 * 1024 && l1d <= 1024 * 1024, `${l1d}`);
  assert.ok(l2 >= 128 * 1024, `${l2}`);
});

test("allowed processors agree with the kernel's own list", () => {
  const [, list] = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))!;
  const cpus = list!.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last! - first! + 1 }, (_, index) => first! + index);
  });
  assert.deepEqual(allowedCpus(), cpus);
  assert.ok(availableThreads() >= 1 && availableThreads() <= Math.max(availableParallelism(), cpus.length));
});

test("quotas of both kinds of control group are found, the smallest of the path", () => {
  const quota = (files: Record<string, string>) => cgroupQuota((path) => files[path]);
  assert.equal(quota({}), Number.POSITIVE_INFINITY);
  assert.equal(quota({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n" }), 1.5);
  assert.equal(
    quota({ "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "200000 100000", "/sys/fs/cgroup/a/b/cpu.max": "max 100000" }),
    2,
  );
  assert.equal(
    quota({
      "/proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n0::/\n",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
      "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
      "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1",
    }),
    3,
  );
});
