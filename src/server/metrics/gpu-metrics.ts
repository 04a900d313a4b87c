/**
 * Triton's metrics of the machine's GPUs, read when they are asked for. What a GPU does not tell is not there.
 * Source of the names: triton-inference-server/core, src/metrics.cc.
 */
import type { GpuReading, Nvml } from "../../native/index.ts";
import type { MetricsRegistry } from "./registry.ts";

/** What is read of NVML. */
export type GpuReadings = Pick<Nvml, "devices" | "read">;

const GAUGES: readonly (readonly [name: string, help: string, value: (reading: GpuReading) => number | undefined])[] = [
  ["nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)", ({ utilization }) => utilization],
  ["nv_gpu_memory_total_bytes", "GPU total memory, in bytes", ({ memoryTotalBytes }) => memoryTotalBytes],
  ["nv_gpu_memory_used_bytes", "GPU used memory, in bytes", ({ memoryUsedBytes }) => memoryUsedBytes],
  ["nv_gpu_power_usage", "GPU power usage in watts", ({ powerWatts }) => powerWatts],
  ["nv_gpu_power_limit", "GPU power management limit in watts", ({ powerLimitWatts }) => powerLimitWatts],
];

export function watchGpus(registry: MetricsRegistry, gpus: GpuReadings): void {
  const gauges = GAUGES.map(([name, help, value]) => ({ family: registry.gauge(name, help, ["gpu_uuid"]), value }));
  const energy = registry.counter("nv_energy_consumption", "GPU energy consumption in joules since the server started", ["gpu_uuid"]);
  const first = new Map(gpus.devices.map(({ index }) => [index, gpus.read(index).energyJoules ?? 0]));
  registry.onCollect(() => {
    for (const { index, uuid } of gpus.devices) {
      const reading = gpus.read(index);
      for (const { family, value } of gauges) {
        const now = value(reading);
        if (now === undefined) family.remove({ gpu_uuid: uuid });
        else family.labels({ gpu_uuid: uuid }).set(now);
      }
      if (reading.energyJoules !== undefined) energy.labels({ gpu_uuid: uuid }).value = reading.energyJoules - first.get(index)!;
    }
  });
}
