/**
 * The QLinear family: real arithmetic between DequantizeLinear and QuantizeLinear.
 * Source: onnxruntime, ContribOperators.md: QLinearAdd and the others, QGemm, QuantizeLinear, DequantizeLinear.
 */
import type { AttributeValue, Node, Value } from "../../ir/index.ts";
import { numbersOf, type Rewrite, type Rewriter } from "../rewriter.ts";
import { dataTypeOf } from "../tensor-data.ts";

/** Input `at` with its scale and zero point, as real numbers. */
function real(node: Node, rewriter: Rewriter, at: number, attributes: Record<string, AttributeValue> = {}): Value {
  return rewriter.emit("DequantizeLinear", node.inputs.slice(at, at + 3), attributes);
}

/** Writes the result quantized with the scale and zero point at inputs `at` and `at + 1`. */
function quantize(node: Node, rewriter: Rewriter, result: Value, at: number): "replaced" {
  rewriter.emit("QuantizeLinear", [result, node.inputs[at], node.inputs[at + 1]], {}, node.outputs[0]);
  return "replaced";
}

const binary = (op: string): Rewrite => (node, rewriter) => quantize(node, rewriter, rewriter.emit(op, [real(node, rewriter, 0), real(node, rewriter, 3)]), 6);

const unary = (op: string, names: readonly string[] = []): Rewrite => (node, rewriter) => {
  const attributes = Object.fromEntries(Object.entries(node.attributes).filter(([name]) => names.includes(name)));
  return quantize(node, rewriter, rewriter.emit(op, [real(node, rewriter, 0)], attributes), 3);
};

/** Pooling over channels that stand last is done between two transposes; its rank comes from the kernel or the input. */
const pool = (op: string): Rewrite => (node, rewriter) => {
  const { channels_last: channelsLast, ...attributes } = node.attributes;
  const kernel = attributes["kernel_shape"];
  const spatial = Array.isArray(kernel) ? kernel.length : node.inputs[0]?.dims && node.inputs[0].dims.length - 2;
  if (!channelsLast) return quantize(node, rewriter, rewriter.emit(op, [real(node, rewriter, 0)], attributes), 3);
  if (spatial === undefined) return undefined;
  const axes = Array.from({ length: spatial }, (_, i) => i);
  const first = rewriter.emit("Transpose", [real(node, rewriter, 0)], { perm: [0, spatial + 1, ...axes.map((i) => i + 1)] });
  const pooled = rewriter.emit(op, [first], attributes);
  return quantize(node, rewriter, rewriter.emit("Transpose", [pooled], { perm: [0, ...axes.map((i) => i + 2), 1] }), 3);
};

/** Its inputs start with the result's scale and zero point. */
const concat: Rewrite = (node, rewriter) => {
  const parts: Value[] = [];
  for (let at = 2; at < node.inputs.length; at += 3) parts.push(real(node, rewriter, at));
  return quantize(node, rewriter, rewriter.emit("Concat", parts, { axis: node.attributes["axis"] ?? 0 }), 0);
};

/** With `opset` below 13 it flattens to two dimensions at `axis`, as Softmax did. */
const softmax: Rewrite = (node, rewriter) => {
  const axis = Number(node.attributes["axis"] ?? -1);
  const rank = node.inputs[0]?.dims?.length;
  const isLast = axis === -1 || (rank !== undefined && axis === rank - 1);
  const x = real(node, rewriter, 0);
  if (isLast || Number(node.attributes["opset"] ?? 13) >= 13) return quantize(node, rewriter, rewriter.emit("Softmax", [x], { axis }), 3);
  const result = rewriter.emit("Softmax", [rewriter.emit("Flatten", [x], { axis })], { axis: -1 });
  return quantize(node, rewriter, rewriter.emit("Reshape", [result, rewriter.emit("Shape", [x])]), 3);
};

const reduceMean: Rewrite = (node, rewriter) => {
  const axes = numbersOf(node, "axes");
  const inputs = [real(node, rewriter, 0), axes && axes.length > 0 ? rewriter.int64(axes) : undefined];
  return quantize(node, rewriter, rewriter.emit("ReduceMean", inputs, { keepdims: node.attributes["keepdims"] ?? 1 }), 3);
};

const where: Rewrite = (node, rewriter) => quantize(node, rewriter, rewriter.emit("Where", [node.inputs[0], real(node, rewriter, 1), real(node, rewriter, 4)]), 7);

/** alpha * (A B + C) with C in units of both scales; float32 when no scale is given for the result. */
const gemm: Rewrite = (node, rewriter) => {
  const { alpha = 1, transA = 0, transB = 0 } = node.attributes;
  const [, aScale, , , bScale, , c, yScale] = node.inputs;
  const perColumn = Number(transB) !== 0 ? 0 : 1;
  const a = real(node, rewriter, 0);
  const b = real(node, rewriter, 3, { axis: perColumn });
  const addend = c && rewriter.emit("Mul", [rewriter.emit("Cast", [c], { to: dataTypeOf("float32") }), rewriter.emit("Mul", [aScale, bScale])]);
  const product = rewriter.emit("Gemm", [a, b, addend], { alpha, beta: alpha, transA, transB }, yScale ? undefined : node.outputs[0]);
  return yScale ? quantize(node, rewriter, product, 7) : "replaced";
};

/** The operator of the same name in ai.onnx. */
const sameName: Rewrite = (node, rewriter) => {
  rewriter.emit(node.op, node.inputs, node.attributes, node.outputs[0]);
  return "replaced";
};

export const quantizedRewrites: Readonly<Record<string, Rewrite>> = {
  QLinearAdd: binary("Add"),
  QLinearMul: binary("Mul"),
  QLinearSigmoid: unary("Sigmoid"),
  QLinearLeakyRelu: unary("LeakyRelu", ["alpha"]),
  QLinearAveragePool: pool("AveragePool"),
  QLinearGlobalAveragePool: pool("GlobalAveragePool"),
  QLinearConcat: concat,
  QLinearSoftmax: softmax,
  QLinearReduceMean: reduceMean,
  QLinearWhere: where,
  QGemm: gemm,
  QuantizeLinear: sameName,
  DequantizeLinear: sameName,
  Trilu: sameName,
  GatherND: sameName,
  Range: sameName,
};
