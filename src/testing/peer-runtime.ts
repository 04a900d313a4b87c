/**
 * onnxruntime-node on a conformance case, in a child process of its own: a model that kills it ends only the child.
 * The child answers one message per case; the parent starts another child when one dies.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";
import { type DType, Tensor } from "../base/index.ts";
import { difference } from "./compare.ts";
import { type CaseResult, type ConformanceCase, toleranceOf } from "./conformance.ts";
import { readValueProto } from "./value-proto.ts";

/** Longest time for one case. */
const CASE_MS = 30_000;

export class PeerRuntime implements AsyncDisposable {
  private child: ChildProcess | undefined;

  async run(one: ConformanceCase): Promise<CaseResult> {
    this.child ??= fork(fileURLToPath(import.meta.url), ["serve"], { stdio: ["ignore", "ignore", "ignore", "ipc"] });
    const { child } = this;
    child.send(one);
    const done = new AbortController();
    const { signal } = done;
    const result = await Promise.race([
      once(child, "message", { signal }).then(([message]) => message as CaseResult),
      once(child, "exit", { signal }).then((): undefined => undefined),
      delay(CASE_MS, undefined, { signal, ref: false }),
    ]).catch((): undefined => undefined);
    done.abort();
    if (result) return result;
    child.kill("SIGKILL");
    this.child = undefined;
    return { passed: false, reason: "the process ended or did not answer" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child?.kill("SIGKILL");
    this.child = undefined;
    await Promise.resolve();
  }
}

function feedOf(tensor: Tensor): ort.Tensor {
  return new ort.Tensor(tensor.type as "float32", tensor.data as Float32Array, tensor.dims);
}

function resultOf(tensor: ort.Tensor): Tensor {
  const data = tensor.data as unknown;
  const items = tensor.type === "float16" && ArrayBuffer.isView(data) ? new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2) : (data as Float32Array);
  return new Tensor(tensor.type as DType, items, tensor.dims);
}

/** Input i of the test data is input i of the session. */
async function runHere(one: ConformanceCase): Promise<CaseResult> {
  const session = await ort.InferenceSession.create(join(one.folder, "model.onnx"), { logSeverityLevel: 4 });
  try {
    for (const set of readdirSync(one.folder).filter((name) => name.startsWith("test_data_set_"))) {
      const read = (name: string): Tensor => {
        const value = readValueProto(new Uint8Array(readFileSync(join(one.folder, set, name))), "tensor");
        if (!(value instanceof Tensor)) throw new Error(`${name} is no tensor`);
        return value;
      };
      const names = session.inputNames.filter((_, i) => existsSync(join(one.folder, set, `input_${i}.pb`)));
      const results = await session.run(Object.fromEntries(names.map((name, i) => [name, feedOf(read(`input_${i}.pb`))])));
      for (const [i, name] of session.outputNames.entries()) {
        const found = difference(resultOf(results[name]!), read(`output_${i}.pb`), toleranceOf(one.name));
        if (found) return { passed: false, reason: `output ${i}: ${found}` };
      }
    }
    return { passed: true, reason: undefined };
  } finally {
    await session.release();
  }
}

if (process.argv[2] === "serve" && process.send) {
  process.on("message", (one: ConformanceCase) => {
    runHere(one)
      .catch((error: unknown): CaseResult => ({ passed: false, reason: error instanceof Error ? error.message : String(error) }))
      .then((result) => process.send?.(result));
  });
}
