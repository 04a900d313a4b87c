/** Samples from files: folders of images, NumPy arrays, JSON lines. */
import { statSync } from "node:fs";
import { UserError } from "../base/index.ts";
import { jsonLinesData, npyData, npzData } from "./arrays.ts";
import { imageFolder, parsePreprocessing } from "./images.ts";
import type { DataSet, InputDescription } from "./samples.ts";

export { parsePreprocessing, preprocess } from "./images.ts";
export { hasNpyType, readNpy, writeNpy } from "./npy.ts";
export { checkSample, chooseEntries, DataDigest, type DataSet, type Entry, groupByStratum, type InputDescription, interruptible, type Sample, samplesOf } from "./samples.ts";

/** The data at a path, by what it is: a folder of pictures, .npy, .npz, .jsonl. @throws UserError */
export function openData(path: string, inputs: readonly InputDescription[], preprocessing = ""): DataSet {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new UserError("file-io", `${path}: there is no such file or folder.`);
  if (stat.isDirectory()) {
    const [input, ...others] = inputs;
    if (!input || others.length > 0) throw new UserError("option-invalid", `${path}: pictures feed a model with one input; this one has ${inputs.map(({ name }) => name).join(", ")}.`);
    return imageFolder(path, input, parsePreprocessing(preprocessing));
  }
  if (path.endsWith(".npy")) return npyData(path, inputs);
  if (path.endsWith(".npz")) return npzData(path, inputs);
  if (/\.(jsonl|ndjson)$/.test(path)) return jsonLinesData(path, inputs);
  throw new UserError("option-invalid", `${path}: expected a folder of pictures, or a .npy, .npz or .jsonl file.`);
}
