/**
 * Traces of requests, as Triton writes them: which model, and when each step of its way began and ended. Sampled as the
 * trace settings say; kept in memory and written in files of `log_frequency` traces, `FILE.0`, `FILE.1`, …, or in `FILE`
 * when the server ends.
 * Sources: Triton's extension_trace and "Triton Server Trace".
 */
import { appendFileSync, writeFileSync } from "node:fs";
import type { Logger } from "pino";
import type { RequestTrace } from "../contract.ts";
import type { TraceSettings } from "./trace-settings.ts";

/** Traces in memory before they are written, where no frequency says when. */
const MOST_KEPT = 1000;

export class Trace implements RequestTrace {
  readonly #id: number;
  readonly #model: string;
  readonly #marks: string[] = [];
  readonly #finish: (text: string) => void;
  #head = "";

  constructor(id: number, model: string, finish: (text: string) => void) {
    this.#id = id;
    this.#model = model;
    this.#finish = finish;
  }

  at(name: string, ns: number = performance.now() * 1e6): void {
    this.#marks.push(`{"id":${this.#id},"timestamps":[{"name":"${name}","ns":${Math.round(ns)}}]}`);
  }

  /** Who it was. Without that it was refused before a model had it. */
  name(version: string, requestId: string): void {
    this.#head = `{"id":${this.#id},"model_name":${JSON.stringify(this.#model)},"model_version":${version || 0}${requestId === "" ? "" : `,"request_id":${JSON.stringify(requestId)}`}}`;
  }

  end(): void {
    this.#finish([...(this.#head === "" ? [] : [this.#head]), ...this.#marks].join(","));
  }
}

export class Tracer {
  readonly #settings: TraceSettings;
  readonly #log: Logger | undefined;
  #next = 1;
  #files = 0;
  #kept: string[] = [];
  /** Whether the one file that is closed at the end has been begun. */
  #begun = false;

  constructor(settings: TraceSettings, log?: Logger) {
    this.#settings = settings;
    this.#log = log;
  }

  /** A trace of this request, if the settings ask for it. */
  begin(model: string): Trace | undefined {
    if (!this.#settings.sample(model)) return undefined;
    return new Trace(this.#next++, model, (text) => this.#keep(text, model));
  }

  close(): void {
    const { file } = this.#settings.get("");
    if (file === "" || (this.#kept.length === 0 && !this.#begun)) return;
    this.#append(file);
    this.#write(() => appendFileSync(file, "]"));
    this.#begun = false;
  }

  #keep(text: string, model: string): void {
    const { file, logFrequency, count } = this.#settings.get(model);
    if (file === "") return;
    this.#kept.push(text);
    if (logFrequency > 0 ? this.#kept.length >= Math.min(logFrequency, MOST_KEPT) : count === 0) {
      const kept = this.#kept.splice(0);
      this.#write(() => writeFileSync(`${file}.${this.#files++}`, `[${kept.join(",")}]`));
    } else if (logFrequency === 0 && this.#kept.length >= MOST_KEPT) this.#append(file);
  }

  #append(file: string): void {
    const kept = this.#kept.splice(0);
    const { length } = kept;
    this.#write(() => (this.#begun ? appendFileSync(file, length > 0 ? `,${kept.join(",")}` : "") : writeFileSync(file, `[${kept.join(",")}`)));
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
