/**
 * A context of an engine in a GPU's process. Inputs are staged, and outputs lie, in the memory that both map, and from which the GPU
 * copies: a run is one line there and one back. How large outputs are is learnt once for each shape.
 */
import { assert, SinterError } from "../../base/index.ts";
import { stayAwake } from "../../native/index.ts";
import type { BackendInstance, BackendModel, BatchResults, BatchTensor } from "../contract.ts";
import type { ServedInstance } from "../engine/engine-model.ts";
import type { GpuProcess } from "./gpu-process.ts";
import type { HostedEngine } from "./hosted-engine.ts";
import type { FromProcess, PlacedInput } from "./protocol.ts";
import type { Block } from "./shared-memory.ts";

type Sizes = Extract<FromProcess, { kind: "made" }>["outputs"];

/** Shapes whose outputs are remembered. */
const MAX_SHAPES = 1024;
/** How much longer than the last one a run may take for the event loop to stay awake for it. */
const LATE_MS = 0.3;
/** The GPU may still write for a moment after its process was given up. */
const SETTLE_MS = 1000;

export class HostedInstance implements ServedInstance {
  readonly #engine: HostedEngine;
  readonly #context: number;
  readonly #disposed: () => void;
  readonly #memory;
  readonly #staged = new Map<number, Block>();
  readonly #sizes = new Map<string, Sizes>();
  #standIn: { readonly model: BackendModel; readonly instance: Promise<BackendInstance> } | undefined;
  /** In the process, at the last run. */
  #contextBytes = 0;
  #running: Promise<unknown> = Promise.resolve();
  #lastMs = Number.POSITIVE_INFINITY;

  constructor(engine: HostedEngine, context: number, disposed: () => void) {
    this.#engine = engine;
    this.#context = context;
    this.#disposed = disposed;
    this.#memory = engine.host.memory;
  }

  get memoryBytes(): number {
    return this.#contextBytes + [...this.#staged.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    let block = this.#staged.get(input);
    if (!block || block.sizeBytes < sizeBytes) {
      if (block) this.#memory.give(block);
      this.#staged.set(input, (block = this.#memory.take(sizeBytes)));
    }
    return block.bytes.subarray(0, sizeBytes);
  }

  binds(bytes: Uint8Array): boolean {
    return (this.#memory.offsetOf(bytes) ?? 1) % 8 === 0;
  }

  execute(inputs: readonly (BatchTensor | undefined)[]): Promise<BatchResults> {
    const { standIn } = this.#engine;
    const run = standIn ? this.#runOn(standIn, inputs) : this.#run(inputs);
    this.#running = run.catch(() => undefined);
    return run;
  }

  dispose(): void {
    void this.#running.then(async () => {
      for (const block of this.#staged.values()) this.#memory.give(block);
      this.#staged.clear();
      (await this.#standIn?.instance.catch(() => undefined))?.dispose();
      this.#engine.drop(this.#context);
      this.#disposed();
    });
  }

  async #runOn(model: BackendModel, inputs: readonly (BatchTensor | undefined)[]): Promise<BatchResults> {
    if (this.#standIn?.model !== model) this.#standIn = { model, instance: model.createInstance() };
    return (await this.#standIn.instance).execute(inputs);
  }

  async #run(inputs: readonly (BatchTensor | undefined)[]): Promise<BatchResults> {
    const { number, inputs: known } = this.#engine;
    const process = await this.#engine.ready();
    const placed = known.map((_, i) => (inputs[i] ? this.#place(process, i, inputs[i]) : null));
    const key = placed.map((input) => input?.shape.join("x")).join();
    const outputs = new Outputs(this.#memory, process);
    try {
      let sizes = this.#sizes.get(key);
      const before = performance.now();
      stayAwake(this.#lastMs + LATE_MS);
      let answer = await process.ask({ kind: "run", engine: number, context: this.#context, inputs: placed, ...(sizes ? { outputs: outputs.take(sizes) } : {}) });
      if (answer.kind === "made") {
        sizes = this.#learn(key, answer.outputs);
        answer = await process.ask({ kind: "fetch", engine: number, context: this.#context, outputs: outputs.take(sizes) });
      }
      assert(answer.kind === "done" && sizes, `an answer of kind ${answer.kind} to a run`);
      this.#contextBytes = answer.memoryBytes;
      this.#lastMs = performance.now() - before;
      return { outputs: outputs.views(sizes), release: () => outputs.give() };
    } catch (error) {
      if (error instanceof SinterError && error.code === "gpu-fault") setTimeout(() => outputs.give(), SETTLE_MS).unref();
      else outputs.give();
      throw error;
    }
  }

  #learn(key: string, sizes: Sizes): Sizes {
    if (this.#sizes.size >= MAX_SHAPES) this.#sizes.clear();
    this.#sizes.set(key, sizes);
    return sizes;
  }

  #place(process: GpuProcess, index: number, { bytes, shape }: BatchTensor): PlacedInput {
    let offset = this.#memory.offsetOf(bytes);
    if (offset === undefined) {
      this.stage(index, bytes.byteLength).set(bytes);
      offset = this.#staged.get(index)!.offset;
    }
    const block = this.#staged.get(index);
    if (block?.offset === offset) process.pin(block);
    return { offset, sizeBytes: bytes.byteLength, shape };
  }
}

/** Memory for the outputs of one run. */
class Outputs {
  readonly #memory;
  readonly #process: GpuProcess;
  #blocks: Block[] = [];

  constructor(memory: HostedEngine["host"]["memory"], process: GpuProcess) {
    this.#memory = memory;
    this.#process = process;
  }

  /** In place of what was taken before. */
  take(sizes: Sizes): { readonly offset: number; readonly sizeBytes: number }[] {
    this.give();
    return sizes.map(({ sizeBytes }) => {
      const block = this.#memory.take(sizeBytes);
      this.#blocks.push(block);
      this.#process.pin(block);
      return { offset: block.offset, sizeBytes };
    });
  }

  views(sizes: Sizes): BatchTensor[] {
    return sizes.map(({ shape, sizeBytes }, i) => ({ bytes: this.#blocks[i]!.bytes.subarray(0, sizeBytes), shape }));
  }

  give(): void {
    for (const block of this.#blocks.splice(0)) this.#memory.give(block);
  }
}
