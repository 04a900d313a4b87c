/** The worker's side of `ReferenceWorker`: one engine, contexts by number, runs one after another. */
import { parentPort, workerData } from "node:worker_threads";
import { assert, SinterError } from "../base/index.ts";
import { detectCpu, openGpu } from "../native/index.ts";
import { newExecutor } from "./engine.ts";
import type { Execution } from "./execution.ts";
import { LoadedEngine } from "./loaded-engine.ts";
import { fromPlain, type PlainValue, type Reply, type Request, toPlain, type WorkerSetup } from "./reference-worker.ts";

assert(parentPort, "the reference worker outside a worker thread");
const port = parentPort;
const setup = workerData as WorkerSetup;
const engine = LoadedEngine.open(setup.path, { cpu: detectCpu(setup.env), openGpu: () => openGpu(setup.env) });
const contexts = new Map<number, Execution>();

function run(request: Extract<Request, { kind: "run" }>): Reply {
  let executor = contexts.get(request.context);
  if (!executor || executor.isLost) {
    executor?.dispose();
    executor = newExecutor(engine, setup.threads);
    contexts.set(request.context, executor);
  }
  const feeds = Object.fromEntries(Object.entries(request.feeds).map(([name, value]) => [name, fromPlain(value)]));
  const results = executor.runSync(feeds);
  return { id: request.id, results: Object.fromEntries(Object.entries(results).map(([name, value]) => [name, toPlain(value)])) };
}

/** Buffers that belong to results alone can be handed over instead of copied. */
function transferable(results: Readonly<Record<string, PlainValue | null>>): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  for (const value of Object.values(results)) {
    if (value && "data" in value && !Array.isArray(value.data) && value.data.byteLength === value.data.buffer.byteLength && value.data.buffer instanceof ArrayBuffer) buffers.add(value.data.buffer);
  }
  return [...buffers];
}

port.on("message", (request: Request) => {
  if (request.kind === "dispose") {
    contexts.get(request.context)?.dispose();
    contexts.delete(request.context);
    return;
  }
  try {
    const reply = run(request);
    port.postMessage(reply, "results" in reply ? transferable(reply.results) : []);
  } catch (error) {
    const { message, stack } = error as Error;
    port.postMessage({ id: request.id, error: { code: error instanceof SinterError ? error.code : undefined, message, stack } } satisfies Reply);
  }
});
