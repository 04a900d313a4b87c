// Is any shape slow? bert-base over batches and lengths, image models over batches, against onnxruntime at 1 and 2 threads.
// Cells where ours is slower than the peer by more than the noise allowed are named at the end.
// Usage: npm run bench sweep [WORD…] [--seconds=N] [--threads=1,2] [--most-tokens=N]
import { openOnnxruntime } from "../dist/cli/peer.js";
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { geometricMean, inTurns, machine, parseArguments, PeakMeter, timed } from "./side-by-side.mjs";
import { chooseModels } from "./zoo.mjs";

const NOISE = 0.03;
const BATCHES = [1, 2, 3, 8, 32];
const LENGTHS = [1, 7, 16, 63, 128, 300, 512];
const IMAGE_BATCHES = [1, 4, 16];
const IMAGE_MODELS = ["resnet50-ts", "resnet50-dynamo", "resnet50-keras", "mobilenet_v3_large-ts", "efficientnet_b0-ts", "mobilenet_v1_1.0_224", "efficientnet_lite0-fp32"];

const { flags, words } = parseArguments();
const seconds = Number(flags.seconds ?? 1);
const threadCounts = (flags.threads ?? "1,2").split(",").map(Number);
const mostTokens = Number(flags["most-tokens"] ?? Number.POSITIVE_INFINITY);
const meters = new Map(threadCounts.map((threads) => [threads, new PeakMeter(threads)]));

/** @returns [label, shapes] of every cell of a model's sweep; none when it is not swept */
function cellsOf(model) {
  const { opt } = model.profile;
  if (model.name === "bert-base-ts") {
    return BATCHES.flatMap((batch) => LENGTHS.filter((length) => batch * length <= mostTokens).map((length) => [`${batch}x${length}`, Object.fromEntries(Object.keys(opt).map((name) => [name, [batch, length]]))]));
  }
  if (!IMAGE_MODELS.includes(model.name)) return [];
  return IMAGE_BATCHES.map((batch) => [`batch ${batch}`, Object.fromEntries(Object.entries(opt).map(([name, dims]) => [name, [batch, ...dims.slice(1)]]))]);
}

/** The model with a profile that every cell lies in. */
function covering(model, cells) {
  const names = Object.keys(model.profile.opt);
  const max = Object.fromEntries(names.map((name) => [name, model.profile.opt[name].map((_, d) => Math.max(...cells.map(([, shapes]) => shapes[name][d]), model.profile.max[name][d]))]));
  return { ...model, name: `${model.name}-sweep`, profile: { ...model.profile, max } };
}

console.log(machine);
const cells = [];
for (const model of chooseModels(words)) {
  const wanted = cellsOf(model);
  if (wanted.length === 0) continue;
  const swept = covering(model, wanted);
  const { path } = await engineOf(swept);
  for (const threads of threadCounts) {
    const engine = await Engine.load(path, { threads });
    const context = engine.createContext();
    for (const [label, shapes] of wanted) {
      const feeds = feedsOf(swept, engine, shapes);
      const peer = await openOnnxruntime(model.path, feeds, threads);
      const { sides: [ours, theirs], kept, rounds } = await inTurns([timed(() => context.run(feeds)), timed(() => peer.start())], { seconds, meter: meters.get(threads), leastRounds: 2 });
      await peer.release();
      const ratio = theirs.median / ours.median;
      cells.push({ name: `${model.name} ${label}, ${threads} thread${threads > 1 ? "s" : ""}`, ratio });
      console.log(`${model.name.padEnd(26)} ${label.padEnd(9)} ${threads} thread${threads > 1 ? "s" : " "} ${ours.median.toFixed(3).padStart(10)} ms  onnxruntime ${theirs.median.toFixed(3).padStart(10)} ms  ${ratio.toFixed(2)} times faster  (${kept}/${rounds} rounds)`);
    }
    engine.dispose();
  }
}
const slow = cells.filter(({ ratio }) => ratio < 1 - NOISE);
if (cells.length > 0) console.log(`geometric mean of ${cells.length} cells ${geometricMean(cells.map(({ ratio }) => ratio)).toFixed(3)}, least ${Math.min(...cells.map(({ ratio }) => ratio)).toFixed(2)}; ${slow.length} slower than the peer by more than ${100 * NOISE} %`);
for (const { name, ratio } of slow) console.log(`slower: ${name}: ${ratio.toFixed(2)}`);
process.exit(slow.length > 0 ? 1 : 0);
