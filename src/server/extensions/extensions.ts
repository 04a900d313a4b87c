/** State that both front ends share: settings and regions are the server's, not a protocol's. */
import type { Logger } from "pino";
import { LogSettings, type LogSettingsOptions } from "./log-settings.ts";
import { SharedMemoryRegions } from "./shared-memory.ts";
import { Tracer } from "./tracer.ts";
import { type TraceSetting, TraceSettings } from "./trace-settings.ts";

export interface ExtensionOptions {
  readonly logger?: Logger;
  readonly log?: LogSettingsOptions;
  /** Whether clients may name shared memory; off by default. */
  readonly allowClientSharedMemory?: boolean;
  readonly trace?: Partial<TraceSetting>;
}

export class Extensions {
  readonly log: LogSettings;
  readonly trace: TraceSettings;
  readonly tracer: Tracer;
  readonly regions: SharedMemoryRegions;

  constructor(options: ExtensionOptions = {}) {
    this.log = new LogSettings(options.logger, options.log);
    this.trace = new TraceSettings(options.trace);
    this.tracer = new Tracer(this.trace, options.logger);
    this.regions = new SharedMemoryRegions(options.allowClientSharedMemory ?? false);
  }

  close(): void {
    this.tracer.close();
    this.regions.close();
  }
}
