// How much does dynamic batching give? MiniLM at 16 tokens behind `sinter serve`, clients in a process of their own:
// throughput of 64 clients against the engine's best at any batch size and against batching off, the p99 at half load against
// an ideal batcher, goodput at twice the capacity. Usage: npm run bench serve-batching [--seconds=N]
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Engine } from "../dist/index.js";
import { chooseModels, root } from "./zoo.mjs";

const TOKENS = 16;
const CLIENTS = 64;
const SIZES = [1, 2, 4, 8, 16, 32, 64];
const seconds = Number(process.argv.find((arg) => arg.startsWith("--seconds="))?.slice(10) ?? 10);
const folder = join(root, ".cache/serve-batching");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const quantile = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))];

// ---- the client: raw sockets, one request at a time each, in a process of its own -----------------------------------

function requestBytes(model, seed) {
  const ids = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt(1000 + ((seed * 31 + i * 17) % 20000)));
  const tensors = [["input_ids", ids], ["attention_mask", new BigInt64Array(TOKENS).fill(1n)], ["token_type_ids", new BigInt64Array(TOKENS)]];
  const json = JSON.stringify({ inputs: tensors.map(([name, data]) => ({ name, datatype: "INT64", shape: [1, TOKENS], parameters: { binary_data_size: data.byteLength } })), parameters: { binary_data_output: true } });
  const body = Buffer.concat([Buffer.from(json), ...tensors.map(([, data]) => Buffer.from(data.buffer))]);
  return Buffer.concat([Buffer.from(`POST /v2/models/${model}/infer HTTP/1.1\r\nHost: sinter\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: ${Buffer.byteLength(json)}\r\nContent-Length: ${body.length}\r\n\r\n`), body]);
}

class Connection {
  constructor(port) {
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.parts = [];
    this.size = 0;
    this.socket.on("data", (chunk) => this.take(chunk));
  }

  /** @returns the status */
  ask(bytes) {
    return new Promise((resolve) => {
      this.resolve = resolve;
      this.socket.write(bytes);
    });
  }

  take(chunk) {
    this.parts.push(chunk);
    this.size += chunk.length;
    if (this.wanted === undefined) {
      const head = Buffer.concat(this.parts).toString("latin1");
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.status = Number(head.slice(9, 12));
      this.wanted = end + 4 + Number(/content-length: (\d+)/i.exec(head.slice(0, end))[1]);
    }
    if (this.size < this.wanted) return;
    const { status, resolve } = this;
    this.parts = [];
    this.size = 0;
    this.wanted = undefined;
    resolve(status);
  }
}

/** Closed loop without a rate; with one, Poisson arrivals that wait for a free connection, latency counted from the planned time. */
async function client({ port, model, rate, seconds: duration, connections }) {
  const requests = Array.from({ length: 16 }, (_, i) => requestBytes(model, i));
  const free = Array.from({ length: connections }, () => new Connection(port));
  const outcome = { sent: 0, ok: 0, refused: 0, other: 0, latenciesMs: [] };
  const started = performance.now();
  const ask = async (connection, plannedMs) => {
    const status = await connection.ask(requests[outcome.sent++ % requests.length]);
    if (status === 200) outcome.ok++;
    else if (status === 503) outcome.refused++;
    else outcome.other++;
    if (status === 200) outcome.latenciesMs.push(performance.now() - plannedMs);
  };
  if (rate === undefined) {
    await Promise.all(free.map(async (connection) => {
      while (performance.now() - started < duration * 1000) await ask(connection, performance.now());
    }));
  } else {
    const open = new Set();
    for (let plannedMs = started; plannedMs - started < duration * 1000; plannedMs += (-Math.log(1 - Math.random()) / rate) * 1000) {
      // Sleeps, not spins: the engine's threads need the processor. Lateness counts as latency.
      for (let leftMs = plannedMs - performance.now(); leftMs > 0; leftMs = plannedMs - performance.now()) await sleep(leftMs);
      const connection = free.pop() ?? new Connection(port);
      const done = ask(connection, plannedMs).then(() => {
        free.push(connection);
        open.delete(done);
      });
      open.add(done);
    }
    await Promise.all(open);
  }
  outcome.elapsedMs = performance.now() - started;
  for (const connection of free) connection.socket.destroy();
  return outcome;
}

const run = (options) => new Promise((resolve, reject) => {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), `--client=${JSON.stringify(options)}`], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk) => { text += chunk; });
  child.on("close", (status) => (status === 0 ? resolve(JSON.parse(text)) : reject(new Error(`the client ended with ${status}`))));
});

// ---- the server -----------------------------------------------------------------------------------------------------

function writeRepository(model) {
  rmSync(join(folder, "models"), { recursive: true, force: true });
  const common = `max_batch_size: 64\n${["input_ids", "attention_mask", "token_type_ids"].map((name) => `parameters { key: "profile:${name}" value: { string_value: "1x1,32x${TOKENS},64x128" } }`).join("\n")}\n`;
  for (const [name, batching] of [["batched", "dynamic_batching { }"], ["single", ""], ["bounded", "dynamic_batching { default_queue_policy { max_queue_size: 128 } }"]]) {
    mkdirSync(join(folder, "models", name, "1"), { recursive: true });
    copyFileSync(model.path, join(folder, "models", name, "1/model.onnx"));
    writeFileSync(join(folder, "models", name, "config.pbtxt"), `${common}${batching}\n`);
  }
}

async function startServer() {
  const args = ["serve", "--model-repository", join(folder, "models"), "--engine-cache", join(folder, "engines"), "--http-port", "0", "--metrics-port", "0", "--allow-grpc", "false"];
  const child = spawn(process.execPath, [join(root, "dist/cli/main.js"), ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let port;
  let tuned = 0;
  await new Promise((resolve, reject) => {
    child.on("exit", (status) => reject(new Error(`the server ended with ${status}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const entry = JSON.parse(line);
      if (/level 3/.test(entry.on ?? "")) tuned++;
      if (entry.msg === "ready") port = entry.http;
      if (port !== undefined && tuned === 3) resolve();
    });
  });
  child.removeAllListeners("exit");
  return { child, port };
}

async function statsOf(port, model) {
  const { model_stats: [stats] } = await (await fetch(`http://127.0.0.1:${port}/v2/models/${model}/stats`)).json();
  return { success: stats.inference_stats.success.count, rows: stats.inference_count, batches: stats.execution_count };
}

/** A load run with the server's own counts beside it. */
async function load(port, options) {
  const before = await statsOf(port, options.model);
  const outcome = await run({ port, connections: CLIENTS, seconds, ...options });
  const after = await statsOf(port, options.model);
  if (outcome.other > 0) throw new Error(`${outcome.other} replies were neither answers nor refusals`);
  if (after.success - before.success !== outcome.ok) throw new Error(`statistics grew by ${after.success - before.success} for ${outcome.ok} answers`);
  return { ...outcome, perSecond: (outcome.ok / outcome.elapsedMs) * 1000, meanBatch: (after.rows - before.rows) / (after.batches - before.batches) };
}

// ---- the engine alone and the ideal batcher ---------------------------------------------------------------------------

function engineFile() {
  const kept = readdirSync(join(folder, "engines")).filter((name) => name.endsWith(".answer")).map((name) => JSON.parse(readFileSync(join(folder, "engines", name), "utf8")));
  return kept.find(({ level }) => level === 3).engine;
}

/** Milliseconds per batch size: medians of the engine alone. */
async function engineTimes(path) {
  const engine = await Engine.load(path);
  const context = engine.createContext();
  const times = new Map();
  for (const size of SIZES) {
    const feeds = Object.fromEntries(engine.inputs.map(({ name, type }) => {
      const tensor = engine.allocate(name, [size, TOKENS]);
      tensor.data.fill(type === "int64" ? 1n : 1);
      return [name, tensor];
    }));
    const samples = [];
    for (const until = performance.now() + 1500; performance.now() < until || samples.length < 10; ) {
      const before = performance.now();
      await context.run(feeds);
      samples.push(performance.now() - before);
    }
    times.set(size, quantile(samples.slice(2), 0.5));
  }
  engine.dispose();
  return times;
}

function timeOf(times, rows) {
  const above = SIZES.find((size) => size >= rows);
  const below = SIZES.findLast((size) => size <= rows);
  return above === below ? times.get(above) : times.get(below) + ((times.get(above) - times.get(below)) * (rows - below)) / (above - below);
}

/** Takes all that waits whenever it is free, costs nothing but the engine's time. @returns p99 in milliseconds */
function idealP99(times, perSecond) {
  const count = 20_000;
  let state = 12345;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const arrivals = [];
  for (let at = 0; arrivals.length < count; at += (-Math.log(1 - random()) / perSecond) * 1000) arrivals.push(at);
  const latencies = [];
  let free = 0;
  for (let next = 0; next < count; ) {
    const start = Math.max(free, arrivals[next]);
    let rows = 0;
    while (next + rows < count && rows < 64 && arrivals[next + rows] <= start) rows++;
    free = start + timeOf(times, rows);
    for (let i = 0; i < rows; i++) latencies.push(free - arrivals[next + i]);
    next += rows;
  }
  return quantile(latencies, 0.99);
}

// ---- the questions ------------------------------------------------------------------------------------------------------

const clientOptions = process.argv.find((arg) => arg.startsWith("--client="))?.slice(9);
if (clientOptions) {
  process.stdout.write(JSON.stringify(await client(JSON.parse(clientOptions))), () => process.exit(0));
} else {
  const [model] = chooseModels(["minilm-l6"]);
  if (!model) process.exit(0);
  writeRepository(model);
  const { child, port } = await startServer();
  try {
    const times = await engineTimes(engineFile());
    const best = Math.max(...SIZES.map((size) => (size / times.get(size)) * 1000));
    console.log(`engine alone, rows/s at batch ${SIZES.map((size) => `${size}: ${((size / times.get(size)) * 1000).toFixed(0)}`).join(", ")}`);
    await load(port, { model: "batched", seconds: 2 });
    const batched = await load(port, { model: "batched" });
    const single = await load(port, { model: "single" });
    const half = await load(port, { model: "batched", rate: batched.perSecond / 2 });
    const ideal = idealP99(times, batched.perSecond / 2);
    let slowestLiveMs = 0;
    let over = false;
    const probe = (async () => {
      while (!over) {
        const before = performance.now();
        await (await fetch(`http://127.0.0.1:${port}/v2/health/live`)).arrayBuffer();
        slowestLiveMs = Math.max(slowestLiveMs, performance.now() - before);
        await sleep(100);
      }
    })();
    const twice = await load(port, { model: "bounded", rate: batched.perSecond * 2, connections: 256 });
    over = true;
    await probe;
    const rows = [
      ["64 clients, of the engine's best throughput", `${((batched.perSecond / best) * 100).toFixed(0)} %`, "at least 90 %", `${batched.perSecond.toFixed(0)} of ${best.toFixed(0)} rows/s`],
      ["mean batch", batched.meanBatch.toFixed(1), "at least 8", ""],
      ["times faster than without batching", (batched.perSecond / single.perSecond).toFixed(2), "at least 1.5", `${single.perSecond.toFixed(0)} rows/s without`],
      ["p99 at half load, over an ideal batcher's", (quantile(half.latenciesMs, 0.99) / ideal).toFixed(2), "at most 1.3", `${quantile(half.latenciesMs, 0.99).toFixed(1)} and ${ideal.toFixed(1)} ms`],
      ["goodput at twice the capacity, of the peak", `${((twice.perSecond / batched.perSecond) * 100).toFixed(0)} %`, "at least 90 %", `${twice.refused} refused`],
      ["slowest /v2/health/live meanwhile", `${slowestLiveMs.toFixed(0)} ms`, "at most 1000 ms", ""],
    ];
    for (const [what, measured, bound, note] of rows) console.log(`${what.padEnd(48)} ${measured.padStart(8)}  (${bound})${note ? `  ${note}` : ""}`);
  } finally {
    child.kill("SIGTERM");
  }
}
