// Can int8 be trusted? Every trained classifier by each calibrator against fp32 on images that calibration has not seen;
// sentence embeddings quantized as they run; what a skewed calibration set costs and whether the report says so; bytes of
// the weights quantized; the share of contraction time in integer kernels. What was found of an engine is remembered by its
// content, so that the run can be cut off and goes on.
// Usage: npm run bench quantization [classifiers|embeddings|strata|bytes …] [--model=WORD]
import { existsSync } from "node:fs";
import { join } from "node:path";
import { EngineFile } from "../dist/engine/index.js";
import { build, buildInt8, calibrate, CALIBRATORS, Engine, Tensor } from "../dist/index.js";
import { calibrationImages, calibrationOf, classifiers, dataOf, folder, heldOut, remembered, shared } from "./quantization-data.mjs";
import { chosenTexts, dot, feedsOfTokens, pooled, TEXTS } from "./quantization-texts.mjs";
import { chooseModels, profileOf } from "./zoo.mjs";
import { wordPiece } from "./wordpiece.mjs";

const args = process.argv.slice(2);
const parts = args.filter((arg) => !arg.startsWith("--"));
const only = args.find((arg) => arg.startsWith("--model="))?.slice(8) ?? "";
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let failed = 0;
const judge = (text, kept) => {
  if (!kept) failed++;
  console.log(`${kept ? "kept  " : "BROKEN"} ${text}`);
};

/** Share of the pictures whose largest score is their label's. */
async function top1(path, data, offset) {
  const engine = await Engine.load(path);
  let right = 0;
  for (let i = 0; i < data.entries.length; i++) {
    const { feeds, columns } = await data.load(i);
    const [scores] = Object.values(await engine.run(feeds));
    if (scores.data.indexOf(Math.max(...scores.data)) === columns.label + offset) right++;
  }
  engine.dispose();
  return right / data.entries.length;
}

/** Level 0 measures nothing: accuracy does not depend on tactics. */
const quick = (model, output) => ({ output, level: 0, profiles: [profileOf(model)] });

async function measureClassifiers() {
  console.log(`\ntop-1 on ${heldOut().length} images; ${calibrationImages().length} others were used to calibrate`);
  console.log("model".padEnd(26), "fp32".padStart(8), ...CALIBRATORS.map((name) => name.padStart(11)), "bytes of weights, int8 to fp32".padStart(32));
  const losses = [];
  for (const model of classifiers([only])) {
    const data = dataOf("held-out images", heldOut(), model);
    const shareOf = (path) => remembered(`top-1 on ${data.entries.length}`, path, () => top1(path, data, model.offset));
    const float = join(folder, `${model.name}.engine`);
    await build(model.path, quick(model, float));
    const calibration = await calibrationOf(model, 250);
    const reference = await shareOf(float);
    const scores = [];
    let bytes = "";
    for (const calibrator of CALIBRATORS) {
      const output = join(folder, `${model.name}-${calibrator}.engine`);
      const { report } = await buildInt8(model.path, { ...quick(model, output), calibration, calibrator });
      bytes = percent(report.quantization.bytes / report.quantization.floatBytes);
      scores.push(await shareOf(output));
      losses.push({ name: `${model.name}, ${calibrator}`, loss: reference - scores.at(-1) });
    }
    console.log(model.name.padEnd(26), percent(reference).padStart(8), ...scores.map((score) => percent(score).padStart(11)), bytes.padStart(32));
  }
  for (const { name, loss } of losses) judge(`${name}: loses at most 1 point (${(100 * loss).toFixed(1)})`, loss <= 0.01 + 1e-9);
  await measureAsItCame();
}

/** A classifier that comes quantized. */
async function measureAsItCame() {
  const name = "efficientnet_lite0-int8-qdq";
  const model = { name, path: join(shared, `trained/${name}.onnx`), profile: classifiers(["efficientnet_lite0"])[0]?.profile, preprocessing: "mean=127.5,std=127.5" };
  if (!existsSync(model.path) || !name.includes(only) || !model.profile) return;
  const output = join(folder, `${name}.engine`);
  await build(model.path, quick(model, output));
  const share = await remembered("top-1", output, () => top1(output, dataOf("held-out images", heldOut(), model), 0));
  console.log(name.padEnd(26), "as it came".padStart(8), percent(share));
}

// ---- what a skewed set costs ----------------------------------------------------------------------------------------

/** Night: a sixteenth of the light. */
const darkened = (item) => ({ ...item, id: `${item.id} at night`, time: "night", picture: { ...item.picture, rgb: item.picture.rgb.map((value) => value >> 4) } });

/**
 * Pictures as a careless collector has them: nearly all by night, few by day. A sample that is taken as it comes misses
 * the days; one that is shared among the strata does not.
 */
const DAYS = 4;
const SAMPLES = 60;

async function measureStrata() {
  for (const model of classifiers([only])) {
    const [days, nights] = [calibrationImages().slice(0, DAYS), calibrationImages().slice(DAYS).map(darkened)];
    const pool = dataOf("mostly nights", [...nights.slice(0, 20), ...days, ...nights.slice(20)], model, ({ time = "day" }) => ({ time }));
    const test = dataOf("held-out days", heldOut().slice(0, 250), model);
    const shareOf = (path) => remembered("top-1 by day", path, () => top1(path, test, model.offset));
    const float = join(folder, `${model.name}.engine`);
    await build(model.path, quick(model, float));
    const reference = await shareOf(float);
    console.log(`\n${model.name}, calibrated on ${SAMPLES} of ${pool.entries.length} pictures, ${DAYS} of which are taken by day; top-1 on ${test.entries.length} held-out pictures taken by day: fp32 ${percent(reference)}`);
    const losses = {};
    for (const unbalanced of [true, false]) {
      const name = unbalanced ? "as they come" : "stratified";
      const cache = await calibrate(model.path, { data: pool, samples: SAMPLES, strata: "time", unbalanced });
      const output = join(folder, `${model.name}-strata.engine`);
      await buildInt8(model.path, { ...quick(model, output), calibration: cache, calibrator: "percentile" });
      losses[name] = reference - await shareOf(output);
      console.log(`  ${name.padEnd(14)} loses ${(100 * losses[name]).toFixed(1)} points; strata: ${JSON.stringify(cache.strata.coverage)}; layers on which strata disagree: ${cache.strata.disagreements.length}`);
      for (const warning of cache.warnings) console.log(`    warning: ${warning}`);
    }
    judge(`${model.name}: a skewed set loses accuracy, a stratified one does not`, losses["as they come"] > 0.01 && losses["stratified"] <= 0.01 + 1e-9);
  }
}

// ---- sentences --------------------------------------------------------------------------------------------------------

async function measureEmbeddings() {
  const [model] = chooseModels(["minilm-l6"]);
  if (!model) return;
  const tokenize = wordPiece(join(model.path, "../../tokenizer.json"));
  const [float, int8] = [join(folder, "minilm.engine"), join(folder, "minilm-int8.engine")];
  await build(model.path, quick(model, float));
  const { report } = await buildInt8(model.path, quick(model, int8));
  console.log("\nminilm-l6, a scale per row as it runs");
  for (const kind of Object.keys(TEXTS)) {
    const { queries, passages } = chosenTexts(kind);
    const embed = (path) => remembered(`embeddings of ${kind}`, path, async () => {
      const engine = await Engine.load(path);
      const vectors = [];
      for (const text of [...queries, ...passages]) vectors.push(Array.from(pooled(await engine.run(feedsOfTokens(tokenize(text)))), Math.fround));
      engine.dispose();
      return vectors;
    });
    judgeEmbeddings(kind, await embed(float), await embed(int8), queries.length);
  }
  const { bytes, floatBytes } = report.quantization;
  judge(`bytes of the weights quantized, scales included: ${percent(bytes / floatBytes)} of fp32 (at most 26 %)`, bytes / floatBytes <= 0.26);
}

/** @param n how many of the vectors are queries; the others are what they look among */
function judgeEmbeddings(kind, exact, reduced, n) {
  const cosines = exact.map((vector, i) => dot(vector, reduced[i]));
  const mean = cosines.reduce((x, y) => x + y, 0) / cosines.length;
  const nearest = (own, others) => others.reduce((best, vector, i) => { const near = dot(own, vector); return near > best.near ? { i, near } : best; }, { i: -1, near: -2 }).i;
  const same = exact.slice(0, n).filter((vector, i) => nearest(vector, exact.slice(n)) === nearest(reduced[i], reduced.slice(n))).length / n;
  judge(`${kind}: mean cosine to fp32 ${mean.toFixed(4)} (at least 0.99), least ${Math.min(...cosines).toFixed(4)}`, mean >= 0.99);
  judge(`${kind}: the same nearest neighbour among ${exact.length - n} for ${percent(same)} of ${n} queries (at least 97 %)`, same >= 0.97);
}

// ---- bytes and time ----------------------------------------------------------------------------------------------------

async function measureBytes() {
  console.log("\nmodel".padEnd(27), "engine's weights fp32".padStart(22), "int8".padStart(12), "contraction time in integer kernels".padStart(38));
  for (const model of [...classifiers([only]).slice(0, 1), ...["minilm-l6", "bert-base-ts"].filter((name) => name.includes(only)).flatMap((name) => chooseModels([name]))]) {
    const [float, int8] = [join(folder, `${model.name}-f.engine`), join(folder, `${model.name}-q.engine`)];
    await build(model.path, quick(model, float));
    const calibration = model.preprocessing ? { calibration: await calibrationOf(model, 64) } : {};
    await buildInt8(model.path, { ...quick(model, int8), ...calibration });
    const sizes = [float, int8].map((path) => {
      const file = EngineFile.open(path);
      const size = file.sizeOf("weights");
      file.close();
      return size;
    });
    const share = await integerShare(int8, model);
    console.log(model.name.padEnd(26), sizes[0].toString().padStart(22), sizes[1].toString().padStart(12), percent(share).padStart(38));
    judge(`${model.name}: at least 95 % of contraction time in integer kernels`, share >= 0.95);
  }
}

const INTEGER = new Set(["MatMulInteger", "ConvInteger"]);
const FLOAT = new Set(["MatMul", "Conv", "ConvTranspose"]);

/** Of the time in contractions with weights, that in integer ones. */
async function integerShare(path, model) {
  const { feedsOf: feeds } = await import("./engines.mjs");
  const engine = await Engine.load(path, { threads: 1 });
  const context = engine.createContext();
  const given = feeds(model, engine, model.profile.opt);
  for (let i = 0; i < 3; i++) context.profile(given);
  const times = { integer: 0, float: 0 };
  for (let i = 0; i < 5; i++) {
    for (const { label, ns } of context.profile(given)) {
      if (label.operators.some((name) => INTEGER.has(name))) times.integer += ns;
      else if (label.operators.some((name) => FLOAT.has(name))) times.float += ns;
    }
  }
  engine.dispose();
  return times.integer / (times.integer + times.float);
}

const PARTS = { classifiers: measureClassifiers, embeddings: measureEmbeddings, strata: measureStrata, bytes: measureBytes };
for (const [name, measure] of Object.entries(PARTS)) if (parts.length === 0 || parts.includes(name)) await measure();
process.exit(failed ? 1 : 0);
