// What does bf16 cost in accuracy, and what does it give in speed? Cosine of outputs to those of fp32, over 16 inputs
// together and of the worst one, each precision's mean output over these inputs subtracted: what all inputs have in common
// would hide the differences. Top-1 agreement of trained classifiers on the sample images; the ratio of times, one thread,
// in turns. Usage: npm run bench precision [WORD…] [--images=750] [--level=3]
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parsePreprocessing, preprocess } from "../dist/data/index.js";
import { Engine } from "../dist/index.js";
import { decodePicture } from "../dist/reference/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { chooseModels, root } from "./zoo.mjs";

const args = process.argv.slice(2);
const words = args.filter((arg) => !arg.startsWith("--"));
const flag = (name, absent) => Number(args.find((arg) => arg.startsWith(`--${name}=`))?.split("=")[1] ?? absent);
const level = flag("level", 3);
const mostImages = flag("images", 750);
const INPUTS = 16;
const LEAST_COSINE = 0.995;
const LEAST_AGREEMENT = 0.99;

const DEFAULT = ["bert-base-ts", "bart-large-encoder-ts", "t5-small-encoder-ts", "gpt2-ts", "minilm-l6", "resnet50", "mobilenet_v", "efficientnet"];
/** How pictures become inputs; models that are not named take them about zero. */
const PREPROCESSING = { "resnet50-keras": "order=bgr,mean=103.939/116.779/123.68" };
const TRAINED = new Set(["resnet50-keras", "mobilenet_v1_1.0_224", "efficientnet_lite0-fp32"]);

const pictures = (() => {
  const archive = join(root, "../shared/data/imagenet-sample.tar");
  const folder = join(root, ".cache/imagenet-sample");
  if (!existsSync(archive)) return [];
  if (!existsSync(folder)) {
    mkdirSync(folder, { recursive: true });
    if (spawnSync("tar", ["xf", archive, "-C", folder]).status !== 0) throw new Error(`${archive} could not be unpacked`);
  }
  const [, ...rows] = readFileSync(join(folder, "labels.tsv"), "utf8").trim().split("\n");
  return rows.slice(0, mostImages).map((row) => join(folder, row.split("\t")[0]));
})();

const isImageModel = (model) => Object.values(model.profile.opt)[0].length === 4 && Object.values(model.profile.opt)[0][1] === 3;

function pictureFeeds(model, i) {
  const [name, [, , height, width]] = Object.entries(model.profile.opt)[0];
  const how = parsePreprocessing(PREPROCESSING[model.name] ?? "mean=127.5,std=127.5");
  return { [name]: preprocess(decodePicture(new Uint8Array(readFileSync(pictures[i]))), how, [height, width]) };
}

/** Input `i` of a model: a picture, or tokens and numbers of a seed. */
function inputOf(model, engine, i) {
  if (isImageModel(model) && pictures.length > 0) return pictureFeeds(model, Math.floor((i * pictures.length) / INPUTS));
  return feedsOf(model, engine, model.profile.opt, i + 1);
}

const firstOf = (results) => Object.values(results)[0].data;

/** Outputs less their mean over the inputs. */
function centred(outputs) {
  const mean = new Float64Array(outputs[0].length);
  for (const output of outputs) for (let k = 0; k < mean.length; k++) mean[k] += output[k] / outputs.length;
  return outputs.map((output) => Float64Array.from(output, (value, k) => value - mean[k]));
}

function dot(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}

/** Of all inputs together, and of the worst one. */
function cosines(expected, actual) {
  const [a, b] = [centred(expected), centred(actual)];
  const sums = a.map((output, i) => [dot(output, b[i]), dot(output, output), dot(b[i], b[i])]);
  const cosine = ([ab, aa, bb]) => ab / Math.sqrt(aa * bb);
  return { all: cosine(sums.reduce((x, y) => x.map((value, k) => value + y[k]))), least: Math.min(...sums.map(cosine)) };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

function speed(contexts, feeds) {
  const times = contexts.map(() => []);
  for (let round = 0; round < 15; round++) contexts.forEach((context, i) => {
    context.runSync(feeds);
    const started = performance.now();
    context.runSync(feeds);
    times[i].push(performance.now() - started);
  });
  return times.map(median);
}

const argmax = (scores) => scores.indexOf(Math.max(...scores));

function agreement(model, contexts) {
  if (!TRAINED.has(model.name) || pictures.length === 0) return undefined;
  let same = 0;
  for (let i = 0; i < pictures.length; i++) {
    const feeds = pictureFeeds(model, i);
    const [a, b] = contexts.map((context) => argmax(firstOf(context.runSync(feeds))));
    if (a === b) same++;
  }
  return same / pictures.length;
}

let broken = 0;
console.log("model".padEnd(26), "  cosine: all", "   worst", " top-1 agrees", " fp32 ms", " bf16 ms", "times faster", "engine");
for (const model of chooseModels(words.length > 0 ? words : DEFAULT)) {
  const paths = [];
  for (const precision of ["fp32", "bf16"]) paths.push((await engineOf(model, { level, precision })).path);
  const engines = paths.map((path) => Engine.loadSync(path, { threads: 1 }));
  const contexts = engines.map((engine) => engine.createContext());
  const inputs = Array.from({ length: INPUTS }, (_, i) => inputOf(model, engines[0], i));
  const [expected, actual] = contexts.map((context) => inputs.map((feeds) => firstOf(context.runSync(feeds)).slice()));
  const near = cosines(expected, actual);
  const [fp32, bf16] = speed(contexts, inputs[0]);
  const same = agreement(model, contexts);
  const isKept = near.all >= LEAST_COSINE && (same === undefined || same >= LEAST_AGREEMENT);
  if (!isKept) broken++;
  console.log(
    model.name.padEnd(26), near.all.toFixed(5).padStart(13), near.least.toFixed(5).padStart(8), (same === undefined ? "-" : `${(100 * same).toFixed(1)} %`).padStart(13),
    fp32.toFixed(2).padStart(8), bf16.toFixed(2).padStart(8), (fp32 / bf16).toFixed(2).padStart(12), isKept ? "kept" : "BROKEN",
  );
  contexts.forEach((context) => context.dispose());
  engines.forEach((engine) => engine.dispose());
}
process.exitCode = broken > 0 ? 1 : 0;
