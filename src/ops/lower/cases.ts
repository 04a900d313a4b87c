/**
 * Cases that exercise every lowering: an operator, its attributes and inputs. Tests run them against the plain
 * references, interpreted and as generated code.
 */
import { type DType, newArray, type NumericArray, Tensor } from "../../base/index.ts";
import { type AttributeValue, constantValue, type Node, makeNode, Value } from "../../ir/index.ts";

export interface OperandCase {
  readonly dtype: DType;
  readonly dims: readonly number[];
  /** Given elements; random ones in [-3, 3) otherwise. */
  readonly elements?: readonly number[];
  /** Known when the kernel is built. */
  readonly isConstant?: boolean;
}

export interface OperatorCase {
  readonly op: string;
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  readonly inputs: readonly (OperandCase | undefined)[];
}

const f = (...dims: number[]): OperandCase => ({ dtype: "float32", dims });
const of = (dtype: DType, ...dims: number[]): OperandCase => ({ dtype, dims });
const values = (elements: readonly number[], dims: readonly number[] = [elements.length]): OperandCase => ({ dtype: "float32", dims, elements });
const ints = (elements: readonly number[], dims: readonly number[] = [elements.length]): OperandCase => ({ dtype: "int64", dims, elements });
const known = (...elements: number[]): OperandCase => ({ dtype: "int64", dims: [elements.length], elements, isConstant: true });
const scales = (...elements: number[]): OperandCase => ({ dtype: "float32", dims: [elements.length], elements, isConstant: true });

const one = (op: string, inputs: readonly (OperandCase | undefined)[], attributes?: Readonly<Record<string, AttributeValue>>, domain?: string): OperatorCase =>
  ({ op, inputs, ...(attributes ? { attributes } : {}), ...(domain ? { domain } : {}) });

const UNARY_FLOAT = [
  "Abs", "Neg", "Sign", "Reciprocal", "Exp", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Erf", "Sigmoid", "Floor", "Ceil", "Round", "IsNaN", "IsInf",
  "Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Celu", "Selu", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Shrink", "Identity", "Swish",
];
const REDUCES = ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"];

export const OPERATOR_CASES: readonly OperatorCase[] = [
  ...UNARY_FLOAT.map((op) => one(op, [f(3, 37)])),
  ...["Sqrt", "Log"].map((op) => one(op, [values([0.1, 1, 2, 10, 1e10, 1e-30, 0.5])])),
  ...["Asin", "Acos", "Atanh"].map((op) => one(op, [values([-0.9, -0.5, -0.01, 0, 0.3, 0.75, 0.99])])),
  one("Acosh", [values([1, 1.001, 2, 30, 1e6])]),
  one("Gelu", [f(5, 19)], { approximate: "tanh" }),
  ...["Abs", "Neg", "Sign"].flatMap((op) => (["int8", "int32", "int64"] as const).map((dtype) => one(op, [of(dtype, 41)]))),
  one("Not", [of("bool", 3, 17)]),
  one("BitwiseNot", [of("uint8", 29)]),
  one("Clip", [f(4, 9), values([-0.5], []), values([1.5], [])]),
  one("PRelu", [f(2, 3, 5), f(3, 1)]),
  ...["Add", "Sub", "Mul", "Div"].map((op) => one(op, [f(3, 1, 17), f(5, 1)])),
  ...["Add", "Sub", "Mul"].flatMap((op) => (["int8", "uint8", "int16", "int32", "int64", "float16", "float64"] as const).map((dtype) => one(op, [of(dtype, 2, 19), of(dtype, 19)]))),
  one("Div", [ints([7, -7, 9, 100, -3]), ints([2, 2, -4, 7, 5])]),
  one("Mod", [ints([7, -7, 9, -100, 3]), ints([3, 3, -4, 7, 5])]),
  one("Mod", [values([7.5, -7.5, 9, -100.25]), values([2, 2, -4, 7])], { fmod: 1 }),
  one("Pow", [f(3, 19), { ...values([3], []), isConstant: true }]),
  one("Softmax", [f(2, 21, 3, 13)], { axis: 1 }),
  one("ArgMax", [f(2, 21, 37)], { axis: 1 }),
  one("Pow", [values([2, 3, 0.5, 10, 0, -2]), values([3, 0.5, -2, 2, 2, 3])]),
  ...["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"].flatMap((op) => (["float32", "int64", "uint8", "float64"] as const).map((dtype) => one(op, [of(dtype, 3, 21), of(dtype, 21)]))),
  ...["And", "Or", "Xor"].map((op) => one(op, [of("bool", 3, 21), of("bool", 21)])),
  ...["BitwiseAnd", "BitwiseOr", "BitwiseXor"].map((op) => one(op, [of("int32", 33), of("int32", 33)])),
  one("BitShift", [of("uint8", 18), of("uint8", 18)], { direction: "LEFT" }),
  one("BitShift", [of("uint32", 18), of("uint32", 18)], { direction: "RIGHT" }),
  ...["Min", "Max", "Sum", "Mean"].map((op) => one(op, [f(3, 18), f(18), f(3, 1)])),
  one("Where", [of("bool", 4, 1), f(4, 19), f(19)]),
  ...(["float32", "float16", "bfloat16", "float64", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool"] as const).flatMap((from) =>
    ([1, 10, 16, 11, 3, 6, 7, 9] as const).filter((to) => !(from === "bfloat16" && to === 10)).map((to) => one("Cast", [of(from, 27)], { to }))),
  one("Reshape", [f(4, 6, 5), known(8, 15)]),
  one("Reshape", [f(2, 12, 5), known(2, 3, 4, 5)]),
  one("Transpose", [f(3, 17, 19)], { perm: [0, 2, 1] }),
  one("Transpose", [f(33, 35)], { perm: [1, 0] }),
  one("Transpose", [of("int8", 5, 7, 9)], { perm: [2, 0, 1] }),
  one("Transpose", [of("int64", 5, 7)], { perm: [1, 0] }),
  one("Expand", [f(3, 1, 5), known(2, 3, 4, 5)]),
  one("Tile", [f(3, 5), known(2, 3)]),
  one("DepthToSpace", [f(2, 8, 3, 5)], { blocksize: 2 }),
  one("DepthToSpace", [f(1, 8, 3, 5)], { blocksize: 2, mode: "CRD" }),
  one("SpaceToDepth", [f(2, 3, 4, 6)], { blocksize: 2 }),
  one("Slice", [f(7, 20), known(1, -18), known(6, 100), known(0, 1), known(2, 1)]),
  one("Slice", [f(7, 20), known(-1), known(-9223372036854775000), known(1), known(-3)]),
  one("Pad", [f(3, 18), known(1, 2, 0, 3), values([0.5], [])]),
  ...["reflect", "edge", "wrap"].map((mode) => one("Pad", [f(3, 18), known(1, 2, 2, 3)], { mode })),
  one("CenterCropPad", [f(5, 8), known(9, 3)]),
  one("Concat", [f(3, 5), f(3, 17), f(3, 2)], { axis: 1 }),
  one("Concat", [f(3, 5), f(1, 5)], { axis: 0 }),
  one("ReverseSequence", [f(5, 3), ints([2, 5, 1])], { time_axis: 0, batch_axis: 1 }),
  one("Gather", [f(9, 20), ints([0, 8, -1, 3], [2, 2])]),
  one("Gather", [f(5, 20), ints([0, 8, -1, 3, 19, 4, 7])], { axis: 1 }),
  one("Gather", [of("uint8", 5, 20), ints([0, 8, -1, 3])], { axis: 1 }),
  one("GatherElements", [f(4, 6), ints([0, 5, 2, -1, 3, 3, 1, 0], [4, 2])], { axis: 1 }),
  one("GatherND", [f(3, 4, 18), ints([0, 1, 2, 3], [2, 2])]),
  ...["nearest", "linear", "cubic"].flatMap((mode) => ["zeros", "border", "reflection"].flatMap((padding) => [0, 1].map((align) =>
    one("GridSample", [f(2, 3, 5, 7), values(Array.from({ length: 2 * 3 * 19 * 2 }, (_, i) => 1.7 * Math.sin(i * 12.9898)), [2, 3, 19, 2])], { mode, padding_mode: padding, align_corners: align })))),
  one("Range", [1, 20, 1.5].map((element) => ({ dtype: "float32" as const, dims: [], elements: [element], isConstant: true }))),
  one("EyeLike", [f(5, 19)], { k: 1 }),
  one("OneHot", [ints([1, 3, -1]), known(19), values([0, 1])]),
  one("Trilu", [f(2, 5, 18)], { upper: 1 }),
  one("Trilu", [f(7, 5), known(1)], { upper: 0 }),
  one("Shape", [f(3, 4, 5)]),
  one("Size", [f(3, 4, 5)]),
  ...REDUCES.flatMap((op) => [one(op, [f(3, 50)], { keepdims: 0 }), one(op, [f(3, 5, 19), known(1)]), one(op, [f(4, 3, 70), known(0, 2)])]),
  one("ReduceLogSum", [values([1, 2, 3, 4, 5, 6], [2, 3]), known(1)]),
  one("ReduceMax", [of("int8", 3, 40), known(1)]),
  one("ReduceSum", [of("int64", 3, 40), known(1)]),
  ...["ArgMax", "ArgMin"].flatMap((op) => [one(op, [f(3, 40)], { axis: 1 }), one(op, [f(6, 20)], { axis: 0, keepdims: 0, select_last_index: 1 })]),
  ...["Softmax", "LogSoftmax", "Hardmax"].flatMap((op) => [one(op, [f(3, 50)]), one(op, [f(2, 5, 18)], { axis: 1 })]),
  one("Softmax", [f(2, 3, 200)]),
  one("CumSum", [f(3, 18), known(1)]),
  one("CumSum", [f(5, 18), known(0)], { exclusive: 1, reverse: 1 }),
  one("LayerNormalization", [f(3, 100), f(100), f(100)]),
  one("LayerNormalization", [f(2, 3, 20), f(3, 20)], { axis: 1 }),
  one("RMSNormalization", [f(3, 70), f(70)]),
  one("InstanceNormalization", [f(2, 3, 4, 5), f(3), f(3)]),
  one("GroupNormalization", [f(2, 6, 3, 5), f(6), f(6)], { num_groups: 2 }),
  one("BatchNormalization", [f(2, 3, 19), f(3), f(3), f(3), { dtype: "float32", dims: [3], elements: [0.5, 1, 2] }]),
  one("MeanVarianceNormalization", [f(2, 3, 4, 5)]),
  one("LpNormalization", [f(3, 20)]),
  one("LRN", [f(2, 7, 3, 5)], { size: 3 }),
  one("MaxPool", [f(1, 3, 9, 21)], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
  one("MaxPool", [f(1, 2, 40)], { kernel_shape: [3], ceil_mode: 1, strides: [2] }),
  one("AveragePool", [f(1, 3, 9, 21)], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  one("AveragePool", [f(1, 3, 9, 21)], { kernel_shape: [4, 5], strides: [2, 1], pads: [1, 1, 0, 1], count_include_pad: 1 }),
  one("LpPool", [f(1, 2, 30)], { kernel_shape: [3], p: 2 }),
  one("GlobalAveragePool", [f(2, 3, 7, 5)]),
  one("GlobalMaxPool", [f(2, 3, 7, 5)]),
  one("Conv", [f(1, 4, 7, 9), f(6, 2, 3, 3), f(6)], { group: 2, pads: [1, 1, 1, 1], strides: [2, 1] }),
  one("ConvTranspose", [f(1, 4, 5, 6), f(4, 3, 3, 3)], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  one("MatMul", [f(2, 5, 18), f(18, 21)]),
  one("Gemm", [f(18, 5), f(7, 18), f(7)], { transA: 1, transB: 1, alpha: 0.5, beta: 2 }),
  one("Einsum", [f(2, 5, 7), f(2, 7, 4)], { equation: "bij,bjk->bik" }),
  one("Resize", [f(1, 2, 5, 7), undefined, scales(1, 1, 2, 2)]),
  one("Resize", [f(1, 2, 5, 7), undefined, scales(1, 1, 2, 3)], { mode: "linear" }),
  one("Resize", [f(1, 2, 6, 8), undefined, undefined, known(1, 2, 4, 11)], { mode: "linear", coordinate_transformation_mode: "align_corners" }),
  one("Resize", [f(1, 1, 5, 7), undefined, scales(1, 1, 1.5, 2.5)], { mode: "cubic" }),
  one("QuantizeLinear", [f(3, 20), values([0.1], []), { dtype: "uint8", dims: [], elements: [12] }]),
  one("DequantizeLinear", [of("int8", 3, 20), values([0.1, 0.2, 0.5])], { axis: 0 }),
  one("SkipLayerNormalization", [f(2, 3, 40), f(2, 3, 40), f(40), f(40), f(40)], { epsilon: 1e-5 }, "com.microsoft"),
];

/** Deterministic elements. */
function elementsOf({ dtype, dims, elements }: OperandCase, random: () => number): NumericArray {
  const count = dims.reduce((a, b) => a * b, 1);
  const array = newArray(dtype, count) as NumericArray;
  const isFloat = dtype === "float32" || dtype === "float64";
  for (let i = 0; i < count; i++) {
    const raw = elements ? elements[i]! : dtype === "bool" ? (random() > 0 ? 1 : 0) : dtype.startsWith("u") ? Math.floor(Math.abs(random()) * 6) : random() * 3;
    const value = elements || isFloat ? raw : dtype === "float16" ? 0x3c00 + Math.floor(Math.abs(raw) * 900) : dtype === "bfloat16" ? 0x3f80 + Math.floor(Math.abs(raw) * 60) : Math.round(raw);
    if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[i] = BigInt(value);
    else array[i] = value;
  }
  return array;
}

export interface BuiltCase {
  readonly node: Node;
  readonly tensors: readonly (Tensor | undefined)[];
}

/** The case as a node with typed inputs and one output whose type inference is to fill, and its data. */
export function buildCase(operator: OperatorCase, random: () => number): BuiltCase {
  const tensors = operator.inputs.map((operand) => operand && new Tensor(operand.dtype, elementsOf(operand, random), operand.dims));
  const inputs = operator.inputs.map((operand, i) => {
    if (!operand) return undefined;
    const tensor = tensors[i]!;
    return operand.isConstant ? constantValue(operand.dtype, operand.dims, tensor.bytes, `x${i}`) : new Value(`x${i}`, operand.dtype, operand.dims);
  });
  const node = makeNode({ op: operator.op, domain: operator.domain ?? "", name: operator.op.toLowerCase(), inputs, outputs: [new Value("y")], attributes: { ...operator.attributes } });
  return { node, tensors };
}
