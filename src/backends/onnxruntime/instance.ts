/** One child process with one session, and the memory shared with it. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import { assert, ERRORS, type ErrorCode, SinterError, UserError } from "../../base/index.ts";
import { closeDescriptor, createMemoryFile, viewShared } from "../../native/index.ts";
import type { ModelDescription } from "../../repository/index.ts";
import type { BackendInstance, BatchResults, BatchTensor } from "../contract.ts";
import { Lines } from "../lines.ts";
import { aligned, type FromChild, type PlacedTensor, SHARED_BYTES, type ToChild } from "./protocol.ts";

interface Waiting {
  resolve(message: FromChild): void;
  reject(error: Error): void;
}

type Loaded = ModelDescription & { readonly version: string };

export class OnnxruntimeInstance implements BackendInstance {
  readonly #model: string;
  readonly #threads: number;
  readonly #fd: number;
  readonly #shared: Uint8Array;
  #child: ChildProcess | undefined;
  #loaded: Promise<Loaded> | undefined;
  #waiting: Waiting | undefined;
  /** Where the next staged input goes. */
  #end = 0;
  readonly #staged = new Map<number, { readonly offset: number; readonly bytes: Uint8Array }>();
  #running = false;
  #disposed = false;

  constructor(model: string, threads: number) {
    this.#model = model;
    this.#threads = threads;
    this.#fd = createMemoryFile("sinter-onnxruntime", SHARED_BYTES);
    this.#shared = viewShared(this.#fd, SHARED_BYTES);
  }

  /** Starts the child, when it does not run, and loads the model. @throws SinterError with onnxruntime's reason */
  start(): Promise<Loaded> {
    this.#loaded ??= this.#load().catch((error: unknown) => {
      this.#loaded = undefined;
      this.#child?.kill("SIGKILL");
      throw error;
    });
    return this.#loaded;
  }

  stage(input: number, sizeBytes: number): Uint8Array {
    const offset = this.#end;
    if (offset + sizeBytes > SHARED_BYTES) throw new SinterError("limit-exceeded", `The batch's inputs take more than ${SHARED_BYTES} bytes; make smaller batches.`);
    this.#end = aligned(offset + sizeBytes);
    const bytes = this.#shared.subarray(offset, offset + sizeBytes);
    this.#staged.set(input, { offset, bytes });
    return bytes;
  }

  binds(): boolean {
    return false;
  }

  async execute(inputs: readonly (BatchTensor | undefined)[]): Promise<BatchResults> {
    this.#running = true;
    try {
      const { inputs: known } = await this.start();
      const placed = known.flatMap((description, index) => {
        const input = inputs[index];
        return input ? [this.#place(index, input, description)] : [];
      });
      const answer = await this.#ask({ kind: "run", inputs: placed, outputsAt: this.#end });
      assert(answer.kind === "done", `an answer of kind ${answer.kind} to a run`);
      // Copied out: the shared pages are the next batch's.
      return { outputs: answer.outputs.map(({ offset, sizeBytes, shape }) => ({ bytes: this.#shared.slice(offset, offset + sizeBytes), shape })), release: () => undefined };
    } finally {
      this.#running = false;
      this.#end = 0;
      this.#staged.clear();
      if (this.#disposed) this.#free();
    }
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#running) this.#free();
  }

  #place(index: number, { bytes, shape }: BatchTensor, { name, dtype }: Loaded["inputs"][number]): PlacedTensor {
    let staged = this.#staged.get(index);
    if (staged?.bytes !== bytes) {
      this.stage(index, bytes.byteLength).set(bytes);
      staged = this.#staged.get(index)!;
    }
    return { name, dtype, shape, offset: staged.offset, sizeBytes: bytes.byteLength };
  }

  #free(): void {
    const child = this.#child;
    this.#child = undefined;
    child?.kill("SIGKILL");
    closeDescriptor(this.#fd);
  }

  async #load(): Promise<Loaded> {
    this.#spawn();
    const answer = await this.#ask({ kind: "load", model: this.#model, threads: this.#threads });
    assert(answer.kind === "loaded", `an answer of kind ${answer.kind} to a load`);
    return answer;
  }

  #spawn(): void {
    const child = spawn(process.execPath, [fileURLToPath(new URL("./child.js", import.meta.url))], { stdio: ["ignore", "ignore", "inherit", "pipe", this.#fd] });
    this.#child = child;
    const ended = (why: string): void => {
      if (this.#child === child) {
        this.#child = undefined;
        this.#loaded = undefined;
      }
      this.#settle()?.reject(new SinterError("backend-failed", `The process that runs onnxruntime for ${this.#model} ended (${why}); it is started again for the next request.`));
    };
    child.once("error", (error) => ended(error.message));
    child.once("exit", (code, signal) => ended(signal ?? `status ${code}`));
    const lines = new Lines((line) => this.#hear(JSON.parse(line) as FromChild));
    const socket = this.#socketOf(child);
    socket.setEncoding("utf8").on("data", (text: string) => lines.push(text)).on("error", () => undefined);
  }

  #socketOf(child: ChildProcess): Duplex {
    return child.stdio[3] as Duplex;
  }

  #ask(message: ToChild): Promise<FromChild> {
    return new Promise((resolve, reject) => {
      assert(!this.#waiting, "two questions to one process at a time");
      if (!this.#child) {
        reject(new SinterError("backend-failed", `The process that runs onnxruntime for ${this.#model} is not there.`));
        return;
      }
      this.#waiting = { resolve, reject };
      this.#socketOf(this.#child).write(`${JSON.stringify(message)}\n`);
    });
  }

  #hear(message: FromChild): void {
    const waiting = this.#settle();
    if (message.kind !== "failed") waiting?.resolve(message);
    else if (message.code === "input-invalid" || message.code === "unsupported") waiting?.reject(new UserError(message.code, message.message));
    else waiting?.reject(new SinterError(message.code in ERRORS ? (message.code as ErrorCode) : "backend-failed", message.message));
  }

  #settle(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }
}
