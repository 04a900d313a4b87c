/** Says what a file is when it is not an ONNX model: from its first bytes, as formats' specifications state them. */
import { UserError } from "../base/index.ts";

interface Format {
  readonly name: string;
  readonly advice: string;
  matches(bytes: Uint8Array, text: string): boolean;
}

const startsWith = (...signature: number[]) => (bytes: Uint8Array): boolean => signature.every((byte, i) => bytes[i] === byte);

const EXPORT = "Export it to ONNX first";

const FORMATS: readonly Format[] = [
  { name: "a Git LFS pointer, not the file itself", advice: "Fetch it with `git lfs pull`", matches: (_, text) => text.startsWith("version https://git-lfs") },
  { name: "an HTML or XML page", advice: "The download probably failed; fetch the file again", matches: (_, text) => /^\s*<(!doctype|html|\?xml|head|body|[a-z]+[\s>])/i.test(text) },
  { name: "a zip archive, as PyTorch checkpoints (.pt, .pth) and Keras models (.keras) are", advice: "Export the model to ONNX, or unpack the archive if it holds an .onnx file", matches: startsWith(0x50, 0x4b, 0x03, 0x04) },
  { name: "a Python pickle, as older PyTorch checkpoints are", advice: EXPORT, matches: (bytes) => bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5 },
  { name: "an HDF5 file, as Keras models (.h5) are", advice: EXPORT, matches: startsWith(0x89, 0x48, 0x44, 0x46) },
  { name: "a TensorFlow Lite model", advice: "Convert it with tf2onnx", matches: (_, text) => text.slice(4, 8) === "TFL3" },
  { name: "an onnxruntime model (.ort)", advice: "Use the ONNX model it was made from", matches: (_, text) => text.slice(4, 8) === "ORTM" },
  { name: "a GGUF model", advice: EXPORT, matches: (_, text) => text.startsWith("GGUF") },
  { name: "a safetensors file", advice: "It holds weights only; export the model to ONNX", matches: (bytes, text) => text[8] === "{" && bytes[4] === 0 && bytes[5] === 0 && bytes[6] === 0 && bytes[7] === 0 },
  { name: "a gzip archive", advice: "Unpack it first", matches: startsWith(0x1f, 0x8b) },
  { name: "an xz archive", advice: "Unpack it first", matches: startsWith(0xfd, 0x37, 0x7a, 0x58, 0x5a) },
  { name: "a JSON document", advice: EXPORT, matches: (_, text) => /^\s*[{[]\s*["{[\]}]/.test(text) },
  { name: "an ELF binary", advice: EXPORT, matches: startsWith(0x7f, 0x45, 0x4c, 0x46) },
  { name: "a PNG image", advice: "Give the model's file", matches: startsWith(0x89, 0x50, 0x4e, 0x47) },
  { name: "a NumPy array", advice: "Give the model's file", matches: startsWith(0x93, 0x4e, 0x55, 0x4d) },
];

/** Wire types of ModelProto's fields, which every model starts with one of. */
const MODEL_FIELDS: Readonly<Record<number, number>> = { 1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2 };

const SNIFFED_BYTES = 64;

/** @throws UserError "not-onnx" */
export function refuseForeignFormat(bytes: Uint8Array, source: string): void {
  if (bytes.length === 0) throw new UserError("not-onnx", `${source}: the file is empty.`);
  const head = bytes.subarray(0, SNIFFED_BYTES);
  const text = Buffer.from(head).toString("latin1");
  const format = FORMATS.find((known) => known.matches(head, text));
  if (format) throw new UserError("not-onnx", `${source}: this is ${format.name}, not an ONNX model. ${format.advice}.`);
  if (startsLikeModel(head)) return;
  const what = /^[\t\n\r\x20-\x7e]+$/.test(text) ? "text" : "not a format Sinter knows";
  throw new UserError("not-onnx", `${source}: this is ${what}, not an ONNX model. Expected a file that starts with a ModelProto.`);
}

function startsLikeModel(head: Uint8Array): boolean {
  let key = 0;
  for (let i = 0; i < 2; i++) {
    key += (head[i] ?? 0) % 128 * 128 ** i;
    if ((head[i] ?? 0) < 128) break;
  }
  return MODEL_FIELDS[Math.floor(key / 8)] === key % 8;
}
