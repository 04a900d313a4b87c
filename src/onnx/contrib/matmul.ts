/**
 * Matrix products with something fused to them, and those over quantized weights.
 * Source: onnxruntime, ContribOperators.md: FusedMatMul, FusedMatMulActivation, FusedGemm, FusedConv,
 * MatMulIntegerToFloat, DynamicQuantizeMatMul, MatMulNBits, NhwcMaxPool.
 */
import { constantValue, type Node, type Value } from "../../ir/index.ts";
import { numbersOf, type Rewrite, type Rewriter, tensorConstant } from "../rewriter.ts";
import { dataTypeOf } from "../tensor-data.ts";
import { emitActivation, isKnownActivation } from "./activation.ts";

const flag = (node: Node, name: string): boolean => Number(node.attributes[name] ?? 0) !== 0;

/** Which axis stands where before the product: batch axes moved first, then the last two swapped. */
function operandOrder(rank: number, swapBatch: boolean, swapLast: boolean): number[] {
  const axes = Array.from({ length: rank }, (_, i) => i);
  if (swapBatch && rank > 2) axes.splice(0, rank - 1, ...axes.slice(1, rank - 1), 0);
  if (swapLast && rank > 1) [axes[rank - 2], axes[rank - 1]] = [axes[rank - 1]!, axes[rank - 2]!];
  return axes;
}

/** The operand as MatMul takes it; undefined when its rank must be known first. */
function operand(rewriter: Rewriter, value: Value | undefined, swapBatch: boolean, swapLast: boolean): Value | undefined {
  if (!swapBatch && !swapLast) return value;
  const rank = value?.dims?.length;
  if (rank === undefined) return undefined;
  const perm = operandOrder(rank, swapBatch, swapLast);
  return perm.every((axis, i) => axis === i) ? value : rewriter.emit("Transpose", [value], { perm });
}

function fusedMatMul(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const ranksKnown = (["A", "B"] as const).every((side, i) => !(flag(node, `trans${side}`) || flag(node, `transBatch${side}`)) || node.inputs[i]?.dims);
  const activation = String(node.attributes["activation"] ?? "");
  if (!ranksKnown || (activation && !isKnownActivation(activation))) return undefined;
  const a = operand(rewriter, node.inputs[0], flag(node, "transBatchA"), flag(node, "transA"));
  const b = operand(rewriter, node.inputs[1], flag(node, "transBatchB"), flag(node, "transB"));
  const alpha = Number(node.attributes["alpha"] ?? 1);
  const last = activation ? undefined : node.outputs[0];
  let product = rewriter.emit("MatMul", [a, b], {}, alpha === 1 ? last : undefined);
  if (alpha !== 1) product = rewriter.emit("Mul", [product, rewriter.scalarLike(alpha, node.inputs[0])], {}, last);
  if (activation) emitActivation(rewriter, activation, activationNumbers(node), product, node.outputs[0]);
  return "replaced";
}

function activationNumbers(node: Node): (number | undefined)[] {
  return ["activation_alpha", "activation_beta", "activation_gamma"].map((name) => (node.attributes[name] === undefined ? undefined : Number(node.attributes[name])));
}

function fusedGemm(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const activation = String(node.attributes["activation"] ?? "");
  if (activation && !isKnownActivation(activation)) return undefined;
  const attributes = picked(node, ["alpha", "beta", "transA", "transB"]);
  const result = rewriter.emit("Gemm", node.inputs, attributes, activation ? undefined : node.outputs[0]);
  if (activation) emitActivation(rewriter, activation, activationNumbers(node), result, node.outputs[0]);
  return "replaced";
}

function fusedConv(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const activation = String(node.attributes["activation"] ?? "");
  if (activation && !isKnownActivation(activation)) return undefined;
  const [x, weights, bias, addend] = node.inputs;
  const attributes = picked(node, ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
  const last = activation ? undefined : node.outputs[0];
  let result = rewriter.emit("Conv", [x, weights, bias], attributes, addend ? undefined : last);
  if (addend) result = rewriter.emit("Add", [result, addend], {}, last);
  const parameters = numbersOf(node, "activation_params") ?? [];
  if (activation) emitActivation(rewriter, activation, parameters, result, node.outputs[0]);
  return "replaced";
}

function picked(node: Node, names: readonly string[]): Node["attributes"] {
  return Object.fromEntries(Object.entries(node.attributes).filter(([name]) => names.includes(name)));
}

interface IntegerProduct {
  readonly a: Value | undefined;
  readonly b: Value | undefined;
  readonly aScale: Value | undefined;
  readonly bScale: Value | undefined;
  readonly aZero: Value | undefined;
  readonly bZero: Value | undefined;
  readonly bias: Value | undefined;
}

function scaledIntegerProduct(node: Node, rewriter: Rewriter, parts: IntegerProduct): "replaced" {
  const product = rewriter.emit("MatMulInteger", [parts.a, parts.b, parts.aZero, parts.bZero]);
  const real = rewriter.emit("Cast", [product], { to: dataTypeOf("float32") });
  const scale = rewriter.emit("Mul", [parts.aScale, parts.bScale]);
  const scaled = rewriter.emit("Mul", [real, scale], {}, parts.bias ? undefined : node.outputs[0]);
  if (parts.bias) rewriter.emit("Add", [scaled, parts.bias], {}, node.outputs[0]);
  return "replaced";
}

function matMulIntegerToFloat(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [a, b, aScale, bScale, aZero, bZero, bias] = node.inputs;
  return scaledIntegerProduct(node, rewriter, { a, b, aScale, bScale, aZero, bZero, bias });
}

function dynamicQuantizeMatMul(node: Node, rewriter: Rewriter): "replaced" {
  const [x, b, bScale, bZero, bias] = node.inputs;
  const [a, aScale, aZero] = ["quantized", "scale", "zero"].map((hint) => rewriter.fresh(hint));
  rewriter.emitMany("DynamicQuantizeLinear", [x], {}, [a, aScale, aZero]);
  return scaledIntegerProduct(node, rewriter, { a, b, aScale, bScale, aZero, bZero, bias });
}

/**
 * Weights of `bits` bits in blocks along K: the bytes, low bits first, are those of a packed tensor [N, blocks * size],
 * so they are viewed as one, dequantized by blocks, cut to K and transposed. Needs constant weights and zero points.
 */
function matMulNBits(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const [x, weights, scales, zeros, order, bias] = node.inputs;
  const bits = Number(node.attributes["bits"] ?? 4);
  const [k, n, size] = ["K", "N", "block_size"].map((name) => Number(node.attributes[name] ?? rewriter.invalid(`attribute "${name}" is missing.`))) as [number, number, number];
  if (![k, n, size].every((item) => Number.isSafeInteger(item) && item > 0)) rewriter.invalid(`K=${k}, N=${n}, block_size=${size} must be positive integers.`);
  const packed = tensorConstant(weights);
  const dtype = bits === 4 ? "uint4" : bits === 8 ? "uint8" : bits === 2 ? "uint2" : undefined;
  if (!packed || !dtype || order || (zeros && (!tensorConstant(zeros) || zeros.dtype !== "uint8"))) return undefined;
  const blocks = Math.ceil(k / size);
  if (packed.constant.bytes.length !== (n * blocks * size * bits) / 8) rewriter.invalid(`B has ${packed.constant.bytes.length} bytes; N=${n}, K=${k}, block_size=${size} and ${bits} bits need ${(n * blocks * size * bits) / 8}.`);
  const quantized = constantValue(dtype, [n, blocks * size], packed.constant.bytes, `${node.name}/weights`);
  const zero = constantValue(dtype, [n, blocks], zeroPoints(tensorConstant(zeros)?.constant.bytes, n, blocks, bits), `${node.name}/zeros`);
  const table = rewriter.emit("Reshape", [scales, rewriter.int64([n, blocks])]);
  let real = rewriter.emit("DequantizeLinear", [quantized, table, zero], { axis: 1, block_size: size });
  if (blocks * size !== k) real = rewriter.emit("Slice", [real, rewriter.int64([0]), rewriter.int64([k]), rewriter.int64([1])]);
  const columns = rewriter.emit("Transpose", [real], { perm: [1, 0] });
  const product = rewriter.emit("MatMul", [x, columns], {}, bias ? undefined : node.outputs[0]);
  if (bias) rewriter.emit("Add", [product, bias], {}, node.outputs[0]);
  return "replaced";
}

/** Zero points packed without the padding that each row ends with in the file; the middle of the range when absent. */
function zeroPoints(stored: Uint8Array | undefined, rows: number, columns: number, bits: number): Uint8Array {
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  const rowBytes = Math.ceil(columns / perByte);
  const made = new Uint8Array(Math.ceil((rows * columns) / perByte));
  for (let i = 0; i < rows * columns; i++) {
    const column = i % columns;
    const byte = stored?.[Math.floor(i / columns) * rowBytes + Math.floor(column / perByte)];
    const value = byte === undefined ? 1 << (bits - 1) : (byte >> ((column % perByte) * bits)) & mask;
    made[Math.floor(i / perByte)]! |= value << ((i % perByte) * bits);
  }
  return made;
}

function nhwcMaxPool(node: Node, rewriter: Rewriter): "replaced" | undefined {
  const kernel = numbersOf(node, "kernel_shape") ?? rewriter.invalid('attribute "kernel_shape" is missing.');
  const spatial = Array.from({ length: kernel.length }, (_, i) => i);
  const first = rewriter.emit("Transpose", [node.inputs[0]], { perm: [0, kernel.length + 1, ...spatial.map((i) => i + 1)] });
  const pooled = rewriter.emit("MaxPool", [first], node.attributes);
  rewriter.emit("Transpose", [pooled], { perm: [0, ...spatial.map((i) => i + 2), 1] }, node.outputs[0]);
  return "replaced";
}

export const matMulRewrites: Readonly<Record<string, Rewrite>> = {
  FusedMatMul: fusedMatMul,
  TransposeMatMul: fusedMatMul,
  FusedMatMulActivation: fusedMatMul,
  FusedGemm: fusedGemm,
  FusedConv: fusedConv,
  MatMulIntegerToFloat: matMulIntegerToFloat,
  DynamicQuantizeMatMul: dynamicQuantizeMatMul,
  MatMulNBits: matMulNBits,
  NhwcMaxPool: nhwcMaxPool,
};
