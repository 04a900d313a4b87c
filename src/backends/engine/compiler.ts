/**
 * Compiling at load, in child processes at low priority: urgent work (a model that waits to serve) before tuning, a bounded
 * number at a time. The server itself compiles nothing.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import { ERRORS, type ErrorCode, SinterError, UserError } from "../../base/index.ts";
import type { CompileAnswer, CompileRequest } from "../../repository/index.ts";

/** Nice values: behind the server's own threads, and tuning behind everything. */
const NICE = { urgent: 5, tuning: 15 } as const;
/** What a child may print; its answer is far shorter. */
const MAX_OUTPUT_BYTES = 1 << 20;

type Urgency = keyof typeof NICE;

interface Waiting {
  readonly urgency: Urgency;
  start(): void;
}

export class Compiler {
  readonly #limit: number;
  readonly #waiting: Waiting[] = [];
  readonly #running = new Set<ChildProcess>();
  #closed = false;
  #active = 0;

  /** @param limit children at a time; tuning takes at most one place of them */
  constructor(limit = 2) {
    this.#limit = limit;
  }

  /**
   * @throws the child's UserError; SinterError "backend-failed" when it ended otherwise; UserError "aborted"
   */
  async compile(request: CompileRequest, urgency: Urgency, signal?: AbortSignal): Promise<CompileAnswer> {
    await this.#turn(urgency, signal);
    this.#active++;
    try {
      return await this.#run(request, urgency, signal);
    } finally {
      this.#active--;
      this.#next();
    }
  }

  /** Ends the children; what they were making is not left half-made. */
  close(): void {
    this.#closed = true;
    for (const child of this.#running) child.kill("SIGKILL");
    for (const waiting of this.#waiting.splice(0)) waiting.start();
  }

  async #turn(urgency: Urgency, signal: AbortSignal | undefined): Promise<void> {
    if (this.#active >= this.#limit || (urgency === "tuning" && this.#active > 0)) {
      await new Promise<void>((resolve) => this.#waiting.push({ urgency, start: resolve }));
    }
    if (this.#closed || signal?.aborted) {
      this.#next();
      throw new UserError("aborted", "The compilation was cancelled.");
    }
  }

  #next(): void {
    const index = this.#waiting.findIndex(({ urgency }) => urgency === "urgent");
    const [next] = this.#waiting.splice(Math.max(0, index), 1);
    next?.start();
  }

  async #run(request: CompileRequest, urgency: Urgency, signal: AbortSignal | undefined): Promise<CompileAnswer> {
    const child = spawn(process.execPath, [fileURLToPath(new URL("../../compile-child.js", import.meta.url))], { stdio: ["pipe", "pipe", "pipe"] });
    this.#running.add(child);
    const abort = (): void => void child.kill("SIGKILL");
    signal?.addEventListener("abort", abort, { once: true });
    try {
      lowerPriority(child, NICE[urgency]);
      const { status, output, errors } = await collect(child, JSON.stringify(request));
      if (signal?.aborted || this.#closed) throw new UserError("aborted", "The compilation was cancelled.");
      return parseAnswer(output, () => `The process that compiles ${request.model} ended with ${status}${errors ? `: ${errors.trim().slice(-500)}` : ""}.`);
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#running.delete(child);
    }
  }
}

function lowerPriority(child: ChildProcess, nice: number): void {
  try {
    if (child.pid !== undefined) setPriority(child.pid, nice);
  } catch {
    // It has ended already, or the system does not allow it; it compiles at normal priority then.
  }
}

interface Ended {
  readonly status: number | string;
  readonly output: string;
  readonly errors: string;
}

function collect(child: ChildProcess, input: string): Promise<Ended> {
  let [output, errors] = ["", ""];
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    if (output.length > MAX_OUTPUT_BYTES) child.kill("SIGKILL");
  });
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    errors = (errors + text).slice(-2000);
  });
  child.stdin!.on("error", () => undefined);
  child.stdin!.end(input);
  return new Promise((resolve) => {
    child.on("error", (error) => resolve({ status: error.message, output, errors }));
    child.on("close", (code, signal) => resolve({ status: code ?? signal ?? "nothing", output, errors }));
  });
}

function parseAnswer(output: string, describeFailure: () => string): CompileAnswer {
  let answer: CompileAnswer | { readonly error: { readonly code: string; readonly message: string } };
  try {
    answer = JSON.parse(output) as typeof answer;
  } catch (cause) {
    throw new SinterError("backend-failed", describeFailure(), { cause });
  }
  if (!("error" in answer)) return answer;
  const code: ErrorCode = answer.error.code in ERRORS ? (answer.error.code as ErrorCode) : "backend-failed";
  throw new UserError(code, answer.error.message);
}
