// Does Sinter keep what it promises besides speed: build time, load time, memory, first answers, a free event loop?
// One line per promise: the bound and what was measured. Each is measured in processes of its own.
// Usage: npm run bench promises [build|load|arena|shapes|loop|memory …]
import { spawn } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeFeeds } from "../dist/cli/feeds.js";
import { EngineFile } from "../dist/engine/index.js";
import { build, Engine } from "../dist/index.js";
import { makeModel } from "../dist/onnx/index.js";
import { engineOf } from "./engines.mjs";
import { chooseModels, profileOf, root } from "./zoo.mjs";

const folder = join(root, ".cache/promises");
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const quantile = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const numberIn = (file, name) => Number(readFileSync(file, "utf8").match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))[1]);

/** Runs a part of this file in a process of its own. @returns what it answers, and the most anonymous memory it had, in MiB */
function inProcess(part, ...args) {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), `--part=${part}`, ...args.map((arg) => JSON.stringify(arg))], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  let peakMiB = 0;
  const sampler = setInterval(() => {
    try {
      peakMiB = Math.max(peakMiB, numberIn(`/proc/${child.pid}/status`, "RssAnon") / 1024);
    } catch {
      // It has ended.
    }
  }, 4);
  child.stdout.on("data", (chunk) => { text += chunk; });
  return new Promise((resolve, reject) => child.on("close", (status) => {
    clearInterval(sampler);
    if (status === 0) resolve({ answer: JSON.parse(text), peakMiB });
    else reject(new Error(`part ${part} ended with ${status}`));
  }));
}

// ---- models made for this ---------------------------------------------------------------------------------------

/** 1.2 GB of weights in a file of their own, each used through a transpose, as PyTorch's exporters write linear layers. */
function writeLargeModel() {
  const [size, layers] = [4096, 18];
  const path = join(folder, "large.onnx");
  const data = openSync(join(folder, "large.bin"), "w");
  ftruncateSync(data, layers * size * size * 4);
  for (let i = 0; i < layers; i++) writeSync(data, Buffer.from(Float32Array.from({ length: 64 }, (_, j) => ((j * (i + 1)) % 7) - 3).buffer), 0, 256, i * size * size * 4);
  closeSync(data);
  const initializers = Object.fromEntries(Array.from({ length: layers }, (_, i) => [`w${i}`, { type: "float32", dims: [size, size], location: "large.bin", offset: i * size * size * 4, length: size * size * 4 }]));
  const nodes = Array.from({ length: layers }, (_, i) => [
    { op: "Transpose", inputs: [`w${i}`], outputs: [`t${i}`], attributes: { perm: [1, 0] } },
    { op: "MatMul", inputs: [i === 0 ? "x" : `r${i - 1}`, `t${i}`], outputs: [`y${i}`] },
    { op: "Relu", inputs: [`y${i}`], outputs: [`r${i}`] },
  ]).flat();
  const value = (name) => ({ name, type: "float32", dims: ["n", size] });
  writeFileSync(path, makeModel({ inputs: [value("x")], outputs: [value(`r${layers - 1}`)], initializers, nodes }));
  return { path, profile: { x: { min: [1, size], opt: [64, size], max: [1024, size] } } };
}

// ---- parts that run in processes of their own -----------------------------------------------------------------------

const PARTS = {
  build: async (options) => ({ elapsedMs: (await build(options.model, options)).elapsedMs }),
  load: async (path, shapes) => {
    const held = () => numberIn("/proc/self/smaps_rollup", "Private_Clean") + numberIn("/proc/self/smaps_rollup", "Private_Dirty");
    const before = held();
    const started = performance.now();
    const engine = await Engine.load(path, { threads: 2 });
    const loadMs = performance.now() - started;
    const privateMiB = (held() - before) / 1024;
    const feeds = makeFeeds(engine.inputs, { shapes, files: [] }, {});
    const again = performance.now();
    await engine.run(feeds);
    return { loadMs, privateMiB, firstMs: loadMs + performance.now() - again };
  },
  shapes: async (path) => {
    const engine = await Engine.load(path, { threads: 1 });
    const context = engine.createContext();
    const feedsOf = (length) => makeFeeds(engine.inputs, { shapes: { input_ids: [1, length], attention_mask: [1, length] }, files: [] }, {});
    const timed = async (feeds) => {
      const started = performance.now();
      await context.run(feeds);
      return performance.now() - started;
    };
    for (let i = 0; i < 5; i++) await timed(feedsOf(4));
    const more = [];
    for (let length = 5; length <= 32; length++) {
      const feeds = feedsOf(length);
      const times = [];
      for (let i = 0; i < 10; i++) times.push(await timed(feeds));
      more.push(times[0] - median(times.slice(5)));
    }
    return { moreMs: median(more) };
  },
  loop: async (path) => {
    const engine = await Engine.load(path, { threads: 2 });
    const context = engine.createContext();
    const input = engine.allocate("x", [256, 4096]);
    const { outputs: [output] } = engine;
    const outputs = { [output.name]: engine.allocate(output.name, [256, 4096]) };
    const runs = [];
    const timed = async () => {
      const started = performance.now();
      await context.run({ x: input }, { outputs });
      runs.push(performance.now() - started);
    };
    /** Lateness of a timer of one millisecond, until the work is done. */
    const probe = async (work, into) => {
      let done = false;
      const ended = work.then(() => { done = true; });
      while (!done) {
        const started = performance.now();
        await sleep(1);
        into.push(performance.now() - started - 1);
      }
      await ended;
    };
    await timed();
    const [idle, busy] = [[], []];
    for (let round = 0; round < 6; round++) {
      await probe(timed(), busy);
      await probe(sleep(runs.at(-1)), idle);
    }
    return { runMs: median(runs), idleMs: quantile(idle, 0.999), busyMs: quantile(busy, 0.999), samples: busy.length };
  },
};

// ---- the promises ---------------------------------------------------------------------------------------------------

let failed = 0;
function report(promise, bound, measured, unit, note = "") {
  const kept = measured <= bound;
  if (!kept) failed++;
  console.log(`${kept ? "kept  " : "BROKEN"} ${promise.padEnd(66)} ${`${measured.toFixed(measured < 10 ? 2 : 0)} ${unit}`.padStart(10)}  (at most ${bound} ${unit})${note ? `  ${note}` : ""}`);
}

const bert = () => chooseModels(["bert-base-ts"])[0];

const PROMISES = {
  build: async () => {
    const model = bert();
    if (!model) return;
    const options = { model: model.path, output: join(folder, "bert.engine"), profiles: [profileOf(model)], timingCache: join(folder, "timings.json") };
    rmSync(options.timingCache, { force: true });
    const cold = await inProcess("build", options);
    const first = readFileSync(options.output);
    const warm = await inProcess("build", options);
    report("build of bert-base", 60, cold.answer.elapsedMs / 1000, "s");
    report("build of bert-base with its timing cache", 10, warm.answer.elapsedMs / 1000, "s", first.equals(readFileSync(options.output)) ? "byte-identical" : "NOT byte-identical");
  },
  load: async () => {
    const model = bert();
    if (!model) return;
    const { path } = await engineOf(model);
    const runs = [];
    for (let i = 0; i < 20; i++) runs.push((await inProcess("load", path, model.profile.opt)).answer);
    report("load of bert-base, in a new process, median of 20", 25, median(runs.map((run) => run.loadMs)), "ms");
    report("private memory that loading takes", 10, median(runs.map((run) => run.privateMiB)), "MB");
    report("first answer of bert-base, 128 tokens, since the load began", 200, median(runs.map((run) => run.firstMs)), "ms");
  },
  arena: async () => {
    const model = bert();
    if (!model) return;
    const arenas = [];
    for (const length of [128, 256, 512, 1024, 2048]) {
      const tokens = { min: [1, 1], opt: [1, 128], max: [1, length] };
      const output = join(folder, "arena.engine");
      await build(model.path, { output, level: 0, profiles: [{ input_ids: tokens, attention_mask: tokens }] });
      const file = EngineFile.open(output);
      arenas.push(file.manifest().profiles[0].arenaBytes / 2 ** 20);
      file.close();
    }
    const growth = Math.max(...arenas.slice(1).map((size, i) => size / arenas[i]));
    report("arena of bert-base: growth when tokens double, 128 to 2,048", 2.05, growth, "times", arenas.map((size) => `${size.toFixed(1)} MiB`).join(", "));
  },
  shapes: async () => {
    const model = bert();
    if (!model) return;
    const { path } = await engineOf(model);
    report("first run at a new shape over later ones, median of 28 shapes", 1, (await inProcess("shapes", path)).answer.moreMs, "ms");
  },
  loop: async () => {
    const { path, profile } = writeLargeModel();
    const output = join(folder, "large.engine");
    if (!existsSync(output)) await inProcess("build", { model: path, output, profiles: [profile], level: 1 });
    const { runMs, idleMs, busyMs, samples } = (await inProcess("loop", output)).answer;
    report(`event loop's p99.9 delay beside runs of ${(runMs / 1000).toFixed(1)} s, over an idle probe's`, 10, busyMs - idleMs, "ms", `${busyMs.toFixed(1)} and ${idleMs.toFixed(1)} ms, ${samples} probes`);
  },
  memory: async () => {
    const { path, profile } = writeLargeModel();
    const large = await inProcess("build", { model: path, output: join(folder, "large.engine"), profiles: [profile] });
    report("anonymous memory of building a model of 1.2 GB", 500, large.peakMiB, "MB", `${(large.answer.elapsedMs / 1000).toFixed(0)} s`);
    for (const model of chooseModels(["bart-large", "gpt2"])) {
      const made = await inProcess("build", { model: model.path, output: join(folder, "memory.engine"), profiles: [profileOf(model)] });
      report(`anonymous memory of building ${model.name}`, 500, made.peakMiB, "MB", `${(made.answer.elapsedMs / 1000).toFixed(0)} s`);
    }
  },
};

mkdirSync(folder, { recursive: true });
const part = process.argv.find((arg) => arg.startsWith("--part="))?.slice(7);
if (part) {
  const args = process.argv.slice(3).map((arg) => JSON.parse(arg));
  process.stdout.write(JSON.stringify(await PARTS[part](...args)), () => process.exit(0));
} else {
  const wanted = process.argv.slice(2);
  for (const [name, measure] of Object.entries(PROMISES)) if (wanted.length === 0 || wanted.includes(name)) await measure();
  for (const name of ["large.bin", "large.engine", "memory.engine", "arena.engine"]) rmSync(join(folder, name), { force: true });
  process.exit(failed ? 1 : 0);
}
