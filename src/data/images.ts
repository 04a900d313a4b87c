/**
 * A folder of pictures as samples of a model with one image input. The preprocessing is stated, never guessed: resize
 * the shorter side, crop the centre, order of colours, (pixel * scale - mean) / std, layout.
 *
 * Columns come from `labels.tsv` (a header, then file and further columns) where there is one, and from folders:
 * `folder` is the name of the one a picture lies in.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { Tensor, UserError } from "../base/index.ts";
import { decodePicture, type Picture } from "../reference/index.ts";
import type { DataSet, Entry, InputDescription } from "./samples.ts";

export interface Preprocessing {
  /** The shorter side becomes this long; absent: as it is. */
  readonly resize?: number;
  /** Height and width cut from the centre; those of the model's input by default. */
  readonly crop?: readonly [number, number];
  readonly order: "rgb" | "bgr";
  readonly scale: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  readonly layout: "nchw" | "nhwc";
}

const DEFAULT: Preprocessing = { order: "rgb", scale: 1, mean: [0, 0, 0], std: [1, 1, 1], layout: "nchw" };

/** `resize=256,crop=224,order=bgr,scale=1,mean=103.9/116.8/123.7,std=1,layout=nchw` → data. @throws UserError "option-invalid" */
export function parsePreprocessing(text: string): Preprocessing {
  let result = DEFAULT;
  for (const item of text.split(",").filter((part) => part !== "")) {
    const [key = "", value = ""] = item.split("=");
    const numbers = value.split(/[/x]/).map(Number);
    const refuse = (expected: string): UserError => new UserError("option-invalid", `Preprocessing "${item}": expected ${expected}.`);
    const three = (): [number, number, number] => {
      if (!numbers.every(Number.isFinite) || (numbers.length !== 1 && numbers.length !== 3)) throw refuse(`${key}=N or ${key}=A/B/C`);
      return numbers.length === 1 ? [numbers[0]!, numbers[0]!, numbers[0]!] : (numbers as [number, number, number]);
    };
    const size = (): number => {
      if (!Number.isSafeInteger(numbers[0]) || numbers[0]! <= 0) throw refuse(`${key}=PIXELS`);
      return numbers[0]!;
    };
    switch (key) {
      case "resize": result = { ...result, resize: size() }; break;
      case "crop": result = { ...result, crop: [size(), numbers[1] ?? size()] }; break;
      case "scale": result = { ...result, scale: three()[0] }; break;
      case "mean": result = { ...result, mean: three() }; break;
      case "std": result = { ...result, std: three() }; break;
      case "order": if (value !== "rgb" && value !== "bgr") throw refuse("order=rgb or order=bgr"); result = { ...result, order: value }; break;
      case "layout": if (value !== "nchw" && value !== "nhwc") throw refuse("layout=nchw or layout=nhwc"); result = { ...result, layout: value }; break;
      default: throw refuse("resize, crop, order, scale, mean, std or layout");
    }
  }
  return result;
}

const PICTURES = /\.(jpe?g|png|bmp|p[gp]m|tiff?)$/i;

export function imageFolder(folder: string, input: InputDescription, preprocessing: Preprocessing): DataSet {
  const files = picturesIn(folder).sort();
  if (files.length === 0) throw new UserError("file-io", `${folder}: no pictures in it; JPEG, PNG, BMP, PNM and TIFF are read.`);
  const columns = readColumns(folder);
  const entries = files.map((file): Entry => {
    const id = relative(folder, file);
    return { id, columns: { folder: basename(dirname(file)), ...columns.get(id) } };
  });
  const crop = preprocessing.crop ?? sizeOf(input, preprocessing.layout);
  const load = async (index: number): Promise<{ feeds: Record<string, Tensor> } & Entry> => {
    const bytes = new Uint8Array(readFileSync(files[index]!));
    return { ...entries[index]!, feeds: { [input.name]: preprocess(decodePicture(bytes), preprocessing, crop) } };
  };
  return { name: folder, entries, load };
}

function picturesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? picturesIn(path) : PICTURES.test(entry.name) ? [path] : [];
  });
}

function readColumns(folder: string): Map<string, Record<string, string | number>> {
  const file = join(folder, "labels.tsv");
  if (!existsSync(file)) return new Map();
  const [header = "", ...rows] = readFileSync(file, "utf8").trim().split("\n");
  const names = header.trim().split("\t").slice(1);
  return new Map(rows.map((row) => {
    const [name = "", ...cells] = row.trim().split("\t");
    return [name, Object.fromEntries(names.map((column, i) => [column, numberOrText(cells[i] ?? "")]))];
  }));
}

const numberOrText = (text: string): number | string => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

function sizeOf({ name, dims }: InputDescription, layout: Preprocessing["layout"]): readonly [number, number] {
  const [height, width] = layout === "nchw" ? dims?.slice(2) ?? [] : dims?.slice(1, 3) ?? [];
  if (dims?.length !== 4 || typeof height !== "number" || typeof width !== "number") throw new UserError("option-invalid", `Input "${name}" has shape [${dims?.join(", ") ?? "unknown"}]: it does not say how large pictures must be. Say so with crop=HEIGHTxWIDTH in the preprocessing.`);
  return [height, width];
}

/** A picture as the model takes it, [1, 3, height, width] or [1, height, width, 3]. */
export function preprocess(picture: Picture, { resize, order, scale, mean, std, layout }: Preprocessing, [height, width]: readonly [number, number]): Tensor {
  const factor = resize === undefined ? 1 : Math.min(picture.width, picture.height) / resize;
  const [left, top] = [(picture.width / factor - width) / 2, (picture.height / factor - height) / 2];
  if (left < 0 || top < 0) throw new UserError("input-invalid", `A picture of ${picture.width}x${picture.height} is smaller than the ${width}x${height} to cut from it; give resize= in the preprocessing.`);
  const data = new Float32Array(3 * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const value = pixel(picture, (Math.floor(left) + x + 0.5) * factor - 0.5, (Math.floor(top) + y + 0.5) * factor - 0.5, order === "bgr" ? 2 - c : c);
        data[layout === "nchw" ? (c * height + y) * width + x : (y * width + x) * 3 + c] = (value * scale - mean[c]!) / std[c]!;
      }
    }
  }
  return new Tensor("float32", data, layout === "nchw" ? [1, 3, height, width] : [1, height, width, 3]);
}

/** Bilinear, edges repeated. */
function pixel({ rgb, width, height }: Picture, x: number, y: number, channel: number): number {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const at = (column: number, row: number): number => rgb[(Math.min(Math.max(row, 0), height - 1) * width + Math.min(Math.max(column, 0), width - 1)) * 3 + channel]!;
  const [u, v] = [x - left, y - top];
  if (u === 0 && v === 0) return at(left, top);
  return (at(left, top) * (1 - u) + at(left + 1, top) * u) * (1 - v) + (at(left, top + 1) * (1 - u) + at(left + 1, top + 1) * u) * v;
}
