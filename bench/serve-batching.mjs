// How much does dynamic batching give? MiniLM at 16 tokens behind `sinter serve`, clients in a process of their own:
// throughput of 64 clients against the engine's best at any batch size and against batching off, the p99 at half load against
// an ideal batcher, goodput at twice the capacity; whether a latency objective is held, and what requests of several lengths cost
// padded and in groups. Usage: npm run bench serve-batching [--seconds=N]
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Engine } from "../dist/index.js";
import { load as loadServer, quantile, requestBytes, startServer, stopServer } from "./serving/server.mjs";
import { chooseModels, root } from "./zoo.mjs";

const TOKENS = 16;
const CLIENTS = 64;
const OBJECTIVE_MS = 30;
/** Lengths that requests have in turns, where they differ. */
const LENGTHS = [6, 12, 16, 24, 9, 32, 14, 48];
const WARM_SECONDS = 10;
const SIZES = [1, 2, 4, 8, 16, 32, 64];
const seconds = Number(process.argv.find((arg) => arg.startsWith("--seconds="))?.slice(10) ?? 10);
const folder = join(root, ".cache/serve-batching");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---- the server -----------------------------------------------------------------------------------------------------

const MODELS = 6;
const parameter = (key, value) => `parameters { key: "${key}" value: { string_value: "${value}" } }`;

function writeRepository(model) {
  rmSync(join(folder, "models"), { recursive: true, force: true });
  const common = `max_batch_size: 64\n${["input_ids", "attention_mask", "token_type_ids"].map((name) => parameter(`profile:${name}`, `1x1,32x${TOKENS},64x128`)).join("\n")}\n`;
  for (const [name, batching] of [["batched", "dynamic_batching { }"], ["single", ""], ["bounded", "dynamic_batching { default_queue_policy { max_queue_size: 128 } }"], ["objective", `dynamic_batching { max_queue_delay_microseconds: 2000 }\n${parameter("latency_objective_ms", OBJECTIVE_MS)}`], ["padded", `dynamic_batching { }\n${parameter("variable_lengths", "pad")}`], ["grouped", "dynamic_batching { }"]]) {
    mkdirSync(join(folder, "models", name, "1"), { recursive: true });
    copyFileSync(model.path, join(folder, "models", name, "1/model.onnx"));
    writeFileSync(join(folder, "models", name, "config.pbtxt"), `${common}${batching}\n`);
  }
}

function bodiesOf(model, lengths) {
  return Array.from({ length: 16 }, (_, seed) => {
    const tokens = lengths[seed % lengths.length];
    const ids = BigInt64Array.from({ length: tokens }, (__, i) => BigInt(1000 + ((seed * 31 + i * 17) % 20000)));
    return requestBytes(model, [["input_ids", ids], ["attention_mask", new BigInt64Array(tokens).fill(1n)], ["token_type_ids", new BigInt64Array(tokens)]].map(([name, data]) => [name, "INT64", [1, tokens], data]));
  });
}

const load = (port, { model, lengths = [TOKENS], ...options }) => loadServer(port, model, { bodies: bodiesOf(model, lengths), connections: CLIENTS, seconds, ...options });

/** Share of the batches' input bytes that were padding. */
async function paddingOf({ metrics }, model) {
  const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  const [padding, all] = ["padding", "input"].map((what) => Number(new RegExp(`^sinter_batch_${what}_bytes_total\\{[^}]*model="${model}"[^}]*\\} (\\S+)`, "m").exec(text)[1]));
  return padding / all;
}

// ---- the engine alone and the ideal batcher ---------------------------------------------------------------------------

/** The tuned engine that the server has made or found last. */
function engineFile() {
  const answers = readdirSync(join(folder, "engines")).filter((name) => name.endsWith(".answer")).map((name) => join(folder, "engines", name));
  const tuned = answers.filter((path) => JSON.parse(readFileSync(path, "utf8")).level === 3).sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  return JSON.parse(readFileSync(tuned[0], "utf8")).engine;
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

const [model] = chooseModels(["minilm-l6"]);
if (!model) process.exit(0);
writeRepository(model);
const server = await startServer(folder, { tuned: MODELS, args: ["--allow-grpc", "false"] });
const port = server.http;
try {
  const times = await engineTimes(engineFile());
  const best = Math.max(...SIZES.map((size) => (size / times.get(size)) * 1000));
  console.log(`engine alone, rows/s at batch ${SIZES.map((size) => `${size}: ${((size / times.get(size)) * 1000).toFixed(0)}`).join(", ")}`);
  // Until the code of both sides is compiled and the batcher knows its times.
  await load(port, { model: "batched", seconds: WARM_SECONDS });
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
  const objective = await load(port, { model: "objective", rate: batched.perSecond / 2 });
  const padded = await load(port, { model: "padded", lengths: LENGTHS });
  const grouped = await load(port, { model: "grouped", lengths: LENGTHS });
  const rows = [
    ["64 clients, of the engine's best throughput", `${((batched.perSecond / best) * 100).toFixed(0)} %`, "at least 90 %", `${batched.perSecond.toFixed(0)} of ${best.toFixed(0)} rows/s`],
    ["mean batch", batched.meanBatch.toFixed(1), "at least 8", ""],
    ["times faster than without batching", (batched.perSecond / single.perSecond).toFixed(2), "at least 1.5", `${single.perSecond.toFixed(0)} rows/s without`],
    ["p99 at half load, over an ideal batcher's", (quantile(half.latenciesMs, 0.99) / ideal).toFixed(2), "at most 1.3", `${quantile(half.latenciesMs, 0.99).toFixed(1)} and ${ideal.toFixed(1)} ms`],
    ["goodput at twice the capacity, of the peak", `${((twice.perSecond / batched.perSecond) * 100).toFixed(0)} %`, "at least 90 %", `${twice.refused} refused`],
    ["slowest /v2/health/live meanwhile", `${slowestLiveMs.toFixed(0)} ms`, "at most 1000 ms", ""],
    [`p99 at half load, latency_objective_ms ${OBJECTIVE_MS}`, `${quantile(objective.latenciesMs, 0.99).toFixed(1)} ms`, `at most ${OBJECTIVE_MS} ms`, `mean batch ${objective.meanBatch.toFixed(1)}`],
    [`lengths ${Math.min(...LENGTHS)} to ${Math.max(...LENGTHS)}, padded over grouped throughput`, (padded.perSecond / grouped.perSecond).toFixed(2), "shown", `${(100 * await paddingOf(server, "padded")).toFixed(0)} % padding; ${padded.perSecond.toFixed(0)} and ${grouped.perSecond.toFixed(0)} rows/s, mean batches ${padded.meanBatch.toFixed(1)} and ${grouped.meanBatch.toFixed(1)}`],
  ];
  for (const [what, measured, bound, note] of rows) console.log(`${what.padEnd(54)} ${measured.padStart(8)}  (${bound})${note ? `  ${note}` : ""}`);
} finally {
  await stopServer(server);
}
