/**
 * Weights with one element per lane, for kernels that multiply lane by lane: float32, or the difference from the zero
 * point in the low half of a word, so that `pairs` of it and a widened element have one product.
 */
import { fromBfloat16Bits } from "../../../base/index.ts";
import type { PackedData } from "../../../ir/index.ts";
import { type MatrixView, packPanels } from "./panels.ts";
import { constantElements, type WordSource, zeroOf } from "./word-panels.ts";

/** One panel matrix of `view`'s rows and columns. @param key names source, zero points and view */
export function packLanes(key: string, source: WordSource, view: MatrixView): PackedData {
  if (source.dtype === "float32") return packPanels(`panel16${key}`, source.bytes, [view]);
  const { sizeBytes } = packPanels(key, source.bytes, [view]);
  return { key: `lanes ${key}`, sizeBytes, write: (into) => packPanels(key, lanesOf(source, view), [view]).write(into) };
}

function lanesOf(source: WordSource, view: MatrixView): Uint8Array {
  const from = constantElements(source);
  if (source.dtype === "bfloat16") return new Uint8Array(Float32Array.from(from, fromBfloat16Bits).buffer);
  const perColumn = view.columnStride;
  return new Uint8Array(Uint32Array.from(from, (element, i) => (element - zeroOf(source.zeros, Math.floor(i / perColumn))) & 0xffff).buffer);
}
