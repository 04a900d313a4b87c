/** NumPy's .npy files: one array each. Source: NEP 1, "A Simple File Format for NumPy Arrays". */
import { readFileSync, writeFileSync } from "node:fs";
import { byteLength, type DType, elementCount, fileError, Tensor, UserError } from "../base/index.ts";

const DESCRIPTIONS: Readonly<Partial<Record<DType, string>>> = {
  float32: "<f4", float64: "<f8", float16: "<f2", int8: "|i1", int16: "<i2", int32: "<i4", int64: "<i8",
  uint8: "|u1", uint16: "<u2", uint32: "<u4", uint64: "<u8", bool: "|b1", complex64: "<c8", complex128: "<c16",
};

const MAGIC = "\x93NUMPY";

/** @throws UserError "file-io" when it is not a .npy file of a type that tensors have */
export function readNpy(path: string): Tensor {
  return parseNpy(readFile(path), path);
}

/** @param path what errors call the array */
export function parseNpy(file: Buffer, path: string): Tensor {
  const refuse = (what: string): UserError => new UserError("file-io", `${path}: ${what}; expected a .npy file of a little-endian numeric array in C order.`);
  if (file.length < 10 || file.toString("latin1", 0, 6) !== MAGIC) throw refuse("no NumPy signature");
  const wide = file[6]! >= 2;
  const headerAt = wide ? 12 : 10;
  const headerBytes = wide ? (file.length < headerAt ? 0 : file.readUInt32LE(8)) : file.readUInt16LE(8);
  if (file.length < headerAt || headerAt + headerBytes > file.length) throw refuse("the header is cut short");
  const header = file.toString("latin1", headerAt, headerAt + headerBytes);
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || shape === undefined || /'fortran_order':\s*True/.test(header)) throw refuse(`header ${header.trim()}`);
  const type = Object.entries(DESCRIPTIONS).find(([, text]) => text === descr || text.slice(1) === descr.slice(1) && descr[0] !== ">")?.[0] as Exclude<DType, "string"> | undefined;
  if (!type) throw refuse(`type ${descr}`);
  const dims = shape.split(",").map((item) => item.trim()).filter((item) => item !== "").map(Number);
  const bytes = file.subarray(headerAt + headerBytes);
  if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) throw refuse(`shape (${shape})`);
  const needed = byteLength(type, elementCount(dims));
  if (bytes.length < needed) throw refuse(`${bytes.length} bytes of data for shape [${dims}]`);
  return Tensor.fromBytes(type, new Uint8Array(bytes), dims);
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

export function hasNpyType(type: DType): boolean {
  return DESCRIPTIONS[type] !== undefined;
}

/** @throws UserError for types NumPy does not have, and when the file cannot be written */
export function writeNpy(path: string, tensor: Tensor): void {
  const descr = DESCRIPTIONS[tensor.type];
  if (!descr) throw new UserError("file-io", `${path}: NumPy has no type ${tensor.type}.`);
  const shape = tensor.dims.length === 1 ? `(${tensor.dims[0]},)` : `(${tensor.dims.join(", ")})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const header = `${text}${" ".repeat(63 - ((10 + text.length) % 64))}\n`;
  const start = Buffer.alloc(10);
  start.write(MAGIC, "latin1");
  start[6] = 1;
  start.writeUInt16LE(header.length, 8);
  try {
    writeFileSync(path, Buffer.concat([start, Buffer.from(header, "latin1"), tensor.bytes]));
  } catch (cause) {
    throw fileError(path, cause);
  }
}
