/** The worker thread of `json-worker.ts`. */
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/index.ts";
import { viewMemory } from "../../native/index.ts";
import { asServingError } from "../wire/status.ts";
import { readInferHeader } from "./infer-json.ts";
import type { JsonResult, JsonTask, JsonWorkerMessage } from "./json-worker.ts";
import { writeTensor } from "./tensor-json.ts";

const port = parentPort;
assert(port, "the JSON worker runs as a worker thread");

port.on("message", ({ id, body }: JsonWorkerMessage<JsonTask>) => {
  const transfer: ArrayBuffer[] = [];
  const result = run(body, transfer);
  port.postMessage({ id, body: result } satisfies JsonWorkerMessage<JsonResult>, transfer);
});

function run(task: JsonTask, transfer: ArrayBuffer[]): JsonResult {
  try {
    if (task.kind === "write") {
      const text = new TextEncoder().encode(writeTensor(task.tensor.name, task.tensor.datatype, task.tensor.bytes));
      transfer.push(text.buffer as ArrayBuffer);
      return { text };
    }
    const bytes = Buffer.from(viewMemory(task.address, task.end));
    const header = readInferHeader(bytes, task.start, task.end, (sizeBytes) => {
      const memory = new Uint8Array(sizeBytes);
      transfer.push(memory.buffer);
      return memory;
    });
    return { header };
  } catch (error) {
    transfer.length = 0;
    const { status, message } = asServingError(error);
    return { status, message };
  }
}
