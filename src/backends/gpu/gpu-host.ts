/**
 * Keeps one process alive for a GPU, as long as engines live there. One that ends is followed by another at once; if that ends soon,
 * too, by the next after a rest that doubles. During a rest runs are refused, or go to what stands in for the engine.
 */
import type { Logger } from "pino";
import { SinterError } from "../../base/index.ts";
import { Nvml } from "../../native/index.ts";
import { GpuProcess } from "./gpu-process.ts";
import { SHARED_BYTES } from "./protocol.ts";
import { SharedMemory } from "./shared-memory.ts";

/** A process that lived so long owes nothing to those before it. */
const HEALTHY_MS = 10_000;
const FIRST_REST_MS = 1000;
const LONGEST_REST_MS = 60_000;

/** What lives in the process. */
export interface Tenant {
  /** There is a new process, which knows nothing yet. */
  started(): void;
  /** There will be none for a while. */
  resting(): void;
}

export interface GpuHostOptions {
  readonly module: URL;
  /** Number of the GPU, as the driver counts. */
  readonly ordinal: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
}

export class GpuHost {
  readonly name: string;
  readonly #options: GpuHostOptions;
  readonly #tenants = new Set<Tenant>();
  #memory: SharedMemory | undefined;
  #process: GpuProcess | undefined;
  #rest: { readonly timer: NodeJS.Timeout; readonly untilMs: number } | undefined;
  /** Processes that ended one soon after the other. */
  #deaths = 0;

  constructor(options: GpuHostOptions) {
    this.#options = options;
    this.name = `GPU ${options.ordinal}`;
  }

  get memory(): SharedMemory {
    return (this.#memory ??= new SharedMemory(SHARED_BYTES));
  }

  get log(): Logger {
    return this.#options.log;
  }

  /** Whether that process is the one that serves. */
  has(process: GpuProcess): boolean {
    return this.#process === process;
  }

  enter(tenant: Tenant): void {
    this.#tenants.add(tenant);
  }

  /** The last one out ends the process. */
  leave(tenant: Tenant): void {
    this.#tenants.delete(tenant);
    if (this.#tenants.size > 0) return;
    clearTimeout(this.#rest?.timer);
    this.#rest = undefined;
    this.#deaths = 0;
    this.#process?.stop();
    this.#process = undefined;
    this.#memory?.close();
    this.#memory = undefined;
  }

  /** The process, started if there is none. @throws SinterError "gpu-fault" while it rests */
  process(): GpuProcess {
    if (this.#rest) throw new SinterError("gpu-fault", `${this.name}: its process ended ${this.#deaths} times in a short while; another is started in ${Math.ceil((this.#rest.untilMs - performance.now()) / 1000)} s.`);
    return (this.#process ??= this.#start());
  }

  #start(): GpuProcess {
    const { module, ordinal, env } = this.#options;
    const made: GpuProcess = new GpuProcess({ module, name: this.name, env: { ...env, SINTER_GPU: String(ordinal) }, sharedFd: this.memory.fd, onEnd: (reason) => this.#ended(made, reason) });
    return made;
  }

  #ended(which: GpuProcess, reason: SinterError): void {
    if (which !== this.#process) return;
    this.#process = undefined;
    const lived = performance.now() - which.startedMs;
    this.#deaths = lived > HEALTHY_MS ? 1 : this.#deaths + 1;
    const restMs = this.#deaths === 1 ? 0 : Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** (this.#deaths - 2));
    this.#options.log.error({ gpu: this.#options.ordinal, reason: reason.message, lived_ms: Math.round(lived), restart_in_ms: restMs }, "the GPU's process has ended; another takes its place");
    if (restMs === 0) {
      this.#again();
      return;
    }
    this.#rest = { untilMs: performance.now() + restMs, timer: setTimeout(() => this.#again(), restMs).unref() };
    for (const tenant of this.#tenants) tenant.resting();
  }

  #again(): void {
    this.#rest = undefined;
    if (this.#tenants.size === 0) return;
    this.process();
    for (const tenant of this.#tenants) tenant.started();
  }
}

/** One host per GPU. */
export class GpuHosts {
  readonly #options: Omit<GpuHostOptions, "ordinal">;
  readonly #hosts = new Map<number, GpuHost>();
  #identity: string | undefined;

  /** @param options `module`: what the processes run; ours by default */
  constructor({ module = new URL("./process-main.js", import.meta.url), ...options }: Omit<GpuHostOptions, "ordinal" | "module"> & { readonly module?: URL | undefined }) {
    this.#options = { module, ...options };
  }

  /** The GPU that SINTER_GPU numbers, or the first. */
  get first(): number {
    return Number(this.#options.env["SINTER_GPU"] ?? 0);
  }

  /** What this machine's GPUs are: engines that were compiled for others are not looked for. */
  get identity(): string {
    this.#identity ??= JSON.stringify(((nvml) => nvml && [nvml.driverVersion, nvml.devices])(Nvml.open()) ?? "unknown");
    return this.#identity;
  }

  of(ordinal = this.first): GpuHost {
    let host = this.#hosts.get(ordinal);
    if (!host) this.#hosts.set(ordinal, (host = new GpuHost({ ...this.#options, ordinal })));
    return host;
  }
}
