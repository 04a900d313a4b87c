/**
 * The logging extension: what the server logs, read and changed while it runs. The settings act on the logger itself.
 * Source: Triton's extension_logging.
 */
import type { Logger } from "pino";
import { ServingError } from "../contract.ts";

const FORMATS = ["default", "ISO8601"] as const;

/** How the time of a line is written: the logger asks at each line, the settings say. */
export class LogTime {
  format: (typeof FORMATS)[number] = "default";
  /** What a logger takes as `timestamp`. */
  readonly stamp = (): string => `,"time":${this.format === "ISO8601" ? JSON.stringify(new Date().toISOString()) : Date.now()}`;
}

export interface LogSettingsOptions {
  readonly time?: LogTime;
  /** Where the log goes, for who asks. */
  readonly file?: string;
  /** What differs at start. */
  readonly start?: ReadonlyMap<string, unknown>;
}

export interface LogSettingsValues {
  readonly log_file: string;
  readonly log_info: boolean;
  readonly log_warning: boolean;
  readonly log_error: boolean;
  readonly log_verbose_level: number;
  readonly log_format: string;
}

export class LogSettings {
  readonly #logger: Logger | undefined;
  readonly #time: LogTime | undefined;
  #values: LogSettingsValues;

  /** @throws ServingError for settings that are none */
  constructor(logger?: Logger, { time, file = "", start = new Map() }: LogSettingsOptions = {}) {
    this.#logger = logger;
    this.#time = time;
    const level = logger?.level ?? "info";
    this.#values = {
      log_file: file,
      log_info: ["trace", "debug", "info"].includes(level),
      log_warning: !["error", "fatal", "silent"].includes(level),
      log_error: !["fatal", "silent"].includes(level),
      log_verbose_level: level === "trace" ? 2 : level === "debug" ? 1 : 0,
      log_format: "default",
    };
    if (start.size > 0) this.update(start);
  }

  get values(): LogSettingsValues {
    return this.#values;
  }

  /** Changes what is given; null leaves a setting as it is. @throws INVALID_ARG, UNSUPPORTED for the file */
  update(changes: ReadonlyMap<string, unknown>): void {
    const next: Record<string, unknown> = { ...this.#values };
    for (const [key, value] of changes) {
      if (value === null) continue;
      if (key === "log_file") throw new ServingError("UNSUPPORTED", "log file location can not be updated through network protocol");
      if (!Object.hasOwn(next, key)) throw new ServingError("INVALID_ARG", `unknown log setting '${key}'`);
      next[key] = checked(key, value);
    }
    this.#values = next as unknown as LogSettingsValues;
    if (this.#logger) this.#logger.level = this.#level();
    if (this.#time) this.#time.format = this.#values.log_format === "ISO8601" ? "ISO8601" : "default";
  }

  /** Logs a failure that is ours, with what the client was not told. */
  error(cause: unknown, where: string): void {
    this.#logger?.error({ err: cause, where }, "a request failed");
  }

  /** The lowest kind of line that is asked for; the logger's levels are ordered, so that a gap above it is filled. */
  #level(): string {
    const { log_verbose_level: verbose, log_info, log_warning, log_error } = this.#values;
    if (verbose > 1) return "trace";
    if (verbose === 1) return "debug";
    if (log_info) return "info";
    if (log_warning) return "warn";
    return log_error ? "error" : "silent";
  }
}

function checked(key: string, value: unknown): unknown {
  if (key === "log_format") {
    if (FORMATS.some((format) => format === value)) return value;
    throw new ServingError("INVALID_ARG", `invalid argument for log_format, got: ${String(value)}; expected ${FORMATS.join(" or ")}`);
  }
  if (key === "log_verbose_level") {
    if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
    throw new ServingError("INVALID_ARG", `Unable to parse '${key}': attempt to access JSON non-unsigned-integer as unsigned-integer`);
  }
  if (typeof value === "boolean") return value;
  throw new ServingError("INVALID_ARG", `Unable to parse '${key}': attempt to access JSON non-boolean as boolean`);
}
