/**
 * Constant folding. A result whose elements inference knows becomes a constant, or, where they are expressions of
 * dimension symbols, a shape operand: a value without producer that carries only `elements`. Other nodes with constant
 * inputs are evaluated by the reference operators, unless the result takes much more room than what it is made from.
 */
import { byteLength, type DType, elementCount, Tensor } from "../base/index.ts";
import { constantValue, type ConstantData, isStatic, type Node, subgraphsOf, type Value } from "../ir/index.ts";
import { opKey } from "../ops/index.ts";
import { shapeOperand } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import type { Evaluate } from "./pass.ts";

/** How many bytes more than its inputs a folded result may take. */
const MAX_GROWTH_BYTES = 1024 * 1024;

/** Most bytes of a folded tensor that is as large as its input, such as a transposed weight. */
const MAX_BYTES = 256 * 1024 * 1024;

const CONTRACTIONS = new Set(["Conv", "ConvTranspose", "MatMul", "Gemm", "BatchNormalization"]);

const CONVOLUTIONS = new Set(["Conv", "ConvTranspose"]);

const RANDOM = /^(Random\w*|Bernoulli|Multinomial|Dropout)$/;

/** Kept as they are: quantized weights stay small, and kernels apply the scale. */
const KEPT = new Set(["DequantizeLinear", "sinter.Unpack4"]);

/** Largest dequantized vector that is simply computed, in elements: biases and the like. */
const MAX_VECTOR = 64 * 1024;

/** A quantized bias, or another vector, is worth no kernel. */
function foldsDequantize({ op, domain, inputs: [x] }: Node): boolean {
  const [size = 1, ...more] = x?.dims ?? [];
  return domain === "" && op === "DequantizeLinear" && more.length === 0 && typeof size === "number" && size <= MAX_VECTOR;
}

/** Quantized weights that no integer kernel takes: where a convolution reads them they must be constant, so they are dequantized now. */
export function foldConvolutionWeights(evaluate: Evaluate): Rule {
  return (node, editor) => node.op === "DequantizeLinear" && node.domain === "" && node.inputs.every((input) => !input || input.constant)
    && editor.usersOf(node.outputs[0]!).some((user) => CONVOLUTIONS.has(user.op) && user.inputs[1] === node.outputs[0]) && foldByEvaluation(node, editor, evaluate);
}

export function foldConstants(evaluate: Evaluate): Rule {
  return (node, editor) => foldElements(node, editor) || (isFoldable(node, editor) && foldByEvaluation(node, editor, evaluate));
}

/** Replaces results whose elements are known; the nodes that computed them die with their last reader. */
function foldElements(node: Node, editor: Editor): boolean {
  let changed = false;
  for (const output of node.outputs) {
    if (!output?.elements || output.constant || !output.dims || !output.dtype) continue;
    if (!isStatic(output.elements) && editor.isOutput(output)) continue;
    if (editor.usersOf(output).length === 0 && !editor.isOutput(output)) continue;
    editor.replace(output, shapeOperand(output.elements, output.dtype, output.dims));
    changed = true;
  }
  return changed;
}

function isFoldable(node: Node, editor: Editor): boolean {
  if (RANDOM.test(node.op) || (KEPT.has(opKey(node)) && !foldsDequantize(node)) || subgraphsOf(node).length > 0) return false;
  if (!node.inputs.every((input) => input === undefined || input.constant) || node.outputs.length === 0) return false;
  if (node.op === "Identity") return true;
  const before = node.inputs.reduce((sum, input) => sum + (input ? bytesOf(input) ?? 0 : 0), 0);
  const after = node.outputs.reduce((sum, output) => sum + (output ? bytesOf(output) ?? Number.POSITIVE_INFINITY : 0), 0);
  return after <= MAX_BYTES && (after <= before + MAX_GROWTH_BYTES || isWeight(node, editor));
}

/** Filled tensors that stand where weights do: contractions are only fast with constant ones. */
function isWeight(node: Node, editor: Editor): boolean {
  const output = node.outputs[0];
  return output !== undefined && editor.usersOf(output).some((user) => user.domain === "" && CONTRACTIONS.has(user.op) && user.inputs[0] !== output);
}

function bytesOf(value: Value): number | undefined {
  if (value.kind !== "tensor" || !value.dims || !isStatic(value.dims) || !value.dtype) return undefined;
  return value.dtype === "string" ? 16 * elementCount(value.dims) : byteLength(value.dtype, elementCount(value.dims));
}

function foldByEvaluation(node: Node, editor: Editor, evaluate: Evaluate): boolean {
  const results = node.op === "Identity" && node.domain === "" ? node.inputs.map(asTensor) : tryEvaluate(node, evaluate);
  if (!results) return false;
  let changed = false;
  node.outputs.forEach((output, i) => {
    const result = results[i];
    if (!output || !(result instanceof Tensor)) return;
    if (editor.usersOf(output).length === 0 && !editor.isOutput(output)) return;
    editor.replace(output, constantOf(result));
    changed = true;
  });
  return changed;
}

/** An operator that has no reference yet, or refuses its inputs, stays in the graph. */
function tryEvaluate(node: Node, evaluate: Evaluate): readonly unknown[] | undefined {
  try {
    return evaluate(node, node.inputs.map(asTensor));
  } catch {
    return undefined;
  }
}

export function asTensor(value: Value | undefined): Tensor | undefined {
  if (!value?.constant || !value.dtype || !value.dims) return undefined;
  const dims = value.dims as readonly number[];
  return value.dtype === "string" ? new Tensor("string", [...(value.constant.strings ?? [])], dims) : Tensor.fromBytes(value.dtype, value.constant.bytes, dims);
}

export function constantOf(tensor: Tensor, name?: string): Value {
  const data: ConstantData = Array.isArray(tensor.data) ? { bytes: new Uint8Array(0), strings: tensor.data } : { bytes: tensor.bytes };
  const value = constantValue(tensor.type as DType, tensor.dims, data.bytes, name);
  value.constant = data;
  return value;
}
