// What does a run cost besides its arithmetic? A 64x64 product from call to result, a small MLP against onnxruntime, and the
// first run at a shape never seen against the tenth. Usage: npm run bench small [matmul|mlp|shape …]
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openOnnxruntime } from "../dist/cli/peer.js";
import { build, Engine, Tensor } from "../dist/index.js";
import { makeModel } from "../dist/onnx/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { machine, median, parseArguments, quantile, sleep } from "./side-by-side.mjs";
import { chooseModels, root } from "./zoo.mjs";

const folder = join(root, ".cache/small");
mkdirSync(folder, { recursive: true });
const { words } = parseArguments();

const floats = (count, seed) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.37 + seed) / 8);
const value = (name, dims) => ({ name, type: "float32", dims });

/** Ten layers of width 128: products, biases, Relu between them. */
function mlp() {
  const [width, layers] = [128, 10];
  const initializers = Object.fromEntries(Array.from({ length: layers }, (_, i) => [[`w${i}`, new Tensor("float32", floats(width * width, i), [width, width])], [`b${i}`, new Tensor("float32", floats(width, i), [width])]]).flat());
  const nodes = Array.from({ length: layers }, (_, i) => [
    { op: "Gemm", inputs: [i === 0 ? "x" : `r${i - 1}`, `w${i}`, `b${i}`], outputs: [i === layers - 1 ? "y" : `y${i}`] },
    ...(i === layers - 1 ? [] : [{ op: "Relu", inputs: [`y${i}`], outputs: [`r${i}`] }]),
  ]).flat();
  return makeModel({ inputs: [value("x", [1, width])], outputs: [value("y", [1, width])], initializers, nodes });
}

async function engineFor(name, bytes) {
  const [model, output] = [join(folder, `${name}.onnx`), join(folder, `${name}.engine`)];
  writeFileSync(model, bytes);
  await build(model, { output, threads: 1 });
  return { model, engine: await Engine.load(output, { threads: 1 }) };
}

/**
 * Until the engine of JavaScript has collected results for the first time, each result lies on pages that nobody has touched,
 * and on a virtual machine a new page costs microseconds. It begins at 64 MB of results: 4096 of 16 KB.
 */
const WARM_RUNS = 6000;

/** Microseconds per run: the median of blocks of runs. */
async function perRun(run, { blocks = 30, runs = 300 } = {}) {
  for (let i = 0; i < WARM_RUNS; i++) await run();
  const times = [];
  for (let block = 0; block < blocks; block++) {
    const before = process.hrtime.bigint();
    for (let i = 0; i < runs; i++) await run();
    times.push(Number(process.hrtime.bigint() - before) / 1000 / runs);
  }
  return { least: Math.min(...times), median: median(times) };
}

const PARTS = {
  async matmul() {
    const bytes = makeModel({ inputs: [value("a", [64, 64]), value("b", [64, 64])], outputs: [value("c", [64, 64])], nodes: [{ op: "MatMul", inputs: ["a", "b"], outputs: ["c"] }] });
    const { engine } = await engineFor("matmul", bytes);
    const context = engine.createContext();
    const feeds = { a: new Tensor("float32", floats(4096, 1), [64, 64]), b: new Tensor("float32", floats(4096, 2), [64, 64]) };
    const sync = await perRun(() => context.runSync(feeds));
    const run = await perRun(() => context.run(feeds));
    const outputs = { c: engine.allocate("c", [64, 64]) };
    const given = await perRun(() => context.runSync(feeds, outputs));
    console.log(`64x64 matmul: runSync ${sync.median.toFixed(2)} us (least ${sync.least.toFixed(2)}), into memory of the caller's ${given.median.toFixed(2)} us, run ${run.median.toFixed(2)} us; the bound is 10 us`);
    engine.dispose();
    return sync.median < 10;
  },
  async mlp() {
    const { model, engine } = await engineFor("mlp", mlp());
    const context = engine.createContext();
    const feeds = { x: new Tensor("float32", floats(128, 1), [1, 128]) };
    const peer = await openOnnxruntime(model, feeds, 1);
    const rounds = [];
    for (let round = 0; round < 5; round++) {
      await sleep(150);
      const ours = await perRun(() => context.run(feeds), { blocks: 10 });
      await sleep(150);
      const theirs = await perRun(() => peer.start(), { blocks: 10 });
      rounds.push({ ours: ours.median, theirs: theirs.median });
    }
    const [ours, theirs] = [median(rounds.map((round) => round.ours)), median(rounds.map((round) => round.theirs))];
    console.log(`ten layers of width 128, batch 1: ${ours.toFixed(2)} us, onnxruntime ${theirs.toFixed(2)} us: ${(theirs / ours).toFixed(2)} times faster; the bound is 1.5`);
    await peer.release();
    engine.dispose();
    return theirs / ours >= 1.5;
  },
  async shape() {
    const [model] = chooseModels(["bert-base"]);
    if (!model) return true;
    const { path } = await engineOf(model);
    const engine = await Engine.load(path, { threads: 1 });
    const context = engine.createContext();
    await context.run(feedsOf(model, engine, model.profile.opt));
    const extra = [];
    for (const length of [5, 11, 17, 23, 29, 35, 41]) {
      const feeds = feedsOf(model, engine, Object.fromEntries(Object.keys(model.profile.opt).map((name) => [name, [1, length]])));
      const times = [];
      for (let i = 0; i < 10; i++) {
        const before = process.hrtime.bigint();
        await context.run(feeds);
        times.push(Number(process.hrtime.bigint() - before) / 1e6);
      }
      extra.push(times[0] - times[9]);
    }
    console.log(`first run at a shape never seen, over the tenth: ${median(extra).toFixed(2)} ms (most ${quantile(extra, 1).toFixed(2)}); the bound is 1 ms`);
    engine.dispose();
    return median(extra) < 1;
  },
};

console.log(machine);
let kept = true;
for (const [name, part] of Object.entries(PARTS)) if (words.length === 0 || words.includes(name)) kept = (await part()) && kept;
process.exit(kept ? 0 : 1);
