// How fast are engines against onnxruntime? Batch 1, the profile's optimum, 1 and 2 threads, in turns, medians; beside them
// the multiply-add peak measured in the same rounds and the share of it that ours reach.
// Usage: npm run bench models [WORD…] [--seconds=N] [--threads=1,2] [--fast-convolution]; --record and --check keep and
// compare the ratios of this kind of processor.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openOnnxruntime } from "../dist/cli/peer.js";
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { flopsOf, geometricMean, inTurns, machine, parseArguments, PeakMeter, processor, timed } from "./side-by-side.mjs";
import { chooseModels, root } from "./zoo.mjs";

const { flags, words } = parseArguments();
const seconds = Number(flags.seconds ?? 4);
const threadCounts = (flags.threads ?? "1,2").split(",").map(Number);
const fastConvolution = "fast-convolution" in flags;
const recordFile = join(root, "bench/recorded.json");
const records = existsSync(recordFile) ? JSON.parse(readFileSync(recordFile, "utf8")) : {};
const recorded = (records[processor] ??= {});
const meters = new Map(threadCounts.map((threads) => [threads, new PeakMeter(threads)]));

async function measure(model, path, threads) {
  const before = performance.now();
  const engine = await Engine.load(path, { threads });
  const loadMs = performance.now() - before;
  const feeds = feedsOf(model, engine, model.profile.opt);
  const context = engine.createContext();
  const peer = await openOnnxruntime(model.path, feeds, threads);
  try {
    const flops = flopsOf(context, feeds);
    const { sides: [ours, theirs], peak, kept, rounds } = await inTurns([timed(() => context.run(feeds)), timed(() => peer.start())], { seconds, meter: meters.get(threads) });
    return { threads, ours, theirs, ratio: theirs.median / ours.median, peak, share: flops / (ours.median * 1e6) / peak, kept, rounds, loadMs };
  } finally {
    await peer.release();
    engine.dispose();
  }
}

console.log(`${machine}${fastConvolution ? ", fast convolutions" : ""}`);
console.log("model".padEnd(26), "threads", "   ours ms", "spread", "onnxruntime ms", "spread", "times faster", "of peak", "peak GF/s", "rounds", "build s", "load ms");
const rows = [];
const slower = [];
for (const model of chooseModels(words)) {
  const { path, buildMs } = await engineOf(model, { fastConvolution });
  for (const threads of threadCounts) {
    const row = await measure(model, path, threads);
    rows.push(row);
    const key = `${model.name}${fastConvolution ? "+fast" : ""}/${threads}`;
    if (recorded[key] && row.ratio < recorded[key] * 0.95) slower.push(`${key}: ${row.ratio.toFixed(2)}, recorded ${recorded[key].toFixed(2)}`);
    if ("record" in flags) recorded[key] = Number(row.ratio.toFixed(3));
    const percent = (value) => `${(100 * value).toFixed(1)} %`;
    console.log(
      model.name.padEnd(26), String(threads).padStart(7), row.ours.median.toFixed(3).padStart(10), percent(row.ours.spread).padStart(6), row.theirs.median.toFixed(3).padStart(14), percent(row.theirs.spread).padStart(6),
      row.ratio.toFixed(2).padStart(12), percent(row.share).padStart(7), row.peak.toFixed(0).padStart(9), `${row.kept}/${row.rounds}`.padStart(6), (buildMs === undefined ? "-" : (buildMs / 1000).toFixed(1)).padStart(7), row.loadMs.toFixed(1).padStart(7),
    );
  }
}
for (const threads of threadCounts) {
  const ratios = rows.filter((row) => row.threads === threads).map(({ ratio }) => ratio);
  if (ratios.length) console.log(`geometric mean, ${threads} thread${threads > 1 ? "s" : ""}: ${geometricMean(ratios).toFixed(3)} times faster, least ${Math.min(...ratios).toFixed(2)}`);
}
if ("record" in flags) writeFileSync(recordFile, `${JSON.stringify(records, null, 1)}\n`);
if ("check" in flags) {
  if (Object.keys(recorded).length === 0) console.log(`nothing is recorded for ${processor}; --record does that`);
  for (const line of slower) console.log(`slower than recorded: ${line}`);
}
process.exit("check" in flags && slower.length > 0 ? 1 : 0);
