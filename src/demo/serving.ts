/**
 * The demo's model behind the server: a model repository with the engine that was just made, signed by this machine, and one
 * real request over HTTP, in KServe's binary form.
 */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { destination, pino } from "pino";
import { SinterError, Tensor } from "../base/index.ts";
import { type RunningServer, serve } from "../serve.ts";
import { keyFolder, signEngine } from "../trust/index.ts";
import { VERSION } from "../version.ts";

const MODEL = "text-recognition";
const PORTS = { httpPort: 8000, grpcPort: 8001, metricsPort: 8002 };
const ANY_PORTS = { httpPort: 0, grpcPort: 0, metricsPort: 0 };

/** @param folder where the repository is made */
export async function serveDemo(engine: string, folder: string): Promise<RunningServer> {
  const repository = join(folder, "models");
  const version = join(repository, MODEL, "1");
  mkdirSync(version, { recursive: true });
  copyFileSync(engine, join(version, "model.engine"));
  signEngine(join(version, "model.engine"), keyFolder(process.env));
  writeFileSync(join(repository, MODEL, "config.pbtxt"), `# Inputs and outputs are the model's own.\nmax_batch_size: 0\n`);
  const options = { repositories: [repository], cache: join(folder, "engines"), keys: keyFolder(process.env), log: pino({ level: "warn", base: null }, destination({ fd: 2, sync: true })), version: VERSION };
  try {
    return await serve({ ...options, ...PORTS });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    return serve({ ...options, ...ANY_PORTS });
  }
}

/** The model's one output for this input. */
export async function askOverHttp(port: number, x: Tensor): Promise<Tensor> {
  const header = Buffer.from(JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: x.dims, parameters: { binary_data_size: x.bytes.byteLength } }], parameters: { binary_data_output: true } }));
  const reply = await fetch(`http://127.0.0.1:${port}/v2/models/${MODEL}/infer`, { method: "POST", headers: { "Inference-Header-Content-Length": String(header.byteLength) }, body: Buffer.concat([header, x.bytes]) });
  const body = new Uint8Array(await reply.arrayBuffer());
  const jsonBytes = Number(reply.headers.get("inference-header-content-length") ?? body.byteLength);
  const answer = JSON.parse(Buffer.from(body.subarray(0, jsonBytes)).toString("utf8")) as { readonly error?: string; readonly outputs?: readonly [{ readonly shape: readonly number[] }] };
  if (!answer.outputs) throw new SinterError("backend-failed", `The server answered ${reply.status}: ${answer.error ?? "nothing"}.`);
  return Tensor.fromBytes("float32", body.slice(jsonBytes), answer.outputs[0].shape);
}
