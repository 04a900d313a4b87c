/** PNG of 8 bits per sample, not interlaced: grey, RGB, palette, with or without alpha (which is dropped). Source: PNG, third edition. */
import { inflateSync } from "node:zlib";
import { UnsupportedError } from "../../base/index.ts";
import { damaged, newPicture, type Picture } from "./image.ts";

/** Samples per pixel by colour type. */
const SAMPLES: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

export function decodePng(bytes: Uint8Array): Picture {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Uint8Array[] = [];
  let palette: Uint8Array | undefined;
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const content = bytes.subarray(at + 8, at + 8 + view.getUint32(at));
    const type = Buffer.from(bytes.subarray(at + 4, at + 8)).toString("latin1");
    if (type === "IDAT") parts.push(content);
    if (type === "PLTE") palette = content;
  }
  if (bytes.length < 29) throw damaged("PNG", "its header is cut short");
  const [bits, colour, interlace] = [bytes[24]!, bytes[25]!, bytes[28]!];
  const samples = SAMPLES[colour];
  if (bits !== 8 || samples === undefined || interlace !== 0) throw new UnsupportedError("unsupported", `ImageDecoder: PNG with ${bits} bits, colour type ${colour}, interlace ${interlace}; 8 bits without interlace are read.`);
  const picture = newPicture(view.getUint32(16), view.getUint32(20), "PNG");
  const rows = unfilter(inflated(parts, (picture.width * samples + 1) * picture.height), picture.width * samples, picture.height, samples);
  for (let i = 0; i < picture.width * picture.height; i++) {
    for (let c = 0; c < 3; c++) {
      const sample = rows[i * samples + (samples < 3 ? 0 : c)]!;
      picture.rgb[i * 3 + c] = colour === 3 ? palette?.[sample * 3 + c] ?? 0 : sample;
    }
  }
  return picture;
}

function inflated(parts: readonly Uint8Array[], length: number): Uint8Array {
  try {
    const data = inflateSync(Buffer.concat(parts), { maxOutputLength: length });
    if (data.length === length) return data;
  } catch {
    throw damaged("PNG", "its compressed data is broken");
  }
  throw damaged("PNG", "its pixels are cut short");
}

/** Undoes each row's filter; `step` is the distance to the pixel on the left. */
function unfilter(data: Uint8Array, pitch: number, height: number, step: number): Uint8Array {
  const rows = new Uint8Array(pitch * height);
  for (let y = 0; y < height; y++) {
    const filter = data[y * (pitch + 1)]!;
    for (let x = 0; x < pitch; x++) {
      const at = y * pitch + x;
      const left = x >= step ? rows[at - step]! : 0;
      const up = y > 0 ? rows[at - pitch]! : 0;
      const corner = x >= step && y > 0 ? rows[at - pitch - step]! : 0;
      rows[at] = data[y * (pitch + 1) + 1 + x]! + predicted(filter, left, up, corner);
    }
  }
  return rows;
}

function predicted(filter: number, left: number, up: number, corner: number): number {
  switch (filter) {
    case 0: return 0;
    case 1: return left;
    case 2: return up;
    case 3: return (left + up) >> 1;
    case 4: {
      const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
      return a <= b && a <= c ? left : b <= c ? up : corner;
    }
    default: throw damaged("PNG", `it has a row filter ${filter}`);
  }
}
