/**
 * Which nodes are contractions with code generators of their own, and the parts of them that kernels name: operands and
 * zero points. The same for MatMul, Conv and their integer forms.
 */
import type { DType } from "../base/index.ts";
import { accumulatorOf, type Dim, isStatic, type Node, type Value } from "../ir/index.ts";
import type { TargetKernels } from "./target-kernels.ts";
import { isNativeTransposedConv } from "./transposed-conv.ts";

export function isContraction(node: Node, kernels: TargetKernels): boolean {
  const { integers } = kernels;
  if (node.domain === "sinter" && node.op === "Attention") return ["float32" as const, ...(kernels.narrowAttention ? narrowTypes(kernels) : [])].some((type) => haveTypes([...node.inputs.slice(0, 3), ...node.outputs], [type])) && maskIsFloat(node);
  if (node.domain === "sinter" && node.op === "BlockMatMul") return kernels.blockWeights && (node.inputs[0]?.dims?.length ?? 0) >= 2;
  if (node.domain !== "") return false;
  switch (node.op) {
    case "MatMul": return isFloatProduct(node, kernels);
    case "Conv": return isFloatProduct(node, kernels) && isNativeConv(node);
    case "ConvTranspose": return haveTypes([...node.inputs, ...node.outputs], ["float32"]) && isNativeTransposedConv(node);
    case "MatMulInteger": return integers && isIntegerProduct(node) && hasOneElement(node.inputs[2]) && isColumnZero(node.inputs[3], node.inputs[1]!);
    case "ConvInteger": return integers && isIntegerProduct(node) && isNativeConv(node) && hasOneElement(node.inputs[2]) && isFilterZero(node.inputs[3]);
    default: return false;
  }
}

/** Operands, bias and result of one floating-point type; a narrow product may have float32 bias and results. */
function isFloatProduct(node: Node, kernels: TargetKernels): boolean {
  const operands = node.inputs.slice(0, 2);
  if (haveTypes([...node.inputs, ...node.outputs], ["float32"])) return true;
  return narrowTypes(kernels).some((type) => haveTypes(operands, [type]) && haveTypes([...node.inputs.slice(2), ...node.outputs], [type, "float32"]));
}

function narrowTypes({ bfloat16, float16 }: TargetKernels): DType[] {
  return [...(bfloat16 ? ["bfloat16" as const] : []), ...(float16 ? ["float16" as const] : [])];
}

function isIntegerProduct(node: Node): boolean {
  return haveTypes(node.inputs, ["int8", "uint8"]) && haveTypes(node.outputs, ["int32"]);
}

function haveTypes(values: readonly (Value | undefined)[], dtypes: readonly DType[]): boolean {
  return values.every((value) => !value || (value.kind === "tensor" && value.dims !== undefined && value.dtype !== undefined && dtypes.includes(value.dtype)));
}

function maskIsFloat(node: Node): boolean {
  return !node.inputs[3] || node.inputs[3].dtype === "float32";
}

function hasOneElement(zero: Value | undefined): boolean {
  return !zero || zero.dims!.every((dim) => dim === 1);
}

/** Zero points of columns must be known, together with the columns. */
function isColumnZero(zero: Value | undefined, b: Value): boolean {
  if (hasOneElement(zero)) return true;
  return zero!.constant !== undefined && b.constant !== undefined && b.dims!.length === 2 && zero!.dims!.slice(0, -1).every((dim) => dim === 1);
}

function isFilterZero(zero: Value | undefined): boolean {
  return !zero || (zero.constant !== undefined && zero.dims!.length <= 1);
}

function isNativeConv(node: Node): boolean {
  const weights = node.inputs[1]!;
  const spatial = (weights.dims?.length ?? 0) - 2;
  return node.attributes["layout"] === "NHWC" && weights.constant !== undefined && (spatial === 1 || spatial === 2) && convPads(node) !== undefined && isStatic(weights.dims ?? []);
}

/** The type of a contraction's sums, before what follows it. */
export function sumType(node: Node): "f32" | "i32" {
  return accumulatorOf(node.inputs[0]!.dtype!) ?? "f32";
}

/** Inputs by what they are: integer forms have zero points where others have a bias. */
export function convInputs(node: Node): { input: Value; weights: Value; bias: Value | undefined; inputZero: Value | undefined; weightsZero: Value | undefined } {
  const [input, weights, third, fourth] = node.inputs;
  const isInteger = node.op === "ConvInteger";
  return { input: input!, weights: weights!, bias: isInteger ? undefined : third, inputZero: isInteger ? third : undefined, weightsZero: isInteger ? fourth : undefined };
}

/** Begin pads of a convolution; undefined when they depend on a size that is not known at build time. */
export function convPads(node: Node): number[] | undefined {
  const kernel = (node.inputs[1]?.dims ?? []).slice(2) as number[];
  const auto = (node.attributes["auto_pad"] as string | undefined) ?? "NOTSET";
  if (auto === "NOTSET") return ((node.attributes["pads"] as number[] | undefined) ?? []).slice(0, kernel.length).concat(new Array(kernel.length).fill(0)).slice(0, kernel.length);
  if (auto === "VALID") return kernel.map(() => 0);
  const first = node.attributes["inputLayout"] === "NCHW" ? 2 : 1;
  const strides = (node.attributes["strides"] as number[] | undefined) ?? kernel.map(() => 1);
  const dilations = (node.attributes["dilations"] as number[] | undefined) ?? kernel.map(() => 1);
  const pads = kernel.map((size, i) => samePad(node.inputs[0]!.dims![first + i]!, size, strides[i]!, dilations[i]!, auto === "SAME_LOWER"));
  return pads.every((pad) => pad !== undefined) ? (pads as number[]) : undefined;
}

function samePad(input: Dim, kernel: number, stride: number, dilation: number, lower: boolean): number | undefined {
  const extent = (kernel - 1) * dilation + 1;
  if (typeof input !== "number") {
    if (stride !== 1) return undefined;
    return lower ? Math.ceil((extent - 1) / 2) : Math.floor((extent - 1) / 2);
  }
  const total = Math.max(0, (Math.ceil(input / stride) - 1) * stride + extent - input);
  return lower ? Math.ceil(total / 2) : Math.floor(total / 2);
}
