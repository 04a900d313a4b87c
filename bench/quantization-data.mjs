// The pictures and texts that int8 is calibrated with and judged by.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parsePreprocessing, preprocess } from "../dist/data/index.js";
import { calibrate, VERSION } from "../dist/index.js";
import { decodePicture } from "../dist/reference/index.js";
import { chooseModels, root } from "./zoo.mjs";

export const shared = join(root, "../shared");
export const folder = join(root, ".cache/quantization");
mkdirSync(folder, { recursive: true });

/** Unpacks an archive of ../shared/data once. */
export function unpacked(archive) {
  const target = join(folder, archive.split(".")[0]);
  if (!existsSync(target)) {
    mkdirSync(target);
    const { status } = spawnSync("tar", ["xf", join(shared, "data", archive), "-C", target]);
    if (status !== 0) throw new Error(`${archive} could not be unpacked`);
  }
  return target;
}

/** Trained classifiers, how their pictures are prepared, and what a class's number is moved by. */
const CLASSIFIERS = [
  { name: "resnet50-keras", preprocessing: "order=bgr,mean=103.939/116.779/123.68", offset: 0 },
  { name: "mobilenet_v1_1.0_224", preprocessing: "mean=127.5,std=127.5", offset: 1 },
  { name: "efficientnet_lite0-fp32", preprocessing: "mean=127.5,std=127.5", offset: 0 },
];

/** @param words as `chooseModels` takes them */
export const classifiers = (words = []) => CLASSIFIERS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word))).flatMap((item) => chooseModels([item.name]).map((model) => ({ ...item, ...model })));
export const inputOf = (model) => Object.keys(model.profile.opt)[0];

let listed;
/** All sample images: label, and pixels when they are asked for. */
function pictures() {
  if (listed) return listed;
  const at = unpacked("imagenet-sample.tar");
  const [, ...rows] = readFileSync(join(at, "labels.tsv"), "utf8").trim().split("\n");
  listed = rows.map((row) => {
    const [file, label] = row.split("\t");
    let decoded;
    return { id: file, label: Number(label), get picture() { return (decoded ??= decodePicture(new Uint8Array(readFileSync(join(at, file))))); } };
  });
  return listed;
}

const isCalibration = (_, i) => i % 3 === 0;
/** A third of the pictures. */
export const calibrationImages = () => pictures().filter(isCalibration);
/** The others. */
export const heldOut = () => pictures().filter((item, i) => !isCalibration(item, i));

/** Pictures as a data set; an image is made into a tensor when it is asked for. */
export function dataOf(name, list, { preprocessing, ...model }, columns = () => ({})) {
  const how = parsePreprocessing(preprocessing);
  const entries = list.map((item) => ({ id: item.id, columns: { label: item.label, ...columns(item) } }));
  return { name, entries, load: async (i) => ({ ...entries[i], feeds: { [inputOf(model)]: preprocess(list[i].picture, how, [224, 224]) } }) };
}

/** Feeds of the first of these pictures. */
export async function samplesOf(model, list, count) {
  const data = dataOf("samples", list.slice(0, count), model);
  return Promise.all(data.entries.map(async (_, i) => (await data.load(i)).feeds));
}

const digestOf = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** What was found of this file before, or is found now: engines' content says all that their results depend on. */
export async function remembered(what, path, find) {
  const file = join(folder, "found.json");
  const found = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const key = `${what} ${digestOf(path)}`;
  if (!(key in found)) {
    const own = await find();
    const newer = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
    writeFileSync(file, `${JSON.stringify({ ...newer, [key]: own }, null, 1)}\n`);
    return own;
  }
  return found[key];
}

/** A calibration of the model on so many pictures, made once for each version. */
export async function calibrationOf(model, samples) {
  const path = join(folder, `${model.name}-${samples}-${VERSION}.calibration.json`);
  if (!existsSync(path)) writeFileSync(path, JSON.stringify(await calibrate(model.path, { data: dataOf("calibration images", calibrationImages(), model), samples })));
  return JSON.parse(readFileSync(path, "utf8"));
}
