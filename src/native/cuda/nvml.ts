/**
 * What the driver tells of its GPUs to whoever asks, without using one: names, utilisation, memory, power, energy. Through NVML,
 * which comes with the driver; a process that asks it does not take the GPU. What a GPU does not tell is absent.
 * Source: NVML API reference, 580: sections 4.11 (initialisation), 4.15 (system queries), 4.16 (device queries).
 */
import type { NativeFunction } from "../koffi.ts";
import { NativeMemory } from "../memory.ts";
import { SharedLibrary, textAt } from "../shared-library.ts";

const FUNCTIONS = {
  nvmlInit_v2: "",
  nvmlSystemGetDriverVersion: "int64_t version, unsigned int length",
  nvmlDeviceGetCount_v2: "int64_t count",
  nvmlDeviceGetHandleByIndex_v2: "unsigned int index, int64_t device",
  nvmlDeviceGetUUID: "int64_t device, int64_t uuid, unsigned int length",
  nvmlDeviceGetName: "int64_t device, int64_t name, unsigned int length",
  nvmlDeviceGetUtilizationRates: "int64_t device, int64_t rates",
  nvmlDeviceGetMemoryInfo: "int64_t device, int64_t memory",
  nvmlDeviceGetPowerUsage: "int64_t device, int64_t milliwatts",
  nvmlDeviceGetPowerManagementLimit: "int64_t device, int64_t milliwatts",
  nvmlDeviceGetTotalEnergyConsumption: "int64_t device, int64_t millijoules",
} as const;

type NvmlFunction = keyof typeof FUNCTIONS;

const TEXT_BYTES = 96;

/** One GPU's identity; the number is NVML's, which counts all of the machine. */
export interface NvmlDevice {
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
}

/** At this moment. */
export interface GpuReading {
  /** Share of the last sample period in which a kernel ran, 0 to 1. */
  readonly utilization: number | undefined;
  readonly memoryTotalBytes: number | undefined;
  readonly memoryUsedBytes: number | undefined;
  readonly powerWatts: number | undefined;
  readonly powerLimitWatts: number | undefined;
  /** Since the driver was loaded. */
  readonly energyJoules: number | undefined;
}

export class Nvml {
  readonly driverVersion: string;
  readonly devices: readonly NvmlDevice[];
  readonly #library: SharedLibrary;
  readonly #bound = new Map<NvmlFunction, NativeFunction | undefined>();
  readonly #out = NativeMemory.allocate(TEXT_BYTES);
  readonly #view = new DataView(this.#out.view().buffer);
  readonly #handles: readonly number[];

  private constructor(library: SharedLibrary) {
    this.#library = library;
    const text = (name: NvmlFunction, ...before: readonly number[]): string => (this.#ask(name, ...before, this.#address, TEXT_BYTES) ? textAt(this.#address) : "");
    this.driverVersion = text("nvmlSystemGetDriverVersion");
    const count = this.#ask("nvmlDeviceGetCount_v2", this.#address) ? this.#view.getUint32(0, true) : 0;
    const handles = Array.from({ length: count }, (_, index) => (this.#ask("nvmlDeviceGetHandleByIndex_v2", index, this.#address) ? this.#uint64(0) : 0));
    this.#handles = handles;
    this.devices = handles.map((handle, index) => ({ index, uuid: handle ? text("nvmlDeviceGetUUID", handle) : "", name: handle ? text("nvmlDeviceGetName", handle) : "" }));
  }

  /** @returns undefined where there is no NVML, or it does not start */
  static open(): Nvml | undefined {
    const library = SharedLibrary.open(["libnvidia-ml.so.1"]);
    const start = library?.find("int nvmlInit_v2(void)");
    return library && start && Number(start()) === 0 ? new Nvml(library) : undefined;
  }

  read(index: number): GpuReading {
    const handle = this.#handles[index] ?? 0;
    const asked = <T>(name: NvmlFunction, result: () => T): T | undefined => (handle !== 0 && this.#ask(name, handle, this.#address) ? result() : undefined);
    const memory = asked("nvmlDeviceGetMemoryInfo", () => ({ total: this.#uint64(0), used: this.#uint64(16) }));
    return {
      utilization: asked("nvmlDeviceGetUtilizationRates", () => this.#view.getUint32(0, true) / 100),
      memoryTotalBytes: memory?.total, memoryUsedBytes: memory?.used,
      powerWatts: asked("nvmlDeviceGetPowerUsage", () => this.#view.getUint32(0, true) / 1000),
      powerLimitWatts: asked("nvmlDeviceGetPowerManagementLimit", () => this.#view.getUint32(0, true) / 1000),
      energyJoules: asked("nvmlDeviceGetTotalEnergyConsumption", () => this.#uint64(0) / 1000),
    };
  }

  get #address(): number {
    return Number(this.#out.address);
  }

  #uint64(offset: number): number {
    return Number(this.#view.getBigUint64(offset, true));
  }

  /** Whether the driver has answered. */
  #ask(name: NvmlFunction, ...args: readonly number[]): boolean {
    if (!this.#bound.has(name)) this.#bound.set(name, this.#library.find(`int ${name}(${FUNCTIONS[name] || "void"})`));
    const bound = this.#bound.get(name);
    return bound !== undefined && Number(bound(...args)) === 0;
  }
}
