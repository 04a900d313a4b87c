// A server's engines on a GPU: what a run costs above the GPU's own time, in this process and in the GPU's; how busy the GPU is
// under 64 clients; and what a fault, a kill and a GPU without memory do to the server.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { build, Engine } from "../../dist/index.js";
import { GpuHosts } from "../../dist/backends/index.js";
import { HostedEngine } from "../../dist/backends/gpu/hosted-engine.js";
import { addressOf, createMemoryFile, Nvml, openCudaCompiler, openGpu, viewShared } from "../../dist/native/index.js";
import { makeModel } from "../../dist/onnx/index.js";
import { Tensor } from "../../dist/index.js";
import { serve } from "../../dist/serve.js";
import { signEngine } from "../../dist/trust/index.js";
import { VERSION } from "../../dist/version.js";

const log = pino({ level: process.env.SINTER_LOG ?? "silent" });
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const us = (ms) => `${(1000 * ms).toFixed(0)} us`;

async function timesOf(run, count = 200) {
  for (let i = 0; i < 30; i++) await run();
  const times = [];
  for (let i = 0; i < count; i++) {
    const before = performance.now();
    await run();
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b);
}

/** One run host to host above the device's own time: in this process, and in the GPU's over shared memory. */
export async function overhead({ path, name, feedsOf, batches }) {
  const engine = Engine.loadSync(path);
  const context = engine.createContext();
  const host = new GpuHosts({ log, env: process.env }).of();
  const hosted = await HostedEngine.load({ host, path, threads: 1 });
  const instance = hosted.createInstance(() => undefined);
  const shared = createMemoryFile("bench", 2 ** 20);
  const view = viewShared(shared, 2 ** 20);
  console.log(`shared memory can be registered with the GPU: ${openGpu().register(addressOf(view), 2 ** 20)}`);
  for (const batch of batches) {
    const feeds = feedsOf(engine, batch);
    context.deviceTimes(feeds, 20);
    const device = median(context.deviceTimes(feeds, 100));
    const here = await timesOf(() => context.run(feeds));
    const there = await timesOf(async () => {
      const inputs = engine.inputs.map(({ name: input }, i) => {
        const { bytes, dims } = feeds[input];
        const staged = instance.stage(i, bytes.byteLength);
        staged.set(bytes);
        return { bytes: staged, shape: dims };
      });
      (await instance.execute(inputs)).release();
    });
    const above = (times) => `${us(times[times.length >> 1])} (+${us(times[times.length >> 1] - device)}, p99 ${us(times[Math.floor(0.99 * times.length)])})`;
    console.log(`${name} batch ${batch}: device ${us(device)}; host to host in this process ${above(here)}, in the GPU's process ${above(there)}`);
  }
  instance.dispose();
  await new Promise((resolve) => setTimeout(resolve, 50));
  hosted.dispose();
  engine.dispose();
}

function repositoryOf(folder, models) {
  const repository = join(folder, "repository");
  for (const { name, engine, model, config } of models) {
    const version = join(repository, name, "1");
    mkdirSync(version, { recursive: true });
    writeFileSync(join(version, "model.engine"), readFileSync(engine));
    signEngine(join(version, "model.engine"), join(folder, "keys"));
    if (model) writeFileSync(join(version, "model.onnx"), model);
    writeFileSync(join(repository, name, "config.pbtxt"), `default_model_filename: "model.engine"\n${config ?? ""}`);
  }
  return repository;
}

const start = (folder, models, more = {}) => serve({
  repositories: [repositoryOf(folder, models)], cache: join(folder, "cache"), keys: join(folder, "keys"), log, tuneLevel: 0, version: VERSION, ...more,
});

/** Closed loops of requests until the time is over. @returns requests answered per second, latencies in ms, failures by text */
async function clients(count, seconds, ask) {
  const latencies = [];
  const failures = new Map();
  const end = performance.now() + seconds * 1000;
  const before = performance.now();
  await Promise.all(Array.from({ length: count }, async () => {
    while (performance.now() < end) {
      const began = performance.now();
      await ask().then(() => latencies.push(performance.now() - began), (error) => {
        failures.set(error.message, (failures.get(error.message) ?? 0) + 1);
        return new Promise((resolve) => setTimeout(resolve, 20));
      });
    }
  }));
  latencies.sort((a, b) => a - b);
  return { perSecond: latencies.length / ((performance.now() - before) / 1000), p50: latencies[latencies.length >> 1], p99: latencies[Math.floor(0.99 * latencies.length)], failures };
}

/** Samples the GPU's busy share until it is stopped. */
function watchBusy() {
  const nvml = Nvml.open();
  const samples = [];
  const timer = setInterval(() => samples.push(nvml?.read(0).utilization ?? NaN), 100);
  return () => { clearInterval(timer); return samples.slice(5).reduce((sum, value) => sum + value, 0) / Math.max(1, samples.length - 5); };
}

const requestOf = (model, inputs, outputs) => ({ model, version: "", id: "", parameters: new Map(), inputs, priority: 0, timeoutUs: 0, cancelled: false, ...(outputs ? { outputs: outputs.map((name) => ({ name, classification: 0 })) } : {}) });
const WIRE = { float32: "FP32", int64: "INT64", int32: "INT32" };

/** 64 clients of one row each with dynamic batching: first inside the server's process, then over HTTP from others. */
export async function busy({ folder, path, name, feedsOf, maxBatch, outputs, shapes, device }) {
  const probe = Engine.loadSync(path);
  const feeds = feedsOf(probe, 1);
  probe.dispose();
  const running = await start(folder, [{ name, engine: path, config: `max_batch_size: ${maxBatch}\ndynamic_batching { max_queue_delay_microseconds: 0 }\n` }], { httpPort: 0 });
  const inputs = Object.entries(feeds).map(([input, { type, bytes, dims }]) => ({ name: input, datatype: WIRE[type], shape: dims, bytes }));
  const ask = async () => { (await running.server.infer(requestOf(name, inputs, outputs))).release(); };
  const statistics = () => running.server.statistics(name, "1")[0];
  try {
    for (const count of [1, 8, 64]) {
      await clients(count, 0.7, ask);
      const before = statistics();
      const stop = watchBusy();
      const { perSecond, p50, p99, failures } = await clients(count, 4, ask);
      const share = stop();
      const after = statistics();
      const [runs, rows] = [after.executionCount - before.executionCount, after.inferenceCount - before.inferenceCount];
      console.log(`${name}, ${count} clients in the server's process: ${perSecond.toFixed(0)} per second, ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms, ${(rows / runs).toFixed(1)} rows a batch; GPU busy ${(100 * share).toFixed(0)} % by NVML${device ? `; the device alone would do ${(rows / runs / device(rows / runs) * 1000).toFixed(0)} per second` : ""}; failures ${JSON.stringify([...failures])}`);
    }
    const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
    const stop = watchBusy();
    const loads = Array.from({ length: 4 }, () => new Promise((resolve) => {
      let text = "";
      const child = spawn(process.execPath, [main, "load", `http://127.0.0.1:${running.httpPort}`, "-m", name, "--concurrency", "16", "--duration", "4", "--warmup", "1", "--shapes", shapes, "--expect", "none", "--json"], { stdio: ["ignore", "pipe", "inherit"] });
      child.stdout.on("data", (part) => { text += part; });
      child.on("close", () => { try { resolve(JSON.parse(text).runs[0]); } catch { resolve(undefined); } });
    }));
    const runs = (await Promise.all(loads)).filter(Boolean);
    console.log(`${name}, 64 clients over HTTP (all outputs): ${runs.reduce((sum, { requestsPerSecond }) => sum + requestsPerSecond, 0).toFixed(0)} per second; GPU busy ${(100 * stop()).toFixed(0)} %; failed ${runs.reduce((sum, { failed }) => sum + failed, 0)}`);
  } finally {
    await running.stop();
  }
}

/** x [n, 4] → x + 1. */
const addModel = () => makeModel({
  inputs: [{ name: "x", type: "float32", dims: ["n", 4] }], outputs: [{ name: "y", type: "float32", dims: ["n", 4] }],
  initializers: { c: new Tensor("float32", new Float32Array([1]), [1]) }, nodes: [{ op: "Add", inputs: ["x", "c"], outputs: ["y"] }],
});

/** A compiler whose kernels write where nothing is when the first number they read is above 1000. */
function explosive() {
  const compiler = openCudaCompiler();
  return { identity: `${compiler.identity}, explosive`, compile: (source, arch, form) => compiler.compile(source.replace(/(extern "C" __global__[^{]*\{)/, "$1\n  if (p1[0] > 1000.0f) *(volatile int*)16 = 1;"), arch, form) };
}

/** Illegal accesses and kills under load: how many requests are told, how long until the next is answered. */
export async function faults({ folder }) {
  const [good, bad] = [join(folder, "good.engine"), join(folder, "bad.engine")];
  await build(addModel(), { output: good, target: "cuda", level: 0 });
  await build(addModel(), { output: bad, target: "cuda", level: 0, cudaCompiler: explosive() });
  const running = await start(folder, [{ name: "good", engine: good }, { name: "bad", engine: bad }, { name: "standby", engine: good, model: addModel() }]);
  const input = (value) => [{ name: "x", datatype: "FP32", shape: [2, 4], bytes: new Uint8Array(new Float32Array(8).fill(value).buffer) }];
  const ask = async (model, value) => {
    const response = await running.server.infer(requestOf(model, input(value)));
    const right = new Float32Array(response.outputs[0].bytes.slice().buffer).every((y) => y === value + 1);
    response.release();
    if (!right) throw new Error("a wrong answer");
  };
  try {
    for (let round = 0; round < 2; round++) {
      const load = clients(16, 6, () => ask("good", 5));
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const told = performance.now();
      const reason = await ask("bad", 5000).then(() => "FAIL: it ran", ({ status, message }) => `${status} ${message}`);
      const answered = performance.now();
      const again = await ask("good", 7).then(() => "answered", ({ message }) => message);
      console.log(`an illegal access: told after ${(answered - told).toFixed(1)} ms: ${reason}`);
      console.log(`the next request: ${again} ${(performance.now() - answered).toFixed(0)} ms later`);
      const { perSecond, failures } = await load;
      console.log(`  meanwhile 16 clients of another model: ${perSecond.toFixed(0)} per second over all, failures ${JSON.stringify([...failures])}`);
    }
    const answers = [];
    for (let i = 0; i < 40; i++) {
      const began = performance.now();
      const text = await ask("standby", i).then(() => "answered", ({ message }) => message.slice(0, 100));
      if (answers.at(-1)?.text !== text) answers.push({ text, afterMs: Math.round(began) });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    console.log(`a model with a stand-in, after these deaths: ${answers.map(({ text }) => text).join("; then ")}`);
  } finally {
    await running.stop();
  }
}

/** An ONNX model whose configuration asks for a GPU: compiled at load, answered there. */
export async function fromModel({ folder, file, name, feedsOf }) {
  const repository = join(folder, "repository");
  mkdirSync(join(repository, name, "1"), { recursive: true });
  // Its weights lie beside it.
  for (const beside of readdirSync(dirname(file)).filter((other) => other.startsWith(`${name}.`))) copyFileSync(join(dirname(file), beside), join(repository, name, "1", beside === basename(file) ? "model.onnx" : beside));
  writeFileSync(join(repository, name, "config.pbtxt"), 'max_batch_size: 8\ninstance_group [ { kind: KIND_GPU } ]\nparameters { key: "precision" value { string_value: "fp16" } }\n');
  const before = performance.now();
  const running = await serve({ repositories: [repository], cache: join(folder, "cache"), keys: join(folder, "keys"), log, tuneLevel: 0, version: VERSION });
  try {
    const [version] = running.store.serving();
    console.log(`${name} with KIND_GPU: ready after ${((performance.now() - before) / 1000).toFixed(1)} s, on ${version.summary}`);
    const signature = version.signature.metadata();
    const feeds = feedsOf(signature.inputs.map(({ name: input }) => input));
    const inputs = Object.entries(feeds).map(([input, { type, bytes, dims }]) => ({ name: input, datatype: WIRE[type], shape: dims, bytes }));
    const times = await timesOf(async () => { (await running.server.infer(requestOf(name, inputs))).release(); }, 50);
    console.log(`  one client in the server's process: median ${us(times[25])}`);
    console.log(`  ${running.registry.render().split("\n").filter((line) => /^nv_(gpu|energy)/.test(line)).join("; ")}`);
  } finally {
    await running.stop();
  }
}

/** A model that does not fit beside the others is refused, and they go on. */
export async function memory({ folder }) {
  const good = join(folder, "good.engine");
  await build(addModel(), { output: good, target: "cuda", level: 0 });
  const huge = join(folder, "huge.engine");
  const rows = 2 ** 36;
  await build(makeModel({
    inputs: [{ name: "x", type: "float32", dims: ["n", 4] }], outputs: [{ name: "y", type: "float32", dims: ["n", 4] }],
    nodes: [{ op: "Softmax", inputs: ["x"], outputs: ["h"], attributes: { axis: 0 } }, { op: "Softmax", inputs: ["h"], outputs: ["y"], attributes: { axis: 1 } }],
  }), { output: huge, target: "cuda", level: 0, profiles: [{ x: { min: [1, 4], opt: [4, 4], max: [rows, 4] } }] });
  const running = await start(folder, [{ name: "good", engine: good }, { name: "huge", engine: huge }], { exitOnError: false });
  try {
    console.log(`a model that needs more memory than there is: ${running.server.repositoryIndex(false).map(({ name, state, reason }) => `${name} ${state}${reason ? ` (${reason})` : ""}`).join("; ")}`);
  } finally {
    await running.stop();
  }
}
