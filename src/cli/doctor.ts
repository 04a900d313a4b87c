/** `sinter doctor`: what this machine has and what Sinter will use of it. */
import { existsSync, readFileSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import { Command } from "commander";
import { UnsupportedError } from "../base/index.ts";
import { isaOf } from "../codegen/index.ts";
import { allowedCpus, availableThreads, cgroupQuota, detectCpu, type GpuReading, Nvml, type NvmlDevice, openCudaCompiler, openGpu } from "../native/index.ts";
import { VERSION } from "../version.ts";
import { cacheFolder } from "./open.ts";
import { bytes, list, printJson } from "./output.ts";
import { findOnnxruntime } from "./peer.ts";

interface Diagnosis {
  readonly sinter: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: { readonly brand: string; readonly id: string; readonly features: readonly string[]; readonly cacheBytes: { readonly l1d: number; readonly l2: number; readonly l3: number } };
  /** The instruction set of kernels built here; null where Sinter cannot run. */
  readonly isa: string | null;
  /** SINTER_CPU, when set. */
  readonly limit: string | null;
  readonly threads: { readonly used: number; readonly allowed: number; /** null: no limit. */ readonly quota: number | null };
  readonly memory: { readonly totalBytes: number; readonly freeBytes: number; /** null: no limit. */ readonly limitBytes: number | null };
  /** All that the driver shows; null where there is no NVIDIA driver. */
  readonly nvidia: { readonly driver: string; readonly gpus: readonly (NvmlDevice & GpuReading)[] } | null;
  /** The GPU that SINTER_GPU numbers and what compiles for it, or why there is none. */
  readonly gpu: string;
  readonly cudaCompiler: string;
  readonly onnxruntime: string | null;
  readonly cache: string;
}

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("Show what this machine has and what Sinter will use; exit status 4 when it cannot run here.")
    .option("--json", "print the result as JSON")
    .action(run);
}

function run(options: { readonly json?: boolean }): void {
  const diagnosis = diagnose();
  if (options.json) printJson(diagnosis);
  else print(diagnosis);
  if (diagnosis.isa === null) throw new UnsupportedError("unsupported-cpu", `Sinter needs a processor with AVX2, FMA, F16C and BMI2; ${diagnosis.cpu.brand}${diagnosis.limit === null ? "" : `, limited by SINTER_CPU=${diagnosis.limit},`} lacks some of them.`);
}

function diagnose(): Diagnosis {
  const cpu = detectCpu(process.env);
  const quota = cgroupQuota();
  return {
    sinter: VERSION, node: process.version, platform: `${process.platform} ${process.arch}`,
    cpu: { brand: cpu.brand, id: cpu.id, features: [...cpu.features], cacheBytes: cpu.cacheBytes },
    isa: isaOf(cpu.features)?.name ?? null, limit: process.env["SINTER_CPU"] ?? null,
    threads: { used: availableThreads(), allowed: allowedCpus().length, quota: Number.isFinite(quota) ? quota : null },
    memory: { totalBytes: totalmem(), freeBytes: freemem(), limitBytes: memoryLimit() },
    nvidia: nvidia(),
    gpu: said(() => { const { name, capability, driver } = openGpu().description; return `${name}, sm_${capability}, driver for CUDA ${driver}`; }), cudaCompiler: said(() => { const { identity, location } = openCudaCompiler(); return location === undefined ? identity : `${identity}, ${location}`; }),
    onnxruntime: onnxruntimeVersion(), cache: cacheFolder(),
  };
}

function nvidia(): Diagnosis["nvidia"] {
  const nvml = Nvml.open();
  return nvml ? { driver: nvml.driverVersion, gpus: nvml.devices.map((device) => ({ ...device, ...nvml.read(device.index) })) } : null;
}

function gpuText({ name, uuid, memoryTotalBytes, memoryUsedBytes, utilization, powerWatts }: NvmlDevice & GpuReading): string {
  const parts = [
    ...(memoryTotalBytes === undefined ? [] : [`${bytes(memoryUsedBytes ?? 0)} of ${bytes(memoryTotalBytes)} used`]),
    ...(utilization === undefined ? [] : [`${Math.round(100 * utilization)} % busy`]), ...(powerWatts === undefined ? [] : [`${Math.round(powerWatts)} W`]),
  ];
  return `${name} (${uuid})${parts.length > 0 ? `: ${parts.join(", ")}` : ""}`;
}

/** The control group's limit, as a container sees it. Source: Linux cgroup-v2.rst, memory.max. */
function memoryLimit(): number | null {
  for (const path of ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]) {
    if (!existsSync(path)) continue;
    const limit = Number(readFileSync(path, "utf8"));
    return limit > 0 && limit < totalmem() ? limit : null;
  }
  return null;
}

function said(what: () => string): string {
  try {
    return what();
  } catch (error) {
    return (error as Error).message;
  }
}

function onnxruntimeVersion(): string | null {
  try {
    return findOnnxruntime().version;
  } catch {
    return null;
  }
}

function print({ sinter, node, platform, cpu, isa, limit, threads, memory, nvidia, gpu, cudaCompiler, onnxruntime, cache }: Diagnosis): void {
  const { l1d, l2, l3 } = cpu.cacheBytes;
  console.log(list([
    ["sinter", sinter],
    ["node", `${node}, ${platform}`],
    ["processor", cpu.brand],
    ["features", cpu.features.join(" ") || "none that matter"],
    ["caches", `L1 ${bytes(l1d)}, L2 ${bytes(l2)}, L3 ${l3 === 0 ? "unknown" : bytes(l3)}`],
    ["kernels for", `${isa ?? "nothing: this processor is too old"}${limit === null ? "" : ` (SINTER_CPU=${limit})`}`],
    ["threads", `${threads.used}; ${threads.allowed} processors allowed, ${threads.quota === null ? "no quota" : `a quota of ${threads.quota}`}`],
    ["memory", `${bytes(memory.freeBytes)} free of ${bytes(memory.totalBytes)}${memory.limitBytes === null ? "" : `, limited to ${bytes(memory.limitBytes)}`}`],
    ...(nvidia === null ? [] : [["NVIDIA driver", nvidia.driver] as const, ...nvidia.gpus.map((found) => [`GPU ${found.index}`, gpuText(found)] as const)]),
    ["GPU for engines", gpu],
    ["CUDA compiler", cudaCompiler],
    ["onnxruntime-node", onnxruntime ?? "not found: comparing with it needs npm install onnxruntime-node"],
    ["engine cache", cache],
  ]));
}
