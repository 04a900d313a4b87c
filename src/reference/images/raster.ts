/** Formats that store pixels as they are: BMP (24 and 32 bits), PNM (P5, P6), TIFF (uncompressed strips). */
import { UnsupportedError } from "../../base/index.ts";
import { damaged, newPicture, type Picture } from "./image.ts";

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Rows from the bottom, padded to four bytes, blue first. */
export function decodeBmp(bytes: Uint8Array): Picture {
  const view = viewOf(bytes);
  if (bytes.length < 54) throw damaged("BMP", "its header is cut short");
  const [start, bits, compression] = [view.getUint32(10, true), view.getUint16(28, true), view.getUint32(30, true)];
  const tall = view.getInt32(22, true);
  if ((bits !== 24 && bits !== 32) || compression !== 0) throw new UnsupportedError("unsupported", `ImageDecoder: BMP with ${bits} bits per pixel, compression ${compression}; 24 or 32 bits without compression are read.`);
  const picture = newPicture(view.getInt32(18, true), Math.abs(tall), "BMP");
  const pixel = bits / 8;
  const pitch = Math.ceil((picture.width * pixel) / 4) * 4;
  if (start + pitch * picture.height > bytes.length) throw damaged("BMP", "its pixels are cut short");
  for (let y = 0; y < picture.height; y++) {
    const row = start + (tall > 0 ? picture.height - 1 - y : y) * pitch;
    for (let x = 0; x < picture.width; x++) for (let c = 0; c < 3; c++) picture.rgb[(y * picture.width + x) * 3 + c] = bytes[row + x * pixel + 2 - c]!;
  }
  return picture;
}

/** "P5" or "P6", width, height, maximum 255, then bytes; comments run from # to the line's end. */
export function decodePnm(bytes: Uint8Array): Picture {
  const header = /^P([56])(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s/.exec(Buffer.from(bytes.subarray(0, 512)).toString("latin1"));
  if (!header) throw damaged("PNM", "its header is not P5 or P6 with a size");
  const [text, kind, width, height, maximum] = header as unknown as [string, string, string, string, string];
  if (maximum !== "255") throw new UnsupportedError("unsupported", `ImageDecoder: PNM with maximum ${maximum}; 255 is read.`);
  const channels = kind === "6" ? 3 : 1;
  const picture = newPicture(Number(width), Number(height), "PNM");
  const pixels = bytes.subarray(text.length);
  if (pixels.length < picture.width * picture.height * channels) throw damaged("PNM", "its pixels are cut short");
  for (let i = 0; i < picture.rgb.length; i++) picture.rgb[i] = pixels[channels === 3 ? i : Math.floor(i / 3)]!;
  return picture;
}

/** Tags of the first directory that matter here. Source: TIFF 6.0. */
const TAG = { width: 256, height: 257, bits: 258, compression: 259, offsets: 273, samples: 277, rowsPerStrip: 278 } as const;

export function decodeTiff(bytes: Uint8Array): Picture {
  const view = viewOf(bytes);
  const little = bytes[0] === 0x49;
  const tags = new Map<number, number[]>();
  try {
    const directory = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(directory, little); i++) {
      const at = directory + 2 + 12 * i;
      tags.set(view.getUint16(at, little), tagValues(view, at, little));
    }
  } catch {
    throw damaged("TIFF", "its directory points outside the file");
  }
  const one = (tag: number, absent: number): number => tags.get(tag)?.[0] ?? absent;
  const samples = one(TAG.samples, 1);
  if (one(TAG.compression, 1) !== 1 || one(TAG.bits, 8) !== 8) throw new UnsupportedError("unsupported", "ImageDecoder: TIFF with compression or without 8 bits per sample; plain 8-bit strips are read.");
  const picture = newPicture(one(TAG.width, 0), one(TAG.height, 0), "TIFF");
  const rows = Math.min(one(TAG.rowsPerStrip, picture.height), picture.height);
  for (let y = 0; y < picture.height; y++) {
    const from = (tags.get(TAG.offsets)?.[Math.floor(y / rows)] ?? bytes.length) + (y % rows) * picture.width * samples;
    if (from + picture.width * samples > bytes.length) throw damaged("TIFF", "its pixels are cut short");
    for (let x = 0; x < picture.width; x++) for (let c = 0; c < 3; c++) picture.rgb[(y * picture.width + x) * 3 + c] = bytes[from + x * samples + (samples < 3 ? 0 : c)]!;
  }
  return picture;
}

/** Values of a SHORT or LONG tag: in the entry where they fit four bytes, at an offset otherwise. */
function tagValues(view: DataView, at: number, little: boolean): number[] {
  const type = view.getUint16(at + 2, little);
  const count = view.getUint32(at + 4, little);
  const size = type === 3 ? 2 : 4;
  if ((type !== 3 && type !== 4) || count > view.byteLength) return [];
  const from = count * size <= 4 ? at + 8 : view.getUint32(at + 8, little);
  return Array.from({ length: count }, (_, i) => (size === 2 ? view.getUint16(from + 2 * i, little) : view.getUint32(from + 4 * i, little)));
}
