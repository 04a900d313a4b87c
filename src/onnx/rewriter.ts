/**
 * What a rewrite of a node works with. A rewrite changes the node in place, or emits other nodes in its stead and
 * answers "replaced". Emitted nodes carry the node's name and origin.
 */
import { type DType, elementCount, isFloat, toBfloat16Bits, toFloat16Bits, UserError, viewArray } from "../base/index.ts";
import { type AttributeValue, constantValue, int64Constant, makeNode, type Node, type TensorConstant, Value } from "../ir/index.ts";

export type Rewrite = (node: Node, rewriter: Rewriter) => "replaced" | undefined;

type Inputs = readonly (Value | undefined)[];

export class Rewriter {
  readonly opset: number;
  /** What the node becomes. */
  readonly nodes: Node[] = [];
  private readonly node: Node;
  private readonly isWanted: (value: Value) => boolean;
  private constants = 0;
  private values = 0;

  constructor(node: Node, opset: number, isWanted: (value: Value) => boolean) {
    this.node = node;
    this.opset = opset;
    this.isWanted = isWanted;
  }

  /** Whether anything reads output `index`. */
  wants(index: number): boolean {
    const output = this.node.outputs[index];
    return output !== undefined && this.isWanted(output);
  }

  /** Appends a node with one output. */
  emit(op: string, inputs: Inputs, attributes: Record<string, AttributeValue> = {}, output = this.fresh(op)): Value {
    this.emitMany(op, inputs, attributes, [output]);
    return output;
  }

  emitMany(op: string, inputs: Inputs, attributes: Record<string, AttributeValue>, outputs: readonly (Value | undefined)[]): void {
    const trimmed = [...inputs];
    while (trimmed.length > 0 && trimmed.at(-1) === undefined) trimmed.pop();
    this.nodes.push(makeNode({ op, inputs: trimmed, outputs: [...outputs], attributes, name: `${this.node.name}/${op}${this.nodes.length || ""}`, origins: this.node.origins }));
  }

  /** A new value for a node in between. */
  fresh(hint: string): Value {
    return new Value(`${this.node.name}/${hint}${this.values++}_out`);
  }

  /** An int64 constant; items beyond 2^53 are clamped. @throws UserError when an item is no integer */
  int64(items: readonly number[], dims: readonly number[] = [items.length]): Value {
    for (const item of items) if (!Number.isInteger(item)) this.invalid(`an attribute holds ${item} where an integer is needed.`);
    return int64Constant(items.map(clampInt64), dims, `${this.node.name}/const${this.constants++}`);
  }

  /** A float constant of the same type as `like` (float32 without it): directly where that is known, by CastLike otherwise. */
  floatLike(items: readonly number[], dims: readonly number[], like?: Value): Value {
    const dtype = like ? knownDtype(like) : "float32";
    const name = `${this.node.name}/const${this.constants++}`;
    const bytes = dtype && floatBytes(dtype, items);
    if (dtype && bytes) return constantValue(dtype, dims, bytes, name);
    const plain = constantValue("float32", dims, new Uint8Array(Float32Array.from(items).buffer), name);
    return this.emit("CastLike", [plain, like]);
  }

  scalarLike(value: number, like?: Value): Value {
    return this.floatLike([value], [], like);
  }

  /** The node as it stands breaks its operator's rules. */
  invalid(what: string): never {
    throw new UserError("model-invalid", `${this.node.op} "${this.node.name}": ${what}`);
  }
}

function clampInt64(item: number): number {
  return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, item));
}

/** Little-endian bytes of numbers as elements of a type; undefined for types without an array of plain numbers. */
function floatBytes(dtype: DType, items: readonly number[]): Uint8Array | undefined {
  switch (dtype) {
    case "float32": return new Uint8Array(Float32Array.from(items).buffer);
    case "float64": return new Uint8Array(Float64Array.from(items).buffer);
    case "float16": return new Uint8Array(Uint16Array.from(items, toFloat16Bits).buffer);
    case "bfloat16": return new Uint8Array(Uint16Array.from(items, toBfloat16Bits).buffer);
    default: return undefined;
  }
}

/** Operators whose first output has the type of their first input, as far as importing needs it. */
const KEEPS_TYPE = new Set([
  "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Sqrt", "Exp", "Log", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Clip", "HardSigmoid", "HardSwish",
  "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "MaxPool", "AveragePool",
  "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Concat", "Slice", "Gather", "Identity",
  "Softmax", "LogSoftmax", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Pad", "Expand", "Tile", "Resize", "Dropout", "Split",
]);

/** The element type, where the file states it or a chain of type-preserving nodes leads to one that it states. */
export function knownDtype(value: Value, depth = 64): DType | undefined {
  if (value.dtype !== undefined) return value.dtype;
  const producer = value.producer;
  if (depth === 0 || !producer || !KEEPS_TYPE.has(producer.op)) return undefined;
  for (const input of producer.inputs.slice(0, producer.op === "Conv" || producer.op === "Gemm" || producer.op === "MatMul" ? 2 : 1)) {
    const dtype = input && knownDtype(input, depth - 1);
    if (dtype !== undefined && isFloat(dtype)) return dtype;
  }
  return undefined;
}

/** The elements of a constant float or integer tensor; undefined when the value is not constant. */
export function constantNumbers(value: Value | undefined): readonly number[] | undefined {
  if (!value?.constant || value.dtype === undefined || value.dtype === "string") return undefined;
  if (value.dtype === "float16" || value.dtype === "bfloat16") return undefined;
  const array = viewArray(value.dtype, value.constant.bytes);
  return [...array].map(Number);
}

export function tensorConstant(value: Value | undefined): TensorConstant | undefined {
  if (!value?.constant || value.dtype === undefined) return undefined;
  const dims = value.dims;
  return dims?.every((dim) => typeof dim === "number") ? { dtype: value.dtype, dims: dims as readonly number[], constant: value.constant } : undefined;
}

export function isEmptyConstant(value: Value | undefined): boolean {
  const tensor = tensorConstant(value);
  return tensor !== undefined && elementCount(tensor.dims) === 0;
}

export function takeNumber(node: Node, name: string): number | undefined {
  const value = node.attributes[name];
  delete node.attributes[name];
  return value === undefined ? undefined : Number(value);
}

export function takeNumbers(node: Node, name: string): readonly number[] | undefined {
  const value = numbersOf(node, name);
  delete node.attributes[name];
  return value;
}

/** A list of numbers; undefined when the attribute is absent or of another type. */
export function numbersOf(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) && value.every((item) => typeof item === "number") ? (value as readonly number[]) : undefined;
}

export function takeString(node: Node, name: string): string | undefined {
  const value = node.attributes[name];
  delete node.attributes[name];
  return typeof value === "string" ? value : undefined;
}
