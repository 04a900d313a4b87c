/**
 * An engine that lives in a GPU's process, in the shape of one that lives here. It is loaded again where a process takes another's
 * place. While there is none, another model stands in for it if it has one.
 */
import { assert, SinterError } from "../../base/index.ts";
import type { BackendModel } from "../contract.ts";
import type { ServedEngine } from "../engine/engine-model.ts";
import type { GpuHost, Tenant } from "./gpu-host.ts";
import type { GpuProcess } from "./gpu-process.ts";
import { HostedInstance } from "./hosted-instance.ts";
import type { EngineFacts } from "./protocol.ts";

/** Reasons to think that a process cannot use the GPU at all. */
const HOPELESS: ReadonlySet<string> = new Set(["no-gpu", "gpu-error"]);

let engines = 0;

export interface HostedEngineOptions {
  readonly host: GpuHost;
  readonly path: string;
  readonly threads: number;
  /** Makes what stands in for it while no process has the GPU. */
  readonly standIn?: (() => Promise<BackendModel>) | undefined;
}

interface Loading {
  readonly process: GpuProcess;
  readonly done: Promise<void>;
  isDone: boolean;
}

export class HostedEngine implements ServedEngine, Tenant {
  readonly inputs: ServedEngine["inputs"];
  readonly outputs: ServedEngine["outputs"];
  readonly threads: number;
  readonly hasReferenceSteps: boolean;
  readonly metadata: ServedEngine["metadata"];
  readonly host: GpuHost;
  /** Under which the process knows it. */
  readonly number: number;
  readonly #options: HostedEngineOptions;
  /** Where it was loaded last. */
  #loading: Loading | undefined;
  #standIn: BackendModel | undefined;
  #standInAsked = false;
  #contexts = 0;
  #disposed = false;

  private constructor(options: HostedEngineOptions, number: number, process: GpuProcess, facts: EngineFacts) {
    this.#options = options;
    this.host = options.host;
    this.number = number;
    this.threads = options.threads;
    this.inputs = facts.inputs;
    this.outputs = facts.outputs;
    this.hasReferenceSteps = facts.hasReferenceSteps;
    this.metadata = facts;
    this.#loading = { process, done: Promise.resolve(), isDone: true };
    this.host.enter(this);
  }

  /** @throws what the process says of the engine or of the GPU */
  static async load(options: HostedEngineOptions): Promise<HostedEngine> {
    const { host, path } = options;
    const visitor: Tenant = { started: () => undefined, resting: () => undefined };
    host.enter(visitor);
    try {
      const process = host.process();
      const number = ++engines;
      const answer = await process.ask({ kind: "load", engine: number, path });
      assert(answer.kind === "loaded", `an answer of kind ${answer.kind} to a load`);
      return new HostedEngine(options, number, process, answer.facts);
    } finally {
      host.leave(visitor);
    }
  }

  /** The process, with the engine loaded. @throws SinterError "gpu-fault" when there is none, or why it cannot load the engine */
  async ready(): Promise<GpuProcess> {
    const process = this.host.process();
    if (this.#loading?.process !== process) this.#loading = this.#loadIn(process);
    await this.#loading.done;
    return process;
  }

  /** What runs in its place now, if the engine is not there and something is. */
  get standIn(): BackendModel | undefined {
    if (!this.#standIn || (this.#loading?.isDone && this.host.has(this.#loading.process))) return undefined;
    return this.#standIn;
  }

  started(): void {
    this.ready().catch((error: Error) => this.host.log.error({ engine: this.#options.path, reason: error.message }, "the engine was not loaded again; the next request tries once more"));
  }

  resting(): void {
    if (this.#standInAsked || !this.#options.standIn) return;
    this.#standInAsked = true;
    this.#options.standIn().then((model) => {
      if (this.#disposed) model.dispose();
      else this.#standIn = model;
      this.host.log.warn({ engine: this.#options.path, on: model.summary }, "the processor stands in for the GPU until it is back");
    }, (error: Error) => {
      this.#standInAsked = false;
      this.host.log.warn({ engine: this.#options.path, reason: error.message }, "nothing can stand in for the GPU");
    });
  }

  createInstance(disposed: () => void): HostedInstance {
    return new HostedInstance(this, this.#contexts++, disposed);
  }

  /** Of an instance that has gone. */
  drop(context: number): void {
    this.#loading?.process.tell({ kind: "drop", engine: this.number, context });
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#loading?.process.tell({ kind: "unload", engine: this.number });
    this.#standIn?.dispose();
    this.host.leave(this);
  }

  #loadIn(process: GpuProcess): Loading {
    const done = process.ask({ kind: "load", engine: this.number, path: this.#options.path }).then(() => { loading.isDone = true; }, (error: SinterError) => {
      if (this.#loading === loading) this.#loading = undefined;
      if (HOPELESS.has(error.code)) process.giveUp(new SinterError("gpu-fault", error.message));
      throw error;
    });
    const loading: Loading = { process, isDone: false, done };
    return loading;
  }
}

/** Copies of one engine on several GPUs as one, whose instances they have in turns. */
export function inTurns(engines: readonly HostedEngine[]): ServedEngine {
  const [first] = engines;
  assert(first, "an engine on no GPU");
  if (engines.length === 1) return first;
  const { inputs, outputs, threads, hasReferenceSteps, metadata } = first;
  let next = 0;
  return {
    inputs, outputs, threads, hasReferenceSteps, metadata, devices: engines.length,
    createInstance: (disposed) => engines[next++ % engines.length]!.createInstance(disposed),
    dispose: () => { for (const engine of engines) engine.dispose(); },
  };
}
