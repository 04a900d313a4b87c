/**
 * The trace extension's settings: global ones, and per model what differs from them. A setting cleared for a model
 * follows the global one again; one cleared globally goes back to what the server started with.
 * Source: Triton's extension_trace.
 */
import { UserError } from "../../base/index.ts";
import { type InferenceServer, ServingError } from "../contract.ts";

export type TraceLevel = "OFF" | "TIMESTAMPS" | "TENSORS";

export interface TraceSetting {
  readonly levels: readonly TraceLevel[];
  /** One of that many requests is traced. */
  readonly rate: number;
  /** How many more; -1 for no limit. */
  readonly count: number;
  /** Traces per file; 0: one file at the end. */
  readonly logFrequency: number;
  readonly file: string;
}

/** As the protocols carry it: everything is text. */
export interface TraceSettingDocument {
  readonly trace_level: readonly string[];
  readonly trace_rate: string;
  readonly trace_count: string;
  readonly log_frequency: string;
  readonly trace_file: string;
  readonly trace_mode: string;
}

const DEFAULTS: TraceSetting = { levels: ["OFF"], rate: 1000, count: -1, logFrequency: 0, file: "" };
const KEYS = { trace_level: "levels", trace_rate: "rate", trace_count: "count", log_frequency: "logFrequency" } as const;
const MOST_INT32 = 2 ** 31 - 1;

export class TraceSettings {
  readonly #start: TraceSetting;
  #global: TraceSetting;
  readonly #models = new Map<string, Partial<TraceSetting>>();
  /** Requests since the last one that was traced, by the model whose settings they follow; "" for the global ones. */
  readonly #seen = new Map<string, number>();

  constructor(start: Partial<TraceSetting> = {}) {
    this.#start = { ...DEFAULTS, ...start };
    this.#global = this.#start;
  }

  /** Of one model, or the global ones for "". */
  get(model: string): TraceSetting {
    const own = this.#models.get(model);
    return own === undefined ? this.#global : { ...this.#global, ...own };
  }

  document(model: string): TraceSettingDocument {
    const { levels, rate, count, logFrequency, file } = this.get(model);
    return { trace_level: levels, trace_rate: String(rate), trace_count: String(count), log_frequency: String(logFrequency), trace_file: file, trace_mode: "triton" };
  }

  /**
   * Changes what is given: all of it or nothing. @param changes text, lists of text, or null to clear
   * @throws INVALID_ARG; UNSUPPORTED for the file
   */
  update(model: string, changes: ReadonlyMap<string, unknown>): void {
    const own: Record<string, unknown> = { ...(model === "" ? this.#global : this.#models.get(model)) };
    for (const [key, value] of changes) {
      if (key === "trace_file") throw new ServingError("UNSUPPORTED", "trace file location can not be updated through network protocol");
      if (!Object.hasOwn(KEYS, key)) throw new ServingError("INVALID_ARG", `unknown trace setting '${key}'`);
      const field = KEYS[key as keyof typeof KEYS];
      if (value !== null) own[field] = key === "trace_level" ? readLevels(value) : readNumber(key, value);
      else if (model === "") own[field] = this.#start[field];
      else delete own[field];
    }
    if (model === "") this.#global = own as unknown as TraceSetting;
    else this.#models.set(model, own);
  }

  /** Whose settings a model's requests follow: its own, or "" for the global ones. */
  owner(model: string): string {
    return this.#models.has(model) ? model : "";
  }

  /** Whether to trace a request for that model; counts it. */
  sample(model: string): boolean {
    const { levels, rate, count } = this.get(model);
    if (count === 0 || levels.includes("OFF")) return false;
    const own = this.owner(model);
    const seen = (this.#seen.get(own) ?? 0) + 1;
    this.#seen.set(own, seen % Math.max(1, rate));
    if (seen < rate) return false;
    if (count > 0) this.#spend(own);
    return true;
  }

  /** Forgets a model that is gone. */
  remove(model: string): void {
    this.#models.delete(model);
    this.#seen.delete(model);
  }

  /** One trace less to make, by the setting that says how many. */
  #spend(model: string): void {
    const own = this.#models.get(model);
    if (own?.count === undefined) this.#global = { ...this.#global, count: this.#global.count - 1 };
    else this.#models.set(model, { ...own, count: own.count - 1 });
  }
}

/** @throws INVALID_ARG, in the words of this extension, for a model that is not there */
export function requireModel(server: InferenceServer, model: string): void {
  if (model === "") return;
  try {
    server.modelReady(model, "");
  } catch (cause) {
    throw new ServingError("INVALID_ARG", `Request for unknown model : ${model}`, { cause });
  }
}

/** `readTraceOptions` of what the protocols' readers refuse in words of their own. */
function ofOption<T>(option: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new UserError("option-invalid", `Trace setting "${option}": ${(cause as Error).message}.`, { cause });
  }
}

/** `--trace-config`: "rate=1", "level=TIMESTAMPS", "triton,file=trace.json"; levels add up. @throws UserError "option-invalid" */
export function readTraceOptions(options: readonly string[]): Partial<TraceSetting> {
  const settings: { -readonly [K in keyof TraceSetting]?: TraceSetting[K] } = {};
  for (const option of options) {
    const [, key, value = ""] = /^(?:triton,)?([\w-]+)=(.+)$/.exec(option) ?? [];
    if (key === "level") settings.levels = ofOption(option, () => readLevels([...(settings.levels ?? []), value]));
    else if (key === "rate") settings.rate = ofOption(option, () => readNumber("trace_rate", value));
    else if (key === "count") settings.count = ofOption(option, () => readNumber("trace_count", value));
    else if (key === "log-frequency") settings.logFrequency = ofOption(option, () => readNumber("log_frequency", value));
    else if (key === "file") settings.file = value;
    else if (key !== "mode" || value !== "triton") throw new UserError("option-invalid", `Trace setting "${option}": expected level, rate, count, log-frequency, file or mode=triton, as in "rate=1".`);
  }
  return settings;
}

function readLevels(value: unknown): readonly TraceLevel[] {
  if (!Array.isArray(value)) throw new ServingError("INVALID_ARG", "Unable to parse 'trace_level': attempt to access JSON non-array as array");
  const levels = new Set<TraceLevel>();
  for (const level of value) {
    if (level !== "OFF" && level !== "TIMESTAMPS" && level !== "TENSORS") throw new ServingError("INVALID_ARG", `unknown trace level '${String(level)}'`);
    levels.add(level);
  }
  if (levels.has("OFF") && levels.size > 1) throw new ServingError("INVALID_ARG", "Expect only one trace level 'OFF' is specified");
  return levels.size === 0 ? ["OFF"] : [...levels];
}

function readNumber(key: string, value: unknown): number {
  const text = Array.isArray(value) && value.length === 1 ? value[0] : value;
  if (typeof text !== "string" && typeof text !== "number") throw new ServingError("INVALID_ARG", `Unable to parse '${key}': attempt to access JSON non-string as string`);
  const least = key === "trace_count" ? -1 : 0;
  if (!/^\s*[-+]?\d+/.test(String(text))) throw new ServingError("INVALID_ARG", `Unable to parse '${key}', got: ${text}`);
  const number = Number.parseInt(String(text), 10);
  if (number > MOST_INT32 || number < -MOST_INT32 - 1) throw new ServingError("INVALID_ARG", `Unable to parse '${key}', value is out of range [ ${least}, ${MOST_INT32} ], got: ${text}`);
  if (number < least) throw new ServingError("INVALID_ARG", `Unable to parse '${key}'. Expecting value >= ${least}, got:${text}`);
  return number;
}
