import assert from "node:assert/strict";
import { test } from "node:test";
import { watchGpus } from "./gpu-metrics.ts";
import { MetricsRegistry } from "./registry.ts";

test("GPUs by their identity, energy since the start, and nothing of what one does not tell", () => {
  const registry = new MetricsRegistry();
  let joules = 1000;
  watchGpus(registry, {
    devices: [{ index: 0, uuid: "GPU-a", name: "one" }, { index: 1, uuid: "GPU-b", name: "two" }],
    read: (index) => ({ utilization: 0.75, memoryTotalBytes: 2 ** 36, memoryUsedBytes: 2 ** 30 * (index + 1), powerWatts: index === 0 ? 312.5 : undefined, powerLimitWatts: 700, energyJoules: index === 0 ? joules : undefined }),
  });
  joules += 62.5;
  const text = registry.render();
  for (const line of [
    'nv_gpu_utilization{gpu_uuid="GPU-a"} 0.75', 'nv_gpu_memory_total_bytes{gpu_uuid="GPU-b"} 68719476736', 'nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 2147483648',
    'nv_gpu_power_usage{gpu_uuid="GPU-a"} 312.5', 'nv_gpu_power_limit{gpu_uuid="GPU-a"} 700', 'nv_energy_consumption{gpu_uuid="GPU-a"} 62.5', "# TYPE nv_energy_consumption counter",
  ]) assert.ok(text.includes(`${line}\n`), line);
  assert.doesNotMatch(text, /(nv_gpu_power_usage|nv_energy_consumption)\{gpu_uuid="GPU-b"\}/);
});
