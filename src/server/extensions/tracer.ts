/**
 * Traces of requests, as Triton writes them: which model, when each step of its way began and ended, and at level TENSORS what went
 * in and came out. Sampled as the trace settings say; kept in memory, apart for each model with settings of its own, and
 * written in files of `log_frequency` traces, `FILE.0`, `FILE.1`, …; without a frequency in `FILE` when the server ends.
 * Sources: Triton's extension_trace and "Triton Server Trace".
 */
import { appendFileSync, writeFileSync } from "node:fs";
import type { Logger } from "pino";
import type { RequestTrace, ResponseOutput } from "../contract.ts";
import { writeTensor } from "../http/tensor-json.ts";
import type { TraceLevel, TraceSettings } from "./trace-settings.ts";

/** Traces in memory before they are written, where no frequency says when. */
const MOST_KEPT = 1000;
/** Elements of a tensor that are written; the rest is left out. */
const MOST_ELEMENTS = 100_000;

export class Trace implements RequestTrace {
  readonly tensors: boolean;
  readonly #id: number;
  readonly #parent: Trace | undefined;
  readonly #model: string;
  readonly #levels: readonly TraceLevel[];
  readonly #lines: string[] = [];
  readonly #steps: Trace[] = [];
  readonly #nextId: () => number;
  #head = "";

  constructor(model: string, levels: readonly TraceLevel[], nextId: () => number, parent?: Trace) {
    this.#id = nextId();
    this.#model = model;
    this.#levels = levels;
    this.#nextId = nextId;
    this.#parent = parent;
    this.tensors = levels.includes("TENSORS");
  }

  at(name: string, ns: number = performance.now() * 1e6): void {
    if (this.#levels.includes("TIMESTAMPS")) this.#lines.push(`{"id":${this.#id},"timestamps":[{"name":"${name}","ns":${Math.round(ns)}}]}`);
  }

  tensor(activity: string, { name, datatype, shape, bytes }: ResponseOutput): void {
    if (!this.tensors) return;
    const count = shape.reduce((product, size) => product * size, 1);
    const text = count > MOST_ELEMENTS || datatype === "FP16" || datatype === "BF16" ? "" : writeTensor(name, datatype, bytes);
    this.#lines.push(`{"id":${this.#id},"activity":"${activity}","tensor":{"name":${JSON.stringify(name)},"data":${JSON.stringify(text)},"shape":"${shape.join(",")}","dtype":"${datatype}"}}`);
  }

  step(model: string): Trace {
    const step = new Trace(model, this.#levels, this.#nextId, this);
    this.#steps.push(step);
    return step;
  }

  name(version: string, requestId: string): void {
    const parent = this.#parent ? `,"parent_id":${this.#parent.#id}` : "";
    this.#head = `{"id":${this.#id},"model_name":${JSON.stringify(this.#model)},"model_version":${version || 0}${requestId === "" ? "" : `,"request_id":${JSON.stringify(requestId)}`}${parent}}`;
  }

  /** All lines, those of the steps behind its own. */
  text(): string {
    return [...(this.#head === "" ? [] : [this.#head]), ...this.#lines, ...this.#steps.map((step) => step.text())].filter((line) => line !== "").join(",");
  }
}

export class Tracer {
  readonly #settings: TraceSettings;
  readonly #log: Logger | undefined;
  readonly #nextId: () => number;
  /** By whose settings they follow. */
  readonly #kept = new Map<string, string[]>();
  #files = 0;
  /** Whether the one file that is closed at the end has been begun. */
  #begun = false;

  constructor(settings: TraceSettings, log?: Logger) {
    let id = 0;
    this.#settings = settings;
    this.#log = log;
    this.#nextId = () => ++id;
  }

  /** A trace of this request, if the settings ask for it. It is kept by `end`. */
  begin(model: string): Trace | undefined {
    if (!this.#settings.sample(model)) return undefined;
    return new Trace(model, this.#settings.get(model).levels, this.#nextId);
  }

  end(trace: Trace, model: string): void {
    const text = trace.text();
    const { file, logFrequency, count } = this.#settings.get(model);
    if (file === "" || text === "") return;
    const owner = this.#settings.owner(model);
    const kept = this.#kept.get(owner) ?? [];
    this.#kept.set(owner, kept);
    kept.push(text);
    if (logFrequency > 0 ? kept.length >= Math.min(logFrequency, MOST_KEPT) : count === 0) this.#writeNext(file, kept);
    else if (logFrequency === 0 && kept.length >= MOST_KEPT) this.#append(file, kept);
  }

  close(): void {
    const { file } = this.#settings.get("");
    if (file === "") return;
    for (const [owner, kept] of this.#kept) {
      if (kept.length === 0) continue;
      if (this.#settings.get(owner).logFrequency > 0) this.#writeNext(file, kept);
      else this.#append(file, kept);
    }
    if (this.#begun) this.#write(() => appendFileSync(file, "]"));
    this.#begun = false;
  }

  #writeNext(file: string, kept: string[]): void {
    const text = kept.splice(0).join(",");
    this.#write(() => writeFileSync(`${file}.${this.#files++}`, `[${text}]`));
  }

  #append(file: string, kept: string[]): void {
    const text = kept.splice(0).join(",");
    this.#write(() => (this.#begun ? appendFileSync(file, `,${text}`) : writeFileSync(file, `[${text}`)));
    this.#begun = true;
  }

  /** A disk that is full ends no request. */
  #write(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log?.error({ err: error }, "traces could not be written");
    }
  }
}
