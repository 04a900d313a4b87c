// How fast are engines against onnxruntime? Batch 1, the profile's optimum, 1 and 2 threads, interleaved in blocks,
// medians. Usage: npm run bench models [WORD…] [--seconds=N] [--threads=1,2]; --record and --check keep and compare ratios.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openOnnxruntime } from "../dist/cli/peer.js";
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { chooseModels, root } from "./zoo.mjs";

const flags = Object.fromEntries(process.argv.slice(2).filter((arg) => arg.startsWith("--")).map((arg) => arg.slice(2).split("=")));
const words = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const seconds = Number(flags.seconds ?? 4);
const threadCounts = (flags.threads ?? "1,2").split(",").map(Number);
const recordFile = join(root, "bench/recorded.json");

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Blocks of runs in turn, with a pause in which the other side's threads stop spinning: onnxruntime's keep a core busy for a while after a run. */
async function compare(ours, theirs) {
  const samples = [[], []];
  const started = performance.now();
  const block = Math.max(2, Math.min(200, Math.round(200 / (await ours()))));
  while (performance.now() - started < seconds * 1000 || samples[0].length < 7) {
    for (const [i, run] of [ours, theirs].entries()) {
      await sleep(150);
      await run();
      for (let n = 0; n < block; n++) samples[i].push(await run());
    }
  }
  return samples;
}

const recorded = existsSync(recordFile) ? JSON.parse(readFileSync(recordFile, "utf8")) : {};
const ratios = [];
const slower = [];
console.log("model".padEnd(26), "threads", "   ours ms", "onnxruntime ms", "times faster", "build s", "load ms");
for (const model of chooseModels(words)) {
  const { path, buildMs } = await engineOf(model);
  for (const threads of threadCounts) {
    const before = performance.now();
    const engine = await Engine.load(path, { threads });
    const loadMs = performance.now() - before;
    const feeds = feedsOf(model, engine, model.profile.opt);
    const context = engine.createContext();
    const peer = await openOnnxruntime(model.path, feeds, threads);
    const timed = (run) => async () => {
      const start = performance.now();
      await run();
      return performance.now() - start;
    };
    const [mine, other] = await compare(timed(() => context.run(feeds)), timed(() => peer.start()));
    await peer.release();
    engine.dispose();
    const ratio = median(other) / median(mine);
    ratios.push({ threads, ratio });
    const key = `${model.name}/${threads}`;
    if (recorded[key] && ratio < recorded[key] * 0.95) slower.push(`${key}: ${ratio.toFixed(2)}, recorded ${recorded[key].toFixed(2)}`);
    if ("record" in flags) recorded[key] = Number(ratio.toFixed(3));
    console.log(model.name.padEnd(26), String(threads).padStart(7), median(mine).toFixed(3).padStart(10), median(other).toFixed(3).padStart(14), ratio.toFixed(2).padStart(12), (buildMs === undefined ? "-" : (buildMs / 1000).toFixed(1)).padStart(7), loadMs.toFixed(1).padStart(7));
  }
}
for (const threads of threadCounts) {
  const some = ratios.filter((item) => item.threads === threads);
  if (some.length) console.log(`geometric mean, ${threads} thread${threads > 1 ? "s" : ""}: ${Math.exp(some.reduce((sum, item) => sum + Math.log(item.ratio), 0) / some.length).toFixed(3)} times faster, least ${Math.min(...some.map((item) => item.ratio)).toFixed(2)}`);
}
if ("record" in flags) writeFileSync(recordFile, `${JSON.stringify(recorded, null, 1)}\n`);
if ("check" in flags) {
  for (const line of slower) console.log(`slower than recorded: ${line}`);
  process.exit(slower.length ? 1 : 0);
}
process.exit(0);
