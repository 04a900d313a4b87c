/**
 * A process that has a GPU, as the server sees it: questions and their answers, any number at a time. A fault of the GPU ends
 * it, as the driver gives a process that had one the GPU no more: all that wait are told at once, and the process is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { SinterError } from "../../base/index.ts";
import { Lines } from "../lines.ts";
import { errorOf, type FromProcess, type Place, type ToProcess } from "./protocol.ts";

type Answer = Exclude<FromProcess, { kind: "failed" }>;
type Asked = Extract<ToProcess, { id: number }>;
/** A question without its number. */
export type Question = Asked extends infer Q ? (Q extends Asked ? Omit<Q, "id"> : never) : never;

/** A run longer than that holds the GPU for good. */
const MOST_RUN_MS = 120_000;
const LOOK_MS = 5_000;

interface Waiting {
  readonly kind: Question["kind"];
  readonly sinceMs: number;
  resolve(answer: Answer): void;
  reject(error: SinterError): void;
}

export interface GpuProcessOptions {
  /** The module it runs. */
  readonly module: URL;
  /** For people: which GPU. */
  readonly name: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly sharedFd: number;
  /** Called once, when it has ended or is of no more use, not for `stop`. */
  readonly onEnd: (reason: SinterError) => void;
}

export class GpuProcess {
  readonly startedMs = performance.now();
  readonly #options: GpuProcessOptions;
  readonly #child: ChildProcess;
  readonly #socket: Duplex;
  readonly #waiting = new Map<number, Waiting>();
  readonly #pinned = new Set<number>();
  readonly #look: NodeJS.Timeout;
  #nextId = 1;
  #hasEnded = false;

  constructor(options: GpuProcessOptions) {
    this.#options = options;
    const child = spawn(process.execPath, [options.module.pathname], { stdio: ["ignore", "ignore", "inherit", "pipe", options.sharedFd], env: { ...options.env } });
    this.#child = child;
    child.once("error", (error) => this.#endedBy(error.message));
    child.once("exit", (code, signal) => this.#endedBy(signal ?? `status ${code}`));
    const lines = new Lines((line) => this.#hear(JSON.parse(line) as FromProcess));
    this.#socket = child.stdio[3] as Duplex;
    this.#socket.setEncoding("utf8").on("data", (text: string) => lines.push(text)).on("error", () => undefined);
    this.#look = setInterval(() => this.#checkOverdue(), LOOK_MS).unref();
  }

  /** @throws the process's error; SinterError "gpu-fault" when it ends before it has answered */
  ask(question: Question): Promise<Answer> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) {
        reject(new SinterError("gpu-fault", `${this.#options.name}: the process that runs it has ended.`));
        return;
      }
      this.#waiting.set(id, { kind: question.kind, sinceMs: performance.now(), resolve, reject });
      this.#post({ ...question, id } as Asked);
    });
  }

  /** What has no answer. */
  tell(message: Exclude<ToProcess, { id: number }>): void {
    if (!this.#hasEnded) this.#post(message);
  }

  /** Has a block of the shared file pinned, unless it is. */
  pin({ offset, sizeBytes }: Place): void {
    if (this.#pinned.has(offset)) return;
    this.#pinned.add(offset);
    this.tell({ kind: "pin", place: { offset, sizeBytes } });
  }

  stop(): void {
    this.#end(undefined);
  }

  /** Says that it is of no more use. */
  giveUp(reason: SinterError): void {
    this.#end(reason);
  }

  #post(message: ToProcess): void {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  #hear(answer: FromProcess): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.kind !== "failed") {
      waiting?.resolve(answer);
      return;
    }
    const error = errorOf(answer.failure);
    waiting?.reject(error);
    if (error.code === "gpu-fault") this.#end(error);
  }

  #checkOverdue(): void {
    const now = performance.now();
    for (const { kind, sinceMs } of this.#waiting.values()) {
      if (kind === "run" && now - sinceMs > MOST_RUN_MS) this.#end(new SinterError("gpu-fault", `${this.#options.name}: a run did not end in ${MOST_RUN_MS / 1000} s; its process is given up.`));
    }
  }

  #endedBy(what: string): void {
    this.#end(new SinterError("gpu-fault", `${this.#options.name}: the process that runs it ended (${what}); this run has no result.`));
  }

  #end(reason: SinterError | undefined): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearInterval(this.#look);
    this.#child.kill("SIGKILL");
    const error = reason ?? new SinterError("disposed", `${this.#options.name}: its process was stopped.`);
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    if (reason) this.#options.onEnd(reason);
  }
}
