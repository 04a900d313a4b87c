// How fast is int8? Batch 1, 1 and 2 threads, in turns with onnxruntime: our int8 of a float model against its float, and
// models that come quantized (QuantizeLinear and DequantizeLinear, or MatMulInteger) against its run of the same file;
// beside them the share of contractions' time in integer kernels. Usage: npm run bench int8-speed [WORD…] [--seconds=N]
// [--threads=1,2] [--build]: with --build engines are made and nothing is measured.
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { timeKernels } from "../dist/cli/kernel-times.js";
import { openOnnxruntime } from "../dist/cli/peer.js";
import { build, buildInt8, Engine } from "../dist/index.js";
import { feedsOf } from "./engines.mjs";
import { calibrationImages, calibrationOf, classifiers, folder, samplesOf, shared } from "./quantization-data.mjs";
import { dynamicOf, qdqOf } from "./quantized-models.mjs";
import { inTurns, machine, parseArguments, PeakMeter, timed } from "./side-by-side.mjs";
import { chooseModels, profileOf, root } from "./zoo.mjs";

const { flags, words } = parseArguments();
const seconds = Number(flags.seconds ?? 4);
const threadCounts = (flags.threads ?? "1,2").split(",").map(Number);
const SAMPLES = 64;
const LEAST_INTEGER_SHARE = 0.95;

/** What is compared: our engine of one file, onnxruntime on another or the same, and how many times faster it shall be. */
function cases() {
  const quantizing = (model, goal, calibration) => ({ name: `${model.name}, int8 to float`, model, goal, peer: model.path, build: async (options) => buildInt8(model.path, { ...options, ...(calibration ? { calibration: await calibration() } : {}) }) });
  const asItComes = (model, how, path) => ({ name: `${model.name}, ${how}`, model, goal: 1.3, peer: path, build: (options) => build(path, options) });
  const images = classifiers();
  const floats = images.map((model) => quantizing(model, model.name.startsWith("resnet50") ? 2.5 : undefined, () => calibrationOf(model, SAMPLES)));
  const made = images.filter(({ name }) => !name.startsWith("efficientnet")).map((model) => ({ ...asItComes(model, "QDQ", join(folder, `${model.name}-qdq.onnx`)), prepare: async () => qdqOf(model.path, join(folder, `${model.name}-qdq.onnx`), await samplesOf(model, calibrationImages(), 8)) }));
  const trained = images.filter(({ name }) => name.startsWith("efficientnet")).map((model) => asItComes(model, "QDQ", join(shared, "trained/efficientnet_lite0-int8-qdq.onnx")));
  const texts = chooseModels(["bert-base-ts", "minilm-l6"]);
  return [
    ...floats, ...made, ...trained, ...texts.map((model) => quantizing(model, model.name.startsWith("bert") ? 2.8 : undefined)),
    ...texts.map((model) => ({ ...asItComes(model, "MatMulInteger", join(folder, `${model.name}-dynamic.onnx`)), prepare: () => dynamicOf(model.path, join(folder, `${model.name}-dynamic.onnx`)) })),
  ].filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
}

/** The case's engine; of an earlier run, if the compiler is the same. */
async function engineOf({ name, model, build: make }) {
  const output = join(folder, `${name.replace(/[^\w.]+/g, "-")}.engine`);
  if (!existsSync(output) || statSync(output).mtimeMs < statSync(join(root, "dist/index.js")).mtimeMs) await make({ output, profiles: [profileOf(model)], threads: 1, timingCache: join(folder, "timings.json") });
  return output;
}

/** Of the time in products with weights, that in integer kernels; and in them and attention together. */
function integerShare(context, feeds) {
  const sums = { bytes: 0, float: 0, attention: 0 };
  for (const { tactic, ms } of timeKernels(context, feeds)) {
    const [, kind, product] = /^(matmul|conv|depthwise|winograd|attention)(?: (bytes|pairs|bfloat))?/.exec(tactic) ?? [];
    if (kind) sums[kind === "attention" ? "attention" : product === "bytes" || product === "pairs" ? "bytes" : "float"] += ms;
  }
  return { weights: sums.bytes / (sums.bytes + sums.float), all: sums.bytes / (sums.bytes + sums.float + sums.attention) };
}

async function measure({ model, peer: peerPath }, path, threads) {
  const engine = await Engine.load(path, { threads });
  const meter = new PeakMeter(threads);
  const feeds = feedsOf(model, engine, model.profile.opt);
  const context = engine.createContext();
  const peer = await openOnnxruntime(peerPath, feeds, threads);
  try {
    const share = integerShare(context, feeds);
    const { sides: [ours, theirs], kept, rounds } = await inTurns([timed(() => context.run(feeds)), timed(() => peer.start())], { seconds, meter });
    return { ours: ours.median, theirs: theirs.median, ratio: theirs.median / ours.median, share, rounds: `${kept}/${rounds}` };
  } finally {
    await peer.release();
    meter.dispose();
    engine.dispose();
  }
}

console.log(machine);
console.log("model".padEnd(46), "threads", "   ours ms", "onnxruntime ms", "times faster", "goal", "products in integer kernels, with attention", "rounds");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let missed = 0;
for (const one of cases()) {
  await one.prepare?.();
  const path = await engineOf(one);
  if ("build" in flags) continue;
  for (const threads of threadCounts) {
    const { ours, theirs, ratio, share, rounds } = await measure(one, path, threads);
    if (ratio < (one.goal ?? 0) || share.weights < LEAST_INTEGER_SHARE) missed++;
    console.log(one.name.padEnd(46), String(threads).padStart(7), ours.toFixed(3).padStart(10), theirs.toFixed(3).padStart(14), ratio.toFixed(2).padStart(12), String(one.goal ?? "-").padStart(4), percent(share.weights).padStart(29), percent(share.all).padStart(13), rounds.padStart(6));
  }
}
process.exit(missed ? 1 : 0);
