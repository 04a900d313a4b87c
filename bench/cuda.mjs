// What do engines do on this machine's GPU? Agreement with this machine's processor, latency with the data on the device
// and from host to host, load and unload, a fault contained; large products and attention beside PyTorch's.
// Each stage is apart: one that fails loses no other. With int8, images are calibrated on noise (or by NAME.calibration.json beside the model) and compared with this processor's int8 too.
// Usage: npm run bench cuda [STAGE…] [--models=FOLDER] [--level=N] [--precision=fp16,fp32] [--batches=1,8,32,128] [--model=bert-base-ts,resnet50-ts]
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { build, buildInt8, calibrate, Engine, Tensor } from "../dist/index.js";
import { makeFeeds } from "../dist/cli/feeds.js";
import { openCudaCompiler, openGpu } from "../dist/native/index.js";
import { makeModel } from "../dist/onnx/index.js";
import { mlp, mlpReference, floats } from "../dist/testing/small-models.js";

const flags = Object.fromEntries(process.argv.slice(2).filter((arg) => arg.startsWith("--")).map((arg) => arg.slice(2).split("=")));
const words = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const list = (name, otherwise) => (flags[name] ?? otherwise).split(",");
const batches = list("batches", "1,8,32,128").map(Number);
const precisions = list("precision", "fp16,fp32");
const level = Number(flags.level ?? 3);
const models = flags.models ?? ".cache/models";
const folder = mkdtempSync(join(tmpdir(), "sinter-bench-cuda-"));
const largest = Math.max(16, ...batches);

const tokens = (batch) => ({ input_ids: [batch, 128], attention_mask: [batch, 128] });
const image = (name) => (batch) => ({ [name]: [batch, 3, 224, 224] });
const SHAPES = {
  "bert-base-ts": tokens, "bart-large-encoder-ts": tokens, "t5-small-encoder-ts": tokens, "gpt2-ts": tokens,
  "resnet50-ts": image("input"), "efficientnet_b0-ts": image("input"), "mobilenet_v3_large-ts": image("input"),
};

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const ms = (value) => value.toFixed(3).padStart(9);
const profileOf = (shapes) => ({ min: shapes(1), opt: shapes(Number(flags.opt ?? 8)), max: shapes(largest) });
const profiles = (shapes) => { const { min, opt, max } = profileOf(shapes); return [Object.fromEntries(Object.keys(min).map((name) => [name, { min: min[name], opt: opt[name], max: max[name] }]))]; };
const feedsOf = (engine, shapes, seed = 1) => makeFeeds(engine.inputs, { shapes, files: [], seed }, {});

/** The largest absolute difference over the largest absolute value; and of results without their mean over the batch, the cosine. */
function agreement(actual, expected) {
  const [a, b, rows] = [actual.data, expected.data, expected.dims[0]];
  const size = b.length / rows;
  let [difference, most, ab, aa, bb] = [0, 0, 0, 0, 0];
  for (let j = 0; j < size; j++) {
    let [sumA, sumB] = [0, 0];
    for (let i = j; i < b.length; i += size) { sumA += a[i]; sumB += b[i]; }
    const [meanA, meanB] = [sumA / rows, sumB / rows];
    for (let i = j; i < b.length; i += size) {
      const [x, y] = [a[i] - meanA, b[i] - meanB];
      ab += x * y; aa += x * x; bb += y * y;
      difference = Math.max(difference, Math.abs(a[i] - b[i]));
      most = Math.max(most, Math.abs(b[i]));
    }
  }
  return { relative: difference / most, cosine: ab / Math.sqrt(aa * bb) };
}

/** Says every few seconds where a build is, and in the end how long each stage took. */
function progressOf(name) {
  const stages = new Map();
  let [stage, since, said] = [undefined, performance.now(), performance.now()];
  const enter = (next) => {
    const now = performance.now();
    if (stage && next !== stage) stages.set(stage, (stages.get(stage) ?? 0) + now - since);
    if (next !== stage) since = now;
    stage = next;
  };
  return {
    onProgress: ({ stage: next, done, total, detail, elapsedMs }) => {
      enter(next);
      if (performance.now() - said < 5000) return;
      said = performance.now();
      console.log(`  ${name}: ${(elapsedMs / 1000).toFixed(0)} s, ${next} ${done} of ${total} ${detail}`);
    },
    summary: () => { enter(undefined); return [...stages].map(([key, value]) => `${key} ${(value / 1000).toFixed(1)}`).join(", "); },
  };
}

async function doctor() {
  const gpu = openGpu();
  console.log(JSON.stringify(gpu.description), openCudaCompiler().identity, JSON.stringify(gpu.memory()));
}

async function small() {
  const output = join(folder, "mlp.engine");
  await build(mlp(), { output, target: "cuda", level: 1 });
  const engine = Engine.loadSync(output);
  for (const batch of [1, 3, 16]) {
    const { y } = await engine.run({ x: new Tensor("float32", floats(batch * 16, batch), [batch, 16]) });
    const want = mlpReference(floats(batch * 16, batch), batch);
    console.log(`mlp batch ${batch}: largest difference ${Math.max(...y.data.map((value, i) => Math.abs(value - want[i])))}`);
  }
  engine.dispose();
}

async function cycles() {
  const output = join(folder, "mlp.engine");
  const gpu = openGpu();
  const x = new Tensor("float32", floats(16), [1, 16]);
  const once = async () => {
    const engine = Engine.loadSync(output);
    await engine.run({ x });
    engine.dispose();
  };
  for (let i = 0; i < 5; i++) await once();
  const before = gpu.memory().freeBytes;
  const started = performance.now();
  for (let i = 0; i < 1000; i++) await once();
  console.log(`1000 load/unload cycles: ${((performance.now() - started) / 1000).toFixed(2)} ms each; free device memory ${before} before, ${gpu.memory().freeBytes} after`);
}

/** A compiler whose kernels write where nothing is. */
function faulty() {
  const compiler = openCudaCompiler();
  return { identity: `${compiler.identity}, faulty`, compile: (source, arch, form) => compiler.compile(source.replace(/(extern "C" __global__[^{]*\{)/, "$1\n  *(volatile int*)16 = 1;"), arch, form) };
}

async function fault() {
  const [good, bad] = [join(folder, "mlp.engine"), join(folder, "bad.engine")];
  await build(mlp(), { output: bad, target: "cuda", level: 0, cudaCompiler: faulty() });
  const engine = Engine.loadSync(good);
  const broken = Engine.loadSync(bad);
  const x = new Tensor("float32", floats(16), [1, 16]);
  await engine.run({ x });
  const told = (run) => run.then(() => "FAIL: it ran", ({ code, message }) => `${code}: ${message}`);
  console.log(`the faulty engine: ${await told(broken.run({ x }))}`);
  console.log(`another one on the GPU: ${await told(engine.run({ x }))}`);
  const host = join(folder, "host.engine");
  await build(mlp(), { output: host, level: 0 });
  console.log(`one on the processor: ${(await Engine.loadSync(host).run({ x })).y.data.length === 8 ? "goes on" : "FAIL"}`);
}

const CALIBRATED = 8;
const calibrations = {};

/** A build in a precision: int8 with the ranges of a few inputs where there are images, else with a scale per row. */
async function buildIn(precision, path, shapes, inputs, options) {
  if (precision !== "int8") return build(path, { precision, ...options });
  if (!/resnet|efficientnet|mobilenet/.test(path)) return buildInt8(path, options);
  const kept = path.replace(/onnx$/, "calibration.json");
  if (existsSync(kept)) return buildInt8(path, { ...options, calibration: kept });
  const entries = Array.from({ length: CALIBRATED }, (_, i) => ({ id: String(i), columns: {} }));
  const data = { name: "noise", entries, load: async (i) => ({ ...entries[i], feeds: makeFeeds(inputs, { shapes: shapes(1), files: [], seed: 100 + i }, {}) }) };
  calibrations[path] ??= await calibrate(path, { data, samples: CALIBRATED, threads: availableParallelism() });
  return buildInt8(path, { ...options, calibration: calibrations[path] });
}

/** The processor's int8 of the same plan. */
async function int8OnHost(name, path, shapes, inputs, feeds) {
  const output = join(folder, `${name}.x64.int8.engine`);
  await buildIn("int8", path, shapes, inputs, { output, level: 0, profiles: profiles(shapes) });
  const engine = Engine.loadSync(output, { threads: availableParallelism() });
  const results = await engine.run(feeds);
  engine.dispose();
  rmSync(output);
  return results;
}

async function measure(name) {
  const shapes = SHAPES[name];
  const path = join(models, `${name}.onnx`);
  const host = join(folder, `${name}.x64.engine`);
  const started = performance.now();
  await build(path, { output: host, level: 0, profiles: profiles(shapes) });
  const reference = Engine.loadSync(host, { threads: availableParallelism() });
  const feeds16 = feedsOf(reference, shapes(16));
  const expected = await reference.run(feeds16);
  const { inputs } = reference;
  reference.dispose();
  rmSync(host);
  console.log(`${name}: reference ready after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  for (const precision of precisions) {
    const output = join(folder, `${name}.${precision}.engine`);
    const progress = progressOf(`${name} ${precision}`);
    const { elapsedMs, report } = await buildIn(precision, path, shapes, inputs, { output, target: "cuda", level, profiles: profiles(shapes), onProgress: progress.onProgress });
    console.log(`${name} ${precision}: built in ${(elapsedMs / 1000).toFixed(1)} s (${progress.summary()}), ${report.steps.length} steps, ${report.referenceSteps.length} on the reference`);
    const engine = Engine.loadSync(output);
    const context = engine.createContext();
    const actual = await context.run(feeds16);
    const references = { "fp32": expected, ...(precision === "int8" ? { "the processor's int8": await int8OnHost(name, path, shapes, inputs, feeds16) } : {}) };
    for (const [against, results] of Object.entries(references)) {
      for (const [key, value] of Object.entries(results)) {
        const { relative, cosine } = agreement(actual[key], value);
        console.log(`${name} ${precision} ${key} against ${against}: relative ${relative.toExponential(2)}, cosine ${cosine.toFixed(6)}`);
      }
    }
    for (const batch of batches) {
      const feeds = feedsOf(engine, shapes(batch));
      context.deviceTimes(feeds, 10);
      const device = median(context.deviceTimes(feeds, 50));
      for (let i = 0; i < 10; i++) await context.run(feeds);
      const times = [];
      for (let i = 0; i < 50; i++) {
        const before = performance.now();
        await context.run(feeds);
        times.push(performance.now() - before);
      }
      console.log(`${name} ${precision} batch ${String(batch).padStart(3)}: device ${ms(device)} ms, host to host ${ms(median(times))} ms (+${ms(median(times) - device)})`);
    }
    for (const batch of list("kernels", "").filter(Boolean).map(Number)) {
      console.log(`  kernels of ${name} ${precision} at batch ${batch}:`);
      kernels(context, feedsOf(engine, shapes(batch)));
    }
    engine.dispose();
    rmSync(output);
  }
}

/** Where the time goes, by tactic. */
function kernels(context, feeds) {
  context.profile(feeds);
  const sums = new Map();
  for (const { label, ns, flops } of context.profile(feeds)) {
    const key = `${label.tactic}`;
    const sum = sums.get(key) ?? { ns: 0, count: 0, flops: 0, most: 0, name: "" };
    sum.ns += ns; sum.count++; sum.flops += flops;
    if (ns > sum.most) { sum.most = ns; sum.name = `${label.name} ${label.operators.join("+")}`.slice(0, 60); }
    sums.set(key, sum);
  }
  for (const [key, { ns, count, flops, most, name }] of [...sums].sort((a, b) => b[1].ns - a[1].ns).slice(0, 14)) console.log(`    ${(ns / 1e3).toFixed(1).padStart(8)} us  ${String(count).padStart(3)} x  ${(flops / ns / 1e3).toFixed(1).padStart(6)} TFLOP/s  ${key}; longest ${(most / 1e3).toFixed(1)} us ${name}`);
}

/** Milliseconds of PyTorch's runs by name; nothing where there is no PyTorch. */
function peers(...what) {
  const { stdout } = spawnSync("python3", [join(import.meta.dirname, "cuda-peers.py"), ...what], { encoding: "utf8" });
  return new Map((stdout ?? "").split("\n").filter((line) => line.startsWith("{")).map((line) => { const { name, ms: time } = JSON.parse(line); return [name, time]; }));
}

const teraflops = (flops, time) => `${(flops / time / 1e9).toFixed(0).padStart(4)} TFLOP/s`;
/** Numbers of either sign between a half and one. */
function bfloat16(count, seed) {
  const bits = new Uint16Array(count);
  for (let i = 0, state = seed; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bits[i] = 0x3f00 | ((state >>> 16) & 0x807f);
  }
  return bits;
}

/** Milliseconds of the kernel whose operators include this one. */
function kernelTime(context, feeds, operator) {
  const once = () => context.profile(feeds).filter(({ label }) => label.operators.includes(operator));
  once();
  const runs = Array.from({ length: 20 }, once);
  return { time: median(runs.map((steps) => steps.reduce((sum, { ns }) => sum + ns, 0))) / 1e6, tactic: runs[0].map(({ label }) => label.tactic).join(", ") };
}

async function matmul() {
  const theirs = peers("matmul");
  for (const [m, n, k] of [[8192, 8192, 8192], [4096, 4096, 4096], [4096, 3072, 768]]) {
    const output = join(folder, "matmul.engine");
    const model = makeModel({
      opset: 21, inputs: [{ name: "x", type: "bfloat16", dims: [m, k] }], outputs: [{ name: "y", type: "bfloat16", dims: [m, n] }],
      initializers: { w: new Tensor("bfloat16", bfloat16(k * n, 2), [k, n]) }, nodes: [{ op: "MatMul", name: "product", inputs: ["x", "w"], outputs: ["y"] }],
    });
    await build(model, { output, target: "cuda", level: 3 });
    const engine = Engine.loadSync(output);
    const context = engine.createContext();
    const feeds = { x: new Tensor("bfloat16", bfloat16(m * k, 1), [m, k]) };
    context.deviceTimes(feeds, 5);
    const time = median(context.deviceTimes(feeds, 30));
    const peer = theirs.get(`${m}x${n}x${k}`);
    console.log(`matmul bf16 ${m}x${n}x${k}: ${time.toFixed(4)} ms ${teraflops(2 * m * n * k, time)} (${kernelTime(context, feeds, "MatMul").tactic})${peer ? `, cuBLASLt ${teraflops(2 * m * n * k, peer)}: ${((100 * peer) / time).toFixed(0)} % of it` : ""}`);
    engine.dispose();
  }
}

async function attention() {
  const theirs = peers("attention");
  const [batch, heads, length] = [8, 16, 2048];
  const noise = floats(batch * heads * length * 128 + 2, 1).map((value) => 3 * value);
  for (const size of [64, 128]) for (const causal of [false, true]) {
    const output = join(folder, "attention.engine");
    const dims = [batch, heads, length, size];
    const model = makeModel({
      opset: 23, inputs: ["q", "k", "v"].map((name) => ({ name, type: "float32", dims })), outputs: [{ name: "y", type: "float32", dims }], initializers: {},
      nodes: [{ op: "Attention", name: "attention", inputs: ["q", "k", "v"], outputs: ["y"], attributes: { is_causal: Number(causal) } }],
    });
    await build(model, { output, target: "cuda", precision: "bf16", level: 3 });
    const engine = Engine.loadSync(output);
    const context = engine.createContext();
    const feeds = Object.fromEntries(["q", "k", "v"].map((name, i) => [name, new Tensor("float32", noise.subarray(i, i + batch * heads * length * size), dims)]));
    const { time, tactic } = kernelTime(context, feeds, "Attention");
    const flops = 4 * batch * heads * length * length * size * (causal ? 0.5 : 1);
    const name = `head ${size}${causal ? " causal" : ""}`;
    const beside = ["FLASH_ATTENTION", "CUDNN_ATTENTION"].flatMap((backend) => { const peer = theirs.get(`${name} ${backend}`); return peer ? [`${backend} ${teraflops(flops, peer)}: ${((100 * peer) / time).toFixed(0)} % of it`] : []; });
    console.log(`attention bf16 ${length} tokens, ${name}: ${time.toFixed(4)} ms ${teraflops(flops, time)} (${tactic})${beside.map((text) => `, ${text}`).join("")}`);
    engine.dispose();
  }
}

const STAGES = { doctor, small, cycles, fault, matmul, attention, models: async () => { for (const name of list("model", Object.keys(SHAPES).join())) await attempt(name, () => measure(name)); } };

async function attempt(name, stage) {
  const started = performance.now();
  try {
    await stage();
  } catch (error) {
    console.log(`FAIL ${name}: ${error.stack}`);
    process.exitCode = 1;
  }
  console.log(`-- ${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

for (const name of words.length > 0 ? words : Object.keys(STAGES)) await attempt(name, STAGES[name]);
rmSync(folder, { recursive: true, force: true });
process.exit();
