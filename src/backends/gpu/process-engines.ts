/**
 * What the process that has a GPU does: loads engines and runs them for a server, reading and writing the memory that both
 * map. It ends with the server, or when the server has done with it. After a fault it only answers what it still can.
 */
import { Socket } from "node:net";
import { assert, byteLength, elementCount, Tensor } from "../../base/index.ts";
import { addressOf, type Gpu, openGpu, stayAwake, viewShared } from "../../native/index.ts";
import { Engine, type ExecutionContext, type Feeds, type Results } from "../../runtime/index.ts";
import { Lines } from "../lines.ts";
import { decodeStrings, encodeStrings } from "../strings.ts";
import { type EngineFacts, failureOf, type FromProcess, type Place, SHARED_BYTES, SHARED_FD, SOCKET_FD, type ToProcess } from "./protocol.ts";

type Run = Extract<ToProcess, { kind: "run" }>;

interface Held {
  readonly engine: Engine;
  readonly contexts: Map<number, ExecutionContext>;
}

/** A server that is busy sends the next run within that time of an answer. */
const NEXT_RUN_MS = 1;

/** Answers over the socket for as long as it is open. @param open the GPU that engines run on */
export function serveEngines(open: () => Gpu = () => openGpu()): void {
  const socket = new Socket({ fd: SOCKET_FD, readable: true, writable: true });
  const engines = new ProcessEngines(open, viewShared(SHARED_FD, SHARED_BYTES), (message) => void socket.write(`${JSON.stringify(message)}\n`));
  // A signal to the server's group is the server's: it still wants answers.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
  const lines = new Lines((line) => engines.hear(JSON.parse(line) as ToProcess));
  socket.setEncoding("utf8").on("data", (text: string) => lines.push(text)).on("close", () => process.exit(0)).on("error", () => process.exit(0));
}

class ProcessEngines {
  readonly #open: () => Gpu;
  readonly #shared: Uint8Array;
  readonly #send: (message: FromProcess) => void;
  readonly #engines = new Map<number, Held>();
  /** Results that wait to be fetched, of each context's last run. */
  readonly #made = new WeakMap<ExecutionContext, readonly Uint8Array[]>();
  /** Pinned once there is an engine: only then is there a GPU. */
  #unpinned: Place[] = [];

  constructor(open: () => Gpu, shared: Uint8Array, send: (message: FromProcess) => void) {
    this.#open = open;
    this.#shared = shared;
    this.#send = send;
  }

  hear(message: ToProcess): void {
    switch (message.kind) {
      case "pin": this.#unpinned.push(message.place); return;
      case "load": void this.#answer(message.id, async () => ({ kind: "loaded", id: message.id, facts: this.#load(message.engine, message.path) })); return;
      case "run": void this.#answer(message.id, () => this.#run(message)); return;
      case "fetch": void this.#answer(message.id, async () => this.#fetch(message)); return;
      case "drop": {
        const contexts = this.#engines.get(message.engine)?.contexts;
        void contexts?.get(message.context)?.dispose();
        contexts?.delete(message.context);
        return;
      }
      case "unload":
        this.#engines.get(message.engine)?.engine.dispose();
        this.#engines.delete(message.engine);
    }
  }

  async #answer(id: number, work: () => Promise<FromProcess>): Promise<void> {
    try {
      this.#send(await work());
      stayAwake(NEXT_RUN_MS);
    } catch (error) {
      this.#send({ kind: "failed", id, failure: failureOf(error) });
    }
  }

  #load(number: number, path: string): EngineFacts {
    const engine = Engine.loadSync(path, { openGpu: this.#open });
    this.#engines.set(number, { engine, contexts: new Map() });
    // Weights are uploaded now, and a GPU without room for them says so.
    this.#contextOf(number, 0).prepare();
    const { level, target, profiles } = engine.metadata;
    return { inputs: engine.inputs, outputs: engine.outputs, level, target, profiles: profiles.map(({ symbols }) => ({ symbols })), hasReferenceSteps: engine.hasReferenceSteps };
  }

  #contextOf(number: number, context: number): ExecutionContext {
    const held = this.#engines.get(number);
    assert(held, `a run of engine ${number}, which was not loaded`);
    let found = held.contexts.get(context);
    if (!found) held.contexts.set(context, (found = held.engine.createContext()));
    return found;
  }

  async #run({ id, engine: number, context: which, inputs, outputs }: Run): Promise<FromProcess> {
    this.#pin();
    const context = this.#contextOf(number, which);
    const { engine } = this.#engines.get(number)!;
    const results = await context.run(this.#feeds(engine, inputs), outputs ? { allocate: (name, type, dims) => this.#outputAt(outputs[engine.outputs.findIndex((output) => output.name === name)], type, dims) } : {});
    const bytes = engine.outputs.map(({ name }) => bytesOf(results[name] as Tensor));
    if (!outputs || !bytes.every(({ byteLength }, i) => byteLength === outputs[i]!.sizeBytes)) {
      this.#made.set(context, bytes);
      return { kind: "made", id, outputs: engine.outputs.map(({ name }, i) => ({ shape: (results[name] as Tensor).dims, sizeBytes: bytes[i]!.byteLength })) };
    }
    return this.#put(id, bytes, outputs, context);
  }

  #fetch({ id, engine, context: which, outputs }: Extract<ToProcess, { kind: "fetch" }>): FromProcess {
    const context = this.#contextOf(engine, which);
    const bytes = this.#made.get(context);
    assert(bytes, `results of context ${which} of engine ${engine}, which are not there`);
    this.#made.delete(context);
    return this.#put(id, bytes, outputs, context);
  }

  /** What the GPU has not written there already is copied. */
  #put(id: number, bytes: readonly Uint8Array[], outputs: readonly Place[], context: ExecutionContext): FromProcess {
    for (const [i, { offset }] of outputs.entries()) {
      const to = this.#shared.subarray(offset, offset + bytes[i]!.byteLength);
      if (addressOf(bytes[i]!) !== addressOf(to)) to.set(bytes[i]!);
    }
    return { kind: "done", id, memoryBytes: context.memoryBytes };
  }

  #feeds({ inputs: known }: Engine, inputs: Run["inputs"]): Feeds {
    const feeds: Record<string, Tensor> = {};
    for (const [i, { name, type }] of known.entries()) {
      const input = inputs[i];
      if (!input) continue;
      const bytes = this.#shared.subarray(input.offset, input.offset + input.sizeBytes);
      feeds[name] = type === "string" ? new Tensor("string", decodeStrings(bytes, elementCount(input.shape)), input.shape) : Tensor.fromBytes(type, bytes, input.shape);
    }
    return feeds;
  }

  #outputAt(place: Place | undefined, type: Tensor["type"], dims: readonly number[]): Tensor | undefined {
    if (type === "string" || !place || byteLength(type, elementCount(dims)) !== place.sizeBytes) return undefined;
    return Tensor.fromBytes(type, this.#shared.subarray(place.offset, place.offset + place.sizeBytes), dims);
  }

  #pin(): void {
    if (this.#unpinned.length === 0) return;
    const gpu = this.#open();
    for (const { offset, sizeBytes } of this.#unpinned.splice(0)) gpu.register(addressOf(this.#shared.subarray(offset, offset + sizeBytes))!, sizeBytes);
  }
}

function bytesOf(tensor: Results[string] & Tensor): Uint8Array {
  return tensor.type === "string" ? encodeStrings(tensor.data as string[]) : tensor.bytes;
}
