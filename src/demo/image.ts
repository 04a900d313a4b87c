/**
 * A picture of a text line as PP-OCR's recogniser wants it: 48 pixels high, channels blue, green, red, values in
 * [-1, 1], channels first.
 * Source: PaddleOCR, `RecResizeImg` (image_shape 3, 48, 320).
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Tensor } from "../base/index.ts";

export const LINE_HEIGHT = 48;
const CHANNELS = 3;

/** Pixels of four bytes: red, green, blue, opacity. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

interface Png {
  readonly PNG: { readonly sync: { read(file: Uint8Array): Picture } };
}

export function readPicture(path: string): Picture {
  const { PNG } = createRequire(import.meta.url)("pngjs") as Png;
  return PNG.sync.read(readFileSync(path));
}

/** @returns float32 [1, 3, 48, width], the width in proportion */
export function toInput(picture: Picture): Tensor {
  const width = Math.ceil((LINE_HEIGHT * picture.width) / picture.height);
  const plane = LINE_HEIGHT * width;
  const values = new Float32Array(CHANNELS * plane);
  for (let y = 0; y < LINE_HEIGHT; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < CHANNELS; channel++) {
        const level = sample(picture, ((x + 0.5) * picture.width) / width - 0.5, ((y + 0.5) * picture.height) / LINE_HEIGHT - 0.5, CHANNELS - 1 - channel);
        values[channel * plane + y * width + x] = (level / 255 - 0.5) / 0.5;
      }
    }
  }
  return new Tensor("float32", values, [1, CHANNELS, LINE_HEIGHT, width]);
}

/** Bilinear, the border repeated. */
function sample(picture: Picture, x: number, y: number, channel: number): number {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const at = (column: number, row: number): number => {
    const inside = clamp(row, picture.height) * picture.width + clamp(column, picture.width);
    return picture.data[inside * 4 + channel]!;
  };
  const upper = at(left, top) + (at(left + 1, top) - at(left, top)) * (x - left);
  const lower = at(left, top + 1) + (at(left + 1, top + 1) - at(left, top + 1)) * (x - left);
  return upper + (lower - upper) * (y - top);
}

function clamp(position: number, size: number): number {
  return Math.min(Math.max(position, 0), size - 1);
}
