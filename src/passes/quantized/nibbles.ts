/**
 * Weights of four bits stay four bits in the engine: DequantizeLinear of an int4 or uint4 constant reads sinter.Unpack4
 * of its bytes, which kernels compute as they load.
 */
import { constantValue, type Value } from "../../ir/index.ts";
import type { Editor, Rule } from "../editor.ts";
import { constantNumbers, isNode } from "./operands.ts";

export const unpackNibbles: Rule = (node, editor) => {
  const [x, scale, zero] = node.inputs;
  if (!isNode(node, "DequantizeLinear") || !isNibble(x) || !x?.constant || (zero && !zero.constant)) return false;
  const shape = x.dims as readonly number[];
  if (shape.length === 0 || shape.at(-1)! % 2 !== 0) return false;
  return editor.replaceNode(node, editor.emit("DequantizeLinear", [unpacked(editor, x, shape), scale, zero && widened(zero)], node.attributes));
};

const isNibble = (value: Value | undefined): boolean => value?.dtype === "int4" || value?.dtype === "uint4";

function unpacked(editor: Editor, x: Value, shape: readonly number[]): Value {
  const packed = constantValue("uint8", [...shape.slice(0, -1), shape.at(-1)! / 2], x.constant!.bytes, x.name);
  return editor.emit("Unpack4", [packed], { signed: x.dtype === "int4" ? 1 : 0 }, { domain: "sinter" });
}

/** Zero points, a byte each: there is one per block. */
function widened(zero: Value): Value {
  const numbers = Array.from(constantNumbers(zero)!);
  const isSigned = zero.dtype === "int4";
  return constantValue(isSigned ? "int8" : "uint8", zero.dims as readonly number[], isSigned ? new Uint8Array(Int8Array.from(numbers).buffer) : Uint8Array.from(numbers));
}
