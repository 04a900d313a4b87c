/**
 * Convolutions as a GPU's matrix units take them. Pixels come in words: one to three channels are filled up to four, with
 * weights of zero, so that threads copy words instead of elements. And where the padding of an integer convolution is
 * not zero in bytes, because the zero point is not, it is written out: the copies fill in zeros.
 */
import { constantValue, type Node, type Value } from "../ir/index.ts";
import { numberOf, numbersOf, shapeOperand, stringOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import { scalarOf } from "./match.ts";

const CHANNELS = 4;

export const wholePixels: Rule = (node, editor) => {
  const [input, weights] = node.inputs;
  const isInteger = node.op === "ConvInteger";
  if (node.domain !== "" || !(isInteger || node.op === "Conv") || node.attributes["layout"] !== "NHWC" || !weights?.constant || weights.dims?.length !== 4 || input?.dims?.length !== 4) return false;
  const zero = isInteger && node.inputs[2] ? scalarOf(node.inputs[2]) : 0;
  const isDepthwise = weights.dims[1] === 1 && numberOf(node, "group", 1) > 1;
  if (zero === undefined || isDepthwise) return false;
  const missing = Number(weights.dims[1]) < CHANNELS && numberOf(node, "group", 1) === 1 && !(isInteger && node.inputs[3]) && hasTaps(weights) ? CHANNELS - Number(weights.dims[1]) : 0;
  const pads = zero === 0 || stringOf(node, "auto_pad", "NOTSET") !== "NOTSET" ? [0, 0, 0, 0] : numbersOf(node, "pads") ?? [0, 0, 0, 0];
  if (missing === 0 && pads.every((pad) => pad === 0)) return false;
  const { inputLayout, ...attributes } = node.attributes;
  const [top, left, bottom, right] = pads as [number, number, number, number];
  const amounts = inputLayout === "NCHW" ? [0, 0, top, left, 0, missing, bottom, right] : [0, top, left, 0, 0, bottom, right, missing];
  const filled = padded(editor, input, amounts, zero);
  const turned = inputLayout === "NCHW" ? editor.emit("Transpose", [filled], { perm: [0, 2, 3, 1] }) : filled;
  const widened = missing > 0 ? padded(editor, weights, [0, 0, 0, 0, 0, missing, 0, 0], 0) : weights;
  const unpadded = pads.some((pad) => pad !== 0) ? { ...attributes, pads: [0, 0, 0, 0] } : attributes;
  return editor.replaceNode(node, editor.emit(node.op, [turned, widened, ...node.inputs.slice(2)], unpadded, { origins: node.origins }));
};

/** A single pixel's channels are read together as they are. */
const hasTaps = (weights: Value): boolean => Number(weights.dims![2]) * Number(weights.dims![3]) > 1;

function padded(editor: Editor, value: Value, amounts: readonly number[], fill: number): Value {
  const byte = value.dtype === "uint8" || value.dtype === "int8";
  const operands: Node["inputs"] = byte && fill !== 0 ? [value, shapeOperand([...amounts]), constantValue(value.dtype!, [], Uint8Array.of(fill & 0xff))] : [value, shapeOperand([...amounts])];
  return editor.emit("Pad", operands);
}
