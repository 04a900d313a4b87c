/**
 * The classification extension: of an output's values the K largest, each as the text "value:index" or "value:index:label".
 * Source: Triton's "Classification Extension"; numbers are written as C++'s std::to_string does.
 */
import { fromBfloat16Bits, fromFloat16Bits, viewArray } from "../../base/index.ts";
import { type BatchTensor, encodeStrings } from "../../backends/index.ts";
import { dataTypeOfWire } from "../../repository/index.ts";
import { type ResponseOutput, ServingError } from "../contract.ts";
import type { OutputSignature } from "./signature.ts";
import { product } from "./strided.ts";

export function classify(name: string, output: OutputSignature, tensor: BatchTensor, count: number, batched: boolean, labels: readonly string[] | undefined): ResponseOutput {
  if (output.wire === "BYTES" || output.wire === "BOOL") throw new ServingError("INVALID_ARG", `class result not available for output '${name}' due to unsupported type '${output.wire}'`);
  const rows = batched ? tensor.shape[0]! : 1;
  const classes = product(batched ? tensor.shape.slice(1) : tensor.shape);
  const values = numbersOf(output, tensor.bytes);
  const most = Math.min(count, classes);
  const texts: string[] = [];
  for (let row = 0; row < rows; row++) {
    const valueAt = (index: number): number | bigint => values[row * classes + index]!;
    const order = Array.from({ length: classes }, (_, index) => index).sort((a, b) => (valueAt(a) < valueAt(b) ? 1 : valueAt(a) > valueAt(b) ? -1 : a - b));
    for (const index of order.slice(0, most)) texts.push(`${textOf(valueAt(index), output.wire)}:${index}${labels?.[index] === undefined ? "" : `:${labels[index]}`}`);
  }
  return { name, datatype: "BYTES", shape: batched ? [rows, most] : [most], bytes: encodeStrings(texts) };
}

function numbersOf({ wire }: OutputSignature, bytes: Uint8Array): ArrayLike<number | bigint> {
  const array = viewArray(dataTypeOfWire(wire)!.dtype as "float32", bytes) as ArrayLike<number | bigint>;
  if (wire === "FP16") return Array.from(array, (bits) => fromFloat16Bits(Number(bits)));
  if (wire === "BF16") return Array.from(array, (bits) => fromBfloat16Bits(Number(bits)));
  return array;
}

function textOf(value: number | bigint, wire: string): string {
  return wire.startsWith("FP") || wire === "BF16" ? Number(value).toFixed(6) : String(value);
}
