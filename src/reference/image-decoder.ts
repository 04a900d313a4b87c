/** ImageDecoder: the format is told from the first bytes. Source: ONNX ImageDecoder-20. */
import { Tensor, UnsupportedError } from "../base/index.ts";
import { stringAttribute, tensorInput } from "./arguments.ts";
import type { ReferenceOperator, ReferenceTable } from "./contract.ts";
import type { Picture } from "./images/image.ts";
import { decodeJpeg } from "./images/jpeg.ts";
import { decodePng } from "./images/png.ts";
import { decodeBmp, decodePnm, decodeTiff } from "./images/raster.ts";

const FORMATS: readonly { readonly start: readonly string[]; readonly decode: (bytes: Uint8Array) => Picture }[] = [
  { start: ["\xff\xd8"], decode: decodeJpeg },
  { start: ["\x89PNG"], decode: decodePng },
  { start: ["BM"], decode: decodeBmp },
  { start: ["P5", "P6"], decode: decodePnm },
  { start: ["II*\0", "MM\0*"], decode: decodeTiff },
];

/** Luma of ITU-R BT.601 in 16 fractional bits. */
const grey = (r: number, g: number, b: number): number => (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;

/** @throws UserError for a damaged file, UnsupportedError for a format that is not read */
export function decodePicture(bytes: Uint8Array): Picture {
  const head = Buffer.from(bytes.subarray(0, 4)).toString("latin1");
  const format = FORMATS.find(({ start }) => start.some((text) => head.startsWith(text)));
  if (!format) throw new UnsupportedError("unsupported", `ImageDecoder: bytes that begin with ${Buffer.from(head, "latin1").toString("hex")}; JPEG, PNG, BMP, PNM and TIFF are read.`);
  return format.decode(bytes);
}

const imageDecoder: ReferenceOperator = (inputs, attributes) => {
  const { width, height, rgb } = decodePicture(tensorInput(inputs, 0).bytes);
  const order = stringAttribute(attributes, "pixel_format", "RGB");
  if (order === "Grayscale") {
    const pixels = Uint8Array.from({ length: width * height }, (_, i) => grey(rgb[i * 3]!, rgb[i * 3 + 1]!, rgb[i * 3 + 2]!));
    return [new Tensor("uint8", pixels, [height, width, 1])];
  }
  const pixels = order === "BGR" ? rgb.map((_, i) => rgb[i - (i % 3) + 2 - (i % 3)]!) : rgb;
  return [new Tensor("uint8", pixels, [height, width, 3])];
};

export const imageOperators: ReferenceTable = { ImageDecoder: imageDecoder };
