/** The sizes behind KServe's datatype names, and of shapes. */
import type { Datatype } from "../contract.ts";
import { ServingError } from "../contract.ts";

/** Bytes of one element; 0 for BYTES, whose elements carry their own length. */
export const ELEMENT_BYTES: Readonly<Record<Datatype, number>> = {
  BOOL: 1, UINT8: 1, UINT16: 2, UINT32: 4, UINT64: 8, INT8: 1, INT16: 2, INT32: 4, INT64: 8, FP16: 2, BF16: 2, FP32: 4, FP64: 8, BYTES: 0,
};

export function isDatatype(text: string): text is Datatype {
  return Object.hasOwn(ELEMENT_BYTES, text);
}

/** @throws INVALID_ARG when a dimension is no count, or the product is not exact */
export function elementCount(name: string, shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    if (!(size >= 0)) throw new ServingError("INVALID_ARG", `invalid shape for input '${name}': shape [${shape}] contains one or more invalid dimensions`);
    count *= size;
  }
  // Triton counts elements in 64 bits, and then their bytes.
  if (count > Number.MAX_SAFE_INTEGER && count < 2 ** 63) throw new ServingError("INVALID_ARG", `byte size overflow for input '${name}': shape [${shape}] is more than can be held`);
  if (!(count <= Number.MAX_SAFE_INTEGER)) throw new ServingError("INVALID_ARG", `invalid shape for input '${name}': shape [${shape}] causes total element count to exceed maximum size of ${Number.MAX_SAFE_INTEGER}`);
  return count;
}

/** @throws INVALID_ARG when bytes and shape disagree. BYTES are walked: each element's length must lie inside. */
export function checkByteSize(name: string, model: string, datatype: Datatype, shape: readonly number[], bytes: Uint8Array): void {
  const count = elementCount(name, shape);
  if (datatype === "BYTES") {
    checkBytesElements(name, model, count, bytes);
    return;
  }
  const expected = count * ELEMENT_BYTES[datatype];
  if (bytes.byteLength !== expected) {
    throw new ServingError("INVALID_ARG", `input byte size mismatch for input '${name}' for model '${model}'. Expected ${expected}, got ${bytes.byteLength}`);
  }
}

function checkBytesElements(name: string, model: string, expected: number, bytes: Uint8Array): void {
  let at = 0;
  let found = 0;
  while (at < bytes.byteLength) {
    if (at + 4 > bytes.byteLength) {
      throw new ServingError("INVALID_ARG", `incomplete string length indicator for inference input '${name}' for model '${model}': ${bytes.byteLength - at} bytes at offset ${at}, expecting 4`);
    }
    const length = bytes[at]! + bytes[at + 1]! * 0x100 + bytes[at + 2]! * 0x1_0000 + bytes[at + 3]! * 0x100_0000;
    at += 4 + length;
    if (at > bytes.byteLength) {
      throw new ServingError("INVALID_ARG", `incomplete string data for inference input '${name}' for model '${model}': expecting string of length ${length} but only ${bytes.byteLength - (at - length)} bytes available`);
    }
    found++;
  }
  if (found !== expected) {
    throw new ServingError("INVALID_ARG", `expected ${expected} string elements for inference input '${name}' for model '${model}', got ${found}`);
  }
}
