/**
 * Large JSON, read and written by a worker thread, so that the event loop never stands still for it. Requests are read where
 * they lie in native memory; tensors come back by transfer.
 */
import { Worker } from "node:worker_threads";
import { type Datatype, ServingError, type StatusCode } from "../contract.ts";
import type { InferHeader } from "./infer-json.ts";

/** JSON of more bytes than this is the worker's. */
export const MAIN_THREAD_JSON_BYTES = 256 * 1024;

export interface TensorToWrite {
  readonly name: string;
  readonly datatype: Datatype;
  readonly bytes: Uint8Array;
}

export type JsonTask =
  | { readonly kind: "read"; readonly address: number; readonly start: number; readonly end: number }
  | { readonly kind: "write"; readonly tensor: TensorToWrite };

export type JsonResult = { readonly header: InferHeader } | { readonly text: Uint8Array } | { readonly status: StatusCode; readonly message: string };

export interface JsonWorkerMessage<T> {
  readonly id: number;
  readonly body: T;
}

interface Pending {
  resolve(result: JsonResult): void;
  reject(error: Error): void;
}

export class JsonWorker {
  #worker: Worker | undefined;
  readonly #pending = new Map<number, Pending>();
  #next = 0;

  /** @param address of the body; its memory must stay until the promise has settled. @throws INVALID_ARG as `readInferHeader` */
  async read(address: number, start: number, end: number): Promise<InferHeader> {
    const result = await this.#run({ kind: "read", address, start, end }, []);
    if ("header" in result) return result.header;
    throw new ServingError("INTERNAL", "the JSON worker answered something else");
  }

  /** The tensor's elements as JSON text. */
  async write(tensor: TensorToWrite): Promise<Uint8Array> {
    const bytes = new Uint8Array(tensor.bytes);
    const result = await this.#run({ kind: "write", tensor: { name: tensor.name, datatype: tensor.datatype, bytes } }, [bytes.buffer]);
    if ("text" in result) return result.text;
    throw new ServingError("INTERNAL", "the JSON worker answered something else");
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #run(body: JsonTask, transfer: readonly ArrayBuffer[]): Promise<JsonResult> {
    this.#worker ??= this.#start();
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#pending.set(id, { resolve, reject });
      this.#worker!.postMessage({ id, body } satisfies JsonWorkerMessage<JsonTask>, transfer);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL("./json-worker-main.js", import.meta.url), { name: "sinter-json" });
    worker.unref();
    worker.on("message", ({ id, body }: JsonWorkerMessage<JsonResult>) => {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if ("status" in body) pending?.reject(new ServingError(body.status, body.message));
      else pending?.resolve(body);
    });
    const stopped = (error?: Error): void => {
      if (this.#worker === worker) this.#worker = undefined;
      for (const pending of this.#pending.values()) pending.reject(error ?? new ServingError("UNAVAILABLE", "the server is stopping"));
      this.#pending.clear();
    };
    worker.on("error", stopped);
    worker.on("exit", () => stopped());
    return worker;
  }
}
