// What benchmarks of the server share: `sinter serve` in a process of its own, requests as bytes, load runs by `client.mjs` with the
// server's own counts beside them.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "../zoo.mjs";

const CLIENT = fileURLToPath(new URL("client.mjs", import.meta.url));

export const quantile = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))];

/**
 * @param options `tuned`: how many models are to be tuned before the server counts as started
 * @returns {Promise<{child: import("node:child_process").ChildProcess, http: number, grpc: number | undefined, metrics: number}>}
 */
export async function startServer(folder, { tuned = 0, args = [] } = {}) {
  const flags = ["serve", "--model-repository", join(folder, "models"), "--engine-cache", join(folder, "engines"), "--http-port", "0", "--metrics-port", "0", ...args];
  const child = spawn(process.execPath, [join(root, "dist/cli/main.js"), ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const ports = await new Promise((resolve, reject) => {
    let ready;
    let left = tuned;
    child.on("exit", (status) => reject(new Error(`the server ended with ${status}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const entry = JSON.parse(line);
      if (/level 3/.test(entry.on ?? "")) left--;
      if (entry.msg === "ready") ready = entry;
      if (ready && left <= 0) resolve({ http: ready.http, grpc: ready.grpc, metrics: ready.metrics });
    });
  });
  child.removeAllListeners("exit");
  return { child, ...ports };
}

/** SIGTERM, and its end. */
export async function stopServer({ child }) {
  child.kill("SIGTERM");
  await new Promise((resolve) => child.once("exit", resolve));
}

/** An inference request over HTTP, whole. @param tensors name, datatype, shape and typed array of each input */
export function requestBytes(model, tensors) {
  const json = JSON.stringify({ inputs: tensors.map(([name, datatype, shape, data]) => ({ name, datatype, shape, parameters: { binary_data_size: data.byteLength } })), parameters: { binary_data_output: true } });
  const body = Buffer.concat([Buffer.from(json), ...tensors.map(([, , , data]) => Buffer.from(data.buffer))]);
  return Buffer.concat([Buffer.from(`POST /v2/models/${model}/infer HTTP/1.1\r\nHost: sinter\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: ${Buffer.byteLength(json)}\r\nContent-Length: ${body.length}\r\n\r\n`), body]);
}

export async function statsOf(port, model) {
  const { model_stats: [stats] } = await (await fetch(`http://127.0.0.1:${port}/v2/models/${model}/stats`)).json();
  return { success: stats.inference_stats.success.count, rows: stats.inference_count, batches: stats.execution_count };
}

function run(options) {
  const child = spawn(process.execPath, [CLIENT], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(JSON.stringify(options));
  let text = "";
  child.stdout.on("data", (chunk) => { text += chunk; });
  return new Promise((resolve, reject) => child.on("close", (status) => (status === 0 ? resolve(JSON.parse(text)) : reject(new Error(`the client ended with ${status}`)))));
}

/** A load run: see `client.mjs`. @throws when an answer is wrong or the server's own count differs */
export async function load(port, model, { bodies, ...options }) {
  const before = await statsOf(port, model);
  const outcome = await run({ port, bodies: bodies.map((bytes) => bytes.toString("base64")), ...options });
  const after = await statsOf(port, model);
  if (outcome.other > 0) throw new Error(`${outcome.other} replies were neither answers nor refusals`);
  if (outcome.wrong > 0) throw new Error(`${outcome.wrong} answers differ from the first to the same request`);
  if (after.success - before.success !== outcome.ok) throw new Error(`statistics grew by ${after.success - before.success} for ${outcome.ok} answers`);
  return { ...outcome, perSecond: (outcome.ok / outcome.elapsedMs) * 1000, meanBatch: (after.rows - before.rows) / (after.batches - before.batches) };
}
