/**
 * Where requests of one model meet its instances: the batcher's batches are gathered, executed and scattered here. The
 * model behind a lane can be replaced by a better one while it serves; each instance changes when it is free.
 *
 * A batch that fails because of what is in it is run again request by request, so that one client's mistake is one
 * client's error.
 */
import { UserError } from "../../base/index.ts";
import type { BackendInstance, BackendModel, BatchResults } from "../../backends/index.ts";
import { type InferenceResponse, ServingError } from "../contract.ts";
import { Batcher, type BatchingPolicy, type Clock, type DropReason, type QueuePolicy, RequestQueue } from "../scheduler/index.ts";
import { toServingError } from "./failure.ts";
import { type Gathered, gather, type PadValues } from "./gather.ts";
import type { Pending } from "./pending.ts";
import { scatter, type ScatterContext } from "./scatter.ts";
import type { BatchTimes } from "./statistics.ts";

export type FailureReason = "REJECTED" | "CANCELED" | "BACKEND" | "OTHER";

/** Told of everything that happens, for statistics and metrics. */
export interface LaneObserver {
  executed(batch: readonly Pending[], gathered: Gathered, times: BatchTimes): void;
  succeeded(item: Pending, times: BatchTimes, nowNs: number): void;
  failed(item: Pending, reason: FailureReason, nowNs: number): void;
}

export interface LaneOptions {
  readonly context: ScatterContext;
  readonly policy: BatchingPolicy;
  readonly queue: { readonly priorityLevels: number; readonly defaultPriorityLevel: number; policy(level: number): QueuePolicy; readonly maxRequests: number; readonly maxBytes: number };
  readonly instances: number;
  /** Whether the instances share the model's threads, so that a batch may have one share or all. */
  readonly spread?: boolean;
  readonly startAt?: number;
  readonly pads: PadValues;
  readonly clock: Clock;
  readonly observer: LaneObserver;
}

/**
 * A batch longer than that ran on other threads: the next is begun before its replies are made. After a shorter one the first
 * request of a turn does not wait for others: its answer leaves in the turn that brought it.
 */
const OVERLAP_NS = 100_000;

interface Slot {
  instance: BackendInstance;
  model: BackendModel;
  busy: boolean;
}

export class Lane {
  readonly #options: LaneOptions;
  readonly #batcher: Batcher<Pending>;
  readonly #slots: Slot[];
  #model: BackendModel;
  /** What to do with a slot's instance when its batch has ended. */
  readonly #whenFree = new Map<Slot, () => void>();
  #closing: (() => void) | undefined;

  private constructor(model: BackendModel, instances: readonly BackendInstance[], options: LaneOptions) {
    this.#options = options;
    this.#model = model;
    this.#slots = instances.map((instance) => ({ instance, model, busy: false }));
    const queue = new RequestQueue<Pending>(options.queue, (item, reason) => this.#dropped(item, reason));
    this.#batcher = new Batcher({ queue, policy: options.policy, clock: options.clock, slots: instances.length, spread: options.spread ?? false, startAt: options.startAt ?? 0, dispatch: (batch, slot, whole) => void this.#run(batch, slot, whole) });
  }

  static async open(model: BackendModel, options: LaneOptions): Promise<Lane> {
    return new Lane(model, await createInstances(model, options.instances), options);
  }

  get model(): BackendModel {
    return this.#model;
  }

  get policy(): BatchingPolicy {
    return this.#options.policy;
  }

  get instances(): readonly BackendInstance[] {
    return this.#slots.map(({ instance }) => instance);
  }

  labels(output: string): readonly string[] | undefined {
    return this.#options.context.labels(output);
  }

  get waiting(): number {
    return this.#batcher.size;
  }

  get waitingBytes(): number {
    return this.#batcher.bytes;
  }

  hasRoom(priority: number, bytes: number): boolean {
    return this.#batcher.hasRoom(priority, bytes);
  }

  submit(item: Pending): void {
    if (this.#batcher.submit(item)) return;
    this.#fail(item, new ServingError("UNAVAILABLE", `[request id: ${item.request.id || "<id_unknown>"}] Exceeds maximum queue size`), "REJECTED");
  }

  /** Puts another model of the same signature in place of the one that serves; that one goes when its batches have ended. */
  async replace(model: BackendModel): Promise<void> {
    const instances = await createInstances(model, this.#slots.length);
    const old = this.#model;
    this.#model = model;
    await Promise.all(this.#slots.map((slot, index) => new Promise<void>((resolve) => {
      const change = (): void => {
        slot.instance.dispose();
        slot.instance = instances[index]!;
        slot.model = model;
        resolve();
      };
      if (slot.busy) this.#whenFree.set(slot, change);
      else change();
    })));
    old.dispose();
  }

  /** What waits for others to share its batch goes now, and so does what still comes. */
  flush(): void {
    this.#batcher.flush();
  }

  /** Waits for all that was accepted, then frees the model. */
  async close(): Promise<void> {
    this.flush();
    if (this.#batcher.size > 0 || this.#slots.some(({ busy }) => busy)) await new Promise<void>((resolve) => { this.#closing = resolve; });
    for (const { instance } of this.#slots) instance.dispose();
    this.#model.dispose();
  }

  async #run(batch: readonly Pending[], index: number, whole: boolean): Promise<void> {
    const slot = this.#slots[index]!;
    const shares = this.#options.spread && !whole ? this.#slots.length : 1;
    slot.busy = true;
    let freed = false;
    const free = (): void => {
      if (freed) return;
      freed = true;
      this.#free(slot, index);
    };
    try {
      await this.#execute(batch, slot.instance, shares, free);
    } catch (error) {
      if (batch.length > 1 && error instanceof UserError) await this.#oneByOne(batch, slot.instance, shares);
      else this.#failAll(batch, error);
    }
    free();
  }

  async #oneByOne(batch: readonly Pending[], instance: BackendInstance, shares: number): Promise<void> {
    for (const item of batch) {
      try {
        await this.#execute([item], instance, shares, () => undefined);
      } catch (error) {
        this.#failAll([item], error);
      }
    }
  }

  /** @param free lets the instance have its next batch; called early when that saves time */
  async #execute(batch: readonly Pending[], instance: BackendInstance, shares: number, free: () => void): Promise<void> {
    const { clock, context, pads } = this.#options;
    const startNs = clock.nowNs();
    for (const item of batch) item.startedNs = startNs;
    const gathered = gather(instance, batch, context.signature.allInputs, context.signature.inputCount, pads);
    const inputEndNs = clock.nowNs();
    const results = await instance.execute(gathered.inputs, shares);
    const inferEndNs = clock.nowNs();
    this.#batcher.observe(gathered.rows, shares === 1, inferEndNs - startNs);
    const isLong = inferEndNs - inputEndNs > OVERLAP_NS;
    this.#batcher.setEager(!isLong);
    if (isLong) free();
    this.#answer(batch, gathered, results, { inputNs: inputEndNs - startNs, inferNs: inferEndNs - inputEndNs });
  }

  #answer(batch: readonly Pending[], gathered: Gathered, results: BatchResults, phases: Omit<BatchTimes, "outputNs">): void {
    const { clock, context, observer } = this.#options;
    const beganNs = clock.nowNs();
    let responses: readonly InferenceResponse[];
    try {
      responses = scatter(results, batch, context);
    } catch (error) {
      results.release();
      this.#failAll(batch, error);
      return;
    }
    const nowNs = clock.nowNs();
    const times = { ...phases, outputNs: nowNs - beganNs };
    observer.executed(batch, gathered, times);
    for (const [i, item] of batch.entries()) {
      observer.succeeded(item, times, nowNs);
      item.resolve(responses[i]!);
    }
  }

  #free(slot: Slot, index: number): void {
    slot.busy = false;
    const change = this.#whenFree.get(slot);
    this.#whenFree.delete(slot);
    change?.();
    this.#batcher.release(index);
    this.#checkClosing();
  }

  #checkClosing(): void {
    if (this.#closing && this.#batcher.size === 0 && !this.#slots.some(({ busy }) => busy)) this.#closing();
  }

  #dropped(item: Pending, reason: DropReason): void {
    if (reason === "cancelled") this.#fail(item, new ServingError("CANCELLED", "the request was cancelled before it was executed"), "CANCELED");
    else this.#fail(item, new ServingError("UNAVAILABLE", `[request id: ${item.request.id || "<id_unknown>"}] Request timeout expired`), "REJECTED");
    queueMicrotask(() => this.#checkClosing());
  }

  #failAll(batch: readonly Pending[], error: unknown): void {
    for (const item of batch) this.#fail(item, toServingError(error), "BACKEND");
  }

  #fail(item: Pending, error: ServingError, reason: FailureReason): void {
    this.#options.observer.failed(item, reason, this.#options.clock.nowNs());
    item.reject(error);
  }
}

async function createInstances(model: BackendModel, count: number): Promise<BackendInstance[]> {
  const instances: BackendInstance[] = [];
  try {
    while (instances.length < count) instances.push(await model.createInstance());
  } catch (error) {
    for (const instance of instances) instance.dispose();
    throw error;
  }
  return instances;
}
