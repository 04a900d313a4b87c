// What do engines do on this machine's GPU? Everything that needs one, in stages of less than ten minutes each, of which one that
// fails loses no other: agreement with this machine's processor, latency with the data on the device and from host to host, large
// products and attention beside PyTorch's, load and unload, faults contained, a server under 64 clients, ONNX's own test cases, the
// kernels of each kind against plain loops. With int8, images are calibrated on noise and compared with this processor's int8 too.
// Usage: npm run bench cuda [STAGE…] [--models=FOLDER] [--level=N] [--precision=fp16,fp32] [--batches=1,8,32,128] [--model=bert-base-ts,resnet50-ts]
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, buildInt8, calibrate, Engine, Tensor } from "../dist/index.js";
import { makeFeeds } from "../dist/cli/feeds.js";
import { openCudaCompiler, openGpu } from "../dist/native/index.js";
import { mlp, mlpReference, floats } from "../dist/testing/small-models.js";
import { conformance } from "./gpu/conformance.mjs";
import { attention, matmul } from "./gpu/kernels.mjs";
import { busy, faults, fromModel, memory, overhead } from "./gpu/serving.mjs";

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
  const entries = Array.from({ length: CALIBRATED }, (_, i) => ({ id: String(i), columns: {} }));
  const data = { name: "noise", entries, load: async (i) => ({ ...entries[i], feeds: makeFeeds(inputs, { shapes: shapes(1), files: [], seed: 100 + i }, {}) }) };
  calibrations[path] ??= await calibrate(path, { data, samples: CALIBRATED });
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

/** An engine of a model for serving, built once for the stages that need it. */
async function servedEngine(name) {
  const output = join(folder, `${name}.served.engine`);
  if (!existsSync(output)) await build(join(models, `${name}.onnx`), { output, target: "cuda", precision: precisions[0], level, profiles: profiles(SHAPES[name]) });
  return output;
}

const servedModel = flags.served ?? "bert-base-ts";

async function hosted() {
  await overhead({ path: await servedEngine(servedModel), name: `${servedModel} ${precisions[0]}`, feedsOf: (engine, batch) => feedsOf(engine, SHAPES[servedModel](batch)), batches: batches.filter((batch) => batch <= 32) });
}

async function serving() {
  const path = await servedEngine(servedModel);
  const engine = Engine.loadSync(path);
  const context = engine.createContext();
  const device = (rows) => { const feeds = feedsOf(engine, SHAPES[servedModel](Math.max(1, Math.round(rows)))); context.deviceTimes(feeds, 5); return median(context.deviceTimes(feeds, 20)); };
  const outputs = [engine.outputs.reduce((least, output) => ((output.dims?.length ?? 9) < (least.dims?.length ?? 9) ? output : least)).name];
  const shapes = Object.entries(SHAPES[servedModel](1)).map(([name, dims]) => `${name}:${dims.join("x")}`).join(",");
  await busy({ folder, path, name: servedModel, feedsOf: (one, batch) => feedsOf(one, SHAPES[servedModel](batch)), maxBatch: largest, outputs, shapes, device });
  engine.dispose();
}

async function onnx() {
  const [name, input] = ["resnet50-ts", "input"];
  const reference = { inputs: [{ name: input, type: "float32", dims: [1, 3, 224, 224] }] };
  await fromModel({ folder: mkdtempSync(join(folder, "o-")), file: join(models, `${name}.onnx`), name, feedsOf: () => feedsOf(reference, SHAPES[name](1)) });
}

/** The test files that need a GPU. */
function tests() {
  const files = ["codegen/cuda/contraction/device.test.js"].map((file) => fileURLToPath(new URL(`../dist/${file}`, import.meta.url)));
  const { stdout } = spawnSync(process.execPath, ["--test", "--test-reporter=tap", ...files], { encoding: "utf8", timeout: 300_000, maxBuffer: 2 ** 26 });
  console.log(stdout.split("\n").filter((line) => /^\s*not ok|^# (pass|fail|skipped)|error:/.test(line)).join("\n"));
}

const STAGES = {
  doctor, small, cycles, matmul: () => matmul(folder), attention: () => attention(folder), hosted, serving, onnx, tests, conformance: () => conformance({ pattern: flags.pattern }), memory: () => memory({ folder: mkdtempSync(join(folder, "m-")) }), faults: () => faults({ folder: mkdtempSync(join(folder, "f-")) }), fault, models: async () => { for (const name of list("model", Object.keys(SHAPES).join())) await attempt(name, () => measure(name)); },
};

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
