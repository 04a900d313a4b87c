/**
 * Engines with reference steps run in a worker thread, so that JavaScript operators never hold the caller's event loop.
 * The worker maps the same engine file (the pages are shared) and runs synchronously; inputs are copied to it, results
 * are transferred back.
 */
import { Worker } from "node:worker_threads";
import { SinterError, Tensor, type TensorData, type DType, ERRORS, type ErrorCode, UserError } from "../base/index.ts";
import type { HostValue } from "../reference/index.ts";
import type { Feeds, Results } from "./execution.ts";

/** A host value that survives the structured clone. */
export type PlainValue = { readonly type: DType; readonly dims: readonly number[]; readonly data: TensorData } | { readonly sequence: readonly (PlainValue | null)[] };

export type Request =
  | { readonly kind: "run"; readonly id: number; readonly context: number; readonly feeds: Readonly<Record<string, PlainValue | null>> }
  | { readonly kind: "dispose"; readonly context: number };

export type Reply =
  | { readonly id: number; readonly results: Readonly<Record<string, PlainValue | null>> }
  | { readonly id: number; readonly error: { readonly code: string | undefined; readonly message: string; readonly stack: string | undefined } };

export function toPlain(value: HostValue): PlainValue | null {
  if (value === undefined) return null;
  if (value instanceof Tensor) return { type: value.type, dims: value.dims, data: value.data };
  return { sequence: value.sequence.map(toPlain) };
}

export function fromPlain(value: PlainValue | null): HostValue {
  if (value === null) return undefined;
  if ("sequence" in value) return { sequence: value.sequence.map(fromPlain) };
  return new Tensor(value.type, value.data, value.dims);
}

export interface WorkerSetup {
  readonly path: string;
  readonly threads: number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export class ReferenceWorker {
  private readonly setup: WorkerSetup;
  private readonly pending = new Map<number, { resolve(results: Results): void; reject(error: Error): void }>();
  private worker: Worker | undefined;
  private nextId = 0;
  private nextContext = 0;
  private drained: (() => void) | undefined;

  constructor(path: string, threads: number, env: Readonly<Record<string, string | undefined>> | undefined) {
    this.setup = { path, threads, env: { SINTER_CPU: env?.["SINTER_CPU"], SINTER_GPU: env?.["SINTER_GPU"] } };
  }

  createContext(): number {
    return this.nextContext++;
  }

  disposeContext(context: number): void {
    this.post({ kind: "dispose", context }, false);
  }

  async run(context: number, feeds: Feeds, outputs: Readonly<Record<string, Tensor>>): Promise<Results> {
    const id = this.nextId++;
    const plain = Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, toPlain(value)]));
    const results = await new Promise<Results>((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.post({ kind: "run", id, context, feeds: plain }, true);
    });
    return intoGiven(results, outputs);
  }

  /** Ends the worker once its runs have ended. */
  async dispose(): Promise<void> {
    if (this.pending.size > 0) await new Promise<void>((resolve) => { this.drained = resolve; });
    await this.worker?.terminate();
    this.worker = undefined;
  }

  private post(request: Request, start: boolean): void {
    if (!this.worker && !start) return;
    this.worker ??= this.start();
    if (request.kind === "run") this.worker.ref();
    this.worker.postMessage(request);
  }

  private start(): Worker {
    // Flags of the process, such as --input-type, are about its own program.
    const worker = new Worker(new URL("./reference-worker-main.js", import.meta.url), { workerData: this.setup, execArgv: [] });
    worker.on("message", (reply: Reply) => this.settle(reply));
    worker.on("error", (error) => this.fail(error));
    worker.unref();
    return worker;
  }

  private settle(reply: Reply): void {
    const waiting = this.pending.get(reply.id);
    this.pending.delete(reply.id);
    if ("results" in reply) waiting?.resolve(Object.fromEntries(Object.entries(reply.results).map(([name, value]) => [name, fromPlain(value)])));
    else waiting?.reject(toError(reply.error));
    this.rest();
  }

  /** The worker died: its runs fail, and the next run starts a new one. */
  private fail(error: Error): void {
    this.worker = undefined;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    this.rest();
  }

  private rest(): void {
    if (this.pending.size > 0) return;
    this.worker?.unref();
    this.drained?.();
  }
}

function toError(error: { readonly code: string | undefined; readonly message: string; readonly stack: string | undefined }): Error {
  if (error.code !== undefined && error.code in ERRORS) {
    const known = error.code as ErrorCode;
    return ERRORS[known].exit === 2 ? new UserError(known, error.message) : new SinterError(known, error.message);
  }
  const bug = new Error(error.message);
  if (error.stack) bug.stack = error.stack;
  return bug;
}

function intoGiven(results: Results, outputs: Readonly<Record<string, Tensor>>): Results {
  for (const [name, given] of Object.entries(outputs)) {
    const made = results[name];
    if (!(made instanceof Tensor) || made.type !== given.type || made.dims.join() !== given.dims.join()) {
      throw new UserError("input-invalid", `Output "${name}": the tensor given is ${given.type}[${given.dims}]; this run makes ${made instanceof Tensor ? `${made.type}[${made.dims}]` : "no tensor"}.`);
    }
    given.bytes.set(made.bytes);
    results[name] = given;
  }
  return results;
}
