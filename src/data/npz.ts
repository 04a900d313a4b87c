/** NumPy's .npz: a ZIP of .npy files, stored or deflated. Source: PKWARE APPNOTE 6.3, sections 4.3.12 and 4.3.16. */
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";
import { type Tensor, UserError } from "../base/index.ts";
import { parseNpy } from "./npy.ts";

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
/** Most bytes one array may inflate to. */
const MAX_BYTES = 2 ** 31;

/** Arrays by name. @throws UserError "file-io" when it is not such an archive */
export function readNpz(path: string): Map<string, Tensor> {
  let file: Buffer;
  try {
    file = readFileSync(path);
    return parseNpz(file, path);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError("file-io", `${path}: ${(cause as Error).message}; expected a .npz archive.`, { cause });
  }
}

function parseNpz(file: Buffer, path: string): Map<string, Tensor> {
  let end = file.length - 22;
  while (end >= 0 && file.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw new UserError("file-io", `${path}: no ZIP directory; expected a .npz archive.`);
  const arrays = new Map<string, Tensor>();
  let at = file.readUInt32LE(end + 16);
  for (let left = file.readUInt16LE(end + 10); left > 0; left--) {
    if (file.readUInt32LE(at) !== DIRECTORY_ENTRY) throw new UserError("file-io", `${path}: the ZIP directory is damaged at byte ${at}.`);
    const method = file.readUInt16LE(at + 10);
    const packedBytes = file.readUInt32LE(at + 20);
    const nameBytes = file.readUInt16LE(at + 28);
    const name = file.toString("utf8", at + 46, at + 46 + nameBytes);
    const local = file.readUInt32LE(at + 42);
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    const packed = file.subarray(start, start + packedBytes);
    if (method !== 0 && method !== 8) throw new UserError("file-io", `${path}: "${name}" is packed by method ${method}; expected stored or deflated.`);
    arrays.set(name.replace(/\.npy$/, ""), parseNpy(method === 0 ? packed : inflateRawSync(packed, { maxOutputLength: MAX_BYTES }), `${path}/${name}`));
    at += 46 + nameBytes + file.readUInt16LE(at + 30) + file.readUInt16LE(at + 32);
  }
  return arrays;
}
